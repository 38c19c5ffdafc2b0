# SPDX-License-Identifier: Apache-2.0
"""Cells that are typed as in an editor or a terminal: `%%yaml` applies what is in it, `%%sh` runs it.

Both go the way of `apply`, `delete` and `shell`: to the cluster of the lesson and no other, with what is made written
down. What stands in such a cell is taken as it is: `{name}` and `$name` are nothing of Python's.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shlex

from labkit import display
from labkit.cluster.kubectl import shell
from labkit.cluster.manifests import MANIFEST_LIMIT, apply, delete
from labkit.ground.errors import ClusterError
from labkit.ground.reading import ReadingError, check_yaml

__all__ = ["sh", "yaml"]

_USAGE = "The first line: `%%yaml`, then as needed `-n NAMESPACE`, `--server-side`, `delete`."


def yaml(line: str, cell: str) -> None:
    """`%%yaml [-n NAMESPACE] [--server-side] [delete]`: apply, or delete, the objects in the cell.

    Args:
        line: What follows `%%yaml`.
        cell: The lines below it.

    Raises:
        ClusterError: The first line is not understood, the cell is no YAML, or the cluster refused it.
        NoTargetError: No cluster is in use.
    """
    wanted = _options(line)
    # One more line: then lines are counted as the editor counts those of the cell.
    text = f"\n{cell.rstrip()}\n"
    if _only_comments(cell):
        display.show(display.message("There are only comments in this cell: nothing was applied.", "note"))
        return
    try:
        check_yaml(text, most_bytes=MANIFEST_LIMIT)
    except ReadingError as error:
        raise _not_yaml(error, text) from None
    if wanted.verb == "delete":
        delete(text, namespace=wanted.namespace, echo=False)
    else:
        apply(text, namespace=wanted.namespace, server_side=wanted.server_side, echo=False)


def sh(line: str, cell: str) -> None:
    """`%%sh`: run the lines of the cell with bash, where `kubectl` leads to the lesson's cluster.

    Args:
        line: What follows `%%sh`; nothing may.
        cell: The lines below it.

    Raises:
        ClusterError: A line failed, or something follows `%%sh`.
        NoTargetError: No cluster is in use.
    """
    if line.strip():
        raise ClusterError(f"`%%sh {line.strip()}` is not understood", next_step="The first line is `%%sh` alone.")
    if _only_comments(cell):
        display.show(display.message("There are only comments in this cell: nothing was run.", "note"))
        return
    try:
        shell(cell, echo=False)
    except ClusterError as error:
        if not error.code:
            raise
        # What it printed is shown above already.
        raise ClusterError(f"exit code {error.code}", next_step=error.next_step, code=error.code) from None


def _only_comments(cell: str) -> bool:
    """Whether nothing was typed yet."""
    return all(not row.strip() or row.lstrip().startswith("#") or row.rstrip() == "---" for row in cell.splitlines())


def _options(line: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="%%yaml", add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("-n", "--namespace", default="")
    parser.add_argument("--server-side", action="store_true")
    parser.add_argument("verb", nargs="?", choices=("apply", "delete"), default="apply")
    try:
        # In some cases argparse writes and leaves, whatever it was told.
        with contextlib.redirect_stderr(io.StringIO()):
            found = parser.parse_args(shlex.split(line))
    except (argparse.ArgumentError, ValueError, SystemExit):
        raise ClusterError(f"`%%yaml {line.strip()}` is not understood", next_step=_USAGE) from None
    if found.verb == "delete" and found.server_side:
        raise ClusterError("`--server-side` is for applying, not for `delete`", next_step=_USAGE)
    return found


def _not_yaml(error: ReadingError, text: str) -> ClusterError:
    rows = ["", *text.splitlines()]
    row = rows[error.line] if error.line < len(rows) else ""
    seen = f": `{row.strip()}`" if row.strip() else ""
    where = f"line {error.line} of this cell{seen}" if error.line else "this cell"
    tab = "\t" in row[: len(row) - len(row.lstrip())]
    problem = "a tab indents it, where YAML takes blanks only" if tab else error.problem
    step = (
        "Look at that line and the one above it: an indent, a tab, or a colon inside plain text. Nothing was applied."
    )
    return ClusterError(f"{where} is not YAML: {problem}", next_step=step)
