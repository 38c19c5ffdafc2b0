# SPDX-License-Identifier: Apache-2.0
"""The course in two lanes: where it is cut, when it is, what comes of lanes that fail, and who ends with whom."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import types
import xml.etree.ElementTree as ET
from collections import namedtuple
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from labkit.cli import main
from labkit.course import lanes, lessons, runner
from labkit.course.lanes import Lane, Tell
from labkit.course.result import Result
from labkit.ground.config import RELEASES
from labkit.ground.errors import SettingError
from tests.conftest import PATIENCE, REPOSITORY

Memory = namedtuple("Memory", "available")


def names(*stems: str) -> tuple[Path, ...]:
    return tuple(Path(f"{stem}.ipynb") for stem in stems)


@pytest.mark.parametrize(("release", "start"), [("1.2.2", "11-load-balancing"), ("1.30.3", "13-identity")])
def test_the_course_is_cut_at_a_lesson(release: str, start: str) -> None:
    one, two = lanes.cut(runner.course_notebooks(release), release)
    assert [path.stem for path in (*one.notebooks, *two.notebooks)] == list(lessons(release))
    assert (one.notebooks[0].stem, one.start) == ("00-kubernetes", "")
    assert (two.notebooks[0].stem, two.start, two.notebooks[-1].stem) == (start, start, "99-clean-up")


def test_of_some_lessons_each_has_its_lane() -> None:
    one, two = lanes.cut(names("00-kubernetes", "16-gateway-api", "03-ingress", "99-clean-up"), "1.30.3")
    assert one == Lane("lane-1", names("00-kubernetes", "03-ingress"))
    assert two == Lane("lane-2", names("16-gateway-api", "99-clean-up"), "13-identity")


@pytest.mark.parametrize("one_lane", [("00-kubernetes", "03-ingress"), ("19-exam", "99-clean-up")])
def test_what_cannot_be_cut_is_refused(one_lane: Sequence[str]) -> None:
    with pytest.raises(SettingError, match="lane two begins with 13-identity"):
        lanes.cut(names(*one_lane), "1.30.3")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Says what this machine has."""

    def has(processors: int = 2, free: int = 8 << 30, most: str = "max", taken: int = 0, stat: str = "") -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(processors)))
        monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(free))
        (tmp_path / "most").write_text(f"{most}\n")
        (tmp_path / "taken").write_text(f"{taken}\n")
        if stat:
            (tmp_path / "memory.stat").write_text(f"anon 4096\n{stat}\nactive_file 4096\n")
        monkeypatch.setattr(lanes, "_OF_A_CONTAINER", [[str(tmp_path / name) for name in ("most", "taken")]])

    return has


@pytest.mark.parametrize(
    ("has", "lacks"),
    [
        ({}, ""),
        ({"processors": 1}, "two lanes take two processors, and there is 1"),
        ({"free": 2 << 30}, "two lanes take 2.5 GB, and 2.1 GB are free"),
        ({"most": str(2 << 30), "taken": 1 << 30}, "two lanes take 2.5 GB, and 1.1 GB are free"),
        ({"most": str(4 << 30), "taken": 1 << 30}, ""),
        # Files that were read fill a container to its bound, and give way.
        ({"most": str(4 << 30), "taken": 4 << 30, "stat": f"inactive_file {3 << 30}"}, ""),
        # The old cgroups tell of those below them apart.
        ({"most": str(4 << 30), "taken": 4 << 30, "stat": f"inactive_file 0\ntotal_inactive_file {3 << 30}"}, ""),
        ({"most": str(1 << 30), "taken": 2 << 30}, "two lanes take 2.5 GB, and 0.0 GB are free"),
    ],
)
def test_what_a_machine_lacks(machine: Callable[..., None], has: dict[str, Any], lacks: str) -> None:
    machine(**has)
    assert lanes.lacking() == lacks


class PlayedError(Exception):
    """What would be played."""


