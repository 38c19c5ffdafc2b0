# SPDX-License-Identifier: Apache-2.0
"""Logs: what is kept, what is shown, what happens when there is no room."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import pytest

from meshbox.contracts import ApiError
from meshbox.node.logs import LogFile, Selection, pump, read_log
from tests.node.conftest import Cluster

FOREVER = "while true; do sleep 0.05; done"


async def read(path: Path, **selection: Any) -> str:
    return b"".join([chunk async for chunk in read_log(path, None, Selection(**selection), False)]).decode()


async def test_lines_are_stamped_and_streams_kept_apart(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "0.log")
    log.write("stdout", b"one\ntw")
    log.write("stderr", b"bad\n")
    log.write("stdout", b"o\nlast")
    log.close()
    stored = (tmp_path / "0.log").read_text().splitlines()
    pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) [FP] "
    assert all(re.match(pattern, line) for line in stored)
    assert [line.split(" ", 1)[1] for line in stored] == [
        "stdout F one",
        "stderr F bad",
        "stdout F two",
        "stdout P last",
    ]
    assert await read(log.path) == "one\nbad\ntwo\nlast"


@pytest.mark.parametrize(
    ("selection", "seen"),
    [
        ({"tail": 2}, "l8\nl9\n"),
        ({"tail": 0}, ""),
        ({"tail": 99}, "".join(f"l{n}\n" for n in range(10))),
        ({"limit": 7}, "l0\nl1\nl"),
        ({"since": 9e9}, ""),
        ({"since": 1.0, "tail": 1}, "l9\n"),
    ],
)
async def test_selections(tmp_path: Path, selection: dict[str, Any], seen: str) -> None:
    log = LogFile(tmp_path / "0.log")
    log.write("stdout", b"".join(b"l%d\n" % n for n in range(10)))
    log.close()
    assert await read(log.path, **selection) == seen


async def test_timestamps_come_first(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "0.log")
    log.write("stdout", b"x y\n")
    log.close()
    assert re.fullmatch(r"2\d{3}-\S+Z x y\n", await read(log.path, timestamps=True))


async def test_a_log_is_rotated_and_read_as_one(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "0.log", rotate_bytes=400)
    for number in range(16):
        log.write("stdout", b"line %02d\n" % number)
    log.close()
    assert (tmp_path / "0.log.1").exists()
    text = await read(log.path)
    assert text.splitlines() == [f"line {n:02}" for n in range(16)][-len(text.splitlines()) :]
    assert text.endswith("line 15\n")
    assert await read(log.path, tail=9) == "".join(f"line {n:02}\n" for n in range(7, 16))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 900


async def test_a_follower_misses_nothing_through_rotations(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "0.log", rotate_bytes=2000)
    log.write("stdout", b"0\n")
    seen: list[bytes] = []

    async def follow() -> None:
        async for chunk in read_log(log.path, log, Selection(), True):
            seen.append(chunk)

    task = asyncio.create_task(follow())
    for number in range(1, 200):
        log.write("stdout", b"%d\n" % number)
        await asyncio.sleep(0)
    log.close()
    await asyncio.wait_for(task, 120)
    assert b"".join(seen).decode().split() == [str(n) for n in range(200)]


async def test_a_long_line_is_kept_in_parts(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "0.log")
    log.write("stdout", b"x" * 20000)
    log.write("stdout", b"y" * 20000 + b"\n")
    log.close()
    assert await read(log.path) == "x" * 20000 + "y" * 20000 + "\n"


async def test_a_full_disk_loses_lines_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LogFile(tmp_path / "0.log")
    log.write("stdout", b"before\n")
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    log.write("stdout", b"lost\nlost\n")
    monkeypatch.setattr(os, "write", real)
    log.write("stdout", b"after\n")
    log.close()
    lost = "2 lines of this log were lost: they could not be written to disk"
    assert await read(log.path) == f"before\n{lost}\nafter\n"


async def test_a_write_cut_short_by_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: Any) -> None:
    log = LogFile(tmp_path / "0.log")
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:20]))
    log.write("stdout", b"cut\n")
    monkeypatch.setattr(os, "write", real)
    log.write("stdout", b"whole\n")
    log.close()
    assert await read(log.path) == "1 lines of this log were lost: they could not be written to disk\nwhole\n"


async def test_a_pump_copies_until_the_pipe_ends(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    log = LogFile(tmp_path / "0.log")
    ended = pump(reader, log, "stderr")
    os.write(writer, b"a\nb\n")
    os.close(writer)
    await asyncio.wait_for(ended, 120)
    log.close()
    assert await read(log.path) == "a\nb\n"


async def test_follow_ends_with_the_container(cluster: Cluster) -> None:
    cluster.shell("echo 1; until [ -e go ]; do sleep 0.02; done; echo 2; exit 0", restartPolicy="Never")
    await cluster.until(lambda: "running" in cluster.container().get("state", {}))
    following = asyncio.create_task(cluster.log(follow=True))
    cluster.touch("go")
    assert await following == "1\n2\n"


async def test_followers_that_go_away_leave_nothing(cluster: Cluster) -> None:
    cluster.shell("echo 1; " + FOREVER)
    await cluster.until(cluster.ready)
    log = cluster.node.logs("default", "web", "c", follow=True)
    async for chunk in log:
        assert chunk == b"1\n"
        break
    await log.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("pod", "container", "options", "code", "message"),
    [
        ("nope", "c", {}, 404, 'pods "nope" not found'),
        ("web", "x", {}, 400, "container x is not valid for pod web"),
        ("web", "c", {"previous": True}, 400, 'previous terminated container "c" in pod "web" not found'),
        ("web", "c", {"since_time": "yesterday"}, 400, "parsing time 'yesterday' as RFC3339"),
    ],
)
async def test_what_cannot_be_shown_is_refused(
    cluster: Cluster, pod: str, container: str, options: dict[str, Any], code: int, message: str
) -> None:
    cluster.shell("echo 1; " + FOREVER)
    await cluster.until(cluster.ready)
    with pytest.raises(ApiError, match=re.escape(message)) as refusal:
        await cluster.log(pod, container, **options)
    assert refusal.value.code == code


async def test_a_container_that_waits_has_no_log_yet(cluster: Cluster) -> None:
    cluster.pod(container={"image": "unknown"})
    await cluster.until(
        lambda: cluster.container().get("state", {}).get("waiting", {}).get("reason", "").startswith("E")
    )
    with pytest.raises(ApiError, match='container "c" in pod "web" is waiting to start: trying and failing to pull'):
        await cluster.log()
