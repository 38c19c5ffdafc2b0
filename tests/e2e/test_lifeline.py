# SPDX-License-Identifier: Apache-2.0
"""A sandbox, and all that was started for it, ends with the process that asked for it: kill -9 included."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import psutil
import pytest

from labkit.ground.errors import SettingError
from meshbox.asker import Asker
from meshbox.lifeline import watched
from tests.conftest import BIN, processes_of

UP = "labkit up --name bound --with-pid $$ && labkit status --name bound --json && read -r _"


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "LABKIT_HOME": str(home), "HOME": str(home), "PATH": f"{BIN}:{os.environ['PATH']}"}


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "labkit", *words]
    return subprocess.run(command, env=environment(home), capture_output=True, text=True, timeout=300)


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


KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
CELLS = (
    "# + tags=[]\nRELEASE, TARGET = '', ''",
    "open({begun!r}, 'w').close()\nwhile True: pass",
)


def test_a_killed_run_leaves_no_process_and_the_next_one_no_file(tmp_path, until):
    """The run itself, its sandbox, the kernel that is in the middle of a cell, and the one that waits for its turn."""
    begun, home = tmp_path / "begun", tmp_path / "home"
    notebooks = []
    for name in ("one", "two"):
        cells = [nbformat.v4.new_code_cell(cell.format(begun=str(begun))) for cell in CELLS]
        cells[0].metadata["tags"] = ["parameters"]
        notebooks.append(tmp_path / f"{name}.ipynb")
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), notebooks[-1])
    words = ["run", "--release", "1.30.3", "--out", str(tmp_path / "out"), *map(str, notebooks)]
    env = environment(home) | {"LABKIT_TEST_MARK": str(tmp_path)}
    command = [sys.executable, "-m", "labkit", *words]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
        try:
            until(begun.exists, 120, "the cell that does not end")
            name = f"run-1-30-3-{run.pid}"
            assert (home / "sandboxes" / name).is_dir()
            until(lambda: len(marked(tmp_path)) >= 4, what="the run, its daemon, two kernels")
        finally:
            run.kill()
    until(lambda: marked(tmp_path) + processes_of(home / "sandboxes" / name) == [], 30, "the end of them all")
    assert (home / "sandboxes" / name).is_dir()
    (nothing := tmp_path / "nothing.ipynb").write_text(nbformat.writes(nbformat.v4.new_notebook(metadata=KERNEL)))
    words = ["run", "--release", "1.30.3", "--out", str(tmp_path / "out"), str(nothing)]
    done = subprocess.run(
        [sys.executable, "-m", "labkit", *words], env=environment(home), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list((home / "sandboxes").iterdir()) == []


def marked(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("LABKIT_TEST_MARK") == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


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
    with watched(Asker.of(process.pid), lambda: ends.append(1)):
        await asyncio.sleep(0)
        assert ends == []
        process.kill()
        async with asyncio.timeout(120):
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
    with watched(before, ended.set):
        await asyncio.wait_for(ended.wait(), 120)


def test_a_zombie_has_ended():
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(SettingError, match="there is no process"):
        Asker.of(process.pid)
    process.wait()