@pytest.mark.parametrize(
    ("words", "has", "played", "said"),
    [
        ([], {}, "two", ""),
        ([], {"processors": 1}, "one", "One lesson after the other: two lanes take two processors, and there is 1.\n"),
        (["--lanes", "1"], {"processors": 1}, "one", ""),
        (["--lanes", "1"], {}, "one", ""),
        (["00-kubernetes", "13-identity"], {}, "one", ""),
        (["--lanes", "2", "00-kubernetes", "13-identity"], {}, "two", ""),
        (["--target", "mine"], {}, "mine", ""),
    ],
)
def test_when_there_are_two_lanes(
    machine: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    has: dict[str, Any],
    played: str,
    said: str,
) -> None:
    machine(**has)
    monkeypatch.setattr(runner, "_forget_killed_runs", lambda: None)
    for name, of in (("_in_lanes", "two"), ("_in_one", "one"), ("run", "mine")):

        def plays(*_: object, of: str = of, **__: object) -> None:
            raise PlayedError(of)

        monkeypatch.setattr(runner, name, plays)
    with pytest.raises(PlayedError) as caught:
        runner_main(words)
    assert str(caught.value) == played
    assert capsys.readouterr().out == said


def runner_main(words: Sequence[str]) -> int:
    """`labkit run`, without the last word on what goes wrong."""
    from labkit import cli

    args = cli._parser().parse_args(["run", *words])
    return int(args.action(args))


@pytest.mark.parametrize(
    ("words", "has", "said"),
    [
        (["--target", "mine"], {}, "a cluster of yours has one lane"),
        ([], {"processors": 1}, "two lanes take two processors, and there is 1"),
        (["00-kubernetes"], {}, "these lessons are one lane"),
    ],
)
def test_two_lanes_that_cannot_be_had_are_refused(
    machine: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    has: dict[str, Any],
    said: str,
) -> None:
    machine(**has)
    assert main(["run", "--lanes", "2", *words]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "Without --lanes" in error


ONE = Lane("lane-1", names("00-a", "01-b", "02-c"))
TWO = Lane("lane-2", names("13-d", "99-e"), "13-d")


def passes(lane: Lane, tell: Tell) -> None:
    for path in lane.notebooks:
        tell(path.stem)
        print("what a helper prints")
        tell(Result(path.stem, "passed", 1.0, 1))


def breaks(how: str, lane: Lane, tell: Tell) -> None:
    """Lane one breaks after its first lesson; lane two goes on only then."""
    if lane == TWO:
        passes(lane, tell)
        return
    tell(Result("00-a", "passed", 1.0, 1))
    if how == "says why":
        raise SettingError("the sandbox could not start", next_step="Look.")
    if how == "a bug":
        raise KeyError("x")
    os._exit(7)


def outcomes(results: Sequence[Result]) -> list[tuple[str, str, str]]:
    return [(result.notebook, result.outcome, result.error) for result in results]


def test_the_results_are_one_list_in_order(capfd: pytest.CaptureFixture[str]) -> None:
    results = lanes.play_lanes([ONE, TWO], passes)
    assert outcomes(results) == [(name, "passed", "") for name in ("00-a", "01-b", "02-c", "13-d", "99-e")]
    first, *lines = capfd.readouterr().out.splitlines()
    assert first == "Two lanes side by side, each on a sandbox of its own: 00-a to 02-c, 13-d to 99-e."
    assert sorted(lines) == [result.line() for result in results], "whole lines, and nothing else"


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("says why", "the sandbox could not start\n→ Look."),
        ("a bug", "unexpected KeyError: 'x'"),
        ("dies", "its process ended too early, with exit code 7"),
    ],
)
def test_a_lane_that_fails_skips_its_own_lessons(how: str, error: str) -> None:
    assert outcomes(lanes.play_lanes([ONE, TWO], functools.partial(breaks, how))) == [
        ("00-a", "passed", ""),
        ("lane-1", "failed", error),
        ("01-b", "skipped", "lane-1 failed"),
        ("02-c", "skipped", "lane-1 failed"),
        ("13-d", "passed", ""),
        ("99-e", "passed", ""),
    ]


