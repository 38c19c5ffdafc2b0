# SPDX-License-Identifier: Apache-2.0
"""Which small faults no test notices: `nice -n 15 python -m tools.mutants meshbox/mesh/matches.py --minutes 10`.

Each mutant is one change of one expression or statement of a module. The test files that are related to the module
(`RELATED`) run against it, in a process of its own with a time limit; no file is changed. What survives is printed:
docs/testing-mutants.md says what was found so, and why some must survive.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import ctypes
import importlib
import itertools
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

import coverage
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
OUTPUT = os.dup(1)
"""Where survivors are told, while pytest's own words go nowhere."""

_FILES = ("routes", "actions", "hosts", "clusters", "gateways", "tcp", "listeners")
ROUTING = [f"tests/mesh/test_mesh_{name}.py" for name in _FILES]
RELATED = {
    "meshbox/mesh/authorization.py": ["tests/mesh/test_mesh_authorization.py"],
    "meshbox/mesh/clusters.py": ["tests/mesh/test_mesh_clusters.py", "tests/mesh/test_mesh_cluster_details.py"],
    "meshbox/mesh/": ROUTING,
    "labkit/ground/archives.py": ["tests/ground/test_archives.py", "tests/istio/test_fetch.py"],
    "labkit/ground/config.py": ["tests/istio/test_releases.py"],
    "labkit/ground/download.py": ["tests/istio/test_fetch.py"],
    "labkit/ground/errors.py": ["tests/ui/test_ui_display.py"],
    "labkit/ground/hosts.py": ["tests/ground/test_hosts.py", "tests/test_routing.py"],
    "labkit/ground/prometheus.py": ["tests/ground/test_prometheus_api.py"],
    "labkit/ground/reading/": ["tests/test_reading.py", "tests/ground/test_numbers.py"],
    "labkit/ground/transfer.py": ["tests/istio/test_fetch.py"],
    "labkit/ground/web.py": ["tests/test_web.py", "tests/test_framing.py"],
}
"""The test files to run for a module or a folder; for any other those of its name. What is not there is left out."""

OTHER: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}


@dataclass
class Mutant:
    """One change: the module's text with it, where it is, and what it says."""

    line: int
    change: str
    source: str


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of `node`."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER:
        yield _with(node, ops=[OTHER[type(node.ops[0])](), *node.ops[1:]])
    elif isinstance(node, (ast.BoolOp, ast.BinOp, ast.AugAssign)) and type(node.op) in OTHER:
        yield _with(node, op=OTHER[type(node.op)]())
        if isinstance(node, ast.AugAssign):
            yield ast.Pass()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield node.operand
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield ast.Constant(not node.value)
        elif isinstance(node.value, (int, float)):
            yield ast.Constant(node.value + 1)
            yield ast.Constant(node.value - 1)
        elif isinstance(node.value, str):
            yield ast.Constant(f"{node.value}~")
        elif isinstance(node.value, bytes):
            yield ast.Constant(node.value + b"~")
    elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
        yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.comprehension) and node.ifs:
        yield _with(node, ifs=[ast.UnaryOp(ast.Not(), node.ifs[0]), *node.ifs[1:]])
        yield _with(node, ifs=node.ifs[1:])
    elif isinstance(node, ast.Call) and _has_places(node):
        yield _with(node, args=[node.args[1], node.args[0], *node.args[2:]])
    elif isinstance(node, (ast.Continue, ast.Break)):
        yield ast.Break() if isinstance(node, ast.Continue) else ast.Continue()
    elif _does_something(node):
        yield ast.Pass()
    elif isinstance(node, ast.Return) and not isinstance(node.value, (ast.Constant, type(None))):
        yield ast.Return(ast.Constant(None))


def _has_places(call: ast.Call) -> bool:
    return len(call.args) > 1 and not any(isinstance(a, ast.Starred) for a in call.args) and not _calls(call, "cast")


