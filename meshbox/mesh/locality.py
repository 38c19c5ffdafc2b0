# SPDX-License-Identifier: Apache-2.0
"""Where workloads run, and what a client makes of it: which endpoints it prefers, and what share each place gets.

A locality is written "region/zone/subzone", with as many parts as are known; "" where nothing is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from meshbox.contracts import View
from meshbox.mesh.envoy import Json
from meshbox.mesh.model import Endpoint, annotations_of

if TYPE_CHECKING:
    from labkit.ground.typed.destination_rules import Distribute, Failover, LocalityLoadBalancerSetting
    from meshbox.typed.pods import Pod

__all__ = [
    "HOSTNAME",
    "NETWORK",
    "REGION",
    "SUBZONE",
    "ZONE",
    "Group",
    "Place",
    "envoy_locality",
    "grouped",
    "labels_at",
    "located",
    "nearest_places",
    "of_labels",
    "of_pod",
    "priority_labels",
]

REGION, ZONE = "topology.kubernetes.io/region", "topology.kubernetes.io/zone"
SUBZONE, NETWORK, CLUSTER = "topology.istio.io/subzone", "topology.istio.io/network", "topology.istio.io/cluster"
HOSTNAME = "kubernetes.io/hostname"
OLD_REGION, OLD_ZONE = "failure-domain.beta.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone"

_NEAREST = {
    "preferclose": (NETWORK, REGION, ZONE),
    "prefersamezone": (NETWORK, REGION, ZONE),
    "prefersamenode": (NETWORK, REGION, ZONE, SUBZONE, HOSTNAME),
}
"""Where clients prefer a Service, by its `trafficDistribution`."""

LABEL = "istio-locality"
"""A pod's own word on where it runs, which goes before its node's."""


def of_labels(labels: Mapping[str, str]) -> str:
    """The locality that a workload's own labels tell; their values cannot have slashes, so dots stand for them."""
    value = labels.get(LABEL)
    return "" if not value else value if "/" in value else value.replace(".", "/")


def located(labels: Mapping[str, str]) -> bool:
    """Whether a node's labels say where it is."""
    return any(key in labels for key in (REGION, ZONE, SUBZONE, OLD_REGION, OLD_ZONE))


def of_pod(pod: Pod, nodes: Mapping[str, Mapping[str, str]], *, legacy: bool) -> str:
    """The locality of a pod.

    Args:
        pod: The pod.
        nodes: The labels of each node that has any about where it is.
        legacy: Whether Istio 1.2 reads them.
    """
    if own := of_labels(pod["metadata"].get("labels") or {}):
        return own
    # Where no node says anything, as in most sandboxes, there is nothing to look up.
    labels = nodes and nodes.get((pod.get("spec") or {}).get("nodeName") or "")
    if not labels:
        return ""
    if legacy:
        parts = [labels.get(OLD_REGION, ""), labels.get(OLD_ZONE, "")]
    else:
        region, zone = (labels.get(new) or labels.get(old, "") for new, old in ((REGION, OLD_REGION), (ZONE, OLD_ZONE)))
        parts = [region, zone, labels.get(SUBZONE, "")]
    return "/".join(parts).rstrip("/") if any(parts) else ""


def labels_at(labels: Mapping[str, str], locality: str, node: str = "", network: str = "") -> dict[str, str]:
    """The labels by which `failoverPriority` compares a workload: its own, and those of where it runs."""
    region, zone, subzone = _parts(locality)
    where = {REGION: region, ZONE: zone, SUBZONE: subzone, HOSTNAME: node, NETWORK: network, CLUSTER: "Kubernetes"}
    return {**labels, **{key: value for key, value in where.items() if value}}


def priority_labels(setting: LocalityLoadBalancerSetting | None) -> set[str]:
    """The labels of the client that a setting's `failoverPriority` asks for."""
    return {one for one in (setting or {}).get("failoverPriority") or [] if "=" not in one}


class Place(Struct, frozen=True):
    """Where a client is, as far as anything asks.

    Args:
        locality: Its locality.
        labels: Those of its labels that a `failoverPriority` names, with their values.
    """

    locality: str = ""
    labels: tuple[tuple[str, str], ...] = ()


class Group(Struct, frozen=True):
    """Endpoints of one locality that a client treats alike.

    Args:
        locality: Theirs.
        endpoints: They.
        priority: 0 for those that are used as long as they are healthy.
        weight: Their share of the requests among those of the same priority; 0 where only endpoints have weights.
    """

    locality: str
    endpoints: tuple[Endpoint, ...]
    priority: int = 0
    weight: int = 0


