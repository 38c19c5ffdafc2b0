# SPDX-License-Identifier: Apache-2.0
"""Where the rules of routes send requests: `backendRefs` as Destinations of Istio's."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, cast

from labkit.ground.hosts import fqdn
from labkit.ground.routing import Hosts
from meshbox.contracts import View
from meshbox.mesh.gateway_api.faults import Fault, RouteFault
from meshbox.mesh.gateway_api.grants import permitted

if TYPE_CHECKING:
    from labkit.ground.typed.hosts import ServiceEntry
    from labkit.ground.typed.virtual_services import Destination
    from meshbox.typed.services import Service

__all__ = ["NOWHERE", "Backends", "counted", "name_of_service"]

_SERVICES = frozenset({("", "Service"), ("multicluster.x-k8s.io", "ServiceImport")})
"""What names a Service; in a mesh of one cluster its import is the Service itself."""

_HOSTNAME = ("networking.istio.io", "Hostname")

NOWHERE: Destination = {"host": "internal.cluster.local", "subset": "zero-weight", "port": {"number": 65535}}
"""A destination that nobody has: connections to it are closed."""


def name_of_service(namespace: str, name: str) -> str:
    """The host of a Service."""
    return fqdn(name, namespace)


def counted(refs: Iterable[View]) -> list[tuple[View, int]]:
    """The backends that get requests, each with its weight: a lone one has none that matters."""
    weighted = [(ref, 1 if ref.get("weight") is None else int(ref["weight"])) for ref in refs]
    return [(ref, weight) for ref, weight in weighted if weight > 0]


class Backends:
    """What routes may name as backends.

    Args:
        services: Kubernetes' Services.
        entries: ServiceEntries.
        grants: The ReferenceGrants.
    """

    def __init__(self, services: Collection[View], entries: Sequence[View], grants: Collection[View]) -> None:
        self._services = {(s["metadata"]["namespace"], s["metadata"]["name"]) for s in services}
        self._entries = {(e["metadata"]["namespace"], e["metadata"]["name"]): e for e in entries}
        self._hosts = Hosts(cast("Collection[Service]", services), cast("Sequence[ServiceEntry]", entries))
        self._grants = grants

    def has_service(self, namespace: str, name: str) -> bool:
        """Whether there is such a Service."""
        return (namespace, name) in self._services

    def entry_hosts(self, namespace: str, name: str) -> list[str] | None:
        """The hosts of a ServiceEntry; None where there is no such object."""
        entry = self._entries.get((namespace, name))
        return None if entry is None else [str(host) for host in (entry.get("spec") or {}).get("hosts") or []]

    def destination(self, ref: View, kind: str, namespace: str, *, mesh: bool) -> tuple[Destination, Fault | None]:
        """Where a `backendRef` leads, and what is wrong with it; an empty host leads nowhere.

        Args:
            ref: The reference.
            kind: The kind of route that has it.
            namespace: The route's namespace.
            mesh: Whether the route is for callers inside the mesh, who need no leave of another namespace.

        Raises:
            RouteFault: it has no meaning.
        """
        group, named, name = str(ref.get("group") or ""), str(ref.get("kind") or "Service"), str(ref["name"])
        where = str(ref.get("namespace") or namespace)
        if not mesh and not permitted(self._grants, kind, namespace, named, where, name):
            words = f'backendRef {name}/{where} not accessible to a {kind} in namespace "{namespace}"'
            return {"host": ""}, Fault("RefNotPermitted", f"{words} (missing a ReferenceGrant?)")
        if (group, named) in _SERVICES:
            if "." in name:
                words = "service name invalid; the name of the Service must be used, not the hostname."
                raise RouteFault("InvalidDestination", words)
            host, found = name_of_service(where, name), self.has_service(where, name)
        elif (group, named) == _HOSTNAME:
            if ref.get("namespace"):
                raise RouteFault("InvalidDestination", "namespace may not be set with Hostname type")
            host, found = name, self._hosts.has(name.lower(), namespace)
        else:
            words = f'referencing unsupported backendRef: group "{group}" kind "{named}"'
            return {"host": ""}, Fault("InvalidKind", words)
        if not ref.get("port"):
            raise RouteFault("InvalidDestination", "port is required in backendRef")
        fault = None if found else Fault("BackendNotFound", f"backend({host}) not found")
        return {"host": host, "port": {"number": int(ref["port"])}}, fault
