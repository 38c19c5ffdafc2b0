# SPDX-License-Identifier: Apache-2.0
"""Archives from elsewhere: fetched once however many ask, checked against a published checksum, unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from labkit.ground import archives, files, transfer
from labkit.ground.errors import ReleaseError
from labkit.ground.transfer import Patience

__all__ = ["archive", "unpacked"]


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
    return unpacked(
        url, into / url.rpartition("/")[2].removesuffix(".tar.gz"), checksums=checksums, patience=patience, bar=bar
    )


def unpacked(
    url: str, folder: Path, *, checksums: str = "", patience: Patience | None = None, bar: bool = True
) -> Path:
    """Have the content of a .tar.gz in `folder`: fetched, checked and unpacked only if that is not there.

    Args:
        url: As for `archive`.
        folder: What its content becomes.
        checksums: As for `archive`.
        patience: As for `archive`.
        bar: As for `archive`.

    Raises:
        ReleaseError: as `archive`.
    """
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
    with ExitStack() as held:
        try:
            held.enter_context(files.alone(lock))
        except OSError as error:
            raise ReleaseError(
                f"{lock.parent} cannot be written: {error.strerror}", next_step="Set LABKIT_HOME to a folder of yours."
            ) from None
        yield
