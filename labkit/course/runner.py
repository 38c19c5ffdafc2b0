# SPDX-License-Identifier: Apache-2.0
"""Plays notebooks headless with papermill: one line each, and a report that reads like the lessons."""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NoReturn

import psutil

from labkit import cluster, display, sandbox
from labkit.course.folder import GLOSSARY
from labkit.course.folder import notebooks as delivered
from labkit.course.kernels import ARGUMENTS, Ahead
from labkit.course.lanes import Lane, Tell, cut, handling, lacking, play_lanes
from labkit.course.progress import CLEAN_UP, LESSONS, lessons
from labkit.course.report import write_junit, write_report
from labkit.course.result import Result
from labkit.course.targets import SANDBOX
from labkit.ground import config, errors, sandboxes
from labkit.ground.errors import NotebookError, SettingError
from labkit.ground.saying import saying, seen_live

__all__ = ["Result", "course_notebooks", "main", "play", "run"]

CELL_TIMEOUT = 600
"""Seconds that one cell may take: a real cluster pulls images for minutes."""

_MOST_SHOWN = 4000
"""Characters of what a failed cell had shown that are told, from the end."""


def course_notebooks(release: str = config.DEFAULT_RELEASE) -> list[Path]:
    """The course's notebooks, in order.

    Args:
        release: Those that this release of Istio has.

    Raises:
        NotebookError: They are neither here nor in the package.
    """
    # Who stands in a copy of the project plays that copy, wherever labkit itself is installed.
    for folder in (Path.cwd() / "notebooks", delivered()):
        found = [folder / f"{name}.ipynb" for name in LESSONS]
        if all(path.is_file() for path in found):
            return [path for path in found if path.stem in lessons(release)]
    raise NotebookError(f"{folder} does not hold the whole course", next_step="Install labkit anew.")


def main(
    *, release: str, target: str, out: Path, notebooks: Sequence[Path], confirm: str = "", lanes: int | None = None
) -> int:
    """`labkit run`: play the course, on a new sandbox unless a context is named.

    Args:
        release: The Istio release.
        target: "sandbox", or a context of the user's kubeconfig.
        out: Folder of the results; what a run before it left there is replaced.
        notebooks: Which: files, or lessons by name; none for the whole course.
        confirm: The context's name once more, so that the clean-up may delete there what the course made.
        lanes: 1, or 2 sandboxes side by side; None for 2 where the whole course is played on sandboxes and fits here.

    Returns:
        The exit code: 0 only if every notebook passed.

    Raises:
        LabError: Nothing could be played.
    """
    chosen = [_chosen(path) for path in notebooks] or course_notebooks(release)
    lacks = lacking() if target == SANDBOX else "a cluster of yours has one lane"
    if lanes == 2 and lacks:
        raise SettingError(lacks, next_step="Without --lanes the lessons are played one after the other.")
    if lacks and target == SANDBOX and not (lanes or notebooks):
        print(f"One lesson after the other: {lacks}.", flush=True)
    side_by_side = cut(chosen, release) if lanes == 2 or not (lanes or notebooks or lacks) else []
    try:
        if target == SANDBOX:
            _forget_killed_runs()
            with handling(signal.SIGTERM, signal.default_int_handler):
                results = _in_lanes(side_by_side, release, out) if side_by_side else _in_one(chosen, release, out)
        else:
            # Each notebook chooses the context itself; this says where it is.
            named = cluster.Target.from_environment().kubeconfig
            results = run(chosen, release=release, kubeconfig=named, target=target, out=out, confirm=confirm)
    except KeyboardInterrupt:
        leave("labkit: interrupted", 130)
    failed = [result for result in results if result.outcome == "failed"]
    for result in failed:
        print(f"\n{result.story()}", file=sys.stderr)
    cleaned = any(r.notebook == CLEAN_UP and r.outcome == "passed" for r in results)
    # A lesson's first cell only looks.
    changed = any(r.outcome == "passed" or r.cell not in ("", "begin") for r in results)
    if failed and changed and not cleaned and target != SANDBOX:
        step = f"labkit run {CLEAN_UP} --release {release} --target {target} --confirm {target}"
        print(f"What these lessons made, if anything, is still on {target}; `{step}` removes it.", file=sys.stderr)
    print(f"{'all passed' if not failed else f'{len(failed)} failed'}: {out / 'report.html'}")
    return 1 if failed else 0


def leave(words: str, code: int) -> NoReturn:
    """End this process at once, having done what is to be done at its end.

    Where a run is told to end while a kernel begins, ZeroMQ's part of the kernel's client waits for ever when Python
    takes itself down (`KeyboardInterrupt` in jupyter_client); the kernel itself ends when its parent is gone.

    Args:
        words: The last that is said, on stderr; "" for nothing.
        code: The exit code.
    """
    if words:
        print(words, file=sys.stderr)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _in_one(chosen: Sequence[Path], release: str, out: Path) -> list[Result]:
    with _a_sandbox(release, out / "sandbox.log") as (kubeconfig, results):
        results += run(chosen, release=release, kubeconfig=kubeconfig, out=out)
    return results


