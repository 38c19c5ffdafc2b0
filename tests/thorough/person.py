# SPDX-License-Identifier: Apache-2.0
"""Somebody who goes through a lesson as people do: skips, errs, interrupts, starts anew, and catches up.

All that a kernel answers meanwhile is judged: an error may be one of labkit's own, told as labkit tells them, and
nothing else. What stands in the notebook has to go through in the end.
"""

from __future__ import annotations

import importlib
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.manager import KernelManager

from labkit.course.kernels import ARGUMENTS
from labkit.ground import errors
from labkit.ground.config import kernel_settings

__all__ = ["Kernel", "Person", "Said", "begun_at", "wrong_answers"]

LONGEST = 900.0
"""Seconds that a cell may take; it only ends a hang."""

TRACEBACK = "Traceback (most recent call last)"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
CATCHES_UP = "Run All Above"


def begun_at(lesson: str, release: str, env: dict[str, str]) -> None:
    """Bring a sandbox to where somebody is who has played all lessons before this one."""
    command = [sys.executable, "-m", "labkit", "course", "reset", "--to", lesson, "--release", release]
    subprocess.run([*command, "--target", "sandbox"], env=env, check=True, stdout=subprocess.DEVNULL, timeout=LONGEST)


@dataclass
class Said:
    """What came of a cell.

    Args:
        text: All that was shown, as text.
        kind: The exception's class; "" for none.
        error: How it was shown.
    """

    text: str = ""
    kind: str = ""
    error: str = ""

    @property
    def interrupted(self) -> bool:
        """Whether it was ended by somebody, and says so."""
        return self.kind == "KeyboardInterrupt" and "run the cell again to go on" in self.error

    @property
    def foreign(self) -> bool:
        """Whether a reader sees what labkit never shows: a traceback, or an exception that nobody explains."""
        if TRACEBACK in self.text or TRACEBACK in self.error:
            return True
        own = getattr(errors, self.kind, None)
        if isinstance(own, type) and issubclass(own, errors.LabError):
            # The object, what was seen, and after an arrow the next step.
            return not re.fullmatch(rf"{self.kind}: .+\n→ .+", self.error, re.DOTALL)
        explained = self.interrupted or (self.kind in ("NameError", "TypeError") and CATCHES_UP in self.error)
        return bool(self.kind) and not explained


