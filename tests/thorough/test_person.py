# SPDX-License-Identifier: Apache-2.0
"""All lessons, as a person plays them: with wrong answers, interrupts, restarts, and cells that are skipped.

`LABKIT_SEED` says where things go wrong; without it chance does, and says its number. `make person` plays it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from labkit.course import lessons
from labkit.lab import copies
from tests.conftest import REPOSITORY, SandboxUnderTest
from tests.shops import home_with_console
from tests.thorough.person import Person, begun_at


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("release", ["1.2.2", "1.30.3"])
def test_a_person_gets_through(
    release: str,
    start_sandbox: Callable[..., SandboxUnderTest],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    seed = os.environ.get("LABKIT_SEED") or str(random.SystemRandom().randrange(10**6))
    sandbox = start_sandbox(release, name="default", home=home_with_console(tmp_path_factory))
    folder = tmp_path / "workshop"
    copies.prepare(folder, fresh=False)
    env = {**sandbox.env, "HOME": str(tmp_path), "IPYTHONDIR": str(tmp_path / "ipython")}
    log = REPOSITORY / "build" / "person" / f"{release}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    faults: list[str] = []
    with log.open("w", encoding="utf-8") as diary:

        def note(line: str) -> None:
            print(line, file=diary, flush=True)

        note(f"Istio {release}, LABKIT_SEED={seed}")
        wanted = os.environ.get("LABKIT_LESSONS", "").split() or list(lessons(release))
        begun_at(wanted[0], release, env)
        for name in wanted:
            faults += Person(folder / f"{name}.ipynb", env, release, seed, note).play()
    assert faults == [], f"LABKIT_SEED={seed}; all that was done: {log}"
