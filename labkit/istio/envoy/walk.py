# SPDX-License-Identifier: Apache-2.0
"""The way of a request through one Envoy, from its own configuration: chain, table, host, route, clusters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from labkit.cluster import Obj
from labkit.istio.envoy import matching
from labkit.istio.envoy.chains import Connection, Taken, chain_for
from labkit.istio.envoy.differences import short
from labkit.istio.envoy.dump import Dump, config_of
from labkit.istio.envoy.matching import Request
from labkit.istio.envoy.states import manager_of, origin, table_of, weighted

__all__ = ["Answer", "Passage", "Step", "Target", "endpoints_of", "pass_through"]

_REDIRECTS = {
    "MOVED_PERMANENTLY": 301,
    "FOUND": 302,
    "SEE_OTHER": 303,
    "TEMPORARY_REDIRECT": 307,
    "PERMANENT_REDIRECT": 308,
}
_NOT_FOUND = {"SERVICE_UNAVAILABLE": 503, "NOT_FOUND": 404, "INTERNAL_SERVER_ERROR": 500}
_PARTS = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}


@dataclass(frozen=True)
class Step:
    """One thing that Envoy does with the request.

    Args:
        proxy: The workload whose Envoy it is, "productpage-v1".
        kind: "listener", "filter chain", "route table", "virtual host", "route", "fault", "cluster", "endpoints",
            "TLS", "access", "application", "remark" or "answer".
        name: Envoy's name for it.
        says: What it does here, in words.
        passed: What stood before it and did not take the request, and why.
        branch: The cluster that it is on the way to; "" before the ways part.
    """

    proxy: str
    kind: str
    name: str
    says: str
    passed: tuple[str, ...] = ()
    branch: str = ""


@dataclass(frozen=True)
class Answer:
    """An answer that an Envoy gives itself.

    Args:
        status: HTTP status; 0 where the connection only ends.
        flag: The response flag in that Envoy's access log; "-" for none.
        why: The reason.
    """

    status: int
    flag: str
    why: str


@dataclass(frozen=True)
class Target:
    """A cluster that requests are sent to.

    Args:
        cluster: Its name.
        share: Its share of the requests, above 0, at most 1.
        missing: The status with which Envoy answers if there is no such cluster.
    """

    cluster: str
    share: float
    missing: int = 503


@dataclass
class Passage:
    """What one Envoy does with a request.

    Args:
        steps: In order.
        targets: Where it is sent; empty where Envoy answers itself.
        answer: That answer.
        depends: What could not be evaluated.
        request: The request as it goes on.
        chain: The filter chain.
        scopes: The route, its virtual host and its table, in which filters may have settings of their own.
    """

    steps: list[Step] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    answer: Answer | None = None
    depends: list[str] = field(default_factory=list)
    request: Request = field(default_factory=Request)
    chain: Obj = field(default_factory=dict)
    scopes: tuple[Obj, ...] = ()


def pass_through(dump: Dump, proxy: str, taken: Taken, connection: Connection, request: Request) -> Passage:
    """Follow a request through an Envoy, from the listener that takes its connection to the clusters it is sent to."""
    found = Passage(request=request)
    listener = taken.listener
    found.steps.append(Step(proxy, "listener", listener.name, taken.how))
    chain, passed = chain_for(listener.body, connection)
    if chain is None:
        why = "no filter chain is for such a connection: Envoy closes it"
        found.steps.append(Step(proxy, "filter chain", "", why, passed))
        found.answer = Answer(0, "NR", why)
        return found
    found.chain = chain
    wanted = short(chain.get("filter_chain_match")) or "everything"
    chain_name = str(chain.get("name") or "") or f"for {wanted}"
    manager = manager_of(chain)
    if manager is None:
        _bytes(proxy, chain, chain_name, passed, found)
        return found
    said = f"it is for {wanted}, and reads HTTP"
    found.steps.append(Step(proxy, "filter chain", chain_name, said, passed))
    _http(dump, proxy, manager, found)
    return found


def _bytes(proxy: str, chain: Obj, name: str, passed: tuple[str, ...], found: Passage) -> None:
    for one in chain.get("filters") or []:
        if "tcp_proxy" in str(one.get("name", "")):
            found.targets = _shares(weighted(config_of(one)), {})
            said = "it passes on bytes, and does not look at requests"
            found.steps.append(Step(proxy, "filter chain", name, said, passed))
            return
    found.steps.append(Step(proxy, "filter chain", name, "it ends in no filter that is known here", passed))
    found.depends.append(f"what the filters of {name} do")


def _shares(targets: Sequence[tuple[str, int]], action: Mapping[str, Any]) -> list[Target]:
    total = sum(weight for _, weight in targets) or 1
    missing = _NOT_FOUND.get(str(action.get("cluster_not_found_response_code", "")), 503)
    return [Target(name, weight / total, missing) for name, weight in targets if weight]


def _http(dump: Dump, proxy: str, manager: Obj, found: Passage) -> None:
    name = table_of(manager)
    table: Obj | None = manager.get("route_config")
    if "rds" in manager:
        known = dump.routes.get(name)
        table = known.body if known else None
    if table is None:
        why = f"the route table {name} has not come yet"
        found.steps.append(Step(proxy, "route table", name, why))
        found.answer = Answer(404, "NR", why)
        return
    hosts = table.get("virtual_hosts") or []
    found.steps.append(Step(proxy, "route table", name, f"it knows {len(hosts)} hosts"))
    authority = found.request.authority
    ignore = bool(table.get("ignore_port_in_host_matching"))
    host, domain = matching.virtual_host(hosts, authority, ignore_port=ignore)
    if host is None:
        why = f"no virtual host has a domain for {authority!r}"
        found.steps.append(Step(proxy, "virtual host", "", why))
        found.answer = Answer(404, "NR", why)
        return
    said = f"its domain {domain} fits the Host {authority}"
    found.steps.append(Step(proxy, "virtual host", str(host.get("name", "")), said))
    if host.get("require_tls") in ("ALL", "EXTERNAL_ONLY") and found.request.scheme == "http":
        found.answer = Answer(301, "-", "this host sends plain requests to https")
        found.steps.append(Step(proxy, "answer", "require_tls", "Envoy answers 301: https is asked for"))
        return
    _route(proxy, table, host, found)


def _route(proxy: str, table: Obj, host: Obj, found: Passage) -> None:
    passed: list[str] = []
    for route in host.get("routes") or []:
        verdict = matching.route(route.get("match") or {}, found.request)
        if verdict.holds:
            _taken(proxy, table, host, route, tuple(passed), found)
            return
        said = _called(route)
        if verdict.holds is None:
            found.depends.append(f"{said} takes the request if so: {verdict.why}")
            passed.append(f"{said}: depends on {verdict.why}")
        else:
            passed.append(f"{said}: {verdict.why}")
    why = "no route takes the request"
    found.steps.append(Step(proxy, "route", "", why, tuple(passed)))
    found.answer = Answer(404, "NR", why)


def _called(route: Obj) -> str:
    name = str(route.get("name") or "")
    return f"route {name}" if name else f"route for {matching.words(route.get('match') or {})}"


def _taken(proxy: str, table: Obj, host: Obj, route: Obj, passed: tuple[str, ...], found: Passage) -> None:
    found.scopes = route, host, table
    action = route.get("route") or {}
    source = origin(route)
    words = [f"it takes {matching.words(route.get('match') or {})}"]
    words += [f"from {source}"] if source else []
    words += _settings(action)
    found.steps.append(Step(proxy, "route", str(route.get("name") or "without a name"), "; ".join(words), passed))
    if _fault(proxy, found):
        return
    if "redirect" in route:
        status = _REDIRECTS.get(str(route["redirect"].get("response_code", "MOVED_PERMANENTLY")), 301)
        _answers(proxy, "redirect", status, f"the route redirects: {short(route['redirect'])}", found)
    elif "direct_response" in route:
        status = int(route["direct_response"].get("status", 200))
        _answers(proxy, "direct_response", status, "the route says what to answer", found)
    else:
        found.targets = _shares(weighted(action), action)
        if not found.targets:
            found.depends.append(f"where the route leads: {short(action)}")
        found.request = _rewritten(found.request, route.get("match") or {}, action)


def _answers(proxy: str, name: str, status: int, why: str, found: Passage) -> None:
    found.answer = Answer(status, "-", why)
    found.steps.append(Step(proxy, "answer", name, f"Envoy answers {status} itself: {why}"))


def _settings(action: Obj) -> list[str]:
    said = []
    if (timeout := action.get("timeout")) and timeout != "0s":
        said.append(f"timeout {timeout}, then 504 with flag UT")
    if retries := action.get("retry_policy"):
        said.append(f"up to {retries.get('num_retries', 1)} retries on {retries.get('retry_on', '')}")
    for one in action.get("request_mirror_policies") or []:
        said.append(f"a copy goes to {one.get('cluster', '')}")
    return said


def _percent(fraction: Mapping[str, Any]) -> float:
    return int(fraction.get("numerator", 0)) / _PARTS[str(fraction.get("denominator", "HUNDRED"))]


def _fault(proxy: str, found: Passage) -> bool:
    """Whether a fault answers every request."""
    settings = (dict(one.get("typed_per_filter_config") or {}) for one in found.scopes)
    fault = next((one["envoy.filters.http.fault"] for one in settings if "envoy.filters.http.fault" in one), None)
    if fault is None:
        return False
    if fault.get("headers"):
        found.depends.append("whether the fault is for such a request")
        return False
    if delay := fault.get("delay"):
        share = _percent(delay.get("percentage") or {})
        said = f"{share:.0%} of the requests wait {delay.get('fixed_delay', '')}, with flag DI"
        found.steps.append(Step(proxy, "fault", "delay", said))
    abort = fault.get("abort")
    if not abort:
        return False
    share, status = _percent(abort.get("percentage") or {}), int(abort.get("http_status", 503))
    said = f"{share:.0%} of the requests are answered {status} by Envoy itself, with flag FI"
    found.steps.append(Step(proxy, "fault", "abort", said))
    if share >= 1:
        found.answer = Answer(status, "FI", "a fault is injected")
    elif share > 0:
        found.depends.append(f"chance: {said}")
    return share >= 1


def _rewritten(request: Request, match: Mapping[str, Any], action: Mapping[str, Any]) -> Request:
    path, question, query = request.path.partition("?")
    if "prefix_rewrite" in action:
        wanted = next((match[key] for key in ("prefix", "path", "path_separated_prefix") if key in match), "")
        path = action["prefix_rewrite"] + path[len(wanted) :]
    elif rewrite := action.get("regex_rewrite"):
        try:
            path = re.sub(rewrite["pattern"]["regex"], rewrite.get("substitution", ""), path)
        except re.error:
            return request
    authority = action.get("host_rewrite_literal") or request.authority
    return replace(request, path=f"{path}{question}{query}", authority=authority)


def endpoints_of(dump: Dump, proxy: str, target: Target) -> tuple[list[Step], list[Obj], Answer | None]:
    """A cluster of a route: what is said of it, the endpoints that may be chosen, or the answer where there is none."""
    name = target.cluster
    share = f", {target.share:.0%} of the requests" if target.share < 1 else ""
    cluster = dump.clusters.get(name)
    if cluster is None:
        why = f"there is no cluster {name}"
        subset = name.split("|")[2] if name.count("|") == 3 else ""
        if subset:
            why += f": no DestinationRule defines subset {subset} of this host for this proxy"
        step = Step(proxy, "cluster", name, f"{why}{share}", branch=name)
        return [step], [], Answer(target.missing, "NC", why)
    kind = cluster.body.get("type") or (cluster.body.get("cluster_type") or {}).get("name", "STATIC")
    source = origin(cluster.body)
    said = f"{kind}, {cluster.body.get('lb_policy', 'ROUND_ROBIN')}{f', from {source}' if source else ''}{share}"
    steps = [Step(proxy, "cluster", name, said, branch=name)]
    every = dump.endpoints[name].body["endpoints"]
    if kind == "ORIGINAL_DST" or "dynamic_forward_proxy" in str(kind):
        where = "the address that the application meant" if kind == "ORIGINAL_DST" else "the address of the host's name"
        steps.append(Step(proxy, "endpoints", where, "Envoy knows none beforehand", branch=name))
        return steps, [], None
    healthy = [one for one in every if not one["trouble"]]
    # Without a word it is half of them; a 0 that is said shows as nothing at all.
    threshold = (cluster.body.get("common_lb_config") or {}).get("healthy_panic_threshold")
    panic = 50 if threshold is None else threshold.get("value", 0)
    chosen = healthy or (every if panic else [])
    if not chosen:
        troubles = "; ".join(f"{one['address']} {one['trouble']}" for one in every)
        why = f"no endpoint of {name} may be chosen: {troubles}" if every else f"cluster {name} has no endpoints"
        steps.append(Step(proxy, "endpoints", "none", why, branch=name))
        return steps, [], Answer(503, "UH", why)
    first = min(one["priority"] for one in chosen)
    chosen = [one for one in chosen if one["priority"] == first]
    left_out = tuple(f"{one['address']}: {one['trouble']}" for one in every if one["trouble"])
    later = tuple(f"{one['address']}: priority {one['priority']}" for one in healthy if one["priority"] != first)
    words = f"{len(chosen)} of {len(every)} may be chosen" + (
        "" if healthy else ": all fail, so Envoy asks any of them"
    )
    shown = ", ".join(one["address"] for one in chosen[:6]) + (" …" if len(chosen) > 6 else "")
    steps.append(Step(proxy, "endpoints", shown, words, (*left_out, *later), name))
    return steps, chosen, None
