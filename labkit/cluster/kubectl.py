# SPDX-License-Identifier: Apache-2.0
"""Running the real kubectl, and showing what is run."""

from __future__ import annotations

import re
import shlex
import shutil
import time
from collections.abc import Sequence

from labkit.cluster import target as targets
from labkit.cluster import watching
from labkit.cluster.kubeconfig import kubectl_program
from labkit.cluster.running import Output, run
from labkit.cluster.terminal import refuse_endless
from labkit.cluster.words import Command
from labkit.ground.errors import ClusterError, MissingToolError

__all__ = ["Output", "command_line", "exec", "kubectl", "kubectl_program", "last_write", "shell"]

# What changes nothing; anything else does, or may.
_READS = frozenset(
    (
        *("get", "describe", "logs", "events", "top", "explain", "wait", "diff", "auth", "cluster-info"),
        *("version", "api-resources", "api-versions", "config", "kustomize", "options", "completion", "help"),
    )
)

# What changes objects; other commands that write, such as `exec`, leave them as they are.
_CHANGES = (
    *("annotate", "apply", "autoscale", "create", "delete", "edit", "expose", "label", "patch", "replace", "rollout"),
    *("run", "scale", "set", "taint"),
)
_SHELL_CHANGES = re.compile(rf"\bkubectl\b.*\b(?:{'|'.join(_CHANGES)})\b", re.DOTALL)
_written: dict[str, float] = {}
"""By a cluster's uid, when a command that changes objects was begun here last."""


def last_write() -> float:
    """When this process last began to change objects of the cluster in use, in seconds since 1970; 0 for never.

    Raises:
        NoTargetError: No cluster was chosen.
    """
    return _written.get(targets.current().uid, 0.0)


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
    command: str | Sequence[str],
    *,
    stdin: str | None = None,
    show: bool = True,
    echo: bool = True,
    timeout: float = 120.0,
) -> Output:
    """Run kubectl on the target in use, and show the command with what it prints.

    Args:
        command: As typed after "kubectl": `"get pods -n bookinfo"`, or a list of words.
        stdin: What it reads, for `-f -`.
        show: Whether to show the command and its output.
        echo: Whether to show what it reads as well.
        timeout: Seconds before it is ended.

    Returns:
        Its standard output.

    Raises:
        NoTargetError: No cluster was chosen, or another one than that answers now.
        ClusterError: It failed; the message is the server's own, with a next step. Or it would wait for a terminal.
        MissingToolError: kubectl is not installed.
    """
    targets.current()
    words, typed = command_line(command)
    _stay(words, targets.current())
    refuse_endless(words, stdin)
    target = targets.checked(write=_writes(words))
    watch = watching.watch(words, stdin)
    if target.arguments:
        typed = typed.replace("kubectl", f"kubectl {shlex.join(target.arguments)}", 1)
    program = [kubectl_program(), *target.arguments, *words]
    if _verb(words) in _CHANGES:
        _written[target.uid] = time.time()
    ended = watch.ended if watch is not None else None
    return run(program, typed, target, stdin=stdin, show=show, echo=echo, timeout=timeout, ended=ended)


def exec(  # kubectl's own verb
    pod: str,
    command: str | Sequence[str],
    *,
    container: str = "",
    namespace: str = "",
    show: bool = True,
    timeout: float = 60.0,
) -> Output:
    """Run a command in a container, as `kubectl exec` does.

    Args:
        pod: A pod's name, or "deploy/NAME" for any pod of a Deployment.
        command: The command, without a shell.
        container: Which container; "" for the pod's default one.
        namespace: "" for the context's own.
        show: Whether to show the command and its output.
        timeout: Seconds.

    Returns:
        Its standard output.

    Raises:
        ClusterError: The pod or container is not there, or the command failed.
    """
    words = ["exec", pod, *(["-n", namespace] if namespace else []), *(["-c", container] if container else []), "--"]
    words += shlex.split(command) if isinstance(command, str) else list(command)
    return kubectl(words, show=show, timeout=timeout)


def shell(script: str, *, show: bool = True, echo: bool = True, timeout: float = 120.0) -> Output:
    """Run shell lines (bash) with this target's kubectl first on the PATH, and show them with what they print.

    Args:
        script: The lines, as typed in a terminal; any of them failing fails the whole.
        show: Whether to show the lines and their output.
        echo: Whether to show the lines as well, not their output alone.
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
    program = [bash, "-e", "-o", "pipefail", "-c", script]
    target = targets.checked(write=True)
    if _SHELL_CHANGES.search(script):
        _written[target.uid] = time.time()
    with watching.marking_shell(script) as ended:
        return run(program, script, target, stdin=None, show=show, echo=echo, timeout=timeout, ended=ended)


def _stay(words: Sequence[str], target: targets.Chosen) -> None:
    """Refuse what would lead past the cluster in use, with its look at whose the objects are."""
    flags = [flag for flag in Command(tuple(words)).elsewhere if flag != f"--context={target.context}"]
    if flags:
        raise ClusterError(
            f"{flags[0].partition('=')[0]} leads to another cluster than the one in use, {target}",
            next_step="Leave it out; or choose that cluster, as TARGET of a lesson or with `cluster.use`.",
        )


def _writes(words: Sequence[str]) -> bool:
    """Whether a command may change the cluster."""
    verb = _verb(words)
    return bool(verb) and verb not in _READS


def _verb(words: Sequence[str]) -> str:
    """A command's verb: its first word that is neither flag nor flag's value; "" without."""
    before = ""
    for word in words:
        if not word.startswith("-") and before not in ("-n", "--namespace"):
            return word
        before = word
    return ""
