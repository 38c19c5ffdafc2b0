# SPDX-License-Identifier: Apache-2.0
"""How the suite is cut up: what shares a worker, and what is long."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import compiling, groups, suite


@pytest.fixture(scope="module", params=["first", "second"])
def started(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("number", [1, 2])
def test_what_a_module_starts_for_a_parameter_is_a_group(
    request: pytest.FixtureRequest, started: str, number: int
) -> None:
    assert suite.group(request.node) == f"test_suite.py {started}"


def test_a_file_is_a_group(request: pytest.FixtureRequest) -> None:
    assert suite.group(request.node) == "test_suite.py"


@pytest.mark.apart
def test_what_is_apart_is_a_group_by_itself(request: pytest.FixtureRequest) -> None:
    assert suite.group(request.node) == f"test_suite.py {request.node.name}"


PAIRS = """
import os, pytest
@pytest.mark.parametrize("n", range(6))
def test_it(n):
    with open({told!r}, "a") as file:
        file.write(f"{{__name__}} {{os.getpid()}}\\n")
"""
HOOKS = """
from tests.groups import pytest_configure_node, pytest_xdist_make_scheduler, tell
def pytest_collection_modifyitems(config, items):
    if hasattr(config, "workerinput"):
        tell(config.workerinput, [(item.nodeid, item.path.stem.partition("_of_")[2]) for item in items])
"""


def test_a_group_is_played_by_one_worker(tmp_path: Path) -> None:
    told = tmp_path / "told"
    (tmp_path / "conftest.py").write_text(HOOKS)
    for name in ("test_a_of_one", "test_b_of_two", "test_c_of_one", "test_d_of_two"):
        (tmp_path / f"{name}.py").write_text(PAIRS.format(told=str(told)))
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env["PYTHONPATH"] = str(suite.HERE.parent)
    done = subprocess.run([*command, str(tmp_path)], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    played = [line.split() for line in told.read_text().splitlines()]
    assert len(played) == 24
    for group in ("one", "two"):
        assert len({pid for name, pid in played if name.endswith(group)}) == 1, played


class Worker:
    """What the scheduler sees of a worker: it notes what it is told to play."""

    def __init__(self, folder: Path, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.workerinput = {"groups": str(folder / f"{name}.json")}
        self.shutting_down = False
        self.told: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.told += indices

    def shutdown(self) -> None:
        self.shutting_down = True


class Scheduled:
    """The scheduler with workers that note what they are told.

    Args:
        folder: Where they write.
        tests: The group of each test.
        wants: What groups want that others want too.
        count: Of workers.
    """

    def __init__(
        self, folder: Path, tests: dict[str, str], wants: dict[str, str] | None = None, count: int = 2
    ) -> None:
        config = SimpleNamespace(getvalue=lambda _: [f"{count}*popen"], option=SimpleNamespace(loadscopereorder=False))
        self.names = list(tests)
        self.scheduler = groups.Groups(config)  # type: ignore[arg-type]
        self.workers = [Worker(folder, f"gw{number}") for number in range(count)]
        for worker in self.workers:
            groups.tell(worker.workerinput, tests.items(), wants)
            self.scheduler.add_node(worker)  # type: ignore[arg-type]
            self.scheduler.add_node_collection(worker, self.names)  # type: ignore[arg-type]
        self.scheduler.schedule()

    def played(self, worker: Worker, *done: str) -> list[str]:
        """All that a worker has been told, after it has played these."""
        for name in done:
            self.scheduler.mark_test_complete(worker, self.names.index(name))  # type: ignore[arg-type]
        return [self.names[index] for index in worker.told]


def test_a_worker_is_told_of_its_next_group_when_one_test_is_left(tmp_path: Path) -> None:
    """And behind a test that is a group by itself, which may be the longest of all, waits what comes last."""
    tests = {"whole": "long", "a1": "a", "a2": "a", "a3": "a", "b1": "b", "b2": "b", "c1": "c", "c2": "c"}
    scheduled = Scheduled(tmp_path, tests)
    (first, second), played = scheduled.workers, scheduled.played
    assert played(first) == ["whole", "c1", "c2"]
    assert played(second) == ["a1", "a2", "a3"]
    assert played(second, "a1") == ["a1", "a2", "a3"]
    assert played(second, "a2") == ["a1", "a2", "a3", "b1", "b2"]
    played(second, "a3", "b1")
    assert [worker.shutting_down for worker in scheduled.workers] == [False, True]
    played(first, "whole", "c1")
    assert first.shutting_down


def test_a_worker_with_a_mesh_goes_on_with_who_wants_the_same(tmp_path: Path) -> None:
    tests = {f"{group}{number}": group for group in "abcde" for number in (1, 2)}
    scheduled = Scheduled(tmp_path, tests, {"a": "one", "c": "two", "d": "one"})
    (first, second), played = scheduled.workers, scheduled.played
    assert played(first, "a1") == ["a1", "a2", "d1", "d2"]
    assert played(second, "b1") == ["b1", "b2", "c1", "c2"], "who wants nothing takes what comes next"
    assert played(second, "b2", "c1") == ["b1", "b2", "c1", "c2", "e1", "e2"]
    assert played(first, "a2", "d1") == ["a1", "a2", "d1", "d2"]
    assert first.shutting_down


class Item:
    """What the ordering sees of a test."""

    def __init__(self, path: str, *fixturenames: str, name: str = "test_it") -> None:
        self.path, self.fixturenames, self.name = suite.HERE / path, fixturenames, name
        self.nodeid = f"{path}::{name}"
        self.marks: list[str] = []

    def add_marker(self, marker: str | pytest.MarkDecorator) -> None:
        self.marks.append(marker if isinstance(marker, str) else marker.name)

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None


def ordered(*items: Item, worker: bool) -> list[str]:
    config = SimpleNamespace(workerinput={}) if worker else SimpleNamespace()
    found = list(items)
    suite.pytest_collection_modifyitems(config, found)  # type: ignore[arg-type]
    return [Path(item.path).name for item in found]


def test_who_asks_for_a_sandbox_or_lies_among_the_long_is_long() -> None:
    items = [Item("api/test_x.py"), Item("api/test_y.py", "tmp_path", "start_sandbox"), Item("e2e/test_z.py")]
    ordered(*items, worker=False)
    assert [item.marks for item in items] == [[], ["long"], ["long"]]


@pytest.mark.parametrize(
    ("path", "names", "again"),
    [
        ("e2e/test_x.py", ("[1.2.2-a]", "[1.30.3-a]"), [True, False]),
        ("e2e/test_x.py", ("[1.2.2-a]", "[1.30.3-b]"), [False, False]),
        ("api/test_quick.py", ("[1.2.2]", "[1.30.3]"), [False, False]),
        ("notebooks/test_notebooks_play.py", ("[1.2.2]", "[1.30.3]"), [True, False]),
        ("course/test_exercises_x.py", ("[1.2.2]", "[1.30.3]"), [True, True]),
    ],
)
def test_again_is_what_todays_release_plays_as_well(path: str, names: tuple[str, str], again: list[bool]) -> None:
    items = [Item(path, name=f"test_it{name}") for name in names]
    ordered(*items, worker=False)
    assert ["again" in item.marks for item in items] == again


def test_the_longest_begin_first_in_a_worker_only() -> None:
    items = [Item("api/test_x.py"), Item("mesh/test_y.py"), Item("walkthrough/test_z.py")]
    assert ordered(*items, worker=False) == ["test_x.py", "test_y.py", "test_z.py"]
    assert ordered(*items, worker=True) == ["test_z.py", "test_y.py", "test_x.py"]


def test_all_that_the_lists_name_is_there() -> None:
    for said in (*suite.LONG, *suite.AGAIN, *suite.LONGEST_FIRST):
        path, _, test = said.partition("::")
        found = list(suite.HERE.glob(f"{path}*"))
        assert found, said
        function = test.partition("[")[0]
        assert not test or f"def {function}(" in found[0].read_text(), said


@pytest.mark.parametrize(("said", "expected"), [("7", 7), ("", None)])
def test_how_many_workers(monkeypatch: pytest.MonkeyPatch, said: str, expected: int | None) -> None:
    monkeypatch.setenv("LABKIT_TEST_WORKERS", said)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert suite.pytest_xdist_auto_num_workers() == (expected or 4)


@pytest.mark.parametrize(("most", "code"), [("0.05", 1), ("", 0)])
def test_a_quick_test_has_so_much_cpu(tmp_path: Path, most: str, code: int) -> None:
    (tmp_path / "conftest.py").write_text("from tests.suite import pytest_runtest_call\n")
    spin = "import time\ndef test_spins():\n    while time.process_time() < 1: pass\n    began = time.process_time()\n"
    (tmp_path / "test_small.py").write_text(spin + "    while time.process_time() < began + 0.2: pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(suite.HERE.parent), "LABKIT_MOST_CPU": most}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout
    assert ("a quick test has 0.05 s" in done.stdout) == bool(code)


EXAMPLES = """
from hypothesis import given, strategies as st
import tests.suite
seen = []
@given(st.integers(), st.text())
def look(number, text):
    seen.append((number, text))
