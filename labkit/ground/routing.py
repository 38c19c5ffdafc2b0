# SPDX-License-Identifier: Apache-2.0
"""Where Istio's objects send the requests for a host: one reading, for the mesh and for all who judge the objects.

Names are completed where they are read, as Istio does it: from here on a host is a fully qualified one, and a gateway
is "mesh" or "namespace/name".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict, TypeVar

from labkit.ground.delegates import merged
from labkit.ground.hosts import fqdn, gateway_key, overlap, specificity, visible, within

if TYPE_CHECKING:
    from labkit.ground.typed import destination_rules as rules_api
    from labkit.ground.typed import virtual_services as api
    from labkit.ground.typed.hosts import ServiceEntry
    from labkit.ground.typed.metadata import ObjectMeta

    class Named(TypedDict, total=False):
        """What every object has."""

        metadata: ObjectMeta

    _Match = api.HTTPMatchRequest | api.TLSMatchAttributes | api.L4MatchAttributes
    _Target = api.HTTPRouteDestination | api.RouteDestination | api.HTTPMirrorPolicy

__all__ = [
    "MESH",
    "Destination",
    "Hosts",
    "VirtualService",
    "applies",
    "destinations",
    "exported",
    "most_specific",
    "read",
    "rule_host",
    "shares",
    "subsets_by_host",
]

_AnyTarget = TypeVar("_AnyTarget", "api.HTTPRouteDestination", "api.RouteDestination", "api.HTTPMirrorPolicy")
_Weighted = TypeVar("_Weighted", "api.HTTPRouteDestination", "api.RouteDestination")
_AnyMatch = TypeVar("_AnyMatch", "api.HTTPMatchRequest", "api.TLSMatchAttributes", "api.L4MatchAttributes")
_AnyRule = TypeVar("_AnyRule", "api.HTTPRoute", "api.TLSRoute", "api.TCPRoute")

MESH = "mesh"
"""The gateway that stands for all sidecars."""


@dataclass(frozen=True)
class Destination:
    """Where a VirtualService sends requests.

    Args:
        host: Fully qualified.
        subset: Its subset; empty for the whole host.
        written: The host as the object has it.
        path: Where it stands, "spec/http[0]/route[1]/destination".
        mirror: Whether only copies go there.
        port: The port's number; 0 for none.
    """

    host: str
    subset: str
    written: str
    path: str
    mirror: bool = False
    port: int = 0


@dataclass(frozen=True)
class VirtualService:
    """A VirtualService with every name in it completed and its delegates' rules in place.

    Args:
        name: Its name.
        namespace: Its namespace.
        hosts: Fully qualified, in the order written.
        gateways: "mesh" or "namespace/name"; "mesh" alone where it names none.
        http: Rules as Istio has them; so are `tls` and `tcp`.
        export: Its `exportTo`.
    """

    name: str
    namespace: str
    hosts: tuple[str, ...]
    gateways: tuple[str, ...]
    http: tuple[api.HTTPRoute, ...] = ()
    tls: tuple[api.TLSRoute, ...] = ()
    tcp: tuple[api.TCPRoute, ...] = ()
    export: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return hash((self.namespace, self.name))

    @classmethod
    def of(cls, obj: api.VirtualService) -> VirtualService:
        """Read one object; a delegate has no hosts."""
        spec, (namespace, name) = obj.get("spec") or {}, _key(obj)
        return cls(
            name,
            namespace,
            hosts=tuple(fqdn(str(host), namespace) for host in spec.get("hosts") or []),
            gateways=tuple(gateway_key(str(gateway), namespace) for gateway in spec.get("gateways") or [MESH]),
            http=tuple(_http(rule or {}, namespace) for rule in spec.get("http") or []),
            tls=tuple(_rule(rule or {}, namespace) for rule in spec.get("tls") or []),
            tcp=tuple(_rule(rule or {}, namespace) for rule in spec.get("tcp") or []),
            export=tuple(spec.get("exportTo") or ()),
        )

    def visible_in(self, namespace: str) -> bool:
        """Whether proxies of `namespace` know it."""
        return visible(self.export, self.namespace, namespace)


def _key(obj: Named) -> tuple[str, str]:
    meta = obj["metadata"]
    return str(meta.get("namespace") or ""), str(meta["name"])


def exported(obj: api.VirtualService | rules_api.DestinationRule | ServiceEntry, namespace: str) -> bool:
    """Whether an object of Istio's is seen in `namespace`."""
    return visible((obj.get("spec") or {}).get("exportTo") or (), _key(obj)[0], namespace)


