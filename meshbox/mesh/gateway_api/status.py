# SPDX-License-Identifier: Apache-2.0
"""Conditions, and the status of the Gateway API's objects as istiod writes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from meshbox.contracts import Obj, View
from meshbox.mesh.gateway_api.classes import CONTROLLER

__all__ = ["Condition", "RouteStatus", "conditions", "joined", "route_status"]

_NEVER = "1970-01-01T00:00:00Z"
"""The time of a condition that nobody has set yet: the schema's own default."""


class Condition(Struct, frozen=True):
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


class RouteStatus(Struct, frozen=True):
    """What one route's status says of each parent.

    Args:
        parents: Each parentRef, as the route has it, with its conditions.
        attached: The Gateways' listeners that it is bound to, "namespace/gateway/section", for `attachedRoutes`.
    """

    parents: tuple[tuple[View, tuple[Condition, ...]], ...] = ()
    attached: tuple[str, ...] = ()


def joined(words: Sequence[str]) -> str:
    """Words as Istio joins them in a sentence."""
    if len(words) < 3:
        return " and ".join(words)
    return f"{', '.join(words[:-1])}, and {words[-1]}"


def conditions(found: Iterable[Condition], before: Iterable[View], generation: int) -> list[Obj]:
    """Conditions as they are stored: a time changes only with the status; others' conditions stay.

    Args:
        found: What is so now.
        before: What is stored.
        generation: The object's generation.
    """
    stored: list[Obj] = [dict(entry) for entry in before]
    for one in sorted(found, key=lambda condition: condition.type):
        status = "True" if one.status else "False"
        made: Obj = {
            "type": one.type,
            "status": status,
            "reason": one.reason,
            "message": one.message,
            "observedGeneration": generation,
            "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        known = next((entry for entry in stored if entry["type"] == one.type), None)
        if known is None:
            stored.append(made)
            continue
        since = known.get("lastTransitionTime")
        if known.get("status") == status and since != _NEVER:
            made["lastTransitionTime"] = since
        known.update(made)
    return stored


def route_status(route: View, found: RouteStatus) -> Obj:
    """The whole status of a route: what other controllers say of their parents stays."""
    meta, before = route["metadata"], (route.get("status") or {}).get("parents") or []
    wanted = {_text(ref, meta["namespace"]): (ref, said) for ref, said in found.parents if _known(said)}
    parents: list[Obj] = []
    for entry in before:
        if entry.get("controllerName") != CONTROLLER:
            parents.append(dict(entry))
        elif (known := wanted.pop(_text(entry["parentRef"], meta["namespace"]), None)) is not None:
            parents.append(_parent(*known, entry.get("conditions") or (), meta.get("generation", 1)))
    for _, (ref, said) in sorted(wanted.items(), reverse=True):
        parents.append(_parent(ref, said, (), meta.get("generation", 1)))
    return {"parents": parents}


def _known(said: Iterable[Condition]) -> bool:
    """Whether a parent is Istio's to speak of: of one that it does not know it says nothing."""
    return not any(one.type == "Accepted" and one.reason == "NoMatchingParent" and not one.message for one in said)


def _parent(ref: View, said: Iterable[Condition], before: Iterable[View], generation: int) -> Obj:
    made = conditions(said, before, generation)
    return {"parentRef": dict(ref), "controllerName": CONTROLLER, "conditions": made}


def _text(ref: View, namespace: str) -> tuple[str, ...]:
    """A parentRef as a key: the same for two ways to write one parent."""
    return (
        str(ref.get("group", "gateway.networking.k8s.io")),
        str(ref.get("kind", "Gateway")),
        str(ref.get("namespace") or namespace),
        str(ref["name"]),
        str(ref.get("sectionName") or ""),
        str(ref.get("port") or ""),
    )
