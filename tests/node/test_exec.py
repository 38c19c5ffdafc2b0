# SPDX-License-Identifier: Apache-2.0
"""Commands in containers, and connections to their ports."""

from __future__ import annotations

import asyncio
import os
import re
import time
from typing import Any

import pytest

from meshbox.contracts import ApiError
from tests.conftest import PATIENCE
from tests.node.conftest import Cluster

FOREVER = "while true; do sleep 0.05; done"


@pytest.fixture
async def web(cluster: Cluster) -> Cluster:
    cluster.shell(FOREVER)
    await cluster.until(cluster.ready)
    return cluster


async def test_output_errors_and_exit_code(web: Cluster) -> None:
    assert await web.exec(["sh", "-c", "echo out; echo err >&2; exit 5"]) == (5, "out\n", "err\n")
    assert await web.exec(["sh", "-c", "kill -9 $$"]) == (137, "", "")


async def test_it_runs_in_the_containers_folder_with_its_environment(web: Cluster) -> None:
    code, out, _ = await web.exec(["sh", "-c", "pwd; echo $LABKIT_ROOT; echo $HOSTNAME"])
    folder, root, host = out.split()
    assert (code, host) == (0, "web")
    assert folder == root


@pytest.mark.parametrize("command", [["ls"], ["cat", "/dev/null"], ["env"], ["python3", "-c", "print(1)"]])
async def test_everyday_programs_are_there(web: Cluster, command: list[str]) -> None:
    code, _, err = await web.exec(command)
    assert (code, err) == (0, "")


async def test_stdin_is_passed_on_to_its_end(web: Cluster) -> None:
    session = await web.node.exec("default", "web", "c", ["wc", "-c"], stdin=True, tty=False)
    # More than a pipe holds, so that writing has to wait for the command.
    await session.write_stdin(b"x" * 1_000_000)
    await session.close_stdin()
    assert int(await session.read_stdout()) == 1_000_000
    assert await session.wait() == 0


async def test_much_output_arrives_whole_though_it_is_taken_slowly(web: Cluster) -> None:
    script = "head -c 3000000 /dev/zero"
    session = await web.node.exec("default", "web", "c", ["sh", "-c", script], stdin=False, tty=False)
    total = 0
    while data := await session.read_stdout():
        total += len(data)
        await asyncio.sleep(0.002)
    assert total == 3_000_000
    assert await session.wait() == 0


async def test_a_terminal_is_a_real_one(web: Cluster) -> None:
    script = "tty; stty size; read line; stty size; echo got $line; exit 3"
    session = await web.node.exec("default", "web", "c", ["sh", "-c", script], stdin=True, tty=True)
    session.resize(100, 40)
    seen = b""
    while b"\r\n" not in seen or b" " not in seen:
        seen += await session.read_stdout()
    session.resize(120, 50)
    await session.write_stdin(b"hello\n")
    while data := await session.read_stdout():
        seen += data
    text = seen.decode()
    assert re.match(r"/dev/pts/\d+\r\n", text)
    assert "50 120\r\n" in text
    assert "got hello\r\n" in text
    assert await session.wait() == 3
    assert await session.read_stderr() == b""


async def test_ctrl_c_in_a_terminal_interrupts(web: Cluster) -> None:
    session = await web.node.exec("default", "web", "c", ["sleep", "100"], stdin=True, tty=True)
    await session.write_stdin(b"\x03")
    assert await asyncio.wait_for(session.wait(), 120) == 130


async def test_kill_ends_the_command_and_its_children(web: Cluster) -> None:
    script = "sleep 1000 & echo $!; wait"
    session = await web.node.exec("default", "web", "c", ["sh", "-c", script], stdin=False, tty=False)
    child = int(await session.read_stdout())
    session.kill()
    assert await session.wait() == 137

    def ended() -> bool:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return True
        return False

    await web.until(ended)


