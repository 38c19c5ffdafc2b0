# SPDX-License-Identifier: Apache-2.0
"""Which zones a DestinationRule prefers, as Istio's webhook looks at it."""

from __future__ import annotations

from meshbox.mesh.envoy import Json
from meshbox.mesh.istio_validation.problems import Problems

__all__ = ["check"]

_TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")


def check(setting: Json | None, problems: Problems, *, ejects: bool) -> None:
    """Look at a `localityLbSetting`; `ejects`: whether there is outlier detection as well."""
    if setting is None:
        return
    distribute, failover = setting.get("distribute") or [], setting.get("failover") or []
    priority = setting.get("failoverPriority") or []
    if distribute and failover:
        problems.error("can not simultaneously specify 'distribute' and 'failover'")
        return
    topology = next((label for label in priority if label in _TOPOLOGY), "")
    if failover and topology:
        problems.error(f"can not simultaneously set 'failover' and topology label '{topology}' in 'failover_priority'")
        return
    for one in distribute:
        to = (one or {}).get("to") or {}
        if any(not 1 <= weight <= 100 for weight in to.values()):
            problems.error("locality weight must be in range [1, 100]")
            return
        if sum(to.values()) != 100:
            problems.error(f"total locality weight {sum(to.values())} != 100")
            return
        # Istio takes these in no order, so where it matters its answer is now this, now that: here it is always no.
        _distinct(sorted(to), problems)
    _distinct([(one or {}).get("from") or "" for one in distribute], problems)
    if (failover or priority) and not ejects:
        problems.warn("outlier detection policy must be provided for failover")
    for one in failover:
        origin, target = (one or {}).get("from") or "", (one or {}).get("to") or ""
        problems.require(origin != target, "locality lb failover settings must specify different regions")
        problems.require("/" not in origin + target, "locality lb failover only specify region")
        problems.require("*" not in origin + target, "locality lb failover region should not contain '*' wildcard")


def _distinct(names: list[str], problems: Problems) -> None:
    """Localities, region/zone/subzone, none of which may be met before; the first that is wrong is told.

    What is general may follow what is special ("us/*" after "us/east/r1"), but not the other way round.
    """
    seen: list[tuple[str, ...]] = []
    for name in names:
        if name.count("*") > 1 or ("*" in name and not name.endswith("*")):
            problems.error(f"locality {name} wildcard '*' number can not exceed 1 and must be in the end")
            return
        parts = tuple(name.split("/", 2))
        overlap = f"locality {name} overlap with previous specified ones"
        if any(other[0] == "*" for other in seen):
            problems.error(overlap)
            return
        if not all(parts):
            problems.error(f"locality {name} must not contain empty region/zone/subzone info")
            return
        if any(_met(parts, other) for other in seen):
            problems.error(overlap)
            return
        seen.append((*parts, "*", "*")[:3])


def _met(one: tuple[str, ...], before: tuple[str, ...]) -> bool:
    """Whether the whole locality `before` speaks of `one`, or of a part of it where neither has a wildcard."""
    for level, own in enumerate(one):
        if level and before[level] == "*":
            return True
        if own != before[level]:
            return False
    return True
