# SPDX-License-Identifier: Apache-2.0
"""Where Prometheus comes from, newest first: the project's own archive, Debian, conda-forge."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from labkit.ground import config, download
from labkit.ground.errors import LabError, MissingToolError
from labkit.ground.transfer import Patience
from meshbox import packages

__all__ = ["VERSION", "fetch"]

VERSION = "3.10.0"
"""Version of the official archive: the one that Istio 1.30.3 brings."""

ARCHIVES = "https://github.com/prometheus/prometheus/releases/download"

_QUICKLY = Patience(silence=10.0)
"""There are other ways."""


def fetch() -> Path:
    """Bring Prometheus; its program.

    Raises:
        MissingToolError: no way leads to one; with the reason of each.
    """
    target = config.home() / "tools"
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Where services run, Debian's package would start one on port 9090.
    install = os.geteuid() == 0 and not Path("/run/systemd/system").exists()
    ways: dict[str, Callable[[Path], Path]] = {
        f"Prometheus {VERSION}": _archive,
        "Debian's package": _installed if install else _unpacked,
        "conda-forge's package": _conda,
    }
    reasons = []
    for name, way in ways.items():
        print(f"  {name}", flush=True)
        try:
            return way(target)
        except LabError as error:
            print(f"  … cannot be had: {error.message}", flush=True)
            reasons.append(error.message)
    raise MissingToolError("; ".join(reasons), next_step="install Prometheus by hand and put it on PATH")


def _archive(target: Path) -> Path:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    stem = f"prometheus-{VERSION}.{platform.system().lower()}-{machine}"
    base = f"{ARCHIVES}/v{VERSION}"
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        sums = f"{base}/sha256sums.txt"
        folder = download.archive(f"{base}/{stem}.tar.gz", Path(scratch), checksums=sums, patience=_QUICKLY)
        return _keep(folder / "prometheus", target)


def _installed(_target: Path) -> Path:
    packages.apt("install", "-y", "-qq", "--no-install-recommends", "prometheus")
    return Path(shutil.which("prometheus") or "/usr/bin/prometheus")


def _unpacked(target: Path) -> Path:
    # Needs no root, but its web pages miss the scripts that other Debian packages hold.
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        packages.apt("download", "-qq", "prometheus", cwd=folder)
        package = next(folder.glob("prometheus_*.deb"))
        packages.run(["dpkg-deb", "--extract", str(package), str(folder / "root")])
        return _keep(folder / "root/usr/bin/prometheus", target)


def _conda(target: Path) -> Path:
    """A small environment of its own: what else is in the one in use stays as it is."""
    found = next(filter(None, map(shutil.which, ("micromamba", "mamba", "conda"))), None)
    if found is None:
        raise MissingToolError("there is no conda on this machine")
    place = target / "prometheus-of-conda-forge"
    packages.run(
        [
            found,
            "create",
            "--yes",
            "--quiet",
            f"--prefix={place}",
            "--override-channels",
            "--channel=conda-forge",
            "prometheus",
        ]
    )
    return _keep(place / "bin" / "prometheus", target)


def _keep(program: Path, target: Path) -> Path:
    partial = target / f".{program.name}.new"
    try:
        shutil.copy2(program, partial)
    except FileNotFoundError:
        raise MissingToolError(f"the package brought no {program.name}") from None
    partial.chmod(0o755)
    return partial.rename(target / program.name)
