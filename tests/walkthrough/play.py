# SPDX-License-Identifier: Apache-2.0
"""Plays a list of commands against a sandbox of its own, and keeps what each printed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import GENUINE, REPOSITORY, SandboxUnderTest

from .terminal import Result, Terminal

OURS = REPOSITORY / "labkit/istio/manifests"
CLEANUP = "samples/bookinfo/platform/kube/cleanup.sh"


@dataclass(frozen=True)
class Step:
    """A command of the walk-through.

    Args:
        name: What tests call it.
        command: The command, verbatim.
        until: Where a reader would look again: what the output must say before the next command.
        typed: What the reader types while it runs.
        seconds: How long a reader would wait.
    """

    name: str
    command: str
    until: Callable[[Result], bool] | None = None
    typed: str = ""
    seconds: float = 240.0


def release_folder(release: str, source: str, into: Path) -> Path:
    """A folder to stand in, with the release's files as they come out of the archive."""
    ours, genuine = OURS / release, GENUINE / f"istio-{release}"
    if source == "genuine" and not genuine.is_dir():
        pytest.skip(f"the genuine manifests of Istio {release} are not at {genuine}")
    folder = into / f"istio-{release}"
    shutil.copytree(genuine if source == "genuine" else ours, folder)
    for path in folder.rglob("*"):
        path.chmod(0o755)
    if not (folder / CLEANUP).exists():
        # The copy of the genuine manifests has no scripts; ours does the same to the same objects.
        shutil.copy2(ours / CLEANUP, folder / CLEANUP)
    return folder


@dataclass(frozen=True)
class Played:
    """A walk-through that was played: its sandbox, and what each step printed."""

    sandbox: SandboxUnderTest
    results: dict[str, Result]

    def __getitem__(self, name: str) -> Result:
        return self.results[name]


@contextmanager
def session(sandbox: SandboxUnderTest, folder: Path) -> Iterator[Terminal]:
    """A terminal beside the unpacked release, for this sandbox."""
    terminal = Terminal(folder.parent, sandbox.env)
    try:
        yield terminal
    finally:
        terminal.close()


def play(terminal: Terminal, steps: Iterable[Step]) -> dict[str, Result]:
    """Run the steps in order; a command that must show something is run again until it does, or its time is over."""
    results: dict[str, Result] = {}
    for step in steps:
        end = time.monotonic() + step.seconds
        while True:
            result = terminal.run(step.command, typed=step.typed, seconds=step.seconds + 60)
            if step.until is None or step.until(result) or time.monotonic() > end:
                break
            time.sleep(0.1)
        results[step.name] = result
    return results


def all_up(result: Result) -> bool:
    """Whether a table of pods shows all of them as they shall be."""
    return bool(result.rows) and all(
        row[2] == "Completed" or (row[2] == "Running" and len(set(row[1].split("/"))) == 1) for row in result.rows
    )


def nothing(result: Result) -> bool:
    """Whether kubectl found no objects."""
    return not result.stdout


def ready_column(result: Result) -> dict[str, tuple[str, str]]:
    """READY and STATUS by workload: pods' names without what their controllers add."""
    found = {}
    for name, ready, status, *_ in result.rows:
        # A Job's pod has one suffix, a Deployment's has two.
        parts = 1 if status == "Completed" else 2
        found[name.rsplit("-", parts)[0]] = (ready, status)
    return found