def _completed(destination: api.Destination | None, namespace: str) -> api.Destination:
    """A Destination with its whole host."""
    found: api.Destination = {**destination} if destination else {}
    found["host"] = fqdn(str(found.get("host") or ""), namespace)
    return found


def _whole(target: _AnyTarget | None, namespace: str) -> _AnyTarget:
    found: _AnyTarget = {**target} if target else {}
    found["destination"] = _completed(found.get("destination"), namespace)
    return found


def _rule(rule: _AnyRule, namespace: str) -> _AnyRule:
    """A rule with whole names of hosts and gateways."""
    found = rule.copy()
    if rule.get("route"):
        found["route"] = [_whole(target, namespace) for target in rule["route"]]
    if rule.get("match"):
        found["match"] = [_named(match or {}, namespace) for match in rule["match"]]
    return found


def _http(rule: api.HTTPRoute, namespace: str) -> api.HTTPRoute:
    found = _rule(rule, namespace)
    if rule.get("mirrors"):
        found["mirrors"] = [_whole(mirror, namespace) for mirror in rule["mirrors"]]
    if rule.get("mirror"):
        found["mirror"] = _completed(rule["mirror"], namespace)
    return found


def _named(match: _AnyMatch, namespace: str) -> _AnyMatch:
    found = match.copy()
    if match.get("gateways"):
        found["gateways"] = [gateway_key(str(name), namespace) for name in match["gateways"]]
    return found


def destinations(obj: api.VirtualService) -> Iterator[Destination]:
    """Every destination of one VirtualService, mirrors included, in the order of its rules."""
    namespace, spec = _key(obj)[0], obj.get("spec") or {}

    def one(target: api.Destination | None, path: str, *, mirror: bool) -> Destination:
        written = str((target or {}).get("host") or "")
        port = int(((target or {}).get("port") or {}).get("number") or 0)
        return Destination(
            fqdn(written, namespace), str((target or {}).get("subset") or ""), written, path, mirror, port
        )

    def listed(targets: Sequence[_Target] | None, path: str, *, mirror: bool = False) -> Iterator[Destination]:
        for index, target in enumerate(targets or []):
            yield one((target or {}).get("destination"), f"{path}[{index}]/destination", mirror=mirror)

    for number, rule in enumerate(spec.get("http") or []):
        path = f"spec/http[{number}]"
        yield from listed((rule or {}).get("route"), f"{path}/route")
        yield from listed((rule or {}).get("mirrors"), f"{path}/mirrors", mirror=True)
        if (rule or {}).get("mirror"):
            yield one(rule["mirror"], f"{path}/mirror", mirror=True)
    for number, tls in enumerate(spec.get("tls") or []):
        yield from listed((tls or {}).get("route"), f"spec/tls[{number}]/route")
    for number, tcp in enumerate(spec.get("tcp") or []):
        yield from listed((tcp or {}).get("route"), f"spec/tcp[{number}]/route")


def shares(targets: list[_Weighted]) -> list[tuple[_Weighted, int]]:
    """The targets of a rule that get requests, each with its weight: all of them if it stands alone."""
    alone = len(targets) == 1
    weighted = [
        (target, 100 if alone and target.get("weight") is None else target.get("weight") or 0) for target in targets
    ]
    return [entry for entry in weighted if entry[1] > 0] or weighted[:1]


