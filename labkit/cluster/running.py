"""Running a program on the cluster in use, and showing what is run."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from labkit import display
from labkit.cluster import target as targets
from labkit.cluster.explain import explain
from labkit.cluster.kubeconfig import Chosen, kubectl_program
from labkit.cluster.leash import leash
from labkit.ground.errors import ClusterError

__all__ = ["Output", "kubectl", "run"]

# kubectl's client library logs each try at discovery; the last line of its error says the same once.
_LOG_LINE = re.compile(r"^[EWIF]\d{4} [\d:.]+ +\d+ \S+\.go:\d+\].*\n?", re.MULTILINE)


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
        timeout: Seconds before it is ended.
        ended: Called with its standard output, also where it failed.

    Raises:
        ClusterError: It failed.
    """
    line = f"{typed} <<EOF\n{stdin.rstrip()}\nEOF" if stdin is not None else typed
    live = display.show(display.command(line)) if show else None
    source: Any = {"input": stdin.encode()} if stdin is not None else {"stdin": subprocess.DEVNULL}
    try:
        done = subprocess.run(
            [*leash(), *program], capture_output=True, env=target.environment, timeout=timeout, **source
        )
    except subprocess.TimeoutExpired as error:
        seen = (error.stdout or b"").decode(errors="replace")
        if live is not None:
            live.update(display.command(line, seen, failed=True))
        raise ClusterError(
            f"{typed}\ndid not end within {timeout:g} s",
            next_step=f"Is the cluster well? `kubectl get nodes` on {target}. A longer wait: timeout=….",
        ) from None
    stdout = done.stdout.decode(errors="replace")
    stderr = _LOG_LINE.sub("", done.stderr.decode(errors="replace"))
    if live is not None:
        live.update(display.command(line, stdout + stderr, failed=done.returncode != 0))
    if ended is not None:
        # Also of what failed half-way something is there.
        ended(stdout)
    if done.returncode != 0:
        raise explain(typed, stderr or stdout, done.returncode, str(target))
    return Output(stdout)
