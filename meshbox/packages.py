# SPDX-License-Identifier: Apache-2.0
"""What the machine's own package managers bring, said as it is done and told in one sentence where it fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from labkit.ground.errors import MissingToolError
from labkit.ground.saying import saying

__all__ = ["apt", "run"]


def run(command: list[str], cwd: Path | None = None) -> None:
    """Run a package manager's command.

    Raises:
        MissingToolError: it failed; with the last line that it said.
    """
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with saying(" ".join(command)):
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
        raise MissingToolError(f"`{' '.join(command)}` failed: {last[0]}")


def apt(*arguments: str, cwd: Path | None = None) -> None:
    """Run apt-get; if it fails, once more with fresh package lists: the machine's for root, else a copy of our own.

    Raises:
        MissingToolError: it failed, or is not there.
    """
    if shutil.which("apt-get") is None:
        raise MissingToolError("there is no apt-get on this machine")
    try:
        run(["apt-get", *arguments], cwd)
    except MissingToolError:
        with tempfile.TemporaryDirectory() as scratch:
            own = [] if os.geteuid() == 0 else ["-o", f"Dir::State={scratch}", "-o", f"Dir::Cache={scratch}"]
            run(["apt-get", *own, "update", "-qq"])
            run(["apt-get", *own, *arguments], cwd)
