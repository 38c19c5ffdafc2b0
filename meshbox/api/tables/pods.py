# SPDX-License-Identifier: Apache-2.0
"""The table of Pods: the one line that says whether, and why not, a pod works."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from meshbox.api.tables.formats import NONE, dig, human_duration, items, timestamp
from meshbox.api.tables.printer_columns import At, Cells, cells
from meshbox.contracts import Obj

__all__ = ["pod", "row_conditions"]

_FINISHED = {"Succeeded": "The pod has completed successfully.", "Failed": "The pod failed."}


def row_conditions(obj: Obj) -> list[Obj]:
    """What a table's row says of a finished pod (kubectl has an option to hide such rows)."""
    phase = dig(obj, "status", "phase")
    if phase not in _FINISHED:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": _FINISHED[phase]}]


@cells("pod")
def pod(obj: Obj, at: At) -> Cells:
    """READY counts app containers and native sidecars; STATUS is the reason nearest to what a reader should look at."""
    summary = _summary(obj, legacy=at.legacy)
    restarts: int | str = summary.restarts
    if not at.legacy:
        restarts = str(summary.restarts)
        if summary.restarts and summary.last_end:
            restarts += f" ({human_duration((at.now - summary.last_end).total_seconds())} ago)"
    return {
        "Ready": f"{summary.ready}/{summary.total}",
        "Status": summary.reason,
        "Restarts": restarts,
        "IP": next((ip["ip"] for ip in items(obj, "status", "podIPs")), None) or dig(obj, "status", "podIP") or NONE,
        "Readiness Gates": _readiness_gates(obj),
    }


class _Summary(Struct):
    reason: str
    total: int
    ready: int = 0
    restarts: int = 0
    last_end: datetime | None = None

    def count_restarts(self, status: Obj) -> None:
        self.restarts += status.get("restartCount") or 0
        ended = timestamp(dig(status, "lastState", "terminated", "finishedAt"))
        if ended and (self.last_end is None or ended > self.last_end):
            self.last_end = ended


def _condition(obj: Obj, type_: str) -> Obj:
    return next((c for c in items(obj, "status", "conditions") if c.get("type") == type_), {})


def _ended(terminated: Obj) -> str:
    """Why a container ended: its reason, else the signal, else the exit code."""
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _summary(obj: Obj, *, legacy: bool) -> _Summary:
    sidecars: set[str] = set()
    if not legacy:
        sidecars = {c["name"] for c in items(obj, "spec", "initContainers") if c.get("restartPolicy") == "Always"}
    phase = dig(obj, "status", "phase") or ""
    summary = _Summary(dig(obj, "status", "reason") or phase, len(items(obj, "spec", "containers")) + len(sidecars))
    if _condition(obj, "PodScheduled").get("reason") == "SchedulingGated":
        summary.reason = "SchedulingGated"

    # While init containers run, RESTARTS is theirs; afterwards it is that of what keeps running.
    initial, lasting = _Summary("", 0), _Summary("", 0)
    stuck = _init_reason(obj, sidecars, initial, lasting, summary)
    if stuck:
        summary.reason = stuck
    if stuck and (legacy or _condition(obj, "Initialized").get("status") != "True"):
        summary.restarts, summary.last_end = initial.restarts, initial.last_end
    else:
        summary.restarts, summary.last_end = lasting.restarts, lasting.last_end
        _container_reasons(obj, summary, legacy=legacy)

    if dig(obj, "metadata", "deletionTimestamp"):
        if dig(obj, "status", "reason") == "NodeLost":
            summary.reason = "Unknown"
        elif legacy or phase not in _FINISHED:
            summary.reason = "Terminating"
    return summary


def _init_reason(obj: Obj, sidecars: set[str], initial: _Summary, lasting: _Summary, summary: _Summary) -> str:
    """What the first unfinished init container says; "" where none holds the pod up."""
    for done, status in enumerate(items(obj, "status", "initContainerStatuses")):
        initial.count_restarts(status)
        if status.get("name") in sidecars:
            lasting.count_restarts(status)
        terminated, waiting = dig(status, "state", "terminated"), dig(status, "state", "waiting")
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if status.get("name") in sidecars and status.get("started"):
            summary.ready += bool(status.get("ready"))
            continue
        if terminated is not None:
            return f"Init:{_ended(terminated)}"
        if waiting and waiting.get("reason") not in (None, "", "PodInitializing"):
            return f"Init:{waiting['reason']}"
        return f"Init:{done}/{len(items(obj, 'spec', 'initContainers'))}"
    return ""


def _container_reasons(obj: Obj, summary: _Summary, *, legacy: bool) -> None:
    """Fold the containers into the summary; the first container's trouble wins over that of later ones."""
    running, failed = False, ""
    for status in reversed(items(obj, "status", "containerStatuses")):
        summary.count_restarts(status)
        state: Any = status.get("state") or {}
        if dig(state, "waiting", "reason"):
            summary.reason = state["waiting"]["reason"]
        elif state.get("terminated") is not None:
            summary.reason = _ended(state["terminated"])
            if state["terminated"].get("exitCode"):
                failed = summary.reason
        elif status.get("ready") and state.get("running") is not None:
            running = True
            summary.ready += 1
    if summary.reason != "Completed":
        return
    if legacy:
        summary.reason = "Running" if running else "Completed"
    elif running and _condition(obj, "Ready").get("status") == "True":
        summary.reason = "Running"
    elif failed or running:
        summary.reason = failed or "NotReady"


def _readiness_gates(obj: Obj) -> str:
    gates = items(obj, "spec", "readinessGates")
    if not gates:
        return NONE
    met = sum(_condition(obj, gate.get("conditionType", "")).get("status") == "True" for gate in gates)
    return f"{met}/{len(gates)}"
