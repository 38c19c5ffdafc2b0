# SPDX-License-Identifier: Apache-2.0
"""Preemption: which pods of lower priority leave a node, so that one of higher priority has room there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from meshbox.contracts import Obj
from meshbox.controllers.pods import is_terminating

__all__ = ["victims"]


def _rank(pod: Obj) -> tuple[int, str]:
    """The more important first: a higher priority, then who has run for longer."""
    return -priority(pod), str((pod.get("status") or {}).get("startTime") or "")


def priority(pod: Obj) -> int:
    """The priority that the pod's class gave it."""
    return int(pod["spec"].get("priority") or 0)


def victims(pod: Obj, node: str, running: Sequence[Obj], fits: Callable[[Sequence[Obj]], bool]) -> list[Obj]:
    """The pods on `node` that leave for `pod`, as few as can be; none where that would not help, or some leave already.

    Args:
        pod: Who has no room.
        node: The node's name.
        running: All pods that run.
        fits: Whether `pod` has room on the node beside those who run then.
    """
    lower = [one for one in running if one["spec"]["nodeName"] == node and priority(one) < priority(pod)]
    if not lower or pod["spec"].get("preemptionPolicy") == "Never" or any(is_terminating(one) for one in lower):
        return []
    names = {one["metadata"]["uid"] for one in lower}
    staying = [one for one in running if one["metadata"]["uid"] not in names]
    if not fits(staying):
        return []
    leaving = []
    for one in sorted(lower, key=_rank):
        if fits([*staying, one]):
            staying.append(one)
        else:
            leaving.append(one)
    return leaving
