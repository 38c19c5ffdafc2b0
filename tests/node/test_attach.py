# SPDX-License-Identifier: Apache-2.0
"""Attaching to a container's own streams."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from meshbox.contracts import ApiError, ExecSession
from tests.node.conftest import Cluster


async def words(session: ExecSession, until: bytes) -> bytes:
    """What the session says up to `until`."""
    said = b""
    async with asyncio.timeout(120):
        while until not in said:
            data = await session.read_stdout()
            assert data, said
            said += data
    return said


def interactive(cluster: Cluster, script: str, **more: Any) -> None:
    cluster.pod("it", {"command": ["sh", "-c", script], "stdin": True, **more}, restartPolicy="Never")


async def test_what_is_typed_reaches_the_container_and_its_answer_comes_back(cluster: Cluster) -> None:
    interactive(cluster, "while read line; do echo got $line; done; echo over", stdinOnce=True)
    await cluster.until(lambda: cluster.ready("it"))
    session = await cluster.node.attach("default", "it", "c", skip=None)
    await session.write_stdin(b"hello\n")
    assert await words(session, b"\n") == b"got hello\n"
    await session.close_stdin()
    assert await words(session, b"over\n") == b"over\n"
    assert await session.wait() == 0
    await cluster.until(lambda: cluster.status("it").get("phase") == "Succeeded")
    assert await cluster.log("it") == "got hello\nover\n"


async def test_a_stdin_for_many_clients_stays_open(cluster: Cluster) -> None:
    interactive(cluster, "while read line; do echo got $line; done")
    await cluster.until(lambda: cluster.ready("it"))
    first = await cluster.node.attach("default", "it", "c", skip=None)
    await first.write_stdin(b"one\n")
    await words(first, b"got one\n")
    await first.close_stdin()
    first.kill()
    second = await cluster.node.attach("default", "it", "c", skip=0)
    await second.write_stdin(b"two\n")
    assert await words(second, b"got two\n") == b"got one\ngot two\n"
    assert await first.read_stdout() == b""
    second.kill()


async def test_a_client_that_leaves_does_not_end_the_container(cluster: Cluster) -> None:
    interactive(cluster, "echo up; while true; do sleep 0.05; done")
    await cluster.until(lambda: cluster.ready("it"))
    session = await cluster.node.attach("default", "it", "c", skip=0)
    await words(session, b"up\n")
    session.kill()
    assert await session.wait() == 0
    code, out, _ = await cluster.exec(["echo", "still here"], "it")
    assert (code, out) == (0, "still here\n")
    assert cluster.container("it")["restartCount"] == 0


async def test_output_is_shown_from_where_the_client_had_read(cluster: Cluster) -> None:
    interactive(cluster, "echo first; echo second; read line")
    await cluster.until(lambda: cluster.ready("it"))
    async for line in cluster.node.logs("default", "it", "c", follow=True):
        if line.endswith(b"second\n"):
            break
    session = await cluster.node.attach("default", "it", "c", skip=len("first\n"))
    assert await words(session, b"second\n") == b"second\n"
    session.kill()


async def test_a_terminal_shows_prompts_and_has_a_size(cluster: Cluster) -> None:
    interactive(cluster, "printf 'ready> '; read line; stty size; test -t 0 && test -t 1 && echo terminal", tty=True)
    await cluster.until(lambda: cluster.ready("it"))
    session = await cluster.node.attach("default", "it", "c", skip=0)
    # A prompt is no whole line: no log has it yet.
    assert await words(session, b"> ") == b"ready> "
    session.resize(132, 43)
    await session.write_stdin(b"go\n")
    # A terminal may pass on the end of a line apart from the line.
    assert await words(session, b"terminal\r\n") == b"go\r\n43 132\r\nterminal\r\n"
    assert await session.wait() == 0
    assert "43 132" in await cluster.log("it")


async def test_stdout_and_stderr_are_told_apart_without_a_terminal(cluster: Cluster) -> None:
    interactive(cluster, "echo out; echo err >&2; read line")
    await cluster.until(lambda: cluster.ready("it"))
    session = await cluster.node.attach("default", "it", "c", skip=0)
    assert await words(session, b"\n") == b"out\n"
    assert await session.read_stderr() == b"err\n"
    session.kill()


async def test_a_container_that_does_not_run_cannot_be_attached_to(cluster: Cluster) -> None:
    interactive(cluster, "exit 0")
    await cluster.until(lambda: cluster.status("it").get("phase") == "Succeeded")
    with pytest.raises(ApiError) as refused:
        await cluster.node.attach("default", "it", "c", skip=None)
    assert refused.value.code == 400


async def test_containers_leave_no_files_open(cluster: Cluster) -> None:
    def links() -> Counter[str]:
        named = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return Counter(name for name in named if name.startswith(("pipe:", "/dev/pt")))

    before = links()
    for number, more in enumerate(({}, {"tty": True})):
        cluster.pod(f"p{number}", {"command": ["sh", "-c", "exit 0"], "stdin": True, **more}, restartPolicy="Never")
        cluster.pod(f"q{number}", {"command": ["/no/such"], "stdin": True, **more}, restartPolicy="Never")
    for name in ("p0", "p1", "q0", "q1"):
        await cluster.until(lambda name=name: cluster.status(name).get("phase") in ("Succeeded", "Failed"))
    # What an earlier test left to the garbage collector may go meanwhile.
    await cluster.until(lambda: not links() - before, "all descriptors are closed")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["sh", "-c", "echo from a shell"], "from a shell\n"),
        (["--version"], "curl "),
        (["file:///dev/null", "--write-out", "%{http_code}\n"], "\n000\n"),
        ([], "curl: try"),
    ],
)
async def test_the_curl_images_arguments_are_a_command_or_curls(cluster: Cluster, args: list[str], said: str) -> None:
    cluster.pod("curl", {"image": "curlimages/curl:8.8.0", "args": args}, restartPolicy="Never")
    await cluster.until(lambda: cluster.status("curl").get("phase") in ("Succeeded", "Failed"))
    assert said in await cluster.log("curl")
