"""Running the real kubectl, and showing what is run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from labkit import display
from labkit.cluster import target as targets
from labkit.cluster.explain import explain
from labkit.cluster.kubeconfig import kubectl_program
from labkit.cluster.leash import leash
from labkit.cluster.words import Command
from labkit.ground.errors import ClusterError, MissingToolError

__all__ = ["Output", "command_line", "kubectl", "kubectl_program", "shell"]

# kubectl's client library logs each try at discovery; the last line of its error says the same once.
_LOG_LINE = re.compile(r"^[EWIF]\d{4} [\d:.]+ +\d+ \S+\.go:\d+\].*\n?", re.MULTILINE)


# What changes nothing; anything else does, or may.
_READS = frozenset(
    (
        *("get", "describe", "logs", "events", "top", "explain", "wait", "diff", "auth", "cluster-info"),
        *("version", "api-resources", "api-versions", "config", "kustomize", "options", "completion", "help"),
    )
)


class Output(str):
    """What a command printed on its standard output. It was shown already, so a cell that ends with it adds nothing."""

    def _ipython_display_(self) -> None:
        return


def command_line(command: str | Sequence[str]) -> tuple[list[str], str]:
    """A kubectl command as arguments (without "kubectl"), and as a learner would type it."""
    if isinstance(command, str):
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise ClusterError(
                f"this command cannot be read: {command}\n{error}", next_step="Check its quotes."
            ) from None
        typed = " ".join(command.split()) if "\n" not in command.strip() else command.strip()
    else:
        words, typed = list(command), shlex.join(command)
    if words[:1] == ["kubectl"]:
        words, typed = words[1:], typed.removeprefix("kubectl").lstrip()
    return words, f"kubectl {typed}"


def kubectl(
    command: str | Sequence[str], *, stdin: str | None = None, show: bool = True, timeout: float = 120.0
) -> Output:
    """Run kubectl on the target in use, and show the command with what it prints.

    Args:
        command: As typed after "kubectl": `"get pods -n bookinfo"`, or a list of words.
        stdin: What it reads, for `-f -`.
        show: Whether to show the command and its output.
        timeout: Seconds before it is ended.

    Returns:
        Its standard output.

    Raises:
        NoTargetError: No cluster was chosen, or another one than that answers now.
        ClusterError: It failed; the message is the server's own, with a next step.
        MissingToolError: kubectl is not installed.
    """
    # It asks the cluster through this very function.
    from labkit.cluster import watching

    targets.current()
    words, typed = command_line(command)
    _stay(words, targets.current())
    target = targets.checked(write=_writes(words))
    watch = watching.watch(words, stdin)
    if target.arguments:
        typed = typed.replace("kubectl", f"kubectl {shlex.join(target.arguments)}", 1)
    program = [kubectl_program(), *target.arguments, *words]
    ended = watch.ended if watch is not None else None
    return _run(program, typed, target, stdin=stdin, show=show, timeout=timeout, ended=ended)


def shell(script: str, *, show: bool = True, timeout: float = 120.0) -> Output:
    """Run shell lines (bash) with this target's kubectl first on the PATH, and show them with what they print.

    Args:
        script: The lines, as typed in a terminal; any of them failing fails the whole.
        show: Whether to show the lines and their output.
        timeout: Seconds before it is ended.

    Returns:
        Their standard output.

    Raises:
        NoTargetError: No cluster was chosen, or another one than that answers now.
        ClusterError: A line failed.
    """
    targets.current()
    script = script.strip("\n")
    bash = shutil.which("bash")
    if bash is None:
        raise MissingToolError("bash was not found on the PATH", next_step="Install bash, or type the lines yourself.")
    from labkit.cluster import watching

    program = [bash, "-e", "-o", "pipefail", "-c", script]
    target = targets.checked(write=True)
    with watching.marking_shell(script) as ended:
        return _run(program, script, target, stdin=None, show=show, timeout=timeout, ended=ended)


def _stay(words: Sequence[str], target: targets.Chosen) -> None:
    """Refuse what would lead past the cluster in use, with its look at whose the objects are."""
    flags = [flag for flag in Command(tuple(words)).elsewhere if flag != f"--context={target.context}"]
    if flags:
        raise ClusterError(
            f"{flags[0].partition('=')[0]} leads to another cluster than the one in use, {target}",
            next_step="Leave it out; or choose that cluster, as TARGET of a lesson or with `cluster.use`.",
        )


def _writes(words: Sequence[str]) -> bool:
    """Whether a command may change the cluster: its verb is the first word that is neither flag nor flag's value."""
    before = ""
    for word in words:
        if not word.startswith("-") and before not in ("-n", "--namespace"):
            return word not in _READS
        before = word
    return False


def _run(
    program: list[str],
    typed: str,
    target: targets.Chosen,
    *,
    stdin: str | None,
    show: bool,
    timeout: float,
    ended: Callable[[str], None] | None = None,
) -> Output:
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
