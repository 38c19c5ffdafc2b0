# SPDX-License-Identifier: Apache-2.0
"""Seats for a class on one machine: to each a sandbox, a copy of the notebooks and a JupyterLab with its own token.

All seats are this user's: who has one can read the others' by a terminal. Users of their own (JupyterHub) keep them
apart; docs/teaching.md says how.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import psutil

from labkit import display
from labkit.cluster.leash import leash
from labkit.course import telling
from labkit.ground import files
from labkit.ground.errors import SettingError
from labkit.ground.saying import saying

__all__ = ["A_SEAT", "Seat", "fit", "memory", "run"]

A_SEAT = 1100 << 20
"""Bytes of memory that are set aside for a seat: more than one with a mesh takes, for notebooks (docs/teaching.md)."""

_STARTS = 180.0
"""Seconds that a seat may take to start."""

_PAUSE = 0.2
_LEAVES = 30.0


class Seat:
    """One seat, in a folder that is its home: started, it runs until `end`.

    Args:
        folder: Its home; kept, so that the class goes on where it stopped.
        release: The Istio release that the course begins on there.
        port: Of its JupyterLab on loopback; 0 for any.
        told: The class's folder.
    """

    def __init__(self, folder: Path, release: str, port: int, told: Path) -> None:
        self.folder, self.name, self._release, self._port = folder, folder.name, release, port
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.token = self._kept_token()
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in _OF_THE_INSTRUCTOR},
            "HOME": str(folder),
            "JUPYTER_CONFIG_DIR": str(folder / ".jupyter"),
            "JUPYTER_RUNTIME_DIR": str(folder / ".jupyter-runtime"),
            # Not on the command line, which every user of the machine can read.
            "JUPYTER_TOKEN": self.token,
            telling.FOLDER: str(told),
            telling.SEAT: self.name,
        }
        self._lab: subprocess.Popen[bytes] | None = None

    def _kept_token(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            return files.read(self.folder / "token", 256).decode().strip()
        made = secrets.token_urlsafe(24)
        files.write(self.folder / "token", made.encode())
        return made

    def start(self) -> None:
        """Begin to start it: `address` tells when it is there.

        Raises:
            SettingError: Its sandbox cannot start.
        """
        for old in (self.folder / ".jupyter-runtime").glob("jpserver-*.json"):
            # Of a JupyterLab that was killed.
            old.unlink(missing_ok=True)
        up = ["up", "--release", self._release, "--with-pid", str(os.getpid())]
        done = subprocess.run(self._labkit(*up), env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().removeprefix("labkit: ") or f"exit code {done.returncode}"
            message, _, step = said.partition("\n→ ")
            raise SettingError(f"{self.name} cannot start: {message}", next_step=step or f"Look into {self.folder}.")
        options = ["--no-browser", f"--ServerApp.port={self._port}", "--ServerApp.port_retries=0"]
        lab = self._labkit("lab", str(self.folder / "workshop"), "--release", self._release, "--", *options)
        with open(self.log, "wb") as log:
            self._lab = subprocess.Popen(
                [*leash(), *lab], env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _labkit(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "labkit", *words]

    @property
    def log(self) -> Path:
        """What its JupyterLab says."""
        return self.folder / "jupyter.log"

    @property
    def address(self) -> str:
        """Where it is reached, with its token; "" while it is not there yet.

        Raises:
            SettingError: Its JupyterLab has ended.
        """
        if self._lab is None or self._lab.poll() is not None:
            raise SettingError(f"the JupyterLab of {self.name} has ended", next_step=f"{self.log} says why.")
        for path in (self.folder / ".jupyter-runtime").glob("jpserver-*.json"):
            with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
                return f"http://127.0.0.1:{int(json.loads(files.read(path))['port'])}/lab?token={self.token}"
        return ""

    def ask_to_end(self) -> None:
        """Have it end; what was played stays in its folder."""
        if self._lab is not None:
            self._lab.terminate()

    def end(self, deadline: float) -> None:
        """Wait until it has ended, and its sandbox with it.

        Args:
            deadline: By `time.monotonic`; its JupyterLab is killed then.
        """
        if self._lab is not None:
            try:
                self._lab.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._lab.kill()
                self._lab.wait()
        down = self._labkit("down", "--all")
        subprocess.run(down, env=self.environment, capture_output=True, timeout=120, check=False)


_OF_THE_INSTRUCTOR = frozenset({"KUBECONFIG", "LABKIT_KUBECONFIG", "LABKIT_HOME", "IPYTHONDIR", "JUPYTER_DATA_DIR"})


def fit(count: int) -> int:
    """How many more seats the memory that is free now is enough for.

    Args:
        count: Seats that run already, whose memory may still grow; 0 for none.
    """
    return int(psutil.virtual_memory().available // A_SEAT) - count


def memory(folder: Path) -> int:
    """Bytes that a seat takes now: the processes of its home and of its sandbox; what they share counts by its part."""
    total = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            known = process.environ()
            # A pod has a home of its own.
            if str(folder) == known.get("HOME") or known.get("LABKIT_SANDBOX", "").startswith(f"{folder}/"):
                total += process.memory_full_info().pss
    return total


def run(count: int, folder: Path, release: str, first_port: int, *, anyway: bool = False) -> int:
    """`labkit course seats`: start seats, say where they are, and end them when told to.

    Args:
        count: How many, 1 to 99.
        folder: Where their homes are; kept from one class to the next.
        release: The Istio release they begin on.
        first_port: The port of the first seat's JupyterLab, the others follow; 0 for any.
        anyway: Whether to start more than fit.

    Raises:
        SettingError: They do not fit, or one cannot start: then none runs.
    """
    if not 1 <= count <= 99:
        raise SettingError(f"{count} seats cannot be had", next_step="1 to 99.")
    room = fit(0)
    if count > room and not anyway:
        raise SettingError(
            f"{count} seats take about {count * A_SEAT / 1e9:.0f} GB of memory, and {room} of them fit here now",
            next_step=f"`labkit course seats {max(room, 1)}`, another machine, or `--anyway`.",
        )
    folder = folder.expanduser().absolute()
    told = folder / "progress"
    told.mkdir(mode=0o700, parents=True, exist_ok=True)
    ports = [first_port + number if first_port else 0 for number in range(count)]
    seats = [Seat(folder / f"seat-{number:02}", release, port, told) for number, port in enumerate(ports, 1)]
    with _until_told() as over:
        try:
            places = _start(seats, over)
            _say(seats, places, folder)
            _watch(seats, over)
        finally:
            _end(seats)
    return 0


def _start(seats: Sequence[Seat], over: list[int]) -> dict[str, str]:
    """Seats and their addresses, once all are there. A JupyterLab takes a processor for seconds, so as many at once as
    there are processors.

    Raises:
        KeyboardInterrupt: It was told to end meanwhile.
    """
    places: dict[str, str] = {}
    waiting = list(seats)
    starting: list[tuple[Seat, float]] = []
    with saying(f"starting {len(seats)} seats") as note:
        while waiting or starting:
            if over:
                raise KeyboardInterrupt
            note(f"{len(places)} there", len(places) / len(seats))
            while waiting and len(starting) < (os.cpu_count() or 1):
                seat = waiting.pop(0)
                seat.start()
                starting.append((seat, time.monotonic() + _STARTS))
            for seat, deadline in list(starting):
                if address := seat.address:
                    places[seat.name] = address
                    starting.remove((seat, deadline))
                elif time.monotonic() > deadline:
                    raise SettingError(f"{seat.name} did not start in {_STARTS:.0f} s", next_step=f"See {seat.log}.")
            time.sleep(_PAUSE)
    return places


def _say(seats: Sequence[Seat], places: dict[str, str], folder: Path) -> None:
    handout = io.StringIO()
    csv.writer(handout).writerows([("seat", "address"), *((seat.name, places[seat.name]) for seat in seats)])
    files.write(folder / "seats.csv", handout.getvalue().encode())
    taken = sum(memory(seat.folder) for seat in seats)
    rows = [{"Seat": seat.name, "Address": places[seat.name]} for seat in seats]
    print(display.table(rows, ["Seat", "Address"]))
    print(
        f"{taken / 1e6 / len(seats):.0f} MB of memory a seat now; {A_SEAT / 1e6:.0f} are set aside for each, for a"
        f" mesh and notebooks; {max(0, fit(len(seats)))} more would fit.\n"
        f"The table is in {folder / 'seats.csv'}; who is how far: `labkit course progress --all --folder"
        f" {folder / 'progress'}`.\n"
        "All seats are your user's: who has one can read the others'. Ctrl-C ends them all; what was played stays.",
        flush=True,
    )


def _watch(seats: Sequence[Seat], over: list[int]) -> None:
    """Until told to end; says once of each seat that it has ended by itself."""
    gone: set[str] = set()
    while not over:
        for seat in seats:
            try:
                seat.address  # noqa: B018 (it raises)
            except SettingError as error:
                if seat.name not in gone:
                    gone.add(seat.name)
                    print(f"labkit: {error}", file=sys.stderr, flush=True)
        time.sleep(_PAUSE)


def _end(seats: Sequence[Seat]) -> None:
    for seat in seats:
        seat.ask_to_end()
    deadline = time.monotonic() + _LEAVES
    for seat in seats:
        seat.end(deadline)


@contextlib.contextmanager
def _until_told() -> Iterator[list[int]]:
    """A list that has something in it once a signal has told us to end: no seat is left half started."""
    over: list[int] = []

    def told(number: int, frame: FrameType | None) -> None:
        over.append(number)

    before = {one: signal.signal(one, told) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield over
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