class Kernel:
    """A notebook's kernel, as JupyterLab starts and asks it.

    Args:
        notebook: The file.
        env: Its environment.
    """

    def __init__(self, notebook: Path, env: dict[str, str]) -> None:
        self._manager = KernelManager(kernel_name="python3", **kernel_settings())
        # By the name labkit finds the notebook that it is in.
        started = {"cwd": str(notebook.parent), "env": {**env, "JPY_SESSION_NAME": str(notebook)}}
        self._manager.start_kernel(extra_arguments=ARGUMENTS, stderr=subprocess.DEVNULL, **started)
        self._connect()

    def _connect(self) -> None:
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=LONGEST)

    def run(self, source: str, cell: str = "", interrupt: float | None = None) -> Said:
        """Run a cell.

        Args:
            source: Its code.
            cell: Its id.
            interrupt: How many seconds after it has begun somebody presses the square, if it still runs then.
        """
        session = self._client.session
        content = {"code": source, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": False}
        asked = session.msg("execute_request", content, metadata={"cellId": cell} if cell else {})
        self._client.shell_channel.send(asked)
        said = Said()
        deadline, press = time.monotonic() + LONGEST, float("inf")
        while True:
            if time.monotonic() >= press:
                self._manager.interrupt_kernel()
                press = float("inf")
            message = self._message(min(press, deadline) - time.monotonic())
            if message is None:
                assert time.monotonic() < deadline, f"the cell did not end within {LONGEST:g} s"
            elif message["parent_header"].get("msg_id") == asked["header"]["msg_id"]:
                if message["msg_type"] == "execute_input" and interrupt is not None:
                    press = time.monotonic() + interrupt
                if _take(message, said):
                    self._client.get_shell_msg(timeout=LONGEST)
                    return said

    def _message(self, seconds: float) -> dict[str, Any] | None:
        try:
            got: dict[str, Any] = self._client.get_iopub_msg(timeout=max(seconds, 0.0))
        except Empty:
            return None
        return got

    def restart(self) -> None:
        """Kernel ▸ Restart."""
        self._client.stop_channels()
        self._manager.restart_kernel(now=True)
        self._connect()

    def close(self) -> None:
        """End it."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)


def _take(message: dict[str, Any], said: Said) -> bool:
    """Note what a message shows; returns whether it is the last."""
    content, kind = message["content"], message["msg_type"]
    if kind == "stream":
        said.text += content["text"]
    elif kind in ("display_data", "execute_result", "update_display_data"):
        said.text += content["data"].get("text/plain", "") + "\n"
    elif kind == "error":
        said.kind = content["ename"]
        said.error = COLOURS.sub("", "\n".join(content["traceback"]))
    return kind == "status" and content["execution_state"] == "idle"


@dataclass
class Person:
    """Who plays a lesson.

    Args:
        notebook: The learner's copy of it.
        env: Of its kernel.
        release: Istio's.
        seed: What decides where things go wrong.
        note: Is told each thing that is done.
    """

    notebook: Path
    env: dict[str, str]
    release: str
    seed: str
    note: Callable[[str], None]
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chance = random.Random(f"{self.seed} {self.release} {self.notebook.stem}")
        cells = json.loads(self.notebook.read_text(encoding="utf-8"))["cells"]
        self._cells = [(one["id"], "".join(one["source"])) for one in cells if one["cell_type"] == "code"]
        self._wrong = wrong_answers(self.notebook.stem)
        chosen = self._chance.sample(range(len(self._cells)), min(len(self._cells), 5))
        # What happens where; the cell with the parameters is no place for anything.
        self._fate = dict(zip(chosen, ("interrupt", "interrupt", "twice", "restart", "twice"), strict=False))

    def play(self) -> list[str]:
        """Go through the lesson; returns what was wrong."""
        self._kernel = Kernel(self.notebook, self.env)
        try:
            self._skip_the_beginning()
            for number, (cell, source) in enumerate(self._cells):
                self._meet(self._fate.get(number, ""), number)
                if not self._goes(cell, source) and not self._catches_up(number):
                    break
                if name := re.search(r'lesson\.exercise\("([\w-]+)"\)', source):
                    self._try(name[1])
        finally:
            self._kernel.close()
        return self.faults

    def _run(self, what: str, cell: str, source: str, interrupt: float | None = None) -> Said:
        said = self._kernel.run(source, cell, interrupt)
        self.note(f"{self.notebook.stem}, {cell}, {what}: {said.error.splitlines()[0] if said.error else 'ok'}")
        if said.foreign:
            self._fault(cell, what, said)
        return said

    def _fault(self, cell: str, what: str, said: Said) -> None:
        self.faults.append(
            f"{self.notebook.stem}, cell {cell}, {what} (seed {self.seed}):\n{said.error or said.text[-2000:]}"
        )
        self.note(self.faults[-1])

    def _skip_the_beginning(self) -> None:
        """The first cell that calls something is run before those above it."""
        for cell, source in self._cells[2:]:
            if "lesson" in source or "check(" in source:
                assert self._run("before its beginning", cell, source).kind, "nothing is known yet"
                return

    def _meet(self, fate: str, number: int) -> None:
        cell, source = self._cells[number]
        if fate == "interrupt":
            self._run("interrupted", cell, source, interrupt=self._chance.choice([0.02, 0.1, 0.5, 2.0]))
        elif fate == "twice":
            self._run("run once", cell, source)
        elif fate == "restart":
            self._kernel.restart()
            self._run("after a restart", cell, source)
            self._above(number)

    def _goes(self, cell: str, source: str) -> bool:
        said = self._run("in its turn", cell, source)
        return not said.kind

    def _above(self, number: int) -> bool:
        """Run ▸ Run All Above Selected Cell, which ends at the first error."""
        return all(not self._run("caught up", cell, source).kind for cell, source in self._cells[:number])

    def _catches_up(self, number: int) -> bool:
        """What does not go after all that went wrong has to go once the cells above were run again."""
        cell, source = self._cells[number]
        self._above(number)
        said = self._run("once more", cell, source)
        if said.kind and not said.foreign:
            self._fault(cell, "once more, after all above", said)
        return not said.kind

    def _try(self, name: str) -> None:
        """An exercise: looked at untouched, answered wrongly, hints, and back to its start."""
        ask = "from labkit import clicks\nclicks.clicked({call!r}, {name!r})"
        self._run("check untouched", name, ask.format(call="check", name=name))
        for answer in self._answers(name):
            # Two halves of an answer would be a right one.
            self._run("reset", name, ask.format(call="reset", name=name))
            self._run("a wrong answer", name, answer)
            said = self._run("checked", name, ask.format(call="check", name=name))
            if "Not yet" not in said.text and "does not have what it is about" not in said.text:
                self._fault(name, f"a wrong answer is taken for a right one: {answer}", said)
        for call in ("hint", "hint", "reset"):
            self._run(call, name, ask.format(call=call, name=name))

    def _answers(self, name: str) -> list[str]:
        known = self._wrong.get(name, [])
        return [*self._slips(name), *self._chance.sample(known, min(2, len(known)))][:3]

    def _slips(self, name: str) -> Iterator[str]:
        """What a slip of the pen makes of the solution: nothing of it is applied."""
        solution = _solutions(self.notebook).get(name, "")
        if solution.startswith("%%yaml"):
            first, *rest = solution.splitlines()
            place = self._chance.randrange(len(rest))
            yield "\n".join([first, *rest[:place], "\t" + rest[place], "  [", *rest[place + 1 :]])
        elif solution.startswith("%%sh"):
            yield solution.replace("kubectl", "kubeclt")


def _solutions(notebook: Path) -> dict[str, str]:
    """The first cell that solves each exercise."""
    found: dict[str, str] = {}
    name = ""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if shown := re.search(r'lesson\.exercise\("([\w-]+)"\)', source):
            name = shown[1]
        elif "solution" in cell["metadata"].get("tags", []):
            found.setdefault(name, source)
    return found


def wrong_answers(lesson: str) -> dict[str, list[str]]:
    """Cells with the wrong answers that tests/course knows for a lesson's exercises, by exercise."""
    try:
        module = importlib.import_module(f"tests.course.test_exercises_{lesson.partition('-')[2].replace('-', '_')}")
    except ModuleNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for name, answer, *_ in getattr(module, "WRONG", {}).values():
        parts = [answer] if isinstance(answer, str) else list(answer)
        if all(isinstance(one, str) and not one.startswith("delete ") for one in parts):
            found.setdefault(name, []).append("%%yaml -n bookinfo\n" + "\n---\n".join(parts))
    return found
