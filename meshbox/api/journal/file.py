# SPDX-License-Identifier: Apache-2.0
"""One open file of records: appended whole or not at all, and brought to the disk when asked."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from meshbox.api.journal.format import HEADER_SIZE, Header, encode

__all__ = ["JournalFile"]


class JournalFile:
    """A file that is locked by this process.

    Args:
        fd: Open for reading and writing; closed with this.
        header: Its header.
        records: How many records it holds.
        size: Bytes of header and records.
    """

    def __init__(self, fd: int, header: Header, records: int = 0, size: int = 0) -> None:
        self._fd = fd
        self.header = header
        self.records = records
        self.size = self.began = size
        self._untidy = False

    @classmethod
    def create(cls, path: Path, header: Header, payloads: Iterable[bytes]) -> JournalFile:
        """A new file with `payloads` in it; not on the disk yet.

        Raises:
            OSError: where that is not possible; there is no file then.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        file = cls(fd, header, 0, HEADER_SIZE)
        try:
            # The lock moves with the file: taken before this one gets the name of the other.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with open(os.dup(fd), "wb") as out:
                out.write(file.header.encode())
                for number, payload in enumerate(payloads, 1):
                    out.write(encode(header.id, number, payload))
                    file.records = number
                out.flush()
                file.size = file.began = out.tell()
            file.header = replace(header, snapshot=file.records)
            file._write(file.header.encode(), 0)
        except OSError:
            file.close()
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        return file

    def append(self, payload: bytes) -> None:
        """Write one record; returns once the kernel has it.

        Raises:
            OSError: where it cannot be written; nothing of it stays in the file.
        """
        if self._untidy:
            self.cut()
        line = encode(self.header.id, self.records + 1, payload)
        try:
            self._write(line, self.size)
        except OSError:
            # What could not be cut off now is before the next record: a shorter one would leave an end of this one.
            self._untidy = True
            with contextlib.suppress(OSError):
                self.cut()
            raise
        self.size += len(line)
        self.records += 1

    def _write(self, data: bytes, offset: int) -> None:
        done = 0
        while done < len(data):
            done += os.pwrite(self._fd, data[done:] if done else data, offset + done)

    def cut(self) -> None:
        """Remove what is behind the last whole record."""
        os.ftruncate(self._fd, self.size)
        self._untidy = False

    def sync(self) -> None:
        """Bring all to the disk, and then say so in the header."""
        records = self.records
        os.fdatasync(self._fd)
        if records != self.header.synced:
            header = replace(self.header, synced=records)
            self._write(header.encode(), 0)
            self.header = header

    def close(self) -> None:
        """Give the file back; it must not be used any more."""
        os.close(self._fd)
