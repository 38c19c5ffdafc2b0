# SPDX-License-Identifier: Apache-2.0
"""Small files that must last: whole or not at all, whoever else writes, and read with a look at what they are."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import resource
import signal
import stat
from pathlib import Path

import pytest

from labkit.ground import files


def test_a_file_is_replaced_and_private(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for content in (b"first", b"second"):
        files.write(path, content)
        assert files.read(path) == content
        assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("mask", [0o077, 0])
def test_a_file_has_the_mode_it_is_given_whatever_the_mask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        files.write(tmp_path / "state", b"x", mode=0o640)
    finally:
        os.umask(before)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o640


def test_one_that_is_there_is_not_created_again(tmp_path: Path) -> None:
    path = tmp_path / "state"
    assert files.create(path, b"first")
    assert path.stat().st_mode & 0o777 == 0o600
    assert files.read(path, most=5) == b"first"
    with pytest.raises(ValueError, match="has more than 4 bytes"):
        files.read(path, most=4)
    assert not files.create(path, b"second")
    assert files.read(path) == b"first"
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("lasting", [True, False])
def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path: Path, lasting: bool) -> None:
    path = tmp_path / "state"
    files.write(path, b"before")
    pid = os.fork()
    if pid == 0:
        # A limit on the size of files fails a write half-way, as a full disk does.
        code = 1
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            files.write(path, b"x" * 10_000, lasting=lasting)
        except OSError as error:
            code = 0 if error.filename == str(path) else 2
        os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert files.read(path) == b"before"
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


def _write(path: Path, letter: bytes) -> None:
    for _ in range(50):
        files.write(path, letter * 5000, lasting=False)


def test_writers_at_the_same_time_leave_one_whole_content(tmp_path: Path) -> None:
    path = tmp_path / "state"
    files.write(path, b"a" * 5000)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path, letter)) for letter in (b"a", b"b")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        content = files.read(path)
        assert len(content) == 5000
        assert len(set(content)) == 1
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


def test_what_is_no_such_file_is_said(tmp_path: Path) -> None:
    empty, pipe, folder, long = (tmp_path / name for name in ("empty", "pipe", "folder", "long"))
    empty.touch()
    os.mkfifo(pipe)
    folder.mkdir()
    long.write_bytes(b"x" * 11)
    with pytest.raises(ValueError, match=r"^is empty$"):
        files.read(empty)
    with pytest.raises(ValueError, match="is not a file"):
        files.read(pipe)
    with pytest.raises(ValueError, match="is not a file"):
        files.read(folder)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        files.read(long, 10)
    with pytest.raises(FileNotFoundError):
        files.read(tmp_path / "none")


def test_what_is_damaged_is_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "key"
    for name in ("key.damaged", "key.damaged-2"):
        path.write_text(name)
        assert files.aside(path) == tmp_path / name
    assert sorted(file.read_text() for file in tmp_path.iterdir()) == ["key.damaged", "key.damaged-2"]


@pytest.mark.parametrize("name", ["k" * 255, "ü" * 127], ids=["ascii", "two bytes each"])
def test_a_name_may_be_as_long_as_names_may_be(tmp_path: Path, name: str) -> None:
    files.write(tmp_path / name, b"x")
    assert files.read(tmp_path / name) == b"x"
    assert len([*tmp_path.iterdir()]) == 1


def test_all_of_a_file_is_on_the_disk_before_it_has_its_name_and_then_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced, sync = tmp_path / "state", [], os.fsync

    def seen(descriptor: int) -> None:
        found = os.fstat(descriptor)
        synced.append(("folder" if stat.S_ISDIR(found.st_mode) else found.st_size, path.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    files.write(path, b"x" * 100)
    assert synced == [(100, False), ("folder", True)]
    files.write(path, b"y", lasting=False)
    assert len(synced) == 2


def test_writing_and_reading_leave_nothing_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    before = os.listdir("/proc/self/fd")
    for _ in range(5):
        files.write(tmp_path / "state", b"x")
        files.create(tmp_path / "state", b"y")
        files.read(tmp_path / "state")
        with pytest.raises(ValueError, match="is not a file"):
            files.read(tmp_path / "pipe")
    assert len(os.listdir("/proc/self/fd")) < len(before) + 5


def test_a_lock_is_its_owners_alone(tmp_path: Path) -> None:
    lock = tmp_path / "more" / "new" / "a.lock"
    with files.alone(lock):
        other = os.open(lock, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert (lock.stat().st_mode & 0o777, lock.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)
