# SPDX-License-Identifier: Apache-2.0
"""Which listeners a route attaches to, and in Istio's words why not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from labkit.ground.hosts import within
from meshbox.contracts import View
from meshbox.mesh.gateway_api.listeners import Listener
from meshbox.mesh.kinds import GATEWAY_API

__all__ = ["Attached", "Denied", "attach"]

_VERSIONS = {"TCPRoute": "v1alpha2"}
"""The version of a kind as Istio names it in messages, where it is not v1."""

_SEVEREST = ("NotAllowedByListeners", "NoMatchingListenerHostname", "NoMatchingParent")
"""Where listeners refuse a route for different reasons the first of these is reported."""


class Attached(Struct, frozen=True):
    """A route's place at one parent.

    Args:
        listeners: The listeners that take it, each with the hostnames that it has there ("*" for any): of the route's
            own and the listener's the more specific of each pair.
    """

    listeners: tuple[tuple[Listener, tuple[str, ...]], ...]

    @property
    def hostnames(self) -> tuple[str, ...]:
        """All hostnames, in order."""
        return tuple(dict.fromkeys(host for _, hosts in self.listeners for host in hosts))


class Denied(Struct, frozen=True):
    """Why a route is not taken by a parent.

    Args:
        reason: Of the condition Accepted: "NoMatchingParent", "NotAllowedByListeners", "NoMatchingListenerHostname".
        message: Istio's words; "" where there is no such Gateway that Istio plays: then its status says nothing.
    """

    reason: str
    message: str


def attach(
    route: View, parent_ref: View, listeners: Iterable[Listener], namespaces: Mapping[str, Mapping[str, str]]
) -> Attached | Denied:
    """Where a route attaches by one of its `parentRefs` that names a Gateway or a ListenerSet.

    Args:
        route: HTTPRoute, GRPCRoute, TLSRoute or TCPRoute.
        parent_ref: The entry of its `spec.parentRefs`.
        listeners: All listeners there are.
        namespaces: The labels of each namespace, by its name.
    """
    kind, namespace = parent_ref.get("kind") or "Gateway", parent_ref.get("namespace") or route["metadata"]["namespace"]
    wanted = kind, namespace, parent_ref["name"]
    own = [one for one in listeners if (one.kind, one.namespace, one.name) == wanted]
    hosts = list((route.get("spec") or {}).get("hostnames") or [])
    taken: list[tuple[Listener, tuple[str, ...]]] = []
    denied: list[Denied] = []
    for one in own:
        problem = _problem(route, parent_ref, one, hosts, namespaces)
        if problem is None:
            taken.append((one, _hostnames(hosts, one, own)))
        else:
            denied.append(problem)
    if taken:
        return Attached(tuple(taken))
    for reason in _SEVEREST:
        if messages := [one.message for one in denied if one.reason == reason]:
            return Denied(reason, "; ".join(messages))
    return Denied("NoMatchingParent", "")


def _problem(
    route: View, parent_ref: View, listener: Listener, hosts: list[str], namespaces: Mapping[str, Mapping[str, str]]
) -> Denied | None:
    namespace, kind = route["metadata"]["namespace"], route["kind"]
    section, port = parent_ref.get("sectionName"), parent_ref.get("port")
    if port and int(port) != listener.port:
        return Denied("NoMatchingParent", f"port {port} not found")
    if section and section != listener.section:
        return Denied("NoMatchingParent", f'sectionName "{section}" not found')
    if not any(_common(host, listener.hostname or "*") for host in hosts or ["*"]):
        return Denied("NoMatchingListenerHostname", f'no hostnames matched parent hostname "{listener.hostname}"')
    if not listener.allows(namespace, namespaces.get(namespace) or {}):
        words = f'hostnames matched parent hostname "{listener.hostname}", but namespace "{namespace}"'
        return Denied("NotAllowedByListeners", f"{words} is not allowed by the parent")
    if kind not in listener.allowed_kinds:
        version = _VERSIONS.get(kind, "v1")
        return Denied("NotAllowedByListeners", f"kind {GATEWAY_API}/{version}/{kind} is not allowed")
    return None


def _common(host: str, offered: str) -> str:
    """What a route's and a listener's hostname have in common; "" for nothing."""
    if within(host, offered):
        return host
    return offered if within(offered, host) else ""


def _hostnames(hosts: list[str], listener: Listener, all_of_parent: Sequence[Listener]) -> tuple[str, ...]:
    """The hostnames a route has at a listener, without those that a more specific listener of the same port takes."""
    nearer = [
        other.hostname
        for other in all_of_parent
        if (other.port, other.protocol) == (listener.port, listener.protocol)
        and other.hostname
        and other.hostname != listener.hostname
        and within(other.hostname, listener.hostname or "*")
    ]
    common = (_common(host, listener.hostname or "*") for host in hosts or ["*"])
    return tuple(dict.fromkeys(h for h in common if h and not any(within(h, other) for other in nearer)))
