# SPDX-License-Identifier: Apache-2.0
"""When writes reach the disk, what a full disk leaves behind, and compactions that are stopped anywhere."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshbox.api import journal
from meshbox.api.journal import file as journal_file
from meshbox.api.journal.format import HEADER_SIZE, read
from meshbox.api.store import Store
from meshbox.contracts import ApiError

from .journals import obj, state


@contextmanager
def room(size: int) -> Iterator[None]:
    """A disk on which no file can be longer than `size`, as where it is full: a write is cut short, the next fails."""
    real = os.pwrite

    def short(fd: int, data: bytes, offset: int) -> int:
        if offset >= size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data[: size - offset], offset)

    os.pwrite = short
    try:
        yield
    finally:
        os.pwrite = real


def refusal(store: Store, key: tuple[str, str], limit: int) -> ApiError | None:
    """Put an object where the file can have `limit` bytes; why that was refused, or None."""
    try:
        with room(limit):
            store.put("configmaps", key, obj(key[1], "x" * 200))
    except ApiError as error:
        return error
    return None


def full_at_each(path: Path, upto: int, step: int) -> int:
    """Fill a journal of `upto` bytes, and before each record have the disk full at every `step`th byte of it."""
    store = Store(path)
    tried = number = 0
    while (size := path.stat().st_size) < upto:
        number += 1
        key, before = ("default", f"m{number}"), path.read_bytes()[HEADER_SIZE:]
        version = store.version
        limit = size + number % step
        while (refused := refusal(store, key, limit)) is not None:
            assert (refused.code, refused.details["name"]) == (507, key[1])
            assert "the disk is full" in refused.message
            assert (store.version, store.entry("configmaps", key)) == (version, None)
            assert path.stat().st_size == size
            tried += 1
            limit += step
        entry = store.entry("configmaps", key)
        content = path.read_bytes()[HEADER_SIZE:]
        assert content.startswith(before)
        assert size < len(content) + HEADER_SIZE <= limit
        assert entry.version == version + 1
    kept = {("configmaps", ("default", f"m{n}")) for n in range(1, number + 1)}
    store.close()
    reading = read(path.read_bytes())
    assert (reading.damages, reading.torn) == ([], 0)
    assert state(reading).keys() == kept
    return tried


def test_a_disk_full_anywhere_in_a_record_leaves_nothing_of_it(tmp_path):
    assert full_at_each(tmp_path / "objects" / "journal.jsonl", 20_000, step=37) > 300


def test_a_file_that_may_not_grow_is_a_full_disk(tmp_path):
    """The kernel's own refusal, not a made-up one: a limit on the size of files, in a process of its own."""
    script = f"""
import resource
from pathlib import Path
from meshbox.api.store import Store
from meshbox.contracts import ApiError

store = Store(Path({str(tmp_path / "journal.jsonl")!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
done = 0
try:
    while True:
        meta = {{"name": f"m{{done}}", "namespace": "default", "uid": "u"}}
        store.put("configmaps", ("default", f"m{{done}}"), {{"metadata": meta, "data": {{"a": "x" * 300}}}})
        done += 1
except ApiError as error:
    assert "the disk is full (File too large)" in error.message, error.message
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.put("configmaps", ("default", "after"), {{"metadata": {{"name": "after", "namespace": "default", "uid": "u"}}}})
store.close()
print(done)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    count = int(done.stdout)
    assert 0 < count < 20
    store = Store(tmp_path / "journal.jsonl")
    assert [entry.obj["metadata"]["name"] for entry in store.entries("configmaps")] == sorted(
        [*(f"m{n}" for n in range(count)), "after"]
    )
    store.close()


def test_what_could_not_be_cut_off_is_cut_off_before_the_next_write(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    store = Store(path)
    store.put("configmaps", ("default", "a"), obj("a", "1"))
    size = path.stat().st_size

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with room(size + 200), monkeypatch.context() as patch:
        patch.setattr(journal_file.os, "ftruncate", broken)
        for _ in range(2):
            with pytest.raises(ApiError):
                store.put("configmaps", ("default", "b"), obj("b", "x" * 1000))
    assert path.stat().st_size == size + 200
    store.put("configmaps", ("default", "c"), obj("c", "1"))
    store.close()
    reading = read(path.read_bytes())
    assert reading.damages == []
    assert {key[1] for _, key in state(reading)} == {"a", "c"}


def test_writes_are_on_the_disk_before_the_header_says_so(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    seen: list[tuple[int, int]] = []
    real = os.fdatasync

    def watched(fd: int) -> None:
        # All that the header has claimed so far was in the file when an earlier call was made.
        reading = read(path.read_bytes()) if path.exists() else None
        real(fd)
        if reading is not None:
            seen.append((reading.header.synced, len(reading.records)))

    monkeypatch.setattr(journal_file.os, "fdatasync", watched)
    store = Store(path)
    for number in range(50):
        store.put("configmaps", ("default", f"m{number}"), obj(f"m{number}", "x"))
        if number % 10 == 0:
            store.flush()
            assert read(path.read_bytes()).header.synced >= number
    store.close()
    assert read(path.read_bytes()).header.synced == 50
    safe = 0
    for claimed, written in seen:
        assert claimed <= safe
        safe = max(safe, written)


def test_writes_reach_the_disk_without_another_write(tmp_path, until):
    path = tmp_path / "journal.jsonl"
    store = Store(path)
    store.put("configmaps", ("default", "a"), obj("a", "1"))
    until(lambda: read(path.read_bytes()).header.synced == 1, 20, "the write on the disk")
    store.close()


def test_a_disk_that_loses_writes_makes_all_be_written_anew(tmp_path, monkeypatch, caplog):
    path = tmp_path / "journal.jsonl"
    store = Store(path)
    store.put("configmaps", ("default", "a"), obj("a", "1"))
    store.flush()
    number = path.stat().st_ino

    def broken(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(journal_file.os, "fdatasync", broken)
        store.put("configmaps", ("default", "b"), obj("b", "1"))
        store.flush()
    assert "could not be brought to the disk: Input/output error" in caplog.text
    store.put("configmaps", ("default", "c"), obj("c", "1"))
    store.flush()
    assert path.stat().st_ino != number
    store.close()
    assert {key[1] for _, key in state(read(path.read_bytes()))} == {"a", "b", "c"}


STOPPED = """
import os, sys
from pathlib import Path
sys.path.insert(0, {repository!r})
from meshbox.api.store import Store
from tests.api.journals import obj