def _does_something(node: ast.AST) -> bool:
    """Whether a statement can be left out without a name being unknown."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, (ast.Call, ast.Await))
    return isinstance(node, ast.Raise) or (isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name))


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module."""
    tree = ast.parse(source)
    for parent, field, index, node in list(_places(tree)):
        for changed in changes(node):
            ast.copy_location(changed, node)
            _put(parent, field, index, changed)
            text = ast.unparse(ast.fix_missing_locations(tree))
            _put(parent, field, index, node)
            said = f"{_words(node)}  →  {_words(changed)}"
            yield Mutant(getattr(node, "lineno", 0) or _first_line(node), said, text)


def _words(node: ast.AST) -> str:
    return ast.unparse(node).strip().split("\n")[0][:90]


def _first_line(node: ast.AST) -> int:
    return min((one.lineno for one in ast.walk(node) if isinstance(one, ast.expr)), default=0)


def _put(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


def _places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Every node with its place in its parent; neither docstrings and types nor what a module exports."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "names"):
            continue
        for index, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or _is_text(child) or _exports(child) or _is_type(child):
                continue
            if field == "args" and _calls(node, "cast") and index == 0:
                continue
            if isinstance(node, ast.JoinedStr):
                # Pieces of a message; its values count.
                if isinstance(child, ast.FormattedValue):
                    yield from _places(child)
                continue
            yield node, field, index if isinstance(value, list) else None, child
            yield from _places(child)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _exports(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"


def _calls(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def _is_type(node: ast.AST) -> bool:
    """Whether a statement is there for mypy alone."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name):
        return node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.Assign) and _calls(node.value, "TypeVar")


def graft(module: ModuleType, source: str) -> None:
    """Make `module`, which others have imported already, behave as `source` says."""
    fresh: dict[str, Any] = {key: module.__dict__[key] for key in ("__name__", "__file__", "__package__", "__spec__")}
    exec(compile(source, str(module.__file__), "exec"), fresh)  # noqa: S102 - our own source, but for one word
    for name, new in fresh.items():
        old = module.__dict__.get(name)
        if getattr(new, "__module__", "") == module.__name__ and isinstance(new, type):
            for attribute, value in vars(new).items():
                if not _graft_function(vars(old).get(attribute), value) and attribute not in (
                    "__dict__",
                    "__weakref__",
                ):
                    _set(old, attribute, value)
        elif not _graft_function(old, new) and not name.startswith("__"):
            for other in list(sys.modules.values()):
                if vars(other).get(name) is old:
                    vars(other)[name] = new


def _set(owner: object, name: str, value: object) -> None:
    if name not in ("__dict__", "__weakref__") and not isinstance(value, (MemberDescriptorType, GetSetDescriptorType)):
        with contextlib.suppress(AttributeError, TypeError):
            setattr(owner, name, value)


def _graft_function(old: Any, new: Any) -> bool:
    for name in ("fget", "func", "__func__", "__wrapped__"):
        if hasattr(old, name) and hasattr(new, name):
            old, new = getattr(old, name), getattr(new, name)
    if not isinstance(old, FunctionType) or not isinstance(new, FunctionType):
        return False
    if len(old.__closure__ or ()) != len(new.__closure__ or ()) or (old.__name__ == "__init__" and old.__closure__):
        return False
    old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
    return True


class Trials:
    """A plugin of pytest: instead of running the tests once, it runs them once for each mutant, in a fork.

    All that the tests import and collect is so done once.

    Args:
        module: The path of the module, as `meshbox/mesh/matches.py`.
        until: When to end, as `time.monotonic` says it.
        chance: Gives the order.
    """

    def __init__(self, module: str, until: float, chance: random.Random) -> None:
        self._module = module
        self._until = until
        self._chance = chance

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        name = self._module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        module = importlib.import_module(name)
        source = Path(self._module).read_text()
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as made:
            reached = Path(made) / "reached"
            if _forked(lambda: self._reached(session, reached), 600):
                raise pytest.UsageError(f"{self._module}: its tests fail without any mutant")
            lines = set(map(int, reached.read_text().split()))
        limit = max(20.0, 10 * (time.monotonic() - began))
        found = list(mutants(source))
        self._chance.shuffle(found)
        counts: Counter[str] = Counter()
        for mutant in found:
            if time.monotonic() > self._until:
                break
            what = "not reached"
            if mutant.line in lines:
                code = _forked(lambda mutant=mutant: self._tried(session, module, mutant), limit)  # type: ignore[misc]
                what = "survived" if code == 0 else "killed"
            counts[what] += 1
            if what != "killed":
                _say(f"{self._module}:{mutant.line}: {what}: {mutant.change}")
        told = ", ".join(f"{counts[what]} {what}" for what in ("killed", "survived", "not reached"))
        _say(f"{self._module}: {counts.total()} of {len(found)} tried: {told}")
        return True

    def _reached(self, session: pytest.Session, reached: Path) -> int:
        seen = coverage.Coverage(data_file=None, config_file=False, include=[str(Path(self._module).resolve())])
        with seen.collect():
            code = _loop(session)
        # Lines that were run when the module was imported are there as well as those of its functions.
        known = seen.get_data().lines(str(Path(self._module).resolve())) or []
        tree = ast.parse(Path(self._module).read_text())
        inside = {
            line
            for node in ast.walk(tree)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            for line in range(node.body[0].lineno, (node.end_lineno or 0) + 1)
        }
        # A statement of several lines is reached where its first one is.
        for node in ast.walk(tree):
            if isinstance(node, ast.stmt) and not isinstance(node, (ast.If, ast.For, ast.While, ast.With, ast.Try)):
                if node.lineno in known and not hasattr(node, "body"):
                    known.extend(range(node.lineno, (node.end_lineno or 0) + 1))
            elif isinstance(node, (ast.If, ast.For, ast.While, ast.With)) and node.lineno in known:
                known.extend(range(node.lineno, node.body[0].lineno))
        outside = set(range(len(Path(self._module).read_text().splitlines()) + 1)) - inside
        reached.write_text(" ".join(map(str, {*known, *outside})))
        return code

    @staticmethod
    def _tried(session: pytest.Session, module: ModuleType, mutant: Mutant) -> int:
        try:
            graft(module, mutant.source)
        except Exception:
            # It cannot even be imported.
            return 1
        return _loop(session)


def _loop(session: pytest.Session) -> int:
    for item, following in itertools.zip_longest(session.items, session.items[1:]):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            return 1
    return 0


def _say(text: str) -> None:
    os.write(OUTPUT, f"{text}\n".encode())


def _forked(what: Callable[[], int], limit: float) -> int | None:
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


def tests_of(module: str) -> list[str]:
    """The test files that are related to a module and there."""
    own = [f"{folder}/test_{Path(module).stem}.py" for folder in ("tests", "tests/ground")]
    found = next((files for start, files in RELATED.items() if module.startswith(start)), own)
    return [file for file in found if (REPOSITORY / file).exists()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="+", help="as meshbox/mesh/matches.py")
    parser.add_argument("--tests", nargs="+", help="test files, instead of the related ones")
    parser.add_argument("--minutes", type=float, default=20, help="for all modules together")
    parser.add_argument("--seed", type=int, default=0, help="of the order in which mutants are tried")
    args = parser.parse_args()
    os.chdir(REPOSITORY)
    end = time.monotonic() + args.minutes * 60
    # One after the other; the plugin stays, since tests/conftest.py has hooks of it.
    options = ["-q", "--capture=sys", "-p", "no:cacheprovider", "-p", "no:randomly", "-n0", "-p", "no:cov"]
    for index, module in enumerate(args.modules):
        now = time.monotonic()
        until = now + (end - now) / (len(args.modules) - index)
        tests = args.tests or tests_of(module)
        if not tests:
            print(f"{module}: no test files are related to it")
            continue

        def whole(module: str = module, tests: list[str] = tests, until: float = until) -> int:
            trials = Trials(module, until, random.Random(args.seed))
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                return int(pytest.main([*options, *tests], [trials]))

        if _forked(whole, 3600) not in (0, 5):
            print(f"{module}: {' '.join(tests)} cannot be run, or fail without any mutant")


if __name__ == "__main__":
    main()
