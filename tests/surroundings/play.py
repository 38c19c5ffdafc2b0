# SPDX-License-Identifier: Apache-2.0
"""Plays odd surroundings, as oneself or as somebody without a name on this machine, and judges what came of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.conftest import processes_of, wait_until
from tests.surroundings.odd import Odd

__all__ = ["ORDINARY", "as_player", "play", "players"]

ORDINARY = 54321
"""The number of a user whom no machine knows."""

_DRIVE = Path(__file__).with_name("drive.py")
_AS_ORDINARY = ("setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups", "--inh-caps=-all")


def players() -> list[str]:
    """Who can play here: this user, and if that is root an ordinary user, where such a one can run this Python."""
    if os.getuid() != 0:
        return ["this user"]
    # The second execution counts: at the first, setpriv still has root's rights.
    check = "import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'import labkit'])"
    can = subprocess.run([*_AS_ORDINARY, sys.executable, "-c", check], capture_output=True, cwd="/").returncode == 0
    return ["root", "ordinary"] if can else ["root"]


def as_player(player: str) -> tuple[str, ...]:
    """What a command line begins with to run as `player`."""
    return _AS_ORDINARY if player == "ordinary" else ()


def play(odd: Odd, player: str) -> str:
    """Play `odd` as `player`; "runs", or the sentence with which it was refused.

    Raises:
        AssertionError: it neither ran nor was refused as it must be.
    """
    # pytest's own folders are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="labkit-odd-", dir="/tmp"))
    try:
        odd.prepare(folder)
        if player == "ordinary":
            subprocess.run(["chown", "-hR", f"{ORDINARY}:{ORDINARY}", str(folder)], check=True)
        found = _drive(odd, folder, player)
        # A process that was killed may take a moment to be gone.
        wait_until(lambda: not processes_of(folder / "home/sandboxes/odd"), 5, "the end of every process")
        return _judge(odd, found)
    finally:
        shutil.rmtree(folder)


def _drive(odd: Odd, folder: Path, player: str) -> dict[str, Any]:
    env: dict[str, str | None] = {
        "HOME": str(folder / "own"),
        "LABKIT_HOME": str(folder / "home"),
        "ODD": str(folder),
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "LABKIT_PROGRESS": "off",
    }
    env |= {name: value and value.replace("{}", str(folder), 1) for name, value in odd.env.items()}
    command = [*as_player(player), *odd.around]
    command += [sys.executable, "-I", str(_DRIVE), odd.sandbox, odd.each]
    command[0] = shutil.which(command[0]) or command[0]
    if player == "ordinary" and odd.around:
        command[len(_AS_ORDINARY)] = shutil.which(odd.around[0]) or odd.around[0]
    done = subprocess.run(
        command,
        env={name: value for name, value in env.items() if value is not None},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _judge(odd: Odd, found: dict[str, Any]) -> str:
    up = found["up"]
    said = str(up["err"])
    assert "Traceback" not in f"{up}", said
    assert not found["left"], "a folder is left"
    if up["code"] == 0 and (odd.either or not odd.refused):
        assert found["kubectl"]["code"] == 0, found["kubectl"]
        assert "namespace/kube-system" in found["kubectl"]["out"]
        assert found["env"]["code"] == 0, found["env"]
        assert found["down"]["code"] == 0, found["down"]
        return "runs"
    assert odd.refused, said
    assert up["code"] == 1, up
    sentence, arrow, step = said.partition("\n→ ")
    if not arrow:
        sentence, arrow, step = said.partition("\n\\u2192 ")
    assert sentence.startswith("labkit: "), said
    assert step.strip(), said
    assert "\n" not in sentence + step.rstrip("\n"), said
    assert re.search(odd.refused, said), said
    return said
