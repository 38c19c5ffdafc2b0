# SPDX-License-Identifier: Apache-2.0
"""exec and attach, as real kubectl uses them: over a WebSocket, and over SPDY as up to version 1.29."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest

from meshbox.api.streams import attach
from meshbox.contracts import Obj
from tests.conftest import PATIENCE
from tests.streams.streams_server import Server, eventually


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said to be recent is so for ten minutes: kubectl may take a while to come."""
    monkeypatch.setattr(attach, "_FRESH", 600.0)


def test_output_and_success(kubectl: Any) -> None:
    done = kubectl("exec", "one", "--", "sh", "-c", "echo out; echo err >&2")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"out\n", b"err\n")


@pytest.mark.parametrize("code", [1, 3, 255])
def test_the_exit_code_is_the_commands_own(kubectl: Any, code: int) -> None:
    done = kubectl("exec", "one", "--", "sh", "-c", f"exit {code}")
    assert done.returncode == code
    assert f"command terminated with exit code {code}".encode() in done.stderr


def test_stdin_ends_where_the_client_ends_it(kubectl: Any) -> None:
    text = os.urandom(3_000_000)
    done = kubectl("exec", "-i", "one", "--", "cat", input=text)
    assert done.returncode == 0, done.stderr
    assert done.stdout == text


def test_stdin_that_the_command_does_not_read_is_no_failure(kubectl: Any) -> None:
    done = kubectl("exec", "-i", "one", "--", "sh", "-c", "exec <&-; echo done", input=b"x" * 1_000_000)
    assert (done.returncode, done.stdout) == (0, b"done\n")


def test_a_container_is_chosen_by_name_and_by_annotation(kubectl: Any) -> None:
    assert kubectl("exec", "two", "-c", "istio-proxy", "--", "sh", "-c", "echo $CONTAINER").stdout == b"istio-proxy\n"
    assert kubectl("exec", "chosen", "--", "sh", "-c", "echo $CONTAINER").stdout == b"app\n"


def test_an_unknown_container_is_refused_before_the_upgrade(kubectl: Any) -> None:
    done = kubectl("exec", "one", "-c", "nope", "--", "true")
    assert done.returncode == 1
    assert b"container nope is not valid for pod one" in done.stderr


def test_a_pod_without_a_node_is_refused(kubectl: Any) -> None:
    done = kubectl("exec", "pending", "--", "true")
    assert done.returncode == 1
    assert b"pod pending does not have a host assigned" in done.stderr


def test_a_command_that_is_not_there(kubectl: Any) -> None:
    done = kubectl("exec", "one", "--", "no-such-command")
    assert done.returncode == 1
    assert b'exec: "no-such-command": executable file not found in $PATH' in done.stderr


def test_a_command_whose_child_keeps_the_output_open_ends(kubectl: Any) -> None:
    # The child would live longer than anybody here waits for kubectl.
    done = kubectl("exec", "one", "--", "sh", "-c", "sleep 1000 & echo started")
    assert (done.returncode, done.stdout) == (0, b"started\n")


def _ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_vanished_client_ends_the_command(
    server: Server, kubectl_path: str, environment: dict[str, str], transport: dict[str, str]
) -> None:
    client = subprocess.Popen(
        [kubectl_path, "exec", "one", "--", "sleep", "1000"], env=environment | transport, stderr=subprocess.PIPE
    )
    with client:
        assert eventually(lambda: len(server.runtime.processes) == 1)
        running = psutil.Process(server.runtime.processes[0].process.pid)
        client.kill()
        assert eventually(lambda: _ended(running))
        assert eventually(lambda: server.open_requests == 0)