def applies(match: _Match, *, port: int, labels: Mapping[str, str], namespace: str, gateway: str) -> bool:
    """Whether `match` can hold at a proxy: its port, source and gateway are known before any request comes.

    Args:
        match: A match of `http`, `tls` or `tcp`, as `VirtualService` has it.
        port: The listener's port; 0 where any port is served (the HTTP proxy port).
        labels: The proxy's own labels.
        namespace: Its namespace.
        gateway: The gateway for which routes are built, "mesh" for sidecars.
    """
    if match.get("port") and port and match["port"] != port:
        return False
    if match.get("sourceNamespace") and match["sourceNamespace"] != namespace:
        return False
    if not (match.get("sourceLabels") or {}).items() <= labels.items():
        return False
    return not match.get("gateways") or gateway in match["gateways"]


def read(objects: Iterable[api.VirtualService], export: Collection[str] = ()) -> list[VirtualService]:
    """The VirtualServices with hosts, in the order given, with the rules of delegates in place of each `delegate`.

    Args:
        objects: VirtualServices.
        export: Who sees delegates that do not say it; empty: all.
    """
    everything = [VirtualService.of(obj) for obj in objects]
    parts = {(one.namespace, one.name): one for one in everything if not one.hosts}
    return [_with_delegates(one, parts, export) for one in everything if one.hosts]


def _with_delegates(
    root: VirtualService, parts: Mapping[tuple[str, str], VirtualService], export: Collection[str]
) -> VirtualService:
    if not any(rule.get("delegate") for rule in root.http):
        return root
    rules: list[api.HTTPRoute] = []
    for rule in root.http:
        delegate = rule.get("delegate")
        if not delegate:
            rules.append(rule)
            continue
        part = parts.get((delegate.get("namespace") or root.namespace, delegate.get("name", "")))
        if part is not None and visible(part.export or export, part.namespace, root.namespace):
            rules += [found for inner in part.http if (found := merged(rule, inner)) is not None]
    return replace(root, http=tuple(rules))


def most_specific(patterns: Iterable[str], host: str) -> str | None:
    """Which of some hosts speaks for `host`: a name before a wildcard, the longer before the shorter."""
    matching = [pattern for pattern in patterns if within(host, pattern)]
    return max(matching, key=specificity, default=None)


def rule_host(rule: rules_api.DestinationRule) -> str:
    """The host that a DestinationRule is about, fully qualified."""
    return fqdn(str((rule.get("spec") or {}).get("host") or ""), _key(rule)[0])


def subsets_by_host(rules: Iterable[rules_api.DestinationRule]) -> dict[tuple[str, str], int]:
    """Host and name of every subset that DestinationRules define, with how many define it."""
    found: dict[tuple[str, str], int] = {}
    for rule in rules:
        for subset in (rule.get("spec") or {}).get("subsets") or []:
            key = rule_host(rule), str(subset.get("name"))
            found[key] = found.get(key, 0) + 1
    return found


class Hosts:
    """Which hosts there are, and who sees them.

    Args:
        services: Kubernetes Services.
        entries: ServiceEntries.
    """

    def __init__(self, services: Iterable[Named], entries: Iterable[ServiceEntry]) -> None:
        self._known: dict[str, list[tuple[str, list[str]]]] = {}
        for service in services:
            namespace, name = _key(service)
            text = (service["metadata"].get("annotations") or {}).get("networking.istio.io/exportTo") or ""
            names = [part.strip() for part in text.split(",") if part.strip()]
            self._known.setdefault(fqdn(name, namespace), []).append((namespace, names))
        for entry in entries:
            spec = entry.get("spec") or {}
            for host in spec.get("hosts") or []:
                seen = (_key(entry)[0], spec.get("exportTo") or [])
                self._known.setdefault(str(host).lower(), []).append(seen)

    def has(self, host: str, namespace: str) -> bool:
        """Whether an object of `namespace` that names `host` (whole, or a wildcard) names something it can see."""
        return self._sees(host, namespace) or any(
            overlap(host, known) and self._sees(known, namespace) for known in self._known
        )

    def _sees(self, host: str, namespace: str) -> bool:
        return any(visible(names, own, namespace) for own, names in self._known.get(host, ()))
