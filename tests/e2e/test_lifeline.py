"""A sandbox, and all that was started for it, ends with the process that asked for it: kill -9 included."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.errors import SettingError
from labkit.sandbox.lifeline import Asker
from tests.conftest import BIN, processes_of

UP = "labkit up --name bound --with-pid $$ && labkit status --name bound --json && read -r _"


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "LABKIT_HOME": str(home), "HOME": str(home), "PATH": f"{BIN}:{os.environ['PATH']}"}


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "labkit", *words]
    return subprocess.run(command, env=environment(home), capture_output=True, text=True, timeout=60)


def test_a_sandbox_ends_with_the_process_that_asked_for_it(tmp_path, until):
    home = tmp_path / "sandboxes" / "bound"
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(["bash", "-c", UP], env=environment(tmp_path), text=True, **streams) as shell:
        said = ""
        while not said.endswith("}\n"):
            said += shell.stdout.readline()
        try:
            assert f"it ends with process {shell.pid}, at the latest" in said
            assert json.loads(said[said.index("{") :])["ends_with"] == shell.pid
            assert len(processes_of(home)) == 2
            # Another one that asks for it does not prolong it, and is told so.
            again = run(tmp_path, "up", "--name", "bound", "--with-pid", str(os.getpid()))
            assert f"it ends with process {shell.pid}, at the latest" in again.stdout
        finally:
            shell.kill()
    until(lambda: processes_of(home) == [], 30, "the end of the sandbox")
    now = json.loads(run(tmp_path, "status", "--name", "bound", "--json").stdout)
    assert (now["state"], now["ends_with"]) == ("stopped", None)
    assert "which it was to end with, has ended" in (home / "daemon.log").read_text()


def test_a_process_that_is_not_there_is_told_in_one_line(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    refused = run(tmp_path, "up", "--with-pid", str(ended.pid))
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"labkit: there is no process {ended.pid} that the sandbox could end with")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(params=["pidfd", "no pidfd"])
def handles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "no pidfd":
        monkeypatch.delattr(os, "pidfd_open")


async def test_the_end_is_told_once(handles):
    process = await asyncio.create_subprocess_exec("sleep", "1000")
    ends = []
    with Asker.of(process.pid).watched(lambda: ends.append(1)):
        await asyncio.sleep(0)
        assert ends == []
        process.kill()
        async with asyncio.timeout(10):
            while not ends:
                await asyncio.sleep(0.01)
    await process.wait()
    assert ends == [1]


async def test_a_pid_that_another_process_has_by_now_is_an_end(handles):
    me = Asker.of(os.getpid())
    assert me.alive
    before = Asker.parse(f"{me.pid}:{me.began - 1}")
    assert not before.alive
    ended = asyncio.Event()
    with before.watched(ended.set):
        await asyncio.wait_for(ended.wait(), 10)


def test_a_zombie_has_ended():
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(SettingError, match="there is no process"):
        Asker.of(process.pid)
    process.wait()