look()
print(seen)
"""


def test_examples_do_not_depend_on_what_is_loaded(tmp_path: Path) -> None:
    numbers = ", ".join(str(10**9 + number) for number in range(100))
    (tmp_path / "loaded.py").write_text(f"NUMBERS = [{numbers}]\nWORD = 'a-word-of-ours'\n")
    env = {name: value for name, value in os.environ.items() if name != "LABKIT_LONG"}
    env["PYTHONPATH"] = f"{suite.HERE.parent}:{tmp_path}"
    seen = [
        subprocess.run(
            [sys.executable, "-c", more + EXAMPLES], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
        ).stdout
        for more in ("", "import loaded")
    ]
    assert seen[0].count("(") >= 100
    assert seen[0] == seen[1]


def test_each_worker_imports_its_share_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "test_a": "",
        "test_b": "raise ValueError",
        "test_c": "import pytest; pytest.skip('not here', allow_module_level=True)",
        "test_d": "import warnings; warnings.warn('old')",
        "test_e": "",
    }
    folder = tmp_path / "shared_by_workers"
    folder.mkdir()
    (folder / "__init__.py").touch()
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    def imported(number: int, count: int) -> set[str]:
        for name in [name for name in sys.modules if name.startswith(folder.name)]:
            monkeypatch.delitem(sys.modules, name)
        compiling.import_share(sorted(folder.glob("test_*.py")), tmp_path, number, count)
        return {name.partition(".")[2] for name in sys.modules if name.startswith(f"{folder.name}.")}

    assert imported(0, 2) == {"test_a", "test_e"}
    assert imported(1, 2) == set()
    assert imported(1, 3) == {"test_e"}
