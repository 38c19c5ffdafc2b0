"""Where Istio's objects send the requests for a host: one reading, for the mesh and for all who judge the objects.

Names are completed where they are read, as Istio does it: from here on a host is a fully qualified one, and a gateway
is "mesh" or "namespace/name".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.ground.hosts import fqdn, gateway_key, overlap, specificity, visible, within

__all__ = [
    "MESH",
    "Destination",
    "DestinationRules",
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

Json = dict[str, Any]

MESH = "mesh"
"""The gateway that stands for all sidecars."""

_SECTIONS = ("http", "tls", "tcp")


@dataclass(frozen=True)
class Destination:
    """Where a VirtualService sends requests.

    Args:
        host: Fully qualified.
        subset: Its subset; empty for the whole host.
        written: The host as the object has it.
        path: Where it stands, "spec/http[0]/route[1]/destination".
        mirror: Whether only copies go there.
    """

    host: str
    subset: str
    written: str
    path: str
    mirror: bool = False


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
    http: tuple[Json, ...] = ()
    tls: tuple[Json, ...] = ()
    tcp: tuple[Json, ...] = ()
    export: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return hash((self.namespace, self.name))

    @classmethod
    def of(cls, obj: Json) -> VirtualService:
        """Read one object; a delegate has no hosts."""
        spec, (namespace, name) = _spec(obj), _key(obj)
        rules = {s: tuple(_rule(rule or {}, namespace) for rule in spec.get(s) or []) for s in _SECTIONS}
        hosts = tuple(fqdn(str(host), namespace) for host in spec.get("hosts") or [])
        gateways = tuple(gateway_key(str(gateway), namespace) for gateway in spec.get("gateways") or [MESH])
        return cls(name, namespace, hosts, gateways, export=tuple(spec.get("exportTo") or ()), **rules)

    def visible_in(self, namespace: str) -> bool:
        """Whether proxies of `namespace` know it."""
        return visible(self.export, self.namespace, namespace)


def _key(obj: Json) -> tuple[str, str]:
    meta = obj["metadata"]
    return str(meta.get("namespace") or ""), str(meta["name"])


def _spec(obj: Json) -> Json:
    return obj.get("spec") or {}


def exported(obj: Json, namespace: str) -> bool:
    """Whether an object of Istio's is seen in `namespace`."""
    return visible(_spec(obj).get("exportTo") or (), _key(obj)[0], namespace)


def _completed(target: Json | None, namespace: str) -> Json:
    """A Destination with its whole host."""
    return {**(target or {}), "host": fqdn(str((target or {}).get("host") or ""), namespace)}


def _rule(rule: Json, namespace: str) -> Json:
    """A rule with whole names of hosts and gateways."""
    found = dict(rule)
    for key in ("route", "mirrors"):
        if rule.get(key):
            found[key] = [
                {**(t or {}), "destination": _completed((t or {}).get("destination"), namespace)} for t in rule[key]
            ]
    if rule.get("mirror"):
        found["mirror"] = _completed(rule["mirror"], namespace)
    if rule.get("match"):
        found["match"] = [_named(match or {}, namespace) for match in rule["match"]]
    return found


def _named(match: Json, namespace: str) -> Json:
    names = match.get("gateways")
    return {**match, "gateways": [gateway_key(str(name), namespace) for name in names]} if names else match


def destinations(obj: Json) -> Iterator[Destination]:
    """Every destination of one VirtualService, mirrors included, in the order of its rules."""
    namespace = _key(obj)[0]
    for section in _SECTIONS:
        for number, rule in enumerate(_spec(obj).get(section) or []):
            found = [
                ((target or {}).get("destination"), f"{key}[{index}]/destination", key == "mirrors")
                for key in ("route", "mirrors")
                for index, target in enumerate(rule.get(key) or [])
            ]
            if rule.get("mirror"):
                found.append((rule["mirror"], "mirror", True))
            for target, place, mirror in found:
                written = str((target or {}).get("host") or "")
                subset, path = str((target or {}).get("subset") or ""), f"spec/{section}[{number}]/{place}"
                yield Destination(fqdn(written, namespace), subset, written, path, mirror)


def shares(targets: list[Json]) -> list[tuple[Json, int]]:
    """The targets of a rule that get requests, each with its weight: all of them if it stands alone."""
    alone = len(targets) == 1
    weighted = [
        (target, 100 if alone and target.get("weight") is None else target.get("weight") or 0) for target in targets
    ]
    return [entry for entry in weighted if entry[1] > 0] or weighted[:1]


def applies(match: Json, *, port: int, labels: Mapping[str, str], namespace: str, gateway: str) -> bool:
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


def read(objects: Iterable[Json]) -> list[VirtualService]:
    """The VirtualServices with hosts, in the order given, with the rules of delegates in place of each `delegate`."""
    everything = [VirtualService.of(obj) for obj in objects]
    parts = {(one.namespace, one.name): one for one in everything if not one.hosts}
    return [_with_delegates(one, parts) for one in everything if one.hosts]


