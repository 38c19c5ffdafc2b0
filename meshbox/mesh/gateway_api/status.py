# SPDX-License-Identifier: Apache-2.0
"""Conditions, and the status of the Gateway API's objects as istiod writes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from meshbox.contracts import Obj, View

__all__ = ["Condition", "RouteStatus", "conditions"]


@dataclass(frozen=True)
class Condition:
    """One condition as the conversion found it; its time and generation are added when it is written.

    Args:
        type: "Accepted", "ResolvedRefs", "Programmed" …
        reason: CamelCase.
        message: What a reader sees.
        status: Whether it is true.
    """

    type: str
    reason: str
    message: str
    status: bool = True


@dataclass(frozen=True)
class RouteStatus:
    """What one route's status says of each parent.

    Args:
        parents: Each parentRef, as the route has it, with its conditions.
        attached: The listeners that the route is bound to, "namespace/gateway/section", for `attachedRoutes`.
    """

    parents: tuple[tuple[View, tuple[Condition, ...]], ...] = ()
    attached: tuple[str, ...] = ()


def conditions(found: Iterable[Condition], before: Iterable[View], generation: int) -> list[Obj]:
    """Conditions as they are stored: a time changes only with the status; others' conditions stay.

    Args:
        found: What is so now.
        before: What is stored.
        generation: The object's generation.
    """
    stored = [dict(entry) for entry in before]
    by_type: Mapping[str, Obj] = {entry["type"]: entry for entry in stored}
    for one in sorted(found, key=lambda c: c.type):
        status = "True" if one.status else "False"
        known = by_type.get(one.type)
        made: Obj = {
            "type": one.type,
            "status": status,
            "reason": one.reason,
            "message": one.message,
            "observedGeneration": generation,
            "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        if known is None:
            stored.append(made)
        else:
            if known.get("status") == status:
                made["lastTransitionTime"] = known["lastTransitionTime"]
            known.update(made)
    return stored
