# SPDX-License-Identifier: Apache-2.0
"""The sandbox, seen from labkit: a command. Nothing here imports it, and a cluster of one's own needs none of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, NoReturn

from labkit.ground.errors import SettingError

__all__ = ["COMMANDS", "become", "call", "known"]

COMMANDS = {
    "up": "start a sandbox, or reuse the one that runs",
    "down": "stop a sandbox and all it started",
    "status": "say what a sandbox is doing (exit code 3 unless it runs)",
    "env": 'print what `eval "$(labkit env)"` needs',
    "report": "pack logs, versions and objects without secrets, to find a fault with",
    "image": "which images pods may have; bring one of your own",
    "setup": "fetch what pip cannot bring",
}
"""What `labkit` hands to `meshbox` as it stands."""

UP_SECONDS = 120.0


def _line(words: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "meshbox", *words]


def _environment() -> dict[str, str]:
    # Its messages then name the command that was typed.
    return {**os.environ, "MESHBOX_PROGRAM": "labkit"}


def become(*words: str) -> NoReturn:
    """Go on as ``meshbox WORDS``: its output, its signals and its exit code are this command's."""
    # Where it was closed there is none.
    if sys.stdout is not None:
        sys.stdout.flush()
    os.execve(sys.executable, _line(words), _environment())


def call(*words: str) -> str:
    """What ``labkit WORDS`` prints.

    Args:
        words: "up", "down" or "status", with its options.

    Raises:
        SettingError: It failed (`status` never does because nothing runs), with its own reason and next step, or
            did not end within 120 s.
    """
    failed = f"`labkit {' '.join(words)}`"
    if words[0] == "up":
        failed = f"the sandbox could not start: {failed}"
    try:
        done = subprocess.run(
            _line(words),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=UP_SECONDS,
            # Nobody reads it before its end.
            env={**_environment(), "LABKIT_PROGRESS": "off"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SettingError(
            f"{failed} did not end within {UP_SECONDS:.0f} s", next_step="`labkit status` says what it is doing."
        ) from None
    # `status` says with exit code 3 that nothing runs.
    if done.returncode not in (0, 3):
        said = done.stderr.strip().removeprefix("labkit: ")
        message, _arrow, step = said.partition("\n→ ")
        raise SettingError(
            f"{failed} failed: {message or f'exit code {done.returncode}'}",
            next_step=step or "`labkit doctor` says what is missing or broken.",
        )
    return done.stdout


def known(name: str = "") -> list[dict[str, Any]]:
    """What ``labkit status --json`` says of sandbox `name`, or of all there are: "name", "state", "release",
    "kubeconfig" and more.

    Raises:
        SettingError: as `call`.
    """
    if not name:
        found: list[dict[str, Any]] = json.loads(call("status", "--all", "--json"))
        return found
    return [json.loads(call("status", "--json", "--name", name))]