def _with_delegates(root: VirtualService, parts: Mapping[tuple[str, str], VirtualService]) -> VirtualService:
    if not any(rule.get("delegate") for rule in root.http):
        return root
    rules: list[Json] = []
    for rule in root.http:
        delegate = rule.get("delegate")
        if not delegate:
            rules.append(rule)
            continue
        part = parts.get((delegate.get("namespace") or root.namespace, delegate.get("name", "")))
        if part is not None and part.visible_in(root.namespace):
            rules += [merged for inner in part.http if (merged := _merged(rule, inner)) is not None]
    fields = {**vars(root), "http": tuple(rules)}
    return VirtualService(**fields)


def _merged(rule: Json, inner: Json) -> Json | None:
    """A delegate's rule under the conditions of the root's; None where the two contradict each other."""
    matches = [
        found
        for outer in rule.get("match") or [{}]
        for own in inner.get("match") or [{}]
        if (found := _match(outer, own)) is not None
    ]
    if not matches:
        return None
    kept = {key: value for key, value in rule.items() if key not in ("match", "delegate", "name")}
    merged = {**kept, **inner}
    merged["name"] = "-".join(part for part in (rule.get("name"), inner.get("name")) if part)
    merged["match"] = [m for m in matches if m]
    return {key: value for key, value in merged.items() if value not in ("", [])}


def _match(outer: Json, own: Json) -> Json | None:
    found = {**outer, **own}
    for key in outer.keys() & own.keys():
        if key in ("headers", "withoutHeaders", "queryParams", "sourceLabels"):
            found[key] = {**own[key], **outer[key]}
        elif key == "uri":
            prefix, path = outer["uri"].get("prefix"), own["uri"].get("prefix") or own["uri"].get("exact") or ""
            if prefix is None or not path.startswith(prefix):
                return None
        elif outer[key] != own[key] and key != "name":
            return None
    return found


def most_specific(patterns: Iterable[str], host: str) -> str | None:
    """Which of some hosts speaks for `host`: a name before a wildcard, the longer before the shorter."""
    matching = [pattern for pattern in patterns if within(host, pattern)]
    return max(matching, key=specificity, default=None)


def rule_host(rule: Json) -> str:
    """The host that a DestinationRule is about, fully qualified."""
    return fqdn(str(_spec(rule).get("host") or ""), _key(rule)[0])


class DestinationRules:
    """Which DestinationRule holds for a host, as proxies of one namespace are told.

    Args:
        rules: DestinationRules, oldest first.
        client: The proxies' namespace.
        root: The mesh's root namespace.
    """

    def __init__(self, rules: Iterable[Json], client: str, root: str) -> None:
        self._client, self._root = client, root
        self._own: list[tuple[str, Json]] = []
        self._exported: dict[str, list[tuple[str, Json]]] = {}
        for rule in rules:
            namespace, entry = _key(rule)[0], (rule_host(rule), _spec(rule))
            if namespace == client:
                self._own.append(entry)
            if exported(rule, client):
                self._exported.setdefault(namespace, []).append(entry)

    def spec_for(self, host: str, namespace: str) -> Json | None:
        """The spec that holds for `host` of `namespace`, merged where several objects of one namespace speak of it.

        The client's namespace is asked first, then the Service's, then the root namespace.
        """
        own = self._own if self._client != self._root else []
        for group in (own, self._exported.get(namespace, ()), self._exported.get(self._root, ())):
            best = most_specific((about for about, _ in group), host)
            if best is not None:
                return _joined([spec for about, spec in group if about == best])
        return None


def _joined(specs: list[Json]) -> Json:
    """Each subset, and the policy of the whole host, as the oldest object has it."""
    subsets: dict[str, Json] = {}
    for subset in (subset for spec in specs for subset in spec.get("subsets") or []):
        subsets.setdefault(subset["name"], subset)
    policy = next((spec["trafficPolicy"] for spec in specs if spec.get("trafficPolicy")), None)
    return {**specs[0], "trafficPolicy": policy, "subsets": list(subsets.values())}


def subsets_by_host(rules: Iterable[Json]) -> dict[tuple[str, str], int]:
    """Host and name of every subset that DestinationRules define, with how many define it."""
    found: dict[tuple[str, str], int] = {}
    for rule in rules:
        for subset in _spec(rule).get("subsets") or []:
            key = rule_host(rule), str(subset.get("name"))
            found[key] = found.get(key, 0) + 1
    return found


class Hosts:
    """Which hosts there are, and who sees them.

    Args:
        services: Kubernetes Services.
        entries: ServiceEntries.
    """

    def __init__(self, services: Iterable[Json], entries: Iterable[Json]) -> None:
        self._known: dict[str, list[tuple[str, list[str]]]] = {}
        for service in services:
            namespace, name = _key(service)
            text = (service["metadata"].get("annotations") or {}).get("networking.istio.io/exportTo") or ""
            names = [part.strip() for part in text.split(",") if part.strip()]
            self._known.setdefault(fqdn(name, namespace), []).append((namespace, names))
        for entry in entries:
            for host in _spec(entry).get("hosts") or []:
                seen = (_key(entry)[0], _spec(entry).get("exportTo") or [])
                self._known.setdefault(str(host).lower(), []).append(seen)

    def has(self, host: str, namespace: str) -> bool:
        """Whether an object of `namespace` that names `host` (whole, or a wildcard) names something it can see."""
        return self._sees(host, namespace) or any(
            overlap(host, known) and self._sees(known, namespace) for known in self._known
        )

    def _sees(self, host: str, namespace: str) -> bool:
        return any(visible(names, own, namespace) for own, names in self._known.get(host, ()))
