# SPDX-License-Identifier: Apache-2.0
"""How a container's end is told: its terminated state, its last words, the wait before its next run."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.ground.duration import to_go
from labkit.ground.errors import LabError
from meshbox.images import ContainerContext
from meshbox.node.processes import Exit, StartError
from meshbox.node.services import now

if TYPE_CHECKING:
    from labkit.ground.typed.metadata import ObjectMeta
    from meshbox.typed.containers import Container
    from meshbox.typed.pod_states import ContainerStateTerminated

__all__ = ["again_after", "backed_off", "faultless", "last_words", "not_started", "terminated"]

_EPOCH = "1970-01-01T00:00:00Z"
_START_FAILED = 128
_MESSAGE_BYTES = 4096
_LOG_LINES, _LOG_BYTES = 80, 2048


def again_after(policy: str, code: int) -> bool:
    """Whether a container that ended with `code` is to run again, by its pod's restart policy."""
    return policy == "Always" or (policy == "OnFailure" and code != 0)


def backed_off(container: str, pod: ObjectMeta, wait: float) -> tuple[str, str]:
    """What is said while a container waits for its next run: in its state, and as an event.

    Args:
        container: Its name.
        pod: Its pod's metadata.
        wait: Seconds until then.
    """
    where = f"{pod['name']}_{pod.get('namespace')}({pod.get('uid')})"
    return (
        f"back-off {to_go(round(wait * 10**9))} restarting failed container={container} pod={where}",
        f"Back-off restarting failed container {container} in pod {where}",
    )


def faultless(ended: Exit, signalled: bool, settled: bool) -> bool:
    """Whether the next run is to begin without back-off: what ended this one was not the container's doing.

    Its keeper was lost, which stands for the node; or somebody on the machine sent SIGKILL, which from inside a real
    pod cannot be sent to its first process. Kubernetes would count that too: here one can see and kill the processes
    of a "node", and what is killed is to be there again soon. A container that dies young is counted in any case, so
    that nothing restarts in a hot loop.

    Args:
        ended: How its process ended.
        signalled: Whether the node itself had sent that process a signal.
        settled: Whether it had run for longer than the first back-off.
    """
    return ended.lost or (ended.signal == signal.SIGKILL and not signalled and settled)


def not_started(error: Exception, program: str) -> ContainerStateTerminated:
    """The state of a container that could not be started: the runtime's words, and exit code 128.

    Args:
        error: What went wrong.
        program: What was to be executed, where it had come that far.
    """
    reason = error.message if isinstance(error, LabError) else str(error)
    if isinstance(error, StartError) and program:
        reason = f'exec: "{program}": {error.message.lower()}'
    message = (
        "failed to create containerd task: failed to create shim task: OCI runtime create failed: "
        f"runc create failed: unable to start container process: error during container init: {reason}: unknown"
    )
    return {
        "exitCode": _START_FAILED,
        "reason": "StartError",
        "message": message,
        "startedAt": _EPOCH,
        "finishedAt": now(),
    }


def terminated(ended: Exit, began: str, message: str) -> ContainerStateTerminated:
    """The state of a container whose process has ended."""
    state: ContainerStateTerminated = {"exitCode": ended.code, "reason": "Completed" if ended.code == 0 else "Error"}
    state |= {"startedAt": began, "finishedAt": now()}
    if message:
        state["message"] = message
    if ended.signal:
        state["signal"] = ended.signal
    return state


def last_words(container: Container, context: ContainerContext | None, log: Path, code: int) -> str:
    """A container's termination message: its file, or where asked for the end of its log."""
    with contextlib.suppress(OSError):
        if context is not None:
            file = context.path(container.get("terminationMessagePath") or "/dev/termination-log")
            return file.read_bytes()[-_MESSAGE_BYTES:].decode(errors="replace")
    if code and container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        with contextlib.suppress(OSError):
            lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            return "\n".join(line.split(" ", 3)[-1] for line in lines)[-_LOG_BYTES:]
    return ""
