# SPDX-License-Identifier: Apache-2.0
"""Endurance, fuzz and fault injection: `make test-thorough`. Each prints its figure beside its goal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
_FIGURES = pytest.StashKey[list[str]]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # `make test` deselects the mark; a file in this folder cannot forget it.
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.thorough)


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str, object, str], None]:
    """Print a figure at the end of the run: what was counted or measured, what was seen, the goal."""
    lines = request.config.stash.setdefault(_FIGURES, [])

    def add(what: str, seen: object, goal: str) -> None:
        lines.append(f"{what}: {seen} (goal: {goal})")

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lines := config.stash.get(_FIGURES, []):
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)
