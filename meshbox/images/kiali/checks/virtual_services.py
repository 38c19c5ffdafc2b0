# SPDX-License-Identifier: Apache-2.0
"""What is wrong with VirtualServices: gateways, hosts, subsets that are not there, two for one host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from labkit.ground.hosts import DOMAIN, gateway_key
from labkit.ground.routing import MESH, destinations
from meshbox.images.kiali.checks.findings import Finding, found
from meshbox.images.kiali.checks.registry import Registry

if TYPE_CHECKING:
    from labkit.ground.typed.virtual_services import HTTPRouteDestination, RouteDestination, VirtualService

__all__ = ["virtual_service"]


def virtual_service(one: VirtualService, registry: Registry) -> Iterator[Finding]:
    """What is wrong with a VirtualService."""
    namespace, spec = str(one["metadata"].get("namespace")), one.get("spec") or {}
    yield from _gateways(spec.get("gateways") or [], "spec", namespace, registry)
    for number, rule in enumerate(spec.get("http") or []):
        for match in (rule or {}).get("match") or []:
            yield from _gateways((match or {}).get("gateways") or [], f"spec/http[{number}]/match", namespace, registry)
        yield from _routes(f"spec/http[{number}]", (rule or {}).get("route") or [])
    for number, tcp in enumerate(spec.get("tcp") or []):
        yield from _routes(f"spec/tcp[{number}]", (tcp or {}).get("route") or [])
    for number, tls in enumerate(spec.get("tls") or []):
        yield from _routes(f"spec/tls[{number}]", (tls or {}).get("route") or [])
    subsets = registry.subsets(namespace)
    for target in destinations(one):
        if target.mirror:
            continue
        host = registry.host(target.written, namespace)
        if not registry.has(target.written, namespace):
            yield Finding(registry.unmatched(target.written, namespace, "KIA1101"), f"{target.path}/host")
        if target.subset and (host, target.subset) not in subsets:
            yield Finding("KIA1107", target.path)
    if not any(spec.get(protocol) for protocol in ("http", "tcp", "tls")):
        yield Finding("KIA1103", "")
    yield from _rivals(one, registry)


def _gateways(names: Sequence[str], path: str, namespace: str, registry: Registry) -> Iterator[Finding]:
    for index, name in enumerate(names):
        key = gateway_key(str(name), namespace)
        if key == MESH:
            continue
        if "." in name:
            yield Finding("KIA1108", f"spec/gateways[{index}]")
        if key not in registry.gateways:
            yield Finding("KIA1102", f"{path}/gateways[{index}]")


def _routes(path: str, routes: Sequence[HTTPRouteDestination | RouteDestination]) -> Iterator[Finding]:
    """What is wrong with the targets of one rule among each other."""
    weights = [(route or {}).get("weight") for route in routes]
    if len(weights) == 1 and isinstance(weights[0], int) and 0 < weights[0] < 100:
        yield Finding("KIA1104", f"{path}/route[0]/weight")
    places: dict[str, list[int]] = {}
    for index, route in enumerate(routes):
        if (route or {}).get("weight") is None:
            continue
        subset = ((route or {}).get("destination") or {}).get("subset")
        if not subset:
            # Kiali gives up here: with one target for the whole of its host, no subset is told to be named twice.
            return
        places.setdefault(subset, []).append(index)
    for twice in places.values():
        if len(twice) > 1:
            yield from found("KIA1105", *(f"{path}/route[{index}]/subset" for index in twice))


def _rivals(one: VirtualService, registry: Registry) -> Iterator[Finding]:
    """The other VirtualServices that speak for one of its hosts at one of its gateways."""
    own = _claims(one, registry)
    meta = one["metadata"]
    for other in registry.items("virtualServices", meta.get("namespace") or ""):
        at = other["metadata"]
        same = (at["namespace"], at["name"]) == (meta.get("namespace"), meta["name"])
        if not same and any(_collide(mine, its) for mine in own for its in _claims(other, registry)):
            yield Finding("KIA1106", "spec/hosts", (("virtualservice", at["namespace"], at["name"]),))


def _claims(one: Any, registry: Registry) -> set[tuple[str, str, str]]:
    """Each gateway, as it is written ("" for none), with the namespace and the name of each host.

    Of what is no Service of the cluster the name is the whole host, and the namespace the object's.
    """
    own, spec = str(one["metadata"].get("namespace")), one.get("spec") or {}
    found = set()
    for host in spec.get("hosts") or []:
        name, place, rest = (*registry.host(str(host), own).split(".", 2), "", "")[:3]
        inside = rest == DOMAIN
        about = (place, name) if inside else (own, str(host))
        found |= {(str(gateway), *about) for gateway in spec.get("gateways") or [""]}
    return found


def _collide(one: tuple[str, str, str], other: tuple[str, str, str]) -> bool:
    """Whether two claims are the same, or one is for all of a namespace."""
    return one[:2] == other[:2] and (one[2] == other[2] or "*" in (one[2], other[2]))
