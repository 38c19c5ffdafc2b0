# SPDX-License-Identifier: Apache-2.0
"""What a notebook's kernel is told before its first cell: how a cell ends that cannot go on, what `%%yaml`, `%%sh` and
`%%promql` do, and when it is done with.

An IPython extension, which a file below `labkit/ui/jupyter/etc/ipython` has every kernel of this Python load: in a
kernel that was started anew in the middle of a lesson, nothing has imported labkit yet. It imports nothing that takes
time.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import json
import linecache
import os
import re
import signal
import symtable
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from labkit.ground import files

__all__ = ["ENDS_AFTER", "finished_mark", "load_ipython_extension", "mark_finished", "prepare", "running"]

ENDS_AFTER = "LABKIT_FINISHED_KERNELS_END_AFTER"
"""Tells kernels that their Jupyter server ends those of finished lessons, after so many seconds without use."""


_MAGICS = {"yaml": "labkit.cluster.cells", "sh": "labkit.cluster.cells", "promql": "labkit.ui.cells"}
"""Cell magics, each with the module that has it: by name, as it is loaded when one is used, and is above this one."""


def load_ipython_extension(shell: Any) -> None:
    """Have `shell` say in one line that a cell was interrupted, or wants what a cell above defines; give it magics."""
    # Somebody's own way to show them stays.
    if not shell.custom_exceptions:
        shell.set_custom_exc((NameError, TypeError, KeyboardInterrupt), _show)
    shell.events.register("pre_execute", _spare_imports)
    for name, module in _MAGICS.items():
        shell.register_magic_function(_magic(name, module), magic_kind="cell", magic_name=name)
    # A kernel that is started anew keeps its name.
    mark_finished(False)


def _magic(name: str, module: str) -> Callable[[str, str], object]:
    def run(line: str, cell: str) -> object:
        return getattr(importlib.import_module(module), name)(line, cell)

    # IPython would put the values of Python's names in place of {name} and $name.
    run._ipython_magic_no_var_expand = True  # type: ignore[attr-defined]
    return run


_LONGEST_IMPORT = 60.0
"""Seconds that an import may go on after an interrupt: one that takes longer waits for something."""


def _spare_imports() -> None:
    """Have an interrupt of the cell that begins wait for the end of an import.

    A package with parts in C, as numpy, cannot be imported again in a kernel where that was cut short.
    """
    since = float("inf")

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal since
        since = min(since, time.monotonic())
        if _importing(frame) and time.monotonic() < since + _LONGEST_IMPORT:
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        else:
            signal.default_int_handler(number, frame)

    # A cell with `await` has a way of its own; and what runs beside a cell is told of no signals.
    here = threading.current_thread() is threading.main_thread()
    if here and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None and "importlib._bootstrap" not in frame.f_code.co_filename:
        frame = frame.f_back
    return frame is not None


def prepare() -> None:
    """Tell a kernel in which a lesson begins what it may not have been told at its start, and that more is to come."""
    if (shell := running()) is not None:
        load_ipython_extension(shell)


def running() -> Any:
    """The shell of this kernel; None where no kernel runs."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell if hasattr(shell, "kernel") else None


def _show(
    shell: Any,
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType | None,
    tb_offset: int | None = None,
) -> None:
    said = ""
    # What goes wrong in here must not hide what went wrong in the cell.
    with contextlib.suppress(Exception):
        said = _interrupted(shell, trace) if isinstance(error, KeyboardInterrupt) else _undefined(shell, error, trace)
    if said:
        told: Any = error
        told.args = (said,)
        told._render_traceback_ = lambda: [f"{kind.__name__}: {said}"]
    shell.showtraceback((kind, error, trace), running_compiled_code=True)


def _frames(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _interrupted(shell: Any, trace: TracebackType | None) -> str:
    """Where in the cell it was."""
    own = [one for one in _frames(trace) if one.tb_frame.f_globals is shell.user_ns]
    where = ""
    if own and (line := linecache.getline(own[0].tb_frame.f_code.co_filename, own[0].tb_lineno).strip()):
        # IPython makes one line of a cell that begins with %%: its reader knows only the first word of it.
        magic = re.match(r"get_ipython\(\)\.run_cell_magic\('(\w+)'", line)
        where = f" at `%%{magic[1]}`" if magic else f" at `{line}`"
    return f"interrupted{where}. What was done before stays; run the cell again to go on."


def _undefined(shell: Any, error: BaseException, trace: TracebackType | None) -> str:
    """That a cell above defines the name; "" where none does, as of a slip of the pen."""
    last = [*_frames(trace)][-1:]
    if type(error) not in (NameError, TypeError) or not last or last[0].tb_frame.f_globals is not shell.user_ns:
        return ""
    name = getattr(error, "name", "")
    # Python has an `exec` of its own, which says that it is asked for something else than it does.
    if type(error) is TypeError and (called := re.search(r"\b(\w+)\(\)", str(error))):
        name = called[1] if hasattr(builtins, called[1]) and called[1] not in shell.user_ns else ""
    if not name:
        return ""
    if not any(name in _names(shell, source) for source in _above(shell)):
        return ""
    return (
        f"a cell above defines `{name}`, and this kernel has not run it: run the cells above again "
        "(Run ▸ Run All Above Selected Cell)."
    )


def _above(shell: Any) -> Iterator[str]:
    """The code cells above the one that runs, as its file has them; all, where it is not in there."""
    path = Path(shell.user_ns.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME") or "")
    now = shell.kernel.get_parent().get("metadata", {}).get("cellId")
    for cell in json.loads(files.read(path))["cells"]:
        if cell.get("id") == now is not None:
            return
        if cell["cell_type"] == "code":
            yield "".join(cell["source"])


def _names(shell: Any, source: str) -> set[str]:
    """What a cell defines."""
    try:
        table = symtable.symtable(shell.transform_cell(source), "cell", "exec")
    except (SyntaxError, ValueError):
        return set()
    return {one.get_name() for one in table.get_symbols() if one.is_assigned() or one.is_imported()}


def finished_mark(connection_file: str) -> Path:
    """The file that says of a kernel, named by its connection file, that its lesson is finished."""
    return Path(connection_file).with_suffix(".finished")


def mark_finished(finished: bool) -> float | None:
    """Say whether this kernel's lesson is finished: its Jupyter server may end it once nobody uses it.

    Returns:
        After how many seconds it will; None if it will not, as this is no kernel of such a server.
    """
    if running() is None or not (after := os.environ.get(ENDS_AFTER, "")):
        return None
    from ipykernel.connect import get_connection_file

    mark = finished_mark(get_connection_file())
    try:
        if finished:
            files.write(mark, b"\n", lasting=False)
        else:
            mark.unlink(missing_ok=True)
        return float(after) if finished else None
    except (OSError, ValueError):
        return None