def _in_lanes(chosen: Sequence[Lane], release: str, out: Path) -> list[Result]:
    _empty(out)
    results = play_lanes(chosen, functools.partial(_play_lane, release, out))
    _write(results, out, release)
    return results


def _play_lane(release: str, out: Path, lane: Lane, tell: Tell) -> None:
    try:
        from labkit.course.reset import reset

        with _a_sandbox(release, out / f"sandbox-{lane.name}.log") as (kubeconfig, results):
            if lane.start:
                tell(f"going to the start of {lane.start}")
                with _environment(KUBECONFIG=kubeconfig):
                    reset(lane.start, release, SANDBOX)
                    cluster.leave()
            tell(lane.notebooks[0].stem)
            then = (*(path.stem for path in lane.notebooks[1:]), "removing a sandbox")
            played = _in_order(lane.notebooks, release, kubeconfig, out, SANDBOX, "", False)
            for result, following in zip(played, then, strict=True):
                results.append(result)
                tell(result)
                tell(following)
    except KeyboardInterrupt:
        leave("", 130)


@contextlib.contextmanager
def _a_sandbox(release: str, log: Path) -> Iterator[tuple[str, list[Result]]]:
    """A sandbox that ends with this, and its log kept if anything fails: its kubeconfig, and a list for the results."""
    name = f"run-{release.replace('.', '-')}-{os.getpid()}"
    kubeconfig, results, well = sandboxes.kubeconfig(name), list[Result](), False
    try:
        with saying("starting a sandbox"):
            sandbox.call("up", "--name", name, "--release", release, "--with-pid", str(os.getpid()))
        yield str(kubeconfig), results
        well = all(result.outcome != "failed" for result in results)
    finally:
        if not well:
            with contextlib.suppress(OSError):
                shutil.copy(kubeconfig.with_name("daemon.log"), log)
        # Also when told to end: nothing of the run outlives it.
        with saying("removing the sandbox"):
            sandbox.call("down", "--name", name, "--delete")


def _chosen(path: Path) -> Path:
    """A notebook that was named: a file, or a lesson, whose file nobody looks for among installed packages."""
    if path.is_file():
        return path
    if (lesson := delivered() / f"{path}.ipynb").is_file():
        return lesson
    raise NotebookError(
        f"there is no notebook {path}", next_step="Name a lesson such as 02-bookinfo, or a file that ends with .ipynb."
    )


def _forget_killed_runs() -> None:
    """Remove what runs that were killed have left on the disk: their sandboxes ended with them."""
    for name in (str(one["name"]) for one in sandbox.known()):
        run, _, pid = name.rpartition("-")
        if run.startswith("run-") and pid.isdigit() and not psutil.pid_exists(int(pid)):
            sandbox.call("down", "--name", name, "--delete")


def run(
    notebooks: Iterable[Path],
    *,
    release: str,
    kubeconfig: str,
    out: Path,
    target: str = SANDBOX,
    confirm: str = "",
    progress: bool = True,
) -> list[Result]:
    """Play notebooks in order, and write them, a report and junit.xml.

    After one that failed the others are skipped, save the clean-up.

    Args:
        notebooks: Their files.
        release: Their parameter RELEASE.
        kubeconfig: KUBECONFIG of their kernels; "" for the user's own.
        out: Folder of the results: NAME.ipynb, report.html, junit.xml.
        target: Their parameter TARGET.
        confirm: The clean-up's parameter CONFIRM.
        progress: Whether to draw a progress bar, and print a line a notebook.

    Returns:
        One result a notebook, in order.
    """
    _empty(out)
    results = []
    for result in _in_order(list(notebooks), release, kubeconfig, out, target, confirm, progress):
        results.append(result)
        if progress:
            print(result.line(), flush=True)
    _write(results, out, release)
    return results


