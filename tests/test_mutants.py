# SPDX-License-Identifier: Apache-2.0
"""What tools/mutants changes, and that a module changed by it behaves so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from types import ModuleType
from typing import Any

import pytest

from tools.mutants.answers import Answers
from tools.mutants.changes import mutants
from tools.mutants.grafting import graft
from tools.mutants.trials import Seen, forked, outcome

SOURCE = '''
"""Words."""
from __future__ import annotations
from dataclasses import dataclass
__all__ = ["f"]
LIMIT = 3

def f(a: int, b: int = 1) -> bool:
    """More words."""
    return a < LIMIT and not b == 2

@dataclass(frozen=True)
class C:
    n: int = 1

    @property
    def twice(self) -> int:
        return max(self.n * 2, 0)
'''


def test_each_change_is_one_of_one_place() -> None:
    found = [mutant.change for mutant in mutants(SOURCE)]
    assert found == [
        "3  →  4",
        "3  →  2",
        "1  →  2",
        "1  →  0",
        "return a < LIMIT and (not b == 2)  →  return None",
        "a < LIMIT and (not b == 2)  →  a < LIMIT or not b == 2",
        "a < LIMIT  →  a <= LIMIT",
        "not b == 2  →  b == 2",
        "b == 2  →  b != 2",
        "2  →  3",
        "2  →  1",
        "1  →  2",
        "1  →  0",
        "return max(self.n * 2, 0)  →  return None",
        "max(self.n * 2, 0)  →  max(0, self.n * 2)",
        "self.n * 2  →  self.n // 2",
        "2  →  3",
        "2  →  1",
        "0  →  1",
        "0  →  -1",
    ]
    # The source itself is as it was.
    assert len({mutant.source for mutant in mutants(SOURCE)}) == len(found)


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ("a < LIMIT  →  a <= LIMIT", (True, True, 2)),
        ("3  →  2", (False, False, 2)),
        ("self.n * 2  →  self.n // 2", (True, False, 0)),
        ("", (True, False, 2)),
    ],
)
def test_a_module_in_use_behaves_as_its_mutant(
    change: str, seen: tuple[bool, bool, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, other = ModuleType("under_mutation"), ModuleType("its_user")
    module.__file__ = "under_mutation.py"
    for one in (module, other):
        monkeypatch.setitem(sys.modules, one.__name__, one)
    exec(SOURCE, module.__dict__)
    vars(other).update({name: vars(module)[name] for name in ("f", "C", "LIMIT")})
    made = other.C()
    graft(module, next(m.source for m in mutants(SOURCE) if m.change == change) if change else SOURCE)
    assert (other.f(2), other.f(3), made.twice) == seen
    assert isinstance(made, module.C)


STRUCT = """
from msgspec import Struct, field

class S(Struct, frozen=True):
    n: int = 1
    rest: list = field(default_factory=list)

FIRST, SECOND = S(), S(2)

def made() -> object:
    return S()
"""


def test_a_struct_keeps_its_class_unless_its_own_fields_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("under_mutation")
    module.__file__ = "under_mutation.py"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(STRUCT, module.__dict__)
    kept = module.S
    # Names are unknown without it: that is no fault a test would have to notice.
    assert not any(mutant.change.endswith("pass") for mutant in mutants(STRUCT))
    graft(module, STRUCT.replace("S(2)", "S(3)"))
    assert module.S is kept
    assert (module.made().n, module.SECOND.n) == (1, 3)
    graft(module, next(m.source for m in mutants(STRUCT) if m.change == "1  →  2"))
    assert (module.made().n, module.made().rest) == (2, [])
    graft(module, STRUCT)
    with pytest.raises(AttributeError):
        module.S().n = 3
    graft(module, next(m.source for m in mutants(STRUCT) if m.change == "True  →  False"))
    module.S().n = 3


def test_a_kubectl_without_a_cluster_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def ask(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, f"{len(asked)}", "")

    monkeypatch.setattr(subprocess, "run", ask)
    answers = Answers()
    alone, other = {"KUBECONFIG": os.devnull}, {"KUBECONFIG": "/some/file"}

    def said(*command: str, env: dict[str, str] = alone, **options: Any) -> str:
        return str(answers.run([*command], env=env, **options).stdout)

    assert [said("/bin/kubectl", "a"), said("/bin/kubectl", "a"), said("/bin/kubectl", "b")] == ["1", "1", "2"]
    assert [said("/bin/kubectl", "a", input="x"), said("/bin/kubectl", "a", input="x")] == ["3", "3"]
    # A cluster's answer may change, and so may another program's.
    assert [said("/bin/kubectl", "a", env=other), said("/bin/kubectl", "a", env=other), said("ls"), said("ls")] == [
        *("4", "5", "6", "7")
    ]


def test_tests_that_run_a_line_come_first_and_the_quick_before_the_slow() -> None:
    seen = Seen({7: {1, 2}}, [0.1, 3.0, 0.2], {1})
    assert (seen.order(7), seen.order(1), seen.order(9)) == ([2, 1, 0], [0, 2, 1], [])


def test_what_takes_too_long_is_told_apart() -> None:
    assert forked(lambda: time.sleep(600) or 0, 0.1) is None  # type: ignore[func-returns-value]
    assert [outcome(code) for code in (0, 1, 70, -9, None)] == ["survived", *["killed"] * 3, "too long"]


def test_it_runs_the_tests_of_a_module() -> None:
    command = [sys.executable, "-m", "tools.mutants", "labkit/ground/unreachable.py", "--minutes", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    # No time for a single mutant, but the tests have run, and without one they pass.
    assert re.fullmatch(
        r"labkit/ground/unreachable.py: 0 of \d+ tried: 0 killed, 0 survived, 0 not reached, 0 too long\n",
        done.stdout,
    ), done.stdout + done.stderr
