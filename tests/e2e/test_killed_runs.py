# SPDX-License-Identifier: Apache-2.0
"""A test run that is ended in the middle leaves no sandbox behind, whoever of its processes is ended, and how."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import REPOSITORY, processes_of

pytestmark = pytest.mark.apart

CONFTEST = """
from tests.conftest import start_sandbox
from tests.suite import pytest_configure
"""

SMALL = """
import json, os, pathlib, threading
def test_that_never_ends(start_sandbox):
    sandbox = start_sandbox("1.30.3", home=pathlib.Path({home!r}))
    pathlib.Path({told!r}).write_text(json.dumps([os.getpid(), str(sandbox.home)]))
    threading.Event().wait()
"""


@pytest.mark.parametrize(
    ("workers", "ended", "how"),
    [
        *((0, "pytest", how) for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)),
        *((1, "controller", how) for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)),
        (1, "worker", signal.SIGKILL),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_nothing_is_left(
    tmp_path: Path, until: Callable[..., Any], workers: int, ended: str, how: signal.Signals
) -> None:
    told, home = tmp_path / "told", tmp_path / "home"
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_small.py").write_text(SMALL.format(home=str(home), told=str(told)))
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(REPOSITORY / "pyproject.toml"), "-p", "no:cacheprovider"]
    command += ["--rootdir", str(tmp_path), "--basetemp", str(tmp_path / "tmp"), "-n", str(workers)]
    # A worker that is killed would be replaced.
    command += ["--max-worker-restart", "0", str(tmp_path)]
    # Of another run around this one, a worker's, nothing is inherited.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env["PYTHONPATH"] = str(REPOSITORY)
    with subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=_interruptible
    ) as run:
        try:
            until(lambda: told.exists() and told.read_text(), 60, "a sandbox of the small run")
            runner, sandbox = json.loads(told.read_text())
            assert (runner == run.pid) == (workers == 0)
            assert len(processes_of(Path(sandbox))) == 2
            os.kill(runner if ended == "worker" else run.pid, how)
            said, _ = run.communicate(timeout=120)
        finally:
            run.kill()
    assert run.returncode != 0, said
    until(lambda: processes_of(Path(sandbox)) == [], 30, "the end of the sandbox")
    until(lambda: not runs(runner), 5, "the end of what ran the test")


def _interruptible() -> None:
    # Where a shell started this run in the background, it is told to take no notice of SIGINT, and hands that on.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def runs(pid: int) -> bool:
    """Whether a process runs; one that has ended, and whose end nobody has asked for, does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
