# SPDX-License-Identifier: Apache-2.0
"""What the `parentRefs` of a route come to: places at listeners, and hosts inside the mesh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from meshbox.contracts import View
from meshbox.mesh.gateway_api.attachment import Denied, attach
from meshbox.mesh.gateway_api.backends import Backends, name_of_service
from meshbox.mesh.gateway_api.listeners import Listener
from meshbox.mesh.kinds import GATEWAY_API

__all__ = ["AtListener", "InMesh", "Parent", "parents"]

_MESH_KINDS = frozenset({"HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute"})


class AtListener(Struct, frozen=True):
    """A route's place at a listener.

    Args:
        listener: The listener.
        hosts: The hostnames that the route has there.
    """

    listener: Listener
    hosts: tuple[str, ...]


class InMesh(Struct, frozen=True):
    """What a route rules of the calls inside the mesh.

    Args:
        hosts: The hosts that are called.
        port: The port that is called; 0 for any.
    """

    hosts: tuple[str, ...]
    port: int


class Parent(Struct, frozen=True):
    """What one `parentRef` comes to.

    Args:
        ref: The reference.
        mesh: Whether it names a Service or a ServiceEntry.
        bound: The places that the route has by it.
        denied: Why it has none.
    """

    ref: View
    mesh: bool
    bound: tuple[AtListener | InMesh, ...] = ()
    denied: Denied | None = None


def parents(
    route: View, listeners: Sequence[Listener], namespaces: Mapping[str, Mapping[str, str]], backends: Backends
) -> list[Parent]:
    """The parents of a route that are Istio's to answer for.

    Args:
        route: The route.
        listeners: All listeners of Gateways and ListenerSets.
        namespaces: The labels of each namespace, by its name.
        backends: Knows Services and ServiceEntries.
    """
    found = []
    for ref in (route.get("spec") or {}).get("parentRefs") or []:
        group = ref["group"] if ref.get("group") is not None else GATEWAY_API
        kind = str(ref.get("kind") or "Gateway")
        parent: Parent | None = None
        if group == GATEWAY_API and kind in ("Gateway", "ListenerSet"):
            parent = _at_listeners(route, ref, listeners, namespaces)
        elif (group, kind) in (("", "Service"), ("networking.istio.io", "ServiceEntry")):
            parent = _in_mesh(route, ref, kind, backends)
        if parent is not None:
            found.append(parent)
    return found


def _at_listeners(
    route: View, ref: View, listeners: Sequence[Listener], namespaces: Mapping[str, Mapping[str, str]]
) -> Parent | None:
    found = attach(route, ref, listeners, namespaces)
    if isinstance(found, Denied):
        # Without words there is no such parent, or it is somebody else's.
        return Parent(ref, mesh=False, denied=found) if found.message else None
    return Parent(ref, mesh=False, bound=tuple(AtListener(one, hosts) for one, hosts in found.listeners))


def _in_mesh(route: View, ref: View, kind: str, backends: Backends) -> Parent:
    name, namespace = str(ref["name"]), str(ref.get("namespace") or route["metadata"]["namespace"])
    if kind == "Service":
        hosts = [name_of_service(namespace, name)] if backends.has_service(namespace, name) else None
    else:
        hosts = backends.entry_hosts(namespace, name)
    if hosts is None:
        words = f'parent service{"" if kind == "Service" else " entry"}: "{name}" not found'
        return Parent(ref, mesh=True, denied=Denied("NoMatchingParent", words))
    if route["kind"] not in _MESH_KINDS:
        return Parent(ref, mesh=True, denied=Denied("NotAllowedByListeners", f"kind {route['kind']} is not allowed"))
    return Parent(ref, mesh=True, bound=(InMesh(tuple(host.lower() for host in hosts), int(ref.get("port") or 0)),))