def test_a_lane_that_fails_is_told_and_reported(
    machine: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine()
    monkeypatch.setattr(runner, "_forget_killed_runs", lambda: None)
    told = [
        Result("00-a", "passed", 1.0, 1),
        Result("lane-2", "failed", error="it could not start\n→ Look."),
        Result("13-d", "skipped", error="lane-2 failed"),
    ]
    monkeypatch.setattr(runner, "play_lanes", lambda *_: told)
    assert main(["run", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out == f"1 failed: {tmp_path / 'report.html'}\n"
    assert "lane-2:\nit could not start\n→ Look.\n" in said.err
    assert [result.line() for result in told[1:]] == [
        "✘ lane-2             it could not start",
        "○ 13-d               not played: lane-2 failed",
    ]
    failure = ET.parse(tmp_path / "junit.xml").getroot().find("testcase[@name='lane-2']/failure")
    assert failure is not None
    assert failure.get("message") == "it could not start"
    page = (tmp_path / "report.html").read_text()
    assert "1 of 3 notebooks passed" in page
    assert "lane-2 failed" in page


class UnreadableError(Exception):
    """What keeps a lane from being started."""


class Unreadable(type(Path())):  # type: ignore[misc]
    """A notebook that cannot be handed to another process."""

    def __reduce__(self) -> Any:
        raise UnreadableError


def test_a_lane_that_cannot_be_started_says_why_and_ends_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun: list[psutil.Process] = []

    def saw(*arguments: Any) -> Any:
        begun.extend(psutil.Process().children())
        return Unreadable("13-d.ipynb").__reduce__()

    monkeypatch.setattr(Unreadable, "__reduce_ex__", saw)
    two = Lane("lane-2", (Unreadable("13-d.ipynb"),), "13-d")
    with pytest.raises(UnreadableError):
        lanes.play_lanes([ONE, two], functools.partial(lasts, tmp_path))
    assert begun, "lane one was there"
    assert not any(one.is_running() and "spawn_main" in " ".join(one.cmdline()) for one in begun)


def test_a_lane_that_is_interrupted_while_it_loads_ends_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loading(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise KeyboardInterrupt if name == "reset" else AttributeError(name)

    def left(words: str, code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setitem(sys.modules, "labkit.course.reset", Loading("labkit.course.reset"))
    monkeypatch.setattr(runner, "leave", left)
    with pytest.raises(SystemExit) as caught:
        runner._play_lane("1.30.3", Path("out"), TWO, lambda _: None)
    assert caught.value.code == 130


def lasts(folder: Path, lane: Lane, tell: Tell) -> None:
    """Tells who plays it, goes on until it is interrupted, and tells that it put all in order."""
    pid = folder / f"{lane.name}.pid"
    try:
        pid.with_suffix(".new").write_text(str(os.getpid()))
        pid.with_suffix(".new").rename(pid)
        threading.Event().wait()
    except KeyboardInterrupt:
        (folder / f"{lane.name}.ended").touch()
        raise SystemExit(130) from None


def goes_on(pid: int) -> bool:
    """Where nobody reaps orphans, as in many a container, what has ended is still listed."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


PLAY = """
import functools, pathlib, signal, sys
from labkit.course import lanes
from tests.course.test_course_lanes import ONE, TWO, lasts
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with lanes.handling(signal.SIGTERM, signal.default_int_handler):
        lanes.play_lanes([ONE, TWO], functools.partial(lasts, pathlib.Path(sys.argv[1])))
except KeyboardInterrupt:
    raise SystemExit(130)
"""


@pytest.mark.parametrize(
    ("how", "group", "code"),
    [
        (signal.SIGINT, True, 130),
        (signal.SIGTERM, False, 130),
        (signal.SIGKILL, False, -signal.SIGKILL),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_lanes_end_with_who_started_them(
    tmp_path: Path, until: Callable[..., Any], how: signal.Signals, group: bool, code: int
) -> None:
    """As a terminal does it, Ctrl-C is for the whole group; each lane hears once that it is to end."""
    pids = [tmp_path / f"{lane.name}.pid" for lane in (ONE, TWO)]
    command = [sys.executable, "-c", PLAY, str(tmp_path)]
    with subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True, stderr=subprocess.PIPE, text=True) as run:
        until(lambda: all(pid.exists() for pid in pids) or run.poll() is not None, what="both lanes to begin")
        assert run.poll() is None, run.communicate()[1]
        (os.killpg if group else os.kill)(run.pid, how)
        _, said = run.communicate(timeout=PATIENCE)
        assert run.returncode == code, said
    assert "Traceback" not in said
    until(lambda: not any(goes_on(int(pid.read_text())) for pid in pids), what="both lanes to end")
    assert [pid.with_suffix(".ended").exists() for pid in pids] == [True, True]


def test_each_release_is_cut_somewhere() -> None:
    assert set(lanes.SECOND) == set(RELEASES)
    assert all(lanes.SECOND[release] in lessons(release) for release in RELEASES)
