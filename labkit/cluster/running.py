# SPDX-License-Identifier: Apache-2.0
"""Running a program on the cluster in use, and showing what is run."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Sequence

from labkit import display
from labkit.cluster import target as targets
from labkit.cluster.explain import explain
from labkit.cluster.kubeconfig import Chosen, kubectl_program
from labkit.cluster.leash import leash
from labkit.ground.errors import ClusterError

__all__ = ["Output", "kubectl", "run"]

# kubectl's client library logs each try at discovery; the last line of its error says the same once.
_LOG_LINE = re.compile(r"^[EWIF]\d{4} [\d:.]+ +\d+ \S+\.go:\d+\].*\n?", re.MULTILINE)

_LAST_WORDS = 2.0
"""Seconds that a program has to end once it is told to."""


class Output(str):
    """What a command printed on its standard output. It was shown already, so a cell that ends with it adds nothing."""

    def _ipython_display_(self) -> None:
        return


def kubectl(words: Sequence[str], *, stdin: str | None = None, show: bool = False) -> Output:
    """Run a kubectl that only reads, on the cluster in use; errors as of `labkit.cluster.kubectl`."""
    target = targets.checked(write=False)
    words = [*target.arguments, *words]
    typed = f"kubectl {shlex.join(words)}"
    return run([kubectl_program(), *words], typed, target, stdin=stdin, show=show)


def run(
    program: list[str],
    typed: str,
    target: Chosen,
    *,
    stdin: str | None = None,
    show: bool = False,
    echo: bool = True,
    timeout: float = 120.0,
    ended: Callable[[str], None] | None = None,
) -> Output:
    """Run a program to its end.

    Args:
        program: The program and its arguments.
        typed: What a learner would type instead.
        target: The cluster.
        stdin: What it reads; None for nothing.
        show: Whether to show the command and its output.
        echo: Whether to show what it reads as well, or where it reads nothing the command: a cell has it already.
        timeout: Seconds before it is ended.
        ended: Called with its standard output, also where it failed.

    Raises:
        ClusterError: It failed.
        KeyboardInterrupt: It was interrupted, and has ended.
    """
    line = typed if stdin is not None or echo else ""
    if stdin is not None and echo:
        # As it would be typed: a text in a notebook often begins with an empty line.
        read = stdin.lstrip("\n").rstrip()
        line += f" <<EOF\n{read}\nEOF"
    live = display.show(display.command(line)) if show else None
    process = subprocess.Popen(
        [*leash(), *program],
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=target.environment,
        process_group=0,
    )
    with process:
        try:
            out, err = process.communicate(None if stdin is None else stdin.encode(), timeout)
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as ending:
            late = isinstance(ending, subprocess.TimeoutExpired)
            seen = _end(process).decode(errors="replace")
            if live is not None:
                live.update(display.command(line, seen if late else f"{seen}\n^C: interrupted", failed=True))
            if not late:
                raise
            raise ClusterError(
                f"{typed}\ndid not end within {timeout:g} s",
                next_step=f"Is the cluster well? `kubectl get nodes` on {target}. A longer wait: timeout=…. What never "
                "ends by itself belongs in a terminal.",
            ) from None
    stdout = out.decode(errors="replace")
    stderr = _LOG_LINE.sub("", err.decode(errors="replace"))
    if live is not None:
        live.update(display.command(line, stdout + stderr, failed=process.returncode != 0))
    if ended is not None:
        # Also of what failed half-way something is there.
        ended(stdout)
    if process.returncode != 0:
        raise explain(typed, stderr or stdout, process.returncode, str(target))
    return Output(stdout)


def _end(process: subprocess.Popen[bytes]) -> bytes:
    """End a program with all that it has started; returns what it had printed."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        try:
            return process.communicate(timeout=_LAST_WORDS)[0]
        except subprocess.TimeoutExpired as error:
            seen = error.stdout or b""
    return seen
