# SPDX-License-Identifier: Apache-2.0
"""A start waits for what its commands import before the daemon is started: that is little, and the rest comes then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SLOW = {"asyncio", "dataclasses", "ssl", "http.client", "psutil", "msgspec", "yaml", "tarfile", "pandas", "kubernetes"}

UNTIL_THE_DAEMON = """
import subprocess, sys
def started(*_, **__):
    print(*sorted(sys.modules))
    raise SystemExit(0)
subprocess.Popen = started
from meshbox.cli import main
main(["up", "--name", "light", "--release", "1.30.3"])
"""

UNTIL_THE_SANDBOX = """
import os, sys
def became(*_):
    print(*sorted(sys.modules))
    raise SystemExit(0)
os.execve = became
from labkit.cli import main
main(["up", "--name", "light", "--release", "1.30.3"])
"""


@pytest.mark.usefixtures("uncounted")
@pytest.mark.parametrize(
    ("program", "also"),
    [(UNTIL_THE_DAEMON, set[str]()), (UNTIL_THE_SANDBOX, {"dataclasses"})],
    ids=["meshbox", "labkit"],
)
def test_what_is_slow_to_import_comes_once_the_daemon_starts(
    program: str, also: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    loaded = set(said.split())
    assert {"argparse", "json"} <= loaded
    assert loaded & SLOW == also
