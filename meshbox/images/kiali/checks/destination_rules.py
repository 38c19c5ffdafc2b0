# SPDX-License-Identifier: Apache-2.0
"""What is wrong with DestinationRules: hosts and labels that are not there, rivals, TLS that is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from labkit.ground.hosts import DOMAIN
from meshbox.images.kiali.checks import tls
from meshbox.images.kiali.checks.findings import Finding, Reference
from meshbox.images.kiali.checks.registry import Registry
from meshbox.images.kiali.mesh import SYSTEM, selects

if TYPE_CHECKING:
    from labkit.ground.typed.destination_rules import DestinationRule

__all__ = ["destination_rule"]

_EVERY = "~"
"""In the place of a subset: the rule is for the whole host."""

_MODE = "spec/trafficPolicy/tls/mode"


def destination_rule(one: DestinationRule, registry: Registry) -> Iterator[Finding]:
    """What is wrong with a DestinationRule."""
    yield from _subjects(one, registry)
    yield from _mutual_tls(one, registry)
    rivals = tuple(_rivals(one, registry))
    if rivals:
        yield Finding("KIA0201", "spec/host", rivals)
    overridden = tuple(_overridden(one, registry))
    if overridden:
        yield Finding("KIA0204", "spec/trafficPolicy", overridden)


def _place(one: Any) -> tuple[str, str]:
    return str(one["metadata"].get("namespace")), str(one["metadata"]["name"])


def _host(one: Any, registry: Registry) -> str:
    return registry.host(str((one.get("spec") or {}).get("host") or ""), _place(one)[0])


def _subjects(one: DestinationRule, registry: Registry) -> Iterator[Finding]:
    namespace, host, spec = _place(one)[0], _host(one, registry), one.get("spec") or {}
    if not (host.startswith("*") or registry.has(host, namespace) or host in _apps(namespace, registry)):
        yield Finding(registry.unmatched(host, namespace, "KIA0202"), "spec/host")
        return
    behind = registry.labels_behind(host)
    for index, subset in enumerate(spec.get("subsets") or []):
        labels = (subset or {}).get("labels") or {}
        if not labels:
            yield Finding("KIA0209", f"spec/subsets[{index}]")
        elif not (host.startswith("*") or any(selects(labels, found) for found in behind)):
            yield Finding("KIA0203", f"spec/subsets[{index}]")


def _apps(namespace: str, registry: Registry) -> set[str]:
    """The hosts that the apps of a namespace would have as Services."""
    return {f"{app}.{namespace}.{DOMAIN}" for app in registry.mesh.apps(namespace)}


def _subsets(one: Any) -> set[str]:
    return {str(subset.get("name")) for subset in (one.get("spec") or {}).get("subsets") or []} or {_EVERY}


def _rivals(one: DestinationRule, registry: Registry) -> Iterator[Reference]:
    """The other rules for one of its subsets, or for the whole of its host. What only sets mutual TLS is none."""
    (namespace, _), host, subsets = _place(one), _host(one, registry), _subsets(one)
    if tls.wide(one):
        return
    for other in registry.items("destinationRules", namespace):
        if _place(other) == _place(one) or tls.wide(other) or not _same(host, _host(other, registry)):
            continue
        if _EVERY in subsets | _subsets(other) or subsets & _subsets(other):
            yield ("destinationrule", *_place(other))


def _same(host: str, other: str) -> bool:
    """Whether two hosts are one, or one is "*." over the namespace of the other."""
    if host == other:
        return True
    places = host.partition(".")[2], other.partition(".")[2]
    return "*" in (host[:1], other[:1]) and places[0] == places[1]


def _overridden(one: DestinationRule, registry: Registry) -> Iterator[Reference]:
    """The rules that switch mutual TLS on for many hosts, this one among them, where it says nothing of TLS itself."""
    policy = (one.get("spec") or {}).get("trafficPolicy") or {}
    if policy.get("tls") or any(port.get("tls") for port in policy.get("portLevelSettings") or []):
        return
    place = _host(one, registry).partition(".")[2]
    for other in registry.items("destinationRules"):
        host = str((other.get("spec") or {}).get("host"))
        if _place(other) != _place(one) and tls.wide(other) and host in ("*.local", f"*.{place}"):
            yield ("destinationrule", *_place(other))


def _mutual_tls(one: DestinationRule, registry: Registry) -> Iterator[Finding]:
    namespace = _place(one)[0]
    mode, everywhere = tls.rule_mode(one, tls.namespace_host(namespace)), tls.rule_mode(one, tls.MESH_HOST)
    own = [tls.peer_mode(peer) for peer in registry.items("peerAuthentications", namespace)]
    root = [tls.peer_mode(peer) for peer in registry.items("peerAuthentications", SYSTEM)]
    taken = [found for found in own if found in ("STRICT", "PERMISSIVE", "DISABLE")]
    if mode == "DISABLE":
        if taken[:1] == ["STRICT"]:
            yield Finding("KIA0207", _MODE)
        elif not taken and "STRICT" in root:
            yield Finding("KIA0208", _MODE)
    if everywhere == "DISABLE" and "STRICT" in root:
        yield Finding("KIA0208", _MODE)
    if mode in tls.MUTUAL and not {"STRICT", "PERMISSIVE"} & {*own, *root}:
        yield Finding("KIA0206", _MODE)
    if everywhere in tls.MUTUAL and not {"STRICT", "PERMISSIVE"} & set(root):
        yield Finding("KIA0205", _MODE)