def grouped(
    endpoints: Iterable[Endpoint],
    place: Place,
    setting: LocalityLoadBalancerSetting | None,
    *,
    failover: bool,
    by_labels: bool = True,
) -> list[Group]:
    """The endpoints of a cluster in groups, as `localityLbSetting` has it.

    Args:
        endpoints: All of them.
        place: Where the client is.
        setting: What holds for the cluster; None where it is off.
        failover: Whether unhealthy endpoints are noticed, without which nothing would ever fail over.
        by_labels: Whether their labels are looked at.
    """
    by_locality: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        by_locality.setdefault(endpoint.locality, []).append(endpoint)
    found = [Group(locality, tuple(by_locality[locality])) for locality in sorted(by_locality)]
    if setting is None:
        return found
    if setting.get("distribute"):
        return _distributed(found, place, setting["distribute"])
    if not failover:
        return found
    priorities, regions = setting.get("failoverPriority") or [], setting.get("failover") or []
    if priorities and by_labels:
        found = [part for group in found for part in _by_labels(group, place, priorities)]
    if regions or not priorities:
        found = [replace(one, priority=5 * one.priority + _distance(place, one, regions)) for one in found]
    # Envoy's priorities have no gaps.
    order = sorted({one.priority for one in found})
    return [replace(one, priority=order.index(one.priority)) for one in found]


def _parts(locality: str) -> tuple[str, str, str]:
    region, zone, subzone, *_ = [*locality.split("/"), "", ""]
    return region, zone, subzone


def _matches(locality: str, rule: str) -> bool:
    """Whether a locality lies in one of a rule: "*", "region/*", "region/zone/*"."""
    pairs = zip(_parts(locality), _parts(rule), (False, True, True), strict=True)
    return all(wanted == "*" or (optional and not wanted) or own == wanted for own, wanted, optional in pairs)


def _distributed(groups: list[Group], place: Place, rules: Sequence[Distribute]) -> list[Group]:
    rule = next((one for one in rules if _matches(place.locality, one.get("from") or "")), None)
    if rule is None:
        # All get their part, each place as large as it is.
        return [replace(group, weight=_size(group)) for group in groups]
    left, found = list(groups), []
    targets = rule.get("to") or {}
    for target in sorted(targets, key=lambda text: ("*" in text, -len(text))):
        meant = [group for group in left if _matches(group.locality, target)]
        left = [group for group in left if group not in meant]
        whole = sum(map(_size, meant))
        found += [replace(one, weight=math.ceil(_size(one) * targets[target] / whole)) for one in meant]
    # A place that is not named gets nothing.
    return sorted((one for one in found if one.weight > 0), key=lambda one: one.locality)


def _size(group: Group) -> int:
    return sum(max(endpoint.weight, 1) for endpoint in group.endpoints)


def _by_labels(group: Group, place: Place, priorities: Sequence[str]) -> list[Group]:
    own, parts = dict(place.labels), dict[int, list[Endpoint]]()
    for endpoint in group.endpoints:
        node = endpoint.workload.node if endpoint.workload else ""
        theirs = labels_at(endpoint.labels, endpoint.locality, node, endpoint.network)
        priority = 0
        for index, text in enumerate(priorities):
            key, given, value = text.partition("=")
            if (value if given else own.get(key, "")) != theirs.get(key, ""):
                priority = len(priorities) - index
                break
        parts.setdefault(priority, []).append(endpoint)
    return [replace(group, endpoints=tuple(parts[priority]), priority=priority) for priority in sorted(parts)]


def _distance(place: Place, group: Group, regions: Sequence[Failover]) -> int:
    """0 for the same subzone, 1 for the same zone, 2 for the same region, 3 for others, 4 for those not meant."""
    own, theirs = _parts(place.locality), _parts(group.locality)
    for same in (3, 2, 1):
        if own[:same] == theirs[:same]:
            return 3 - same
    rule = next((one for one in regions if (one.get("from") or "") == own[0]), None)
    return 3 if rule is None or theirs[0] == rule.get("to") else 4


def envoy_locality(locality: str) -> Json:
    """A locality in Envoy's form."""
    return {key: part for key, part in zip(("region", "zone", "sub_zone"), _parts(locality), strict=True) if part}


def nearest_places(obj: View, distribution: str = "", *, legacy: bool = False) -> tuple[str, ...]:
    """The places that clients prefer a Service or ServiceEntry in: as its annotation says, else its own field."""
    asked = annotations_of(obj).get("networking.istio.io/traffic-distribution") or distribution
    return () if legacy else _NEAREST.get(asked.lower(), ())
