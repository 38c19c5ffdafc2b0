# SPDX-License-Identifier: Apache-2.0
"""The course in two lanes side by side, each a process with a sandbox of its own: most of a lesson is waiting."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import psutil

from labkit.cluster.leash import end_with_parent
from labkit.course.result import Result
from labkit.ground.errors import LabError, SettingError
from labkit.ground.saying import saying

__all__ = ["SECOND", "Lane", "Tell", "cut", "handling", "lacking", "play_lanes"]

SECOND = {"1.2.2": "11-load-balancing", "1.30.3": "13-identity"}
"""Release → where the course is cut: the lesson that lane two begins with, so that both take about as long."""

A_LANE = 1200 << 20
"""Bytes of memory that a lane may take: a mesh with all its add-ons, who plays, and two kernels."""

_CGROUPS = Path("/sys/fs/cgroup")
_OF_A_CONTAINER = ("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")
"""Where a container's bound is told, and what is taken of it: by today's cgroups, and by the old ones."""

Tell = Callable[[Result | str], None]
"""How a lane tells of itself: a notebook that has ended, or what it does now."""


@dataclass(frozen=True)
class Lane:
    """Notebooks that are played one after the other on one sandbox.

    Args:
        name: What goes wrong with the lane itself is told under this name.
        notebooks: Their files.
        start: The lesson whose start is brought first; "" for an empty Kubernetes.
    """

    name: str
    notebooks: tuple[Path, ...]
    start: str = ""


def lacking() -> str:
    """What this machine lacks for two lanes; "" if it has it."""
    if (processors := len(os.sched_getaffinity(0))) < 2:
        return f"two lanes take two processors, and there is {processors}"
    free = psutil.virtual_memory().available
    for files in _OF_A_CONTAINER:
        with contextlib.suppress(OSError, ValueError):
            most, taken = (int((_CGROUPS / file).read_text()) for file in files)
            stat = (_CGROUPS / files[0]).with_name("memory.stat")
            # Of what is taken, files that were read once are kept only while nobody wants the memory.
            told = dict(line.split() for line in stat.read_text().splitlines()) if stat.is_file() else {}
            kept = int(told.get("total_inactive_file") or told.get("inactive_file") or 0)
            free = min(free, max(0, most - taken + kept))
    return "" if free >= 2 * A_LANE else f"two lanes take {2 * A_LANE / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"


def cut(notebooks: Sequence[Path], release: str) -> list[Lane]:
    """Two lanes: what comes before the lesson at which the course is cut, and the rest.

    Raises:
        SettingError: All of them would be in one lane.
    """
    first, second = (tuple(p for p in notebooks if (p.stem >= SECOND[release]) is late) for late in (False, True))
    if not (first and second):
        raise SettingError(
            f"these lessons are one lane: lane two begins with {SECOND[release]}",
            next_step="Without --lanes the lessons are played one after the other.",
        )
    return [Lane("lane-1", first), Lane("lane-2", second, SECOND[release])]


def play_lanes(lanes: Sequence[Lane], player: Callable[[Lane, Tell], None]) -> list[Result]:
    """Play lanes side by side, and print a line a notebook as it ends. When this is interrupted all of them end first.

    Args:
        lanes: What is played.
        player: Plays one of them, in a process of its own, whose main thread it has.

    Returns:
        One result a notebook, lane after lane; and one under a lane's name where the lane itself failed.
    """
    extents = (f"{lane.notebooks[0].stem} to {lane.notebooks[-1].stem}" for lane in lanes)
    print(f"Two lanes side by side, each on a sandbox of its own: {', '.join(extents)}.", flush=True)
    results: dict[Lane, list[Result]] = {lane: [] for lane in lanes}
    doing = dict.fromkeys(lanes, "starting a sandbox")
    spawn, going, processes = multiprocessing.get_context("spawn"), dict[Any, Lane](), dict[Lane, Any]()
    try:
        for lane in lanes:
            ours, theirs = spawn.Pipe(duplex=False)
            process = spawn.Process(target=_serve, args=(player, lane, theirs), daemon=True)
            # Ctrl-C in a terminal is for all that it started, until a lane has left it.
            with handling(signal.SIGINT, signal.SIG_IGN):
                process.start()
            going[ours], processes[lane] = lane, process
            theirs.close()
        while going:
            with saying(" and ".join(dict.fromkeys(doing[lane] for lane in going.values()))):
                ready: list[Any] = wait(list(going))
            for one in ready:
                lane = going[one]
                try:
                    news: list[Any] = [one.recv()]
                except (EOFError, OSError):
                    del going[one]
                    processes[lane].join()
                    news = [*_unplayed(lane, results[lane], processes[lane].exitcode)]
                for told in news:
                    if isinstance(told, str):
                        doing[lane] = told
                    else:
                        results[lane].append(told)
                        print(told.line(), flush=True)
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.join()
    return [result for lane in lanes for result in results[lane]]


def _serve(player: Callable[[Lane, Tell], None], lane: Lane, told: Connection) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # What is printed here is in the notebooks as well, and would tear the lines of who started this.
    os.environ["LABKIT_PROGRESS"], sys.stdout = "off", open(os.devnull, "w")  # noqa: SIM115
    with handling(signal.SIGTERM, signal.default_int_handler):
        end_with_parent()
        try:
            player(lane, told.send)
        except Exception as error:
            said = error.told() if isinstance(error, LabError) else f"unexpected {type(error).__name__}: {error}"
            told.send(Result(lane.name, "failed", error=said))


def _unplayed(lane: Lane, results: Sequence[Result], code: int) -> list[Result]:
    """What is to be told of a lane whose process has ended, beside what it told itself."""
    told = any(one.notebook == lane.name for one in results)
    left = [Result(p.stem, "skipped", error=f"{lane.name} failed") for p in lane.notebooks[len(results) - told :]]
    early = Result(lane.name, "failed", error=f"its process ended too early, with exit code {code}")
    return left if told or not (left or code) else [early, *left]


@contextlib.contextmanager
def handling(number: signal.Signals, handler: Any) -> Iterator[None]:
    """Meanwhile a signal is handled like this. SIGTERM as Ctrl-C is, so that nothing outlives what started it."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
