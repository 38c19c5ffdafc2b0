# SPDX-License-Identifier: Apache-2.0
"""What the command line makes of a sandbox's process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit.ground.errors import SandboxError
from meshbox import control
from meshbox.processes import daemon_process
from tests.conftest import wait_until


def test_a_daemon_is_known_though_the_clock_was_set(tmp_path: Path) -> None:
    """Start times are told from the moment of the machine's start, which moves with its clock."""
    mine, others = tmp_path / "mine", tmp_path / "others"
    words = ["-m", "meshbox.daemon", "--home", str(mine)]
    with subprocess.Popen([sys.executable, "-c", "input()", *words], stdin=subprocess.PIPE) as process:
        for home in (mine, others):
            home.mkdir()
            state = {"pid": process.pid, "started": time.time() - 3600.0, "release": "1.30.3", "state": "running"}
            (home / "state.json").write_text(json.dumps(state))
        # A process that has just begun another program has no words for a moment.
        found = wait_until(lambda: daemon_process(mine), what="the process by its words")
        assert found.pid == process.pid
        # A pid alone says nothing.
        assert daemon_process(others) is None
        process.communicate(b"\n")
    assert daemon_process(mine) is None


def test_a_sandbox_that_is_ended_while_it_starts_is_not_said_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`labkit down` comes when the daemon has just said that it runs."""
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))

    def launch(home: Path, *_: str) -> None:
        state = {"pid": 1, "started": 1.0, "release": "1.30.3", "state": "stopped"}
        (home / "state.json").write_text(json.dumps(state))

    monkeypatch.setattr(control, "launch", launch)
    with pytest.raises(SandboxError, match="'early' was ended while it started"):
        control.up("early", "1.30.3")
