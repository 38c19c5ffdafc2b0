# SPDX-License-Identifier: Apache-2.0
"""What a sandbox is mending just now, read off its objects: whoever has a kubeconfig can see the same.

A container that ended and has not become ready again since shows so in its pod; that the keeper of all processes was
lost stands in an event of the node.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

__all__ = ["KEEPER_LOST", "healing"]

KEEPER_LOST = "KeeperLost"
"""Reason of the node's event that says that all containers' processes ended at once."""

_RECENT = 15.0
"""Seconds for which the loss of the keeper is told even when all pods are well again."""

Obj = dict[str, Any]


def healing(pods: Iterable[Obj], events: Iterable[Obj], now: datetime | None = None) -> list[str]:
    """One sentence for each thing that is being mended; none where all is well.

    Args:
        pods: All pods.
        events: The events about the node.
        now: The time; None for this moment.
    """
    moment = now or datetime.now(UTC)
    told: list[str] = []
    for pod in pods:
        # What anybody wrote into one pod's status must not hide what is said of the others.
        with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
            told += _of_pod(pod)
    lost = [_age(event, moment) for event in events if event.get("reason") == KEEPER_LOST]
    if lost and (told or min(lost) < _RECENT):
        told.insert(0, f"the keeper of the pods' processes was restarted {min(lost):.0f} s ago, and all pods with it")
    return told


def _age(event: Obj, moment: datetime) -> float:
    at = event.get("lastTimestamp") or event["metadata"]["creationTimestamp"]
    return max(0.0, (moment - datetime.fromisoformat(at)).total_seconds())


def _of_pod(pod: Obj) -> Iterator[str]:
    meta, status = pod["metadata"], pod.get("status") or {}
    if "deletionTimestamp" in meta or status.get("phase") in ("Succeeded", "Failed"):
        return
    for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        state, restarts = one.get("state") or {}, one.get("restartCount", 0)
        # A first start is none of our business, nor is what has ended and need not run again.
        ended_before = restarts > 0 or bool(one.get("lastState"))
        if one.get("ready") or not (ended_before or "terminated" in state) or _is_done(pod, one):
            continue
        yield f"pod {meta.get('namespace')}/{meta['name']}: container {one['name']} {_doing(one, state, restarts)}"


def _is_done(pod: Obj, one: Obj) -> bool:
    ended = (one.get("state") or {}).get("terminated")
    if ended is None or ended.get("exitCode") != 0:
        return False
    inits = {item["name"]: item for item in pod["spec"].get("initContainers") or ()}
    again = inits[one["name"]].get("restartPolicy") == "Always" if one["name"] in inits else None
    return not again if again is not None else pod["spec"].get("restartPolicy", "Always") != "Always"


def _doing(one: Obj, state: Obj, restarts: int) -> str:
    if waiting := state.get("waiting"):
        said = str(waiting.get("message") or waiting.get("reason") or "").partition(" restarting failed")[0]
        return f"waits for its next start after {restarts} restarts ({waiting.get('reason')}: {said})"
    if "terminated" in state:
        return f"has ended and is started again (restart {restarts + 1})"
    what = "gets its configuration" if one["name"] == "istio-proxy" else "is not ready yet"
    return f"runs again (restart {restarts}) and {what}"
