# SPDX-License-Identifier: Apache-2.0
"""The rules of HTTPRoutes and GRPCRoutes as Istio's, one for each match, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from meshbox.contracts import View
from meshbox.mesh.gateway_api.backends import Backends, counted
from meshbox.mesh.gateway_api.faults import Fault, RouteFault, joined
from meshbox.mesh.gateway_api.filters import apply_filters, header_filters
from meshbox.mesh.istio_validation.texts import regex_problem

if TYPE_CHECKING:
    from labkit.ground.typed import virtual_services as api

__all__ = ["http_rules", "in_precedence"]


def http_rules(route: View, backends: Backends, *, mesh: bool) -> tuple[list[api.HTTPRoute], Fault | None]:
    """The rules of an HTTPRoute or GRPCRoute, and what cannot be had of what they name.

    Args:
        route: The route.
        backends: What it may name.
        mesh: Whether it is for callers inside the mesh.

    Raises:
        RouteFault: nothing of it can be played.
    """
    found: list[api.HTTPRoute] = []
    fault: Fault | None = None
    for number, rule in enumerate((route.get("spec") or {}).get("rules") or []):
        made, problem = _rule(route, rule, number, backends, mesh=mesh)
        fault = problem or fault
        matches = [_match(route["kind"], one) for one in rule.get("matches") or []]
        # An empty match takes all, as none does.
        found += [{**made, "match": [match]} if match else made for match in matches or [{}]]
    return found, fault


def _rule(
    route: View, rule: View, number: int, backends: Backends, *, mesh: bool
) -> tuple[api.HTTPRoute, Fault | None]:
    """A rule without its match."""
    meta, kind = route["metadata"], str(route["kind"])
    namespace = str(meta["namespace"])
    made: api.HTTPRoute = {"name": str(rule.get("name") or f"{namespace}.{meta['name']}.{number}")}
    fault = apply_filters(made, rule.get("filters") or [], kind, namespace, backends, mesh=mesh)
    if kind == "HTTPRoute":
        _retries_and_timeouts(made, rule)
    targets = counted(rule.get("backendRefs") or [])
    if not targets and "redirect" not in made:
        made["directResponse"] = {"status": 404 if kind == "HTTPRoute" and not rule.get("backendRefs") else 500}
        return made, fault
    route_to: list[api.HTTPRouteDestination] = []
    unmet: Fault | None = None
    for ref, weight in targets:
        target, problem = backends.destination(ref, kind, namespace, mesh=mesh)
        unmet = problem or unmet
        entry: api.HTTPRouteDestination = {"destination": target}
        if len(targets) > 1:
            entry["weight"] = weight
        if headers := header_filters(ref.get("filters") or []):
            entry["headers"] = headers
        route_to.append(entry)
    if route_to:
        made["route"] = route_to
    return made, joined(unmet, fault)


def _retries_and_timeouts(made: api.HTTPRoute, rule: View) -> None:
    if (retry := rule.get("retry")) is not None:
        words = ["connect-failure", "refused-stream", "unavailable", "cancelled"]
        words += [str(int(code)) for code in retry.get("codes") or []]
        attempts = 2 if retry.get("attempts") is None else int(retry["attempts"])
        made["retries"] = {"attempts": attempts}
        if attempts:
            made["retries"]["retryOn"] = ",".join(words)
        if retry.get("backoff"):
            made["retries"]["backoff"] = str(retry["backoff"])
    timeouts = rule.get("timeouts") or {}
    if _set(timeouts.get("request")):
        made["timeout"] = str(timeouts["request"])
    if _set(timeouts.get("backendRequest")):
        if "retries" in made:
            made["retries"]["perTryTimeout"] = str(timeouts["backendRequest"])
        else:
            # Of one try only, it is the limit of all.
            made["timeout"] = str(timeouts["backendRequest"])


def _set(duration: object) -> bool:
    """Whether a duration sets a limit: "0s" is none."""
    return bool(duration) and any(digit in str(duration) for digit in "123456789")


def _match(kind: str, match: View) -> api.HTTPMatchRequest:
    found: api.HTTPMatchRequest = {}
    uri = _path(match.get("path") or {}) if kind == "HTTPRoute" else _grpc_path(match.get("method") or {})
    if uri:
        found["uri"] = uri
    if headers := _texts(match.get("headers") or []):
        found["headers"] = headers
    if kind == "HTTPRoute":
        if parameters := _texts(match.get("queryParams") or []):
            found["queryParams"] = parameters
        if match.get("method"):
            found["method"] = {"exact": str(match["method"])}
    for where, text in (("path", uri), *found.get("headers", {}).items(), *found.get("queryParams", {}).items()):
        # Envoy would refuse the table of all routes at this place for it, whoever wrote them.
        if odd := regex_problem(text["regex"], where) if "regex" in text else "":
            raise RouteFault("UnsupportedValue", odd)
    return found


def _texts(entries: Iterable[View]) -> dict[str, api.StringMatch]:
    """Conditions by name; of several entries of one name the first counts."""
    found: dict[str, api.StringMatch] = {}
    for entry in entries:
        value = str(entry["value"])
        text: api.StringMatch = {"regex": value} if entry.get("type") == "RegularExpression" else {"exact": value}
        found.setdefault(str(entry["name"]), text)
    return found


def _path(path: View) -> api.StringMatch:
    value = str(path.get("value") or "/")
    if path.get("type") == "Exact":
        return {"exact": value}
    if path.get("type") == "RegularExpression":
        return {"regex": value}
    return {"prefix": value.removesuffix("/") or "/"}


def _grpc_path(method: View) -> api.StringMatch:
    """The path of a call is /SERVICE/METHOD."""
    service, name = method.get("service"), method.get("method")
    if not service and not name:
        return {}
    if method.get("type") == "RegularExpression":
        return {"regex": f"/{service or '[^/]+'}/{name or '.+'}"}
    if not name:
        return {"prefix": f"/{service}/"}
    return {"exact": f"/{service}/{name}"} if service else {"regex": f"/[^/]+/{name}"}


def in_precedence(rules: Iterable[api.HTTPRoute]) -> list[api.HTTPRoute]:
    """Rules of one or several routes, the oldest route's first, in the order of their matches.

    An exact path goes before a prefix and that before a pattern, the longer before the shorter; then one that asks for
    a method, for more headers, for more parameters of the query.
    """
    return sorted(rules, key=_rank)


def _rank(rule: api.HTTPRoute) -> tuple[int | bool, ...]:
    match = next(iter(rule.get("match") or []), None)
    if match is None:
        return (True,)
    kind, length = _uri_rank(match.get("uri") or {})
    parameters, headers = match.get("queryParams") or {}, match.get("headers") or {}
    return False, -kind, -length, "method" not in match, -len(headers), -len(parameters)


def _uri_rank(uri: api.StringMatch) -> tuple[int, int]:
    ranks: Iterator[tuple[int, str | None]] = iter(
        ((3, uri.get("exact")), (2, uri.get("prefix")), (1, uri.get("regex")))
    )
    return next(((rank, len(text)) for rank, text in ranks if text is not None), (-1, 0))
