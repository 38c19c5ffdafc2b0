# SPDX-License-Identifier: Apache-2.0
"""The file that brings objects back after a kill: one record a write, appended before the write is visible.

What is promised: a write that was answered is in the kernel's hands, so it survives the end of this process; within
`SYNC_EVERY` seconds it is on the disk, so a power failure takes no more than the writes of that time. A write that
fails half-way (disk full) is cut off again at once, and a torn last record (the process was killed in the middle of it)
is dropped at the next start. Anything else that is not as it was written is noticed (`journal_format`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path

from labkit import __version__
from labkit.ground.errors import SandboxError
from meshbox import failures
from meshbox.api.journal import format as journal_format
from meshbox.api.journal import legacy as journal_legacy
from meshbox.api.journal.file import JournalFile
from meshbox.api.journal.format import Damage, Header, Reading
from meshbox.program import program

__all__ = ["SYNC_EVERY", "Journal"]

log = logging.getLogger(__name__)

SYNC_EVERY = 0.1
"""Seconds in which writes are brought to the disk together: waiting for the disk at each would take longer than it."""

_COMPACT_FROM = 4 << 20
"""Bytes below which rewriting the file is not worth it."""


class Journal:
    """An append-only file of records.

    Args:
        path: The file; its folder is created (0700). Locked while open, so that two processes never share it.
        expected: Whether there must be a file: one that is gone is damage then, not an empty cluster.
        command: What starts this sandbox, for messages: "meshbox up".
    """

    def __init__(self, path: Path, *, expected: bool = False, command: str = "meshbox up") -> None:
        self._path = path
        self._expected = expected
        self._command = command
        self._new = path.with_name(path.name + ".new")
        self._file: JournalFile | None = None
        self._fresh: JournalFile | None = None
        """What the file is being replaced by; it gets every record as well until it is safe on disk."""
        self._dropped: list[JournalFile] = []
        self._lock = threading.Lock()
        self._compact_at = _COMPACT_FROM
        self._turned = threading.Condition()
        self._begun = self._done = 0
        self._dirty, self._hurry, self._ending = threading.Event(), threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def open(self, *, recover: bool = False) -> Reading:
        """Read what was written so far; `append` may follow, after `rewrite` where the reading is damaged or old.

        Args:
            recover: Take what is sound out of a damaged file, instead of refusing it.

        Raises:
            SandboxError: the file cannot be opened, is in use, or is damaged.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self._path.exists() and not self._expected:
                self._replace([])
            reading = self._read()
        except OSError as error:
            self.close()
            raise self._unusable(error) from error
        if reading.damages and not recover:
            self.close()
            more = len(reading.damages) - 1
            others = f" (and {more} more {'place' if more == 1 else 'places'})" if more else ""
            raise SandboxError(
                f"The sandbox's objects in {self._path} are damaged: {reading.damages[0]}{others}.",
                next_step=f"`{self._command} --recover` keeps all that is sound, moves the damaged file aside and "
                "lists what was lost.",
            )
        if reading.torn:
            log.warning("%s: dropped a last record that was never finished (%d bytes)", self._path, reading.torn)
        return reading

    def _unusable(self, error: OSError) -> SandboxError:
        if error.errno == errno.EWOULDBLOCK:
            return SandboxError(
                f"The sandbox's objects in {self._path} are in use by another process.",
                next_step=f"A sandbox of this name runs already: see `{program()} status`, or end it with "
                f"`{program()} down`.",
            )
        return SandboxError(
            f"The sandbox's objects in {self._path} cannot be opened: {error.strerror}.",
            next_step=f"Check the permissions and the free space of {self._path.parent}.",
        )

    def _read(self) -> Reading:
        if self._file is not None:
            return Reading(self._file.header)
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return Reading(Header(b"0" * 8), 0, damages=[Damage(0, 0, 0, "the file is missing")])
        self._file = JournalFile(fd, Header(b"0" * 8))
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Of a compaction that did not come to its end.
        self._new.unlink(missing_ok=True)
        content = self._path.read_bytes()
        read = journal_legacy.read if journal_legacy.is_legacy(content) else journal_format.read
        reading = read(content)
        if reading.format == journal_format.FORMAT and not reading.damages:
            self._file = JournalFile(fd, reading.header, len(reading.records), reading.size)
            self._file.cut()
            self._start(reading.size)
        return reading

    def _start(self, snapshot: int) -> None:
        self._compact_at = max(_COMPACT_FROM, snapshot * 2)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
            self._thread.start()

    def append(self, payload: bytes) -> None:
        """Write one record; returns once the kernel has it.

        Raises:
            OSError: the disk is full or the file cannot be written; nothing of it stays in the file.
        """
        assert self._file is not None
        with self._lock:
            self._file.append(payload)
            if self._fresh is not None:
                try:
                    self._fresh.append(payload)
                except OSError as error:
                    self._give_up(error)
        if not self._dirty.is_set():
            self._dirty.set()
        if self._fresh is not None and self._file.size > self._compact_at * 2:
            # The disk is slower than whoever writes: the file must not grow without end meanwhile.
            self.flush()

    @property
    def wants_compaction(self) -> bool:
        """Whether the file has grown to twice what it was after the last compaction (and past 4 MB)."""
        return self._fresh is None and self._file is not None and self._file.size > self._compact_at

    def compact(self, payloads: Iterable[bytes]) -> None:
        """Begin to replace the file by `payloads`, all there is now; kept as it is where that fails.

        The new file takes the old one's place once it is safe on disk, which nobody waits for.
        """
        if self._fresh is not None:
            self.flush()
        try:
            fresh = JournalFile.create(self._new, _new_header(__version__), payloads)
        except OSError as error:
            self._give_up(error)
            return
        with self._lock:
            self._fresh = fresh
        self._dirty.set()

    def rewrite(self, payloads: Iterable[bytes], aside: Path | None = None, by: str = __version__) -> None:
        """Replace the file by `payloads` at once.

        Args:
            payloads: All there is now.
            aside: The old file is kept under this name.
            by: Which labkit wrote the objects; "-" until they were checked.

        Raises:
            SandboxError: where that is not possible; the file is as it was then.
        """
        if self._fresh is not None:
            self.flush()
        try:
            self._replace(payloads, aside, by)
        except OSError as error:
            self.close()
            raise self._unusable(error) from error

    def _replace(self, payloads: Iterable[bytes], aside: Path | None = None, by: str = __version__) -> None:
        fresh = JournalFile.create(self._new, _new_header(by), payloads)
        try:
            fresh.sync()
            if aside is not None and self._path.exists():
                _keep(self._path, aside)
            os.replace(self._new, self._path)
        except OSError:
            fresh.close()
            with contextlib.suppress(OSError):
                self._new.unlink()
            raise
        with self._lock:
            old, self._file = self._file, fresh
        if old is not None and self._thread is not None:
            # The thread may be using it: it is closed between two rounds, before its number is another file's.
            self._dropped.append(old)
        elif old is not None:
            old.close()
        self._sync_folder()
        self._start(fresh.size)

    def flush(self) -> None:
        """Return once all that was written before is on the disk, and a compaction that was begun has ended."""
        if self._thread is None:
            return
        with self._turned:
            wanted = self._begun + 1
            self._hurry.set()
            self._dirty.set()
            self._turned.wait_for(lambda: self._done >= wanted)

    def close(self) -> None:
        """Bring all to the disk and give the file back."""
        if self._thread is not None:
            self._ending.set()
            self._hurry.set()
            self._dirty.set()
            self._thread.join()
            self._thread = None
            if self._fresh is not None:
                self._give_up("the sandbox ends")
            self._close_dropped()
        if self._file is not None:
            self._file.close()
            self._file = None

    # --- the thread that brings writes to the disk

    def _run(self) -> None:
        ended = False
        while not ended:
            self._dirty.wait()
            self._hurry.wait(SYNC_EVERY)
            self._hurry.clear()
            self._dirty.clear()
            ended = self._ending.is_set()
            with self._turned:
                self._begun += 1
            self._close_dropped()
            try:
                self._sync()
            except OSError as error:
                # What the kernel could not write it may forget: only writing all anew makes the objects safe again.
                log.error("%s: could not be brought to the disk: %s", self._path, error.strerror)
                self._compact_at = 0
            except Exception as error:
                # Without this thread nothing would be safe any more, and whoever waits for it would wait for ever.
                failures.noted(error, f"{self._path} could not be brought to the disk")
                self._compact_at = 0
            with self._turned:
                self._done = self._begun
                self._turned.notify_all()

    def _sync(self) -> None:
        if self._fresh is not None:
            self._take_over(self._fresh)
        assert self._file is not None
        self._file.sync()
        if self._ending.is_set():
            # Once more, for what the header says now.
            self._file.sync()

    def _take_over(self, fresh: JournalFile) -> None:
        """Let the new file take the old one's place: safe on disk first, and what was written meanwhile too."""
        try:
            fresh.sync()
            fresh.sync()
            with self._lock:
                if self._fresh is not fresh:
                    return
                os.replace(self._new, self._path)
                old, self._file, self._fresh = self._file, fresh, None
                self._compact_at = max(_COMPACT_FROM, fresh.began * 2)
        except OSError as error:
            with self._lock:
                if self._fresh is fresh:
                    self._give_up(error)
            return
        assert old is not None
        old.close()
        self._sync_folder()

    def _give_up(self, why: object) -> None:
        """Go on with the file there is."""
        log.warning("%s: could not be compacted: %s", self._path, why.strerror if isinstance(why, OSError) else why)
        if self._fresh is not None:
            # The thread may be using it: it is closed between two rounds.
            self._dropped.append(self._fresh)
            self._fresh = None
        with contextlib.suppress(OSError):
            self._new.unlink()
        assert self._file is not None
        self._compact_at = self._file.size * 2

    def _close_dropped(self) -> None:
        while self._dropped:
            self._dropped.pop().close()

    def _sync_folder(self) -> None:
        fd = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Not every file system knows how to bring a folder to the disk.
            with contextlib.suppress(OSError):
                os.fsync(fd)
        finally:
            os.close(fd)


def _new_header(by: str) -> Header:
    return Header(secrets.token_hex(4).encode(), by=by)


def _keep(path: Path, aside: Path) -> None:
    """Give the file a second name, so that there is one of the first at any moment."""
    try:
        os.link(path, aside)
    except OSError:
        # A file system without such names.
        shutil.copyfile(path, aside)
        aside.chmod(0o600)
