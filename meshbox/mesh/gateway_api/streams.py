# SPDX-License-Identifier: Apache-2.0
"""The rules of TCPRoutes and TLSRoutes as Istio's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from meshbox.contracts import View
from meshbox.mesh.gateway_api.backends import NOWHERE, Backends, counted
from meshbox.mesh.gateway_api.faults import Fault

if TYPE_CHECKING:
    from labkit.ground.typed import virtual_services as api

__all__ = ["stream_targets", "tcp_rules", "tls_rules"]


def stream_targets(
    route: View, backends: Backends, *, mesh: bool
) -> tuple[list[list[api.RouteDestination]], Fault | None]:
    """Where each rule of a TCPRoute or TLSRoute leads, and what cannot be had of what they name.

    Args:
        route: The route.
        backends: What it may name.
        mesh: Whether it is for callers inside the mesh.

    Raises:
        RouteFault: nothing of it can be played.
    """
    namespace, fault = str(route["metadata"]["namespace"]), None
    found: list[list[api.RouteDestination]] = []
    for rule in (route.get("spec") or {}).get("rules") or []:
        targets = counted(rule.get("backendRefs") or [])
        made: list[api.RouteDestination] = []
        for ref, weight in targets:
            target, problem = backends.destination(ref, str(route["kind"]), namespace, mesh=mesh)
            fault = problem or fault
            entry: api.RouteDestination = {"destination": target}
            if len(targets) > 1:
                entry["weight"] = weight
            made.append(entry)
        # Without a backend connections are closed.
        found.append(made or [{"destination": NOWHERE}])
    return found, fault


def tcp_rules(targets: Iterable[list[api.RouteDestination]], port: int = 0) -> list[api.TCPRoute]:
    """Rules of bytes; for connections to `port` only, where one is given."""
    if port:
        return [{"match": [{"port": port}], "route": target} for target in targets]
    return [{"route": target} for target in targets]


def tls_rules(targets: Iterable[list[api.RouteDestination]], names: list[str], port: int = 0) -> list[api.TLSRoute]:
    """Rules of TLS that is passed on, for the server names `names`; for connections to `port` only, if it is given."""
    match: api.TLSMatchAttributes = {"sniHosts": names}
    if port:
        match["port"] = port
    return [{"match": [match], "route": target} for target in targets]
