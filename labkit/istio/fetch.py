"""The official archive of a release: fetched once, checked, unpacked below `$LABKIT_HOME/releases`."""

from __future__ import annotations

import fcntl
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labkit import config
from labkit.errors import ReleaseError
from labkit.istio import archives, transfer
from labkit.istio.model import Facts
from labkit.istio.transfer import Patience

__all__ = ["DOWNLOADS", "Patience", "archive", "archive_url", "fetch"]

DOWNLOADS = "https://github.com/istio/istio/releases/download"
"""Where Istio's archives are; `$LABKIT_ISTIO_DOWNLOADS` names a mirror with the same layout."""


def archive_url(facts: Facts, base_url: str = "") -> str:
    """Address of a release's archive for this machine.

    Args:
        facts: The release.
        base_url: The address below which releases are; "" for `$LABKIT_ISTIO_DOWNLOADS`, else `DOWNLOADS`.
    """
    base = base_url or os.environ.get("LABKIT_ISTIO_DOWNLOADS") or DOWNLOADS
    system = "osx" if sys.platform == "darwin" else "linux"
    # Archives are named by processor since Istio 1.6; only istioctl in them depends on it.
    if not facts.version.startswith("1.2."):
        system += {"aarch64": "-arm64", "arm64": "-arm64"}.get(platform.machine(), "-amd64")
    return f"{base.rstrip('/')}/{facts.version}/{facts.archive.format(system=system)}"


def fetch(facts: Facts, *, base_url: str = "", patience: Patience | None = None, bar: bool = True) -> Path:
    """Have the official archive of a release, unpacked; fetched only if it is not there yet.

    Args:
        facts: The release.
        base_url: As for `archive_url`.
        patience: How long to wait for the server.
        bar: Whether to show a progress bar.

    Returns:
        The folder, `$LABKIT_HOME/releases/istio-VERSION`.

    Raises:
        ReleaseError: It cannot be had, or is not what its checksum says.
    """
    folder = config.home() / "releases" / f"istio-{facts.version}"
    if not folder.exists():
        _fetch(archive_url(facts, base_url), folder, "", patience, bar)
    return folder


def archive(url: str, into: Path, *, checksums: str = "", patience: Patience | None = None, bar: bool = True) -> Path:
    """Fetch any .tar.gz with a published checksum, and unpack it.

    Args:
        url: Its address.
        into: The folder to unpack it in.
        checksums: Address of the file with its SHA-256; "" for `url` with ".sha256" added.
        patience: How long to wait for the server.
        bar: Whether to show a progress bar.

    Returns:
        The folder with its content, named as the archive is.

    Raises:
        ReleaseError: It cannot be had, or is not what its checksum says.
    """
    return _fetch(url, into / url.rpartition("/")[2].removesuffix(".tar.gz"), checksums, patience, bar)


def _fetch(url: str, folder: Path, checksums: str, patience: Patience | None, bar: bool) -> Path:
    name = url.rpartition("/")[2]
    with _alone(folder.parent / f".{folder.name}.lock"):
        # Another process may have fetched it while this one waited for its turn.
        if folder.exists():
            return folder
        source = checksums or f"{url}.sha256"
        expected = transfer.checksum_of(transfer.text(source, patience), name, source)
        packed = folder.parent / name
        transfer.download(url, packed, expected, patience, bar=bar)
        try:
            return archives.unpack(packed, folder)
        finally:
            packed.unlink()


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = lock.open("w")
    except OSError as error:
        raise ReleaseError(
            f"{lock.parent} cannot be written: {error.strerror}", next_step="Set LABKIT_HOME to a folder of yours."
        ) from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
