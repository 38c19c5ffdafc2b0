# SPDX-License-Identifier: Apache-2.0
"""Which listeners a route attaches to, and in Istio's words why not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from labkit.ground.hosts import overlap, specificity, within
from meshbox.contracts import View
from meshbox.mesh.gateway_api.listeners import GROUP, Listener

__all__ = ["Attached", "Denied", "attach"]


@dataclass(frozen=True)
class Attached:
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


@dataclass(frozen=True)
class Denied:
    """Why a route is not taken by a parent.

    Args:
        reason: Of the condition Accepted: "NoMatchingParent", "NotAllowedByListeners", "NoMatchingListenerHostname".
        message: Istio's words.
    """

    reason: str
    message: str


def attach(
    route: View, parent_ref: View, listeners: Iterable[Listener], namespaces: Mapping[str, Mapping[str, str]]
) -> Attached | Denied:
    """Where a route attaches by one of its `parentRefs` that names a Gateway.

    Args:
        route: HTTPRoute, GRPCRoute, TLSRoute or TCPRoute.
        parent_ref: The entry of its `spec.parentRefs`.
        listeners: All listeners there are.
        namespaces: The labels of each namespace, by its name.
    """
    meta = route["metadata"]
    namespace = parent_ref.get("namespace") or meta["namespace"]
    own = [
        one
        for one in listeners
        if one.gateway_namespace == namespace and one.gateway_name == parent_ref["name"]
    ]
    if not own:
        return Denied("NoMatchingParent", "")
    hosts = list((route.get("spec") or {}).get("hostnames") or [])
    taken = []
    denied: Denied | None = None
    for one in own:
        problem = _problem(route, parent_ref, one, hosts, namespaces)
        if problem is None:
            taken.append((one, _common(hosts, one.hostname)))
        elif denied is None:
            denied = problem
    if taken:
        return Attached(tuple(taken))
    return denied or Denied("NoMatchingParent", "")


def _problem(
    route: View,
    parent_ref: View,
    listener: Listener,
    hosts: list[str],
    namespaces: Mapping[str, Mapping[str, str]],
) -> Denied | None:
    namespace = route["metadata"]["namespace"]
    section, port = parent_ref.get("sectionName"), parent_ref.get("port")
    if section and section != listener.section:
        return Denied("NoMatchingParent", f'sectionName "{section}" not found')
    if port and int(port) != listener.port:
        return Denied("NoMatchingParent", f"port {port} not found")
    if not listener.allows(namespace, namespaces.get(namespace) or {}):
        return Denied("NotAllowedByListeners", f'namespace "{namespace}" is not allowed by the parent')
    if route["kind"] not in listener.allowed_kinds:
        return Denied("NotAllowedByListeners", f"kind {GROUP}/{route['kind']} is not allowed")
    if hosts and not _common(hosts, listener.hostname):
        return Denied("NoMatchingListenerHostname", "no hostnames matched parent hostname")
    return None


def _common(hosts: list[str], offered: str) -> tuple[str, ...]:
    pattern = offered or "*"
    found = []
    for host in hosts or ["*"]:
        if within(host, pattern):
            found.append(host)
        elif overlap(host, pattern) and specificity(pattern) > specificity(host):
            found.append(pattern)
    return tuple(dict.fromkeys(found))