def _empty(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for old in (*out.glob("*.ipynb"), *out.glob("*.html"), *out.glob("*.xml"), *out.glob("*.log")):
        old.unlink()


def _write(results: Sequence[Result], out: Path, release: str) -> None:
    with saying("writing the report"):
        write_report(results, out / "report.html", release)
    write_junit(results, out / "junit.xml", release)


def _in_order(
    chosen: Sequence[Path], release: str, kubeconfig: str, out: Path, target: str, confirm: str, progress: bool
) -> Iterator[Result]:
    broken = ""
    with _environment(KUBECONFIG=kubeconfig), contextlib.closing(Ahead()) as kernels:
        for path, following in zip_longest(chosen, chosen[1:]):
            if broken and path.stem != CLEAN_UP:
                yield Result(path.stem, "skipped", error=f"{broken} failed")
                continue
            if (pictures := path.parent / "images").is_dir():
                shutil.copytree(pictures, out / "images", dirs_exist_ok=True)
            if (words := path.parent / GLOSSARY).is_file():
                shutil.copy(words, out)
            if following is not None and not broken:
                kernels.prepare(following, _kernel_log(out / following.name))
            parameters: dict[str, object] = {"RELEASE": release, "TARGET": target}
            if path.stem == CLEAN_UP and confirm:
                parameters["CONFIRM"] = confirm
            result = play(path, out / path.name, parameters, progress=progress, kernels=kernels)
            broken = broken or (path.stem if result.outcome == "failed" else "")
            yield result


def _kernel_log(out: Path) -> Path:
    # A kernel is started from the notebook's folder.
    return out.absolute().with_suffix(".kernel.log")


def play(
    path: Path, out: Path, parameters: dict[str, object], *, progress: bool = False, kernels: Ahead | None = None
) -> Result:
    """Play one notebook in a kernel of its own, which is ended with it.

    Args:
        path: The notebook.
        out: Where the executed one goes, whether or not it passes.
        parameters: What papermill puts in place of its parameters.
        progress: Whether to draw a progress bar, or where there is no terminal to say now and then that it goes on.
        kernels: Where its kernel may have been started already.
    """
    display.import_without_grammars()
    import nbformat
    from jupyter_core.utils import ensure_event_loop
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillException, PapermillExecutionError
    from papermill.execute import execute_notebook

    from labkit.course import engine

    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    live = progress and seen_live()
    bar: Any = {"desc": path.stem, "leave": False, "dynamic_ncols": True} if live else False
    begun = time.monotonic()
    error, said = "", _kernel_log(out)
    try:
        with (
            saying(path.stem) if progress and not live else contextlib.nullcontext(),
            (kernels or Ahead()).manager(path, said) as manager,
        ):
            execute_notebook(
                path,
                out,
                parameters,
                engine.NAME,
                cwd=path.parent,
                progress_bar=bar,
                extra_arguments=ARGUMENTS,
                execution_timeout=CELL_TIMEOUT,
                kernel_name="python3",
                kernel_manager_class=manager,
            )
    except KeyboardInterrupt:
        # The kernel tells of it too, while it is ended; asyncio would print that nobody listens any more.
        ensure_event_loop().set_exception_handler(lambda _loop, _context: None)
        raise
    except PapermillExecutionError as fault:
        error = fault.evalue if _tells_itself(fault.ename) else f"{fault.ename}: {fault.evalue}"
    except CellTimeoutError:
        error = f"the cell did not end within {CELL_TIMEOUT} s"
    except DeadKernelError:
        error = "the kernel died"
    except (CellExecutionError, PapermillException, nbformat.ValidationError, nbformat.reader.NotJSONError) as fault:
        error = f"{type(fault).__name__}: {str(fault)[:2000]}"
    finally:
        # Where all went well a kernel complains at most of its end.
        if said.is_file() and not (error and said.stat().st_size):
            said.unlink()
    seconds = time.monotonic() - begun
    if not out.is_file():
        return Result(path.stem, "failed" if error else "passed", seconds, error=error)
    played: Any = nbformat.read(out, as_version=4)  # type: ignore[no-untyped-call]
    code = [cell for cell in played.cells if cell.cell_type == "code"]
    ran = sum(cell.execution_count is not None for cell in code)
    if not error:
        return Result(path.stem, "passed", seconds, ran, path=out)
    cell = _failed_cell(code)
    shown = [_text(output) for one in code if one.id == cell for output in one.outputs]
    return Result(path.stem, "failed", seconds, ran, cell, error, "\n".join(filter(None, shown))[-_MOST_SHOWN:], out)


def _text(output: Any) -> str:
    # What was raised is told anyway.
    said = str(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return re.sub(r"\x1b\[[\d;]*m", "", said).strip("\n")


def _failed_cell(code: list[Any]) -> str:
    told = [(cell.id, cell.metadata.get("papermill", {})) for cell in code]
    raised = [cell_id for cell_id, mark in told if mark.get("exception")]
    # Where the kernel died or the time ran out nothing is raised: it was in the last cell that began.
    begun = [cell_id for cell_id, mark in told if mark.get("start_time")]
    return str((raised or begun[-1:] or [""])[0])


def _tells_itself(name: str) -> bool:
    return isinstance(kind := getattr(errors, name, None), type) and issubclass(kind, errors.LabError)


@contextlib.contextmanager
def _environment(**added: str) -> Iterator[None]:
    """Kernels inherit this process's environment; it is put back afterwards."""
    added |= {"LABKIT_HOME": str(config.home())}
    before = {name: os.environ[name] for name in added if name in os.environ}
    os.environ.update({name: value for name, value in added.items() if value})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
        os.environ.update(before)
