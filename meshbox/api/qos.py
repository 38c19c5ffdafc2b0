# SPDX-License-Identifier: Apache-2.0
"""The quality of service of a pod: who has to go first where a node runs short."""

from __future__ import annotations

from decimal import Decimal

from labkit.ground import quantity
from meshbox.contracts import Obj

__all__ = ["qos_class"]

_COUNTED = ("cpu", "memory")


def qos_class(spec: Obj) -> str:
    """What a pod's `spec` makes of it: "Guaranteed", "Burstable" or "BestEffort".

    Amounts are compared, not how they are written, and one of 0 is none. Containers are asked together, so are those
    that initialise; what the pod asks for as a whole stands for all of them.
    """
    own = spec.get("resources") or {}
    whole = own.get("requests") or own.get("limits")
    parts = [spec] if whole else [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    requests: dict[str, Decimal] = {}
    limits: dict[str, Decimal] = {}
    limited = True
    for part in parts:
        resources = part.get("resources") or {}
        _add(requests, resources.get("requests"))
        limited = len(_add(limits, resources.get("limits"))) == len(_COUNTED) and limited
    if not requests and not limits:
        return "BestEffort"
    return "Guaranteed" if limited and requests == limits else "Burstable"


def _add(sums: dict[str, Decimal], amounts: Obj | None) -> set[str]:
    """Add amounts of what counts; returns of what there are any."""
    found: set[str] = set()
    for name in _COUNTED:
        written = (amounts or {}).get(name, 0)
        # Nobody keeps a pod with an amount that is none.
        amount = Decimal(0) if quantity.problem(written) else quantity.parse(written)
        if amount > 0:
            sums[name] = sums.get(name, Decimal(0)) + amount
            found.add(name)
    return found
