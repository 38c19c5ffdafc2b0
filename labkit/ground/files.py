# SPDX-License-Identifier: Apache-2.0
"""Small files that must last: each is replaced in one step, and read with a look at what it is.

Whoever reads one sees the old content or the new, never a part of it, whatever happens in between: another reader, a
full disk, `kill -9`, a power cut.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

__all__ = ["MOST_BYTES", "alone", "aside", "create", "read", "write"]

MOST_BYTES = 8 << 20
"""Bytes that a file read here has at most; what is longer was not written by us."""


def write(path: Path, content: bytes, *, mode: int = 0o600, lasting: bool = True) -> None:
    """Give the file `path` the content `content`, whole or not at all.

    Args:
        path: The file; its folder must exist.
        content: All of it.
        mode: Its permissions.
        lasting: Whether it must outlive a power cut. False for what every start makes anew: waiting for the disk then
            is for nothing.

    Raises:
        OSError: it cannot be written; the old content stays. Its `filename` is `path`.
    """
    with _whole(path, content, mode, lasting) as fresh:
        os.replace(fresh, path)


def create(path: Path, content: bytes, *, mode: int = 0o600) -> bool:
    """As `write`, where there is no such file yet; returns whether there was none."""
    with _whole(path, content, mode, lasting=True) as fresh:
        try:
            os.link(fresh, path)
        except FileExistsError:
            return False
        return True


def read(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a file.

    Args:
        path: The file.
        most: Bytes it has at most.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no file, is empty or too long; the message says which, without the file's name.
        OSError: it cannot be read.
    """
    # A pipe in the file's place must not keep us waiting for somebody to write to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("is not a file")
    with open(descriptor, "rb") as file:
        content = file.read(most + 1)
    if not content:
        raise ValueError("is empty")
    if len(content) > most:
        raise ValueError(f"has more than {most} bytes")
    return content


def aside(path: Path) -> Path:
    """Move what is damaged out of the way, beside its old place; returns where it is now.

    Raises:
        OSError: it cannot be moved.
    """
    kept = path.with_name(f"{path.name}.damaged")
    number = 1
    while os.path.lexists(kept):
        number += 1
        kept = path.with_name(f"{path.name}.damaged-{number}")
    path.rename(kept)
    return kept


@contextlib.contextmanager
def _whole(path: Path, content: bytes, mode: int, lasting: bool) -> Iterator[Path]:
    """A finished file beside `path`, for the time it takes to give it its name."""
    # A name of this thread's own: others may write the same file at the same moment. Whatever name the file may have
    # must be short enough for this one too.
    fresh = path.with_name(f".{path.name[:50]}.{threading.get_native_id()}.new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            if lasting:
                os.fsync(descriptor)
        yield fresh
        if lasting:
            _sync(path.parent)
    except OSError as error:
        # Whoever reads the message knows the file by its own name.
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink()


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """While no other process holds `lock`, a file for this alone; it and its folder are made where there are none.

    Raises:
        OSError: it cannot be made or opened.
    """
    lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sync(folder: Path) -> None:
    """Make a new name in `folder` last; where a file system cannot do that for folders, it needs no telling."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
