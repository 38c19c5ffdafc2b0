# SPDX-License-Identifier: Apache-2.0
"""What `istioctl experimental describe` says of a DestinationRule and of a VirtualService, for some pods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labkit.cluster import Obj
from labkit.ground.hosts import fqdn
from labkit.ground.labels import selects
from labkit.ground.routing import VirtualService
from labkit.istioctl.objects import listed
from labkit.istioctl.prototext import fault_text

__all__ = ["Told", "labels_of", "route_lines", "rule_lines"]


class Told:
    """What is asked of the cluster once.

    Args:
        here: The namespace that is meant where none is named.
        system: Istio's.
    """

    def __init__(self, here: str, system: str) -> None:
        self.here, self.system = here, system
        self.rules: list[Any] = listed("destinationrules.networking.istio.io")
        self.services: list[Any] = listed("virtualservices.networking.istio.io")

    def name(self, item: Obj) -> str:
        """An object's name, with its namespace where it is another one."""
        about = item["metadata"]
        return about["name"] if about["namespace"] == self.here else f"{about['name']}.{about['namespace']}"


def labels_of(item: Obj) -> dict[str, str]:
    """An object's labels."""
    return item["metadata"].get("labels") or {}


def _subsets(rule: Obj, labels: list[dict[str, str]]) -> tuple[list[str], list[str]]:
    """The names of subsets that one of the pods belongs to, and of those that none does."""
    fits: tuple[list[str], list[str]] = ([], [])
    for one in rule["spec"].get("subsets") or []:
        fits[not any(selects(one.get("labels"), have) for have in labels)].append(one["name"])
    return fits


def rule_lines(told: Told, rule: Obj, labels: list[dict[str, str]]) -> Iterator[str]:
    """What a DestinationRule says of pods with these labels."""
    spec = rule["spec"]
    yield f'DestinationRule: {told.name(rule)} for "{spec["host"]}"'
    matching, others = _subsets(rule, labels)
    if matching or others:
        if not matching:
            yield f"   WARNING POD DOES NOT MATCH ANY SUBSETS.  (Non matching subsets {','.join(others)})"
        yield f"   Matching subsets: {','.join(matching)}"
        if others:
            yield f"      (Non-matching subsets {','.join(others)})"
    policy = spec.get("trafficPolicy")
    if policy is None:
        yield "   No Traffic Policy"
        return
    if "tls" in policy:
        yield f"   Traffic Policy TLS Mode: {policy['tls'].get('mode', 'DISABLE')}"
    yield from (f"   {line}" for line in _short(policy))
    if policy.get("portLevelSettings"):
        yield "   Port Level Settings:"
        for one in policy["portLevelSettings"]:
            yield f"    {(one.get('port') or {}).get('number', 0)}:"
            if "tls" in one:
                yield f"      TLS Mode: {one['tls'].get('mode', 'DISABLE')}"
            yield from (f"      {line}" for line in _short(one))


def _short(policy: Obj) -> Iterator[str]:
    words = {
        "loadBalancer": "load balancer",
        "connectionPool": "connection pool",
        "outlierDetection": "outlier detection",
    }
    if found := [word for key, word in words.items() if key in policy]:
        yield f"Policies: {'/'.join(found)}"


def route_lines(
    told: Told, route: VirtualService, host: str, rule: Obj | None, labels: list[dict[str, str]]
) -> Iterator[str]:
    """What a VirtualService sends to the pods with these labels behind a host, and what it does not."""
    yield f"VirtualService: {told.name({'metadata': {'name': route.name, 'namespace': route.namespace}})}"
    written = next(
        one for one in told.services
        if (one["metadata"]["name"], one["metadata"]["namespace"]) == (route.name, route.namespace)
    )  # fmt: skip
    rules = [(one, True) for one in written["spec"].get("http") or []]
    rules += [(one, False) for one in written["spec"].get("tcp") or []]
    fits: tuple[list[str], list[str]] = _subsets(rule, labels) if rule else ([], [])
    facts: list[str] = []
    others: list[str] = []
    matches = 0
    for one, http in rules:
        match, said = _reaches(told, one, route.namespace, host, rule, fits, http=http)
        matches += match
        (facts if match else others).extend(said)
    yield from (f"   {line}" for line in facts)
    counts = [(len(written["spec"].get(kind) or []), kind.upper()) for kind in ("http", "tcp")]
    if not matches:
        for count, kind in counts:
            if count:
                yield f"   WARNING: No destinations match pod subsets (checked {count} {kind} routes)"
        yield from (f"      {line}" for line in others)
        return
    left = sum(len(written["spec"].get(kind) or []) for kind in ("http", "tls", "tcp")) - matches
    if left > 0:
        yield f"   {left} additional destination(s) that will not reach this pod"
        if not facts:
            yield from (f"      {line}" for line in others)
    elif not facts:
        yield from (f"   {count} {kind} route(s)" for count, kind in counts if count)


def _reaches(
    told: Told, one: Obj, namespace: str, host: str, rule: Obj | None, fits: tuple[list[str], list[str]], *, http: bool
) -> tuple[bool, list[str]]:
    """Whether a rule may lead to the pods, and what there is to say of it."""
    match, facts, notes = False, [], []
    for target in one.get("route") or []:
        about, weight = target.get("destination") or {}, target.get("weight") or 0
        subset = about.get("subset", "")
        if fqdn(about.get("host", ""), namespace) != host:
            words = (
                f'host "{about.get("host", "")}" with weight {weight}%'
                if not subset
                else f"{about['host']} with invalid config"
            )
            facts += [f"Route to {words}"] if http else []
            continue
        if subset in fits[1]:
            matches = ", ".join(map(_match, one.get("match") or [])) or "everything"
            notes.append(f"Route to non-matching subset {subset} for ({matches})")
            continue
        if subset and subset not in fits[0]:
            why = f"UNKNOWN subset {subset}; check DestinationRule {told.name(rule)}" if rule else ""
            notes.append(f"Warning: Route to {why or f'subset {subset} but NO DESTINATION RULE defining subsets!'}")
            continue
        match = True
        if http and weight:
            named = f' subset "{subset}"' if subset else ""
            facts.append(f'Route to host "{about["host"]}"{named} with weight {weight}%')
    if match:
        asked = [f"Fault injection {fault_text(one['fault'])}"] if one.get("fault") else []
        asked += [_match(each) for each in one.get("match") or []] if http else []
        facts += [", ".join(asked)] if asked else []
    return match, facts if match else [*facts, *notes]


def _match(match: Obj) -> str:
    said = "Match: "
    if match.get("uri"):
        said += _text(match["uri"]) + (" uncased" if match.get("ignoreUriCase") else "")
    if match.get("headers"):
        said += " when headers are " + "; ".join(f"{key}={_text(one)}" for key, one in match["headers"].items())
    return said.strip()


def _text(wanted: Obj | None) -> str:
    kind, text = next(iter((wanted or {}).items()), ("exact", ""))
    return {"exact": f"{text}", "prefix": f"{text}*"}.get(kind, f'{kind}:"{text}"')
