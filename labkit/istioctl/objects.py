# SPDX-License-Identifier: Apache-2.0
"""Which of Istio's objects hold for a host, as the objects themselves say it."""

from __future__ import annotations

from typing import Any

from labkit import cluster
from labkit.cluster import Obj
from labkit.ground.hosts import visible
from labkit.ground.routing import MESH, VirtualService, most_specific, read, rule_host
from labkit.istio.releases import NAMESPACE

__all__ = ["listed", "rule_for", "virtual_service_for"]


def listed(kind: str) -> list[Obj]:
    """All objects of a kind of Istio's; none where it is not served."""
    if not any(one.name == kind for one in cluster.served()):
        return []
    return cluster.get(kind, all_namespaces=True)


def rule_for(host: str, client: str, rules: list[Any]) -> Obj | None:
    """The DestinationRule that proxies of a namespace follow for a host: their own, the Service's, or the mesh's."""
    parts = host.split(".")
    for where in (client, parts[1] if len(parts) > 1 else "", NAMESPACE):
        near = [
            one
            for one in rules
            if one["metadata"]["namespace"] == where and visible((one.get("spec") or {}).get("exportTo"), where, client)
        ]
        best = most_specific((rule_host(one) for one in near), host)
        if best is not None:
            found: Obj = next(one for one in near if rule_host(one) == best)
            return found
    return None


def virtual_service_for(host: str, client: str, services: list[Any]) -> VirtualService | None:
    """The VirtualService whose rules sidecars of a namespace follow for a host."""
    known = [one for one in read(services) if MESH in one.gateways and one.visible_in(client)]
    best = most_specific((name for one in known for name in one.hosts), host)
    return next((one for one in known if best in one.hosts), None)