async def test_it_does_not_wait_for_what_a_command_leaves_behind(web: Cluster) -> None:
    code, out, _ = await asyncio.wait_for(web.exec(["sh", "-c", "sleep 1000 & echo done"]), 120)
    assert (code, out) == (0, "done\n")


@pytest.mark.parametrize(
    ("container", "command", "code", "message"),
    [
        ("x", ["ls"], 400, "container x is not valid for pod web"),
        ("c", ["nope"], 500, 'unable to start container process: exec: "nope": executable file not found in $PATH'),
    ],
)
async def test_what_cannot_be_run_is_refused(
    web: Cluster, container: str, command: list[str], code: int, message: str
) -> None:
    with pytest.raises(ApiError, match=re.escape(message)) as refusal:
        await web.exec(command, container=container)
    assert refusal.value.code == code


async def test_a_container_that_does_not_run_refuses(cluster: Cluster) -> None:
    cluster.shell("exit 0", restartPolicy="Never")
    await cluster.until(lambda: cluster.status().get("phase") == "Succeeded")
    with pytest.raises(ApiError, match="container c is not running"):
        await cluster.exec(["ls"])


async def test_an_images_own_programs_can_be_run(cluster: Cluster) -> None:
    args = ["/usr/local/bin/galley", "server", "--livenessProbePath=/healthliveness"]
    cluster.pod(container={"image": "istio/galley:1.2.2", "command": args})
    await cluster.until(cluster.ready)
    await cluster.until(lambda: _exists(cluster, "healthliveness"))
    assert (await cluster.exec(["/usr/local/bin/galley", "probe", "--probe-path=/healthliveness"]))[0] == 0
    code, _, err = await cluster.exec(["galley", "probe", "--probe-path=/other"])
    assert (code, err) == (1, "fail on inspecting path /other: no such file or directory\n")


def _exists(cluster: Cluster, name: str) -> bool:
    uid = cluster.objects.get("pods", "web", "default")["metadata"]["uid"]
    return (cluster.settings.pods_dir / uid / "containers" / "c" / "root" / name).exists()


async def _speak(cluster: Cluster, port: int, data: bytes, name: str = "web") -> bytes:
    stream = await cluster.node.connect("default", name, port)
    try:
        await stream.write(data)
        answer = b""
        while chunk := await stream.read():
            answer += chunk
        return answer
    finally:
        stream.close()


async def test_connect_reaches_the_pods_own_localhost_first(cluster: Cluster) -> None:
    proxy = {"name": "istio-proxy", "image": "busybox", "command": ["sh", "-c", FOREVER], "args": ["x", "sidecar"]}
    cluster.pod(containers=[{"name": "c", "image": "istio/pilot:1.2.2"}, proxy])
    cluster.pod("plain", {"image": "istio/pilot:1.2.2"})
    for name in ("web", "plain"):
        await cluster.until(lambda name=name: cluster.ready(name))
        request = b"GET /ready HTTP/1.0\r\n\r\n"
        answer = await cluster.until(lambda: True) and await _retry(cluster, 8080, request, name)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"stand-in" in answer


async def _retry(cluster: Cluster, port: int, data: bytes, name: str) -> bytes:
    """The server may be a few milliseconds behind its container."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await _speak(cluster, port, data, name)
        except ApiError:
            assert time.monotonic() < deadline, f"nothing listens on {port} of {name}"
            await asyncio.sleep(0.01)


async def test_a_port_where_nothing_listens_is_refused(web: Cluster) -> None:
    refused = "failed to connect to localhost:4444 inside pod web: connection refused"
    with pytest.raises(ApiError, match=refused):
        await web.node.connect("default", "web", 4444)


async def test_a_pod_that_is_not_here_is_not_found(cluster: Cluster) -> None:
    unknown: Any = ("default", "nope")
    with pytest.raises(ApiError, match='pods "nope" not found') as refusal:
        await cluster.node.connect(*unknown, 80)
    assert refusal.value.code == 404