def test_attach_shows_what_is_said_from_now_on(
    server: Server, kubectl_path: str, environment: dict[str, str], transport: dict[str, str]
) -> None:
    server.call(server.runtime.say, b"before\n")
    client = subprocess.Popen(
        [kubectl_path, "attach", "one"], env=environment | transport, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with client:
        assert eventually(lambda: server.runtime.followers == 1)
        server.call(server.runtime.say, b"after\n")
        assert client.stdout is not None
        assert client.stdout.readline() == b"after\n"
        client.kill()
    assert eventually(lambda: server.runtime.followers == 0)


def _state(server: Server, **state: Any) -> None:
    server.pods["one"]["status"]["containerStatuses"][0]["state"] = state


def _ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_attach_goes_on_where_the_log_was_read_to(server: Server, kubectl: Any) -> None:
    server.runtime.log_lines = [b"first\n"]
    assert kubectl("logs", "one").stdout == b"first\n"
    _state(server, terminated={"exitCode": 0, "startedAt": _ago(1), "finishedAt": _ago(0)})
    server.runtime.follows = False
    server.runtime.log_lines = [b"first\nmean", b"while\n"]
    assert kubectl("attach", "one", "-i").stdout == b"meanwhile\n"


@pytest.mark.parametrize(
    ("arguments", "state", "tail"),
    [
        (["-i"], {"running": {"startedAt": 1}}, None),
        (["-i"], {"running": {"startedAt": 3600}}, 0),
        ([], {"running": {"startedAt": 1}}, 0),
        (["-i"], {"terminated": {"startedAt": 2, "finishedAt": 1}}, None),
    ],
)
def test_where_attach_begins(server: Server, kubectl: Any, arguments: list[str], state: Obj, tail: int | None) -> None:
    _state(server, **{kind: {key: _ago(value) for key, value in times.items()} for kind, times in state.items()})
    server.runtime.follows = False
    assert kubectl("attach", "one", *arguments).returncode == 0
    assert server.runtime.log_requests[-1]["tail_lines"] == tail


@pytest.mark.parametrize(("age", "skip"), [(1, 0), (3600, None)])
def test_what_is_typed_goes_to_a_container_with_a_stdin(
    server: Server,
    kubectl_path: str,
    environment: dict[str, str],
    transport: dict[str, str],
    age: float,
    skip: int | None,
) -> None:
    server.pods["one"]["spec"]["containers"][0]["stdin"] = True
    _state(server, running={"startedAt": _ago(age)})
    done = subprocess.run(
        [kubectl_path, "attach", "one", "-i"],
        env=environment | transport,
        input=b"typed\nmore\n",
        capture_output=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, b"typed\nmore\n")
    assert server.runtime.attached == [("app", skip)]
    assert server.runtime.log_requests == []


def test_attach_to_a_container_that_ended_long_ago_is_refused(server: Server, kubectl: Any) -> None:
    _state(server, terminated={"startedAt": _ago(3600), "finishedAt": _ago(1800)})
    done = kubectl("attach", "one")
    assert done.returncode == 1
    assert b"container app not found in pod one_default" in done.stderr


def test_attach_to_a_container_that_has_ended_is_refused(kubectl: Any) -> None:
    done = kubectl("attach", "two", "-c", "istio-init")
    assert done.returncode == 1
    assert b"container istio-init not found in pod two_default" in done.stderr


class Terminal:
    """kubectl on a pseudo-terminal, as a learner has it."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(command[0], command, environment)
        self.seen = b""

    def expect(self, text: bytes, seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.fd], [], [], 0.1)[0]:
                self.seen += os.read(self.fd, 65536)

    def type(self, text: bytes) -> None:
        os.write(self.fd, text)

    def close(self) -> int:
        while True:
            try:
                if not os.read(self.fd, 65536):
                    break
            except OSError:
                break
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def terminal(kubectl_path: str, environment: dict[str, str], transport: dict[str, str]) -> Iterator[Any]:
    def start(*arguments: str) -> Terminal:
        return Terminal([kubectl_path, *arguments], environment | transport | {"TERM": "xterm"})

    return start


def test_an_interactive_shell(terminal: Any) -> None:
    shell = terminal("exec", "-it", "one", "--", "sh", "-c", "while read line; do echo got:$line; done; exit 7")
    shell.type(b"hello\n")
    shell.expect(b"got:hello")
    shell.type(b"\x04")
    assert shell.close() == 7


def test_the_terminal_has_the_clients_size(terminal: Any) -> None:
    until = 'until [ "$(stty size)" = "41 123" ]; do sleep 0.02; done; echo sized'
    shell = terminal("exec", "-it", "one", "--", "sh", "-c", until)
    fcntl.ioctl(shell.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 41, 123, 0, 0))
    shell.expect(b"sized")
    assert shell.close() == 0
