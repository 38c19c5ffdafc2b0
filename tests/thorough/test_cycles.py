# SPDX-License-Identifier: Apache-2.0
"""100 times up, Istio, BookInfo, down: nothing is left of any of them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import SandboxUnderTest, processes_of
from tests.shops import open_shop

pytestmark = pytest.mark.timeout(6 * 3600)

CYCLES = int(os.environ.get("LABKIT_CYCLES", "100"))


def mine(home: Path) -> set[str]:
    """Processes of the sandbox, and those that hold a file of it open."""
    found = {f"process {process.pid}" for process in processes_of(home / "sandboxes" / "shop")}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and any(str(home / "sandboxes") in one.path for one in process.open_files()):
                found.add(f"open file of process {process.pid} {process.name()}")
    return found


def outside(temporary: Path) -> set[str]:
    """What was left in the folder for temporary files, and in shared memory."""
    shared = Path("/dev/shm")
    memory = [path for path in shared.iterdir() if "envoy" in path.name] if shared.is_dir() else []
    return {str(path) for path in (*temporary.iterdir(), *memory)}


def sockets(block: str) -> set[str]:
    """What listens on a sandbox's addresses, and what holds its block."""
    return {
        f"socket {one.laddr.ip}:{one.laddr.port}"
        for one in psutil.net_connections("inet")
        if one.laddr and one.laddr.ip.startswith(block)
        if one.status == psutil.CONN_LISTEN or one.type == socket.SOCK_DGRAM
    }


@contextlib.contextmanager
def one_sandbox(home: Path) -> Iterator[SandboxUnderTest]:
    sandbox = SandboxUnderTest("shop", "", home, home / "sandboxes" / "shop" / "kubeconfig", node="")
    yield sandbox
    assert sandbox.labkit("down", "--name", "shop", "--delete").returncode == 0


def test_nothing_is_left(tmp_path, figure, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    before = outside(temporary)
    left: list[str] = []
    files = len(os.listdir("/proc/self/fd"))
    for number in range(CYCLES):
        release = ("1.30.3", "1.2.2")[number % 2]
        with one_sandbox(tmp_path) as sandbox:

            def start(release: str, name: str, sandbox: SandboxUnderTest = sandbox) -> SandboxUnderTest:
                up = sandbox.labkit("up", "--name", name, "--release", release)
                assert up.returncode == 0, up.stderr
                sandbox.release = release
                sandbox.node = json.loads(sandbox.labkit("status", "--name", name, "--json").stdout)["node"]
                return sandbox

            assert open_shop(start, release).status() == 200
        block = ".".join(sandbox.node.split(".")[:2]) + "."
        found = mine(tmp_path) | sockets(block) | (outside(temporary) - before)
        found |= {str(path) for path in (tmp_path / "sandboxes").iterdir()}
        left += [f"cycle {number}: {one}" for one in sorted(found)]
        print(number, release, sorted(found), flush=True)
    figure(f"left of {CYCLES} times up, Istio, BookInfo, down", len(left), "0")
    assert left == []
    assert len(os.listdir("/proc/self/fd")) <= files + 2
