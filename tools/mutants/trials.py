# SPDX-License-Identifier: Apache-2.0
"""The tests of a module, run against each of its mutants in a fork of one process."""

from __future__ import annotations

import ast
import contextlib
import ctypes
import importlib
import itertools
import os
import pickle
import random
import signal
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import coverage
import pytest

from tools.mutants.answers import Answers
from tools.mutants.changes import Mutant, mutants
from tools.mutants.grafting import graft

__all__ = ["Seen", "Trials", "forked", "outcome"]

OUTPUT = os.dup(1)
"""Where survivors are told, while pytest's own words go nowhere."""

OUTCOMES = ("killed", "survived", "not reached", "too long")
"""What may become of a mutant."""


@dataclass
class Seen:
    """What was seen of the tests without a mutant.

    Args:
        tests: For each line of the module, the numbers of the tests that run it.
        seconds: How long each test took.
        everywhere: Lines that are run when the module is imported, and so by every test.
    """

    tests: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    seconds: list[float] = field(default_factory=list)
    everywhere: set[int] = field(default_factory=set)

    def order(self, line: int) -> list[int]:
        """The tests for a mutant in `line`: first those that run it, and the quickest of them; none where none does."""
        numbers = range(len(self.seconds))
        if line in self.everywhere:
            return sorted(numbers, key=self.seconds.__getitem__)
        runs = self.tests.get(line)
        # What another test has left in a memory may be what a mutant spoils: so the others follow.
        return sorted(numbers, key=lambda one: (one not in runs, self.seconds[one])) if runs else []


class Trials:
    """A plugin of pytest: instead of running the tests once, it runs them once for each mutant, in a fork.

    All that the tests import and collect is so done once, and so is what they ask kubectl.

    Args:
        module: The path of the module, as `meshbox/mesh/matches.py`.
        until: When to end, as `time.monotonic` says it.
        chance: Gives the order.
        lines: The lines whose mutants are tried; none: all.
    """

    def __init__(self, module: str, until: float, chance: random.Random, lines: Iterable[int] = ()) -> None:
        self._module = module
        self._until = until
        self._chance = chance
        self._lines = set(lines)

    def pytest_configure(self) -> None:
        # Not before pytest, which wants to import it first.
        import hypothesis

        # A first example that fails is enough: nobody reads the smallest.
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile("mutants", hypothesis.settings.default, phases=phases)
        hypothesis.settings.load_profile("mutants")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        name = self._module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        module = importlib.import_module(name)
        answers = Answers()
        answers.install()
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as made:
            told = Path(made) / "told"
            if forked(lambda: self._look(session, answers, told), 600):
                raise pytest.UsageError(f"{self._module}: its tests fail without any mutant")
            seen: Seen
            seen, answers.known = pickle.loads(told.read_bytes())
        limit = max(20.0, 10 * (time.monotonic() - began))
        found = [one for one in mutants(Path(self._module).read_text()) if not self._lines or one.line in self._lines]
        self._chance.shuffle(found)
        counts: Counter[str] = Counter()
        for mutant in found:
            if time.monotonic() > self._until:
                break
            what = "not reached"
            if order := seen.order(mutant.line):
                code = forked(lambda mutant=mutant, order=order: _tried(session, module, mutant, order), limit)  # type: ignore[misc]
                what = outcome(code)
            counts[what] += 1
            if what != "killed":
                _say(f"{self._module}:{mutant.line}: {what}: {mutant.change}")
        said = ", ".join(f"{counts[what]} {what}" for what in OUTCOMES)
        _say(f"{self._module}: {counts.total()} of {len(found)} tried: {said}")
        return True

    def _look(self, session: pytest.Session, answers: Answers, told: Path) -> int:
        path = str(Path(self._module).resolve())
        looking = coverage.Coverage(data_file=None, config_file=False, include=[path])
        seen = Seen()
        with looking.collect():
            for number, (item, following) in enumerate(itertools.zip_longest(session.items, session.items[1:])):
                looking.switch_context(str(number))
                began = time.monotonic()
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                seen.seconds.append(time.monotonic() - began)
                if session.testsfailed:
                    return 1
        for line, contexts in looking.get_data().contexts_by_lineno(path).items():
            seen.tests[line] |= {int(context) for context in contexts if context}
        source = Path(self._module).read_text()
        _spread(ast.parse(source), seen, len(source.splitlines()))
        told.write_bytes(pickle.dumps((Seen(dict(seen.tests), seen.seconds, seen.everywhere), answers.known)))
        return 0


def _spread(tree: ast.Module, seen: Seen, last: int) -> None:
    """Say of each line what was seen of the statement that it is part of."""
    inside = {
        line
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for line in range(node.body[0].lineno, (node.end_lineno or 0) + 1)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.stmt) or node.lineno not in seen.tests:
            continue
        # A statement of several lines is reached where its first one is; what is in it speaks for itself.
        end = node.end_lineno or 0
        if isinstance(node, (ast.If, ast.For, ast.While, ast.With)):
            end = node.body[0].lineno - 1
        elif hasattr(node, "body"):
            continue
        for line in range(node.lineno, end + 1):
            seen.tests[line] |= seen.tests[node.lineno]
    seen.everywhere = set(range(last + 1)) - inside


def _tried(session: pytest.Session, module: ModuleType, mutant: Mutant, order: list[int]) -> int:
    try:
        graft(module, mutant.source)
    except Exception:
        # It cannot even be imported.
        return 1
    items = [session.items[number] for number in order]
    for item, following in itertools.zip_longest(items, items[1:]):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            return 1
    return 0


def outcome(code: int | None) -> str:
    """What became of a mutant whose tests ended with `code`; None where they did not end in time.

    A test that would wait for ever has noticed it; on a busy machine it may only be slow. So neither is claimed.
    """
    if code is None:
        return "too long"
    return "killed" if code else "survived"


def _say(text: str) -> None:
    os.write(OUTPUT, f"{text}\n".encode())


def forked(what: Callable[[], int], limit: float) -> int | None:
    """The exit code of `what`, done by a process of its own; None where it took longer than `limit` s."""
    child = os.fork()
    if child == 0:
        os.setsid()
        # A run that is ended in the middle leaves none of its mutants behind (PR_SET_PDEATHSIG).
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        code = 70
        try:
            code = what()
        finally:
            os._exit(code)
    deadline = time.monotonic() + limit
    try:
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        return None
    finally:
        # With what it started, and it if it is there still.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)