path = Path({path!r})
CALLS = ("open", "pwrite", "fdatasync", "fsync", "replace", "unlink", "ftruncate", "close", "dup")

def run(last):
    called = []
    def counted(name, real):
        def call(*args, **options):
            called.append(name)
            if len(called) > last:
                os._exit(9)
            return real(*args, **options)
        return call
    store = Store(path)
    for name in CALLS:
        setattr(os, name, counted(name, getattr(os, name)))
    with open({told!r}, "a", buffering=1) as told:
        for number in range(12):
            if number == 6:
                store._journal.compact(store._payloads())
            key = ("default", f"m{{number % 4}}")
            store.put("configmaps", key, obj(key[1], f"{{last}}-{{number}} " + "x" * 200))
            told.write(f"{{key[1]}} {{last}}-{{number}}\\n")
    store.flush()
    store.close()
    # The new file took the old one's place, so every call of a compaction was among them.
    os._exit(0 if "replace" in called else 1)

last = 0
while True:
    open({told!r}, "w").close()
    child = os.fork()
    if child == 0:
        run(last)
    _, status = os.waitpid(child, 0)
    store = Store(path)
    newest = dict(line.split() for line in open({told!r}))
    for name, text in newest.items():
        stored = store.entry("configmaps", ("default", name)).obj["data"]["text"].split()[0]
        # The write that was under way may be there as well.
        assert stored == text or int(stored.split("-")[1]) == int(text.split("-")[1]) + 4, (last, stored, text)
    store.close()
    if status == 0:
        break
    assert os.waitstatus_to_exitcode(status) == 9, (last, status)
    last += 1
print(last)
"""


@pytest.mark.usefixtures("uncounted")
def test_a_compaction_may_be_stopped_at_any_call(tmp_path):
    """Each run ends one call to the kernel later; the file is whole and has every acknowledged write after each."""
    values = {"path": str(tmp_path / "journal.jsonl"), "told": str(tmp_path / "told")}
    script = STOPPED.format(repository=str(Path(__file__).parents[2]), **values)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) > 25


def test_what_a_compaction_left_is_removed_at_the_next_start(tmp_path):
    path = tmp_path / "journal.jsonl"
    Store(path).close()
    left = path.with_name(path.name + ".new")
    left.write_bytes(b"half of it")
    Store(path).close()
    assert not left.exists()


def test_a_compaction_on_a_full_disk_costs_no_write(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(journal, "_COMPACT_FROM", 4000)
    path = tmp_path / "journal.jsonl"
    store = Store(path)
    real = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        # Whatever is no append to the file there is.
        if os.fstat(fd).st_ino != path.stat().st_ino:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(journal_file.os, "pwrite", full)
        for number in range(40):
            store.put("configmaps", ("default", f"m{number % 4}"), obj(f"m{number % 4}", f"{number} " + "x" * 200))
        store.flush()
    assert "could not be compacted: No space left on device" in caplog.text
    store.close()
    store = Store(path)
    assert [entry.obj["data"]["text"][:2] for entry in store.entries("configmaps")] == ["36", "37", "38", "39"]
    store.close()


def test_a_file_that_is_being_brought_to_the_disk_is_not_closed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number could be another file's by then, and the header would be written into that."""
    path = tmp_path / "journal.jsonl"
    store = Store(path)
    begun, go_on, real = threading.Event(), threading.Event(), os.fdatasync
    used: list[int] = []

    def slow(fd: int) -> None:
        if threading.current_thread().name == "journal" and not begun.is_set():
            used.append(fd)
            begun.set()
            assert go_on.wait(120)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    store.put("configmaps", ("default", "a"), obj("a", "1"))
    assert begun.wait(120)
    store.foreign = True
    store.adopt()
    assert os.fstat(used[0]).st_nlink == 0
    go_on.set()
    store.put("configmaps", ("default", "b"), obj("b", "2"))
    store.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(used[0])
    assert set(state(read(path.read_bytes()))) == {("configmaps", ("default", name)) for name in "ab"}


def test_an_error_that_nobody_foresaw_does_not_end_the_thread_that_brings_writes_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.jsonl"
    store = Store(path)
    synced: list[int] = []

    def broken(_: journal_file.JournalFile) -> None:
        synced.append(1)
        raise KeyError("unforeseen")

    with monkeypatch.context() as patched:
        patched.setattr(journal_file.JournalFile, "sync", broken)
        store.put("configmaps", ("default", "a"), obj("a", "x"))
        # Returns, though nothing could be brought there.
        store._journal.flush()
        assert synced
    store.put("configmaps", ("default", "b"), obj("b", "x"))
    store._journal.flush()
    thread = store._journal._thread
    assert thread is not None
    assert thread.is_alive()
    store.close()
    again = Store(path)
    assert [entry.obj["metadata"]["name"] for entry in again.entries("configmaps")] == ["a", "b"]
    again.close()
