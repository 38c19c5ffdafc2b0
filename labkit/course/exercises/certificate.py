# SPDX-License-Identifier: Apache-2.0
"""A page that says what was measured in an exam: HTML that needs nothing else, for a screen or for paper."""

from __future__ import annotations

import html
import os
from itertools import count
from pathlib import Path
from string import Template

from labkit import cluster, display, kernel
from labkit.course.exercises.slo import Result
from labkit.ground import files
from labkit.ground.errors import CheckError, SettingError

__all__ = ["folder", "page", "show", "write"]

LONGEST = 80
"""Characters of a name."""

_LINE = '<span class="blank" role="img" aria-label="a line for the name">&nbsp;</span>'
_FRAME = "border:1px solid var(--jp-border-color1,#ccc)"


def folder() -> Path:
    """Where a learner's own files are: beside the notebook, where Jupyter says where that is; else what the course
    remembers of this cluster.

    Raises:
        NoTargetError: Neither is known, as no cluster is in use.
    """
    said = os.environ.get("JPY_SESSION_NAME", "")
    if (shell := kernel.running()) is not None:
        said = shell.user_ns.get("__vsc_ipynb_file__") or said
    beside = Path(said).parent
    # Some front ends call a session what is no file.
    return beside if said and Path(said).is_absolute() and beside.is_dir() else cluster.course_folder()


def page(result: Result, name: str) -> str:
    """The page.

    Args:
        result: A passed exam.
        name: Whose it is, 80 characters at most; "" leaves a line to write it on.

    Raises:
        CheckError: The exam is not passed; says what it lacks.
        SettingError: The name is too long.
    """
    result.require()
    whose = " ".join(name.split())
    if len(whose) > LONGEST:
        raise SettingError(
            f"a name of {len(whose)} characters has no place on the page", next_step=f"At most {LONGEST}."
        )
    took = (result.ended - result.begun).total_seconds()
    rows = {
        "Tasks solved": f"{len(result.tasks)} of {len(result.tasks)}: " + "; ".join(title for title, _ in result.tasks),
        "Requests counted": f"{result.calls}, of productpage to reviews",
        "Time under load": f"{took // 60:.0f} min {took % 60:.0f} s",
        "95 of 100 answered within": f"{result.p95 * 1000:.0f} ms",
    }
    spent = (
        (f"at most {one.objective.allowed:.0%} {one.objective.bad}", f"{one.bad} of {one.counted}", f"{one.used:.0%}")
        for one in result.spent
    )
    # The licence, in the second line, is that of the form and not of what is written on it.
    first, _, *rest = Path(__file__).with_name("certificate.html").read_text(encoding="utf-8").splitlines()
    return Template("\n".join((first, *rest, ""))).substitute(
        title=html.escape(f"{whose or 'Certificate'}: a new version, out under load"),
        name=html.escape(whose) or _LINE,
        release=html.escape(result.release),
        date=f"{result.ended:%Y-%m-%d}",
        rows="\n".join(
            f'<tr><th scope="row">{html.escape(what)}</th><td>{html.escape(value)}</td></tr>'
            for what, value in rows.items()
        ),
        spent="\n".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in spent),
    )


def write(result: Result, name: str, where: Path) -> Path:
    """Write the page into a folder; a file that is there already is left, and this one gets the next number.

    Args:
        result: A passed exam.
        name: Whose it is; "" leaves a line to write it on.
        where: The folder, which exists.

    Returns:
        The file.

    Raises:
        CheckError: The exam is not passed, or the file cannot be written.
        SettingError: The name is too long.
    """
    text = page(result, name).encode()
    stem = f"certificate-{result.ended:%Y-%m-%d}"
    try:
        for number in count(1):
            path = where / (f"{stem}.html" if number == 1 else f"{stem}-{number}.html")
            if files.create(path, text):
                return path
    except OSError as error:
        said = f"{error.filename or where}: {error.strerror}"
        raise CheckError(f"the certificate cannot be written: {said}", next_step="Name another folder.") from None
    raise AssertionError


def show(result: Result, name: str, where: Path | None = None) -> Path:
    """Write the page, say where it is, and show it in a frame.

    Args:
        result: A passed exam.
        name: Whose it is; "" leaves a line to write it on.
        where: The folder; None for the notebook's own.

    Returns:
        The file.

    Raises:
        CheckError: The exam is not passed, or the file cannot be written.
        SettingError: The name is too long.
    """
    path = write(result, name, where or folder())
    earlier = "" if path.stem.count("-") == 3 else " What was there of an earlier exam stays."
    said = display.message(f"{path}.{earlier}", "good", next_step="Open it in a browser to print it.")
    inside = html.escape(path.read_text(encoding="utf-8"))
    frame = f'<iframe srcdoc="{inside}" title="The certificate" sandbox="" width="100%" height="640" style="{_FRAME}">'
    display.show(said + display.Rich(f"{frame}</iframe>", ""))
    return path
