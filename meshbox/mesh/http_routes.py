# SPDX-License-Identifier: Apache-2.0
"""The `http` section of a VirtualService as Envoy routes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labkit.ground.routing import MESH, VirtualService, applies, shares
from meshbox.mesh import policies
from meshbox.mesh.clusters import outbound_name
from meshbox.mesh.envoy import Json, made_by, string_match, typed
from meshbox.mesh.field_values import duration, fractional_percent, percentage
from meshbox.mesh.headers import headers_fields, set_authority
from meshbox.mesh.matches import catches_all, route_match
from meshbox.mesh.model import Port, Service
from meshbox.mesh.redirects import direct_response, redirect
from meshbox.mesh.retries import retry_policy
from meshbox.mesh.scope import Scope
from meshbox.mesh.semantics import UNKNOWN_SERVICE, by_elements, of_gateway_api

if TYPE_CHECKING:
    from labkit.ground.typed import virtual_services as api

__all__ = ["Site", "default_route", "destination", "http_routes"]


@dataclass(frozen=True)
class Site:
    """Where routes are being built.

    Args:
        scope: What the proxy sees.
        port: The listener's port; 0 where there is none, for a destination that names its own.
        labels: The proxy's labels.
        gateway: "mesh", or the gateway whose server is served, "namespace/name".
        legacy: Whether Istio 1.2's rules apply.
        tls: Whether requests come over TLS.
        same_port: Whether a destination that names no port means the listener's, even where it has only another one:
            so it is for a sidecar's HTTP today, which looks for hosts among those of that port.
    """

    scope: Scope
    port: int
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    gateway: str = MESH
    legacy: bool = False
    tls: bool = False
    same_port: bool = False

    def takes(self, match: api.HTTPMatchRequest | api.TLSMatchAttributes | api.L4MatchAttributes) -> bool:
        """Whether a match of a VirtualService can hold here."""
        where = {"namespace": self.scope.namespace, "gateway": self.gateway}
        return applies(match, port=self.port, labels=self.labels, **where)


def destination(site: Site, target: api.Destination) -> tuple[str, Service | None, Port | None]:
    """The cluster of a Destination; with it the Service and port where they are known."""
    host = target["host"]
    if not host:
        return UNKNOWN_SERVICE, None, None
    service = site.scope.service(host)
    number = (target.get("port") or {}).get("number")
    if not number:
        number = service.ports[0].number if service and len(service.ports) == 1 and not site.same_port else site.port
    name = outbound_name(service.host if service else host, number, target.get("subset") or "")
    return name, service, service.port(number) if service else None


def http_routes(site: Site, virtual_service: VirtualService) -> list[Json]:
    """The routes of `virtual_service` that can apply at `site`, in order; what follows a catch-all is left out."""
    found: list[Json] = []
    for rule in virtual_service.http:
        for match in rule.get("match") or [{}]:
            if not site.takes(match):
                continue
            route = _route(site, virtual_service, rule, match)
            found.append(route)
            if catches_all(route["match"]):
                return found
    return found


def _route(site: Site, virtual_service: VirtualService, rule: api.HTTPRoute, match: api.HTTPMatchRequest) -> Json:
    matched = route_match(match, elements=by_elements(virtual_service))
    route: Json = {"match": matched}
    if name := ".".join(part for part in (rule.get("name"), match.get("name")) if part):
        route["name"] = name
    elif catches_all(matched):
        route["name"] = "default"
    if rule.get("redirect"):
        route["redirect"] = redirect(rule["redirect"], matched, port=site.port, tls=site.tls)
    elif rule.get("directResponse"):
        route["direct_response"] = direct_response(rule["directResponse"])
    else:
        route["route"] = _action(site, rule, matched)
        if of_gateway_api(virtual_service):
            # A backend that is not there is a fault of the route, not of a server.
            route["route"]["cluster_not_found_response_code"] = "INTERNAL_SERVER_ERROR"
    if match.get("statPrefix"):
        route["stat_prefix"] = match["statPrefix"]
    route |= headers_fields(rule)
    filters: Json = {}
    if rule.get("fault"):
        filters["envoy.filters.http.fault"] = _fault(rule["fault"])
    if rule.get("corsPolicy"):
        filters["envoy.filters.http.cors"] = _cors(rule["corsPolicy"])
    if filters:
        route["typed_per_filter_config"] = filters
    route["decorator"] = {"operation": _operation(route, virtual_service.name, site.port)}
    origin = made_by("virtual-service", virtual_service.namespace, virtual_service.name, legacy=site.legacy)
    route["metadata"] = {"filter_metadata": {"istio": {"config": origin}}}
    return route


def _operation(route: Json, name: str, port: int) -> str:
    match = route["match"]
    path = f"{match['prefix']}*" if "prefix" in match else match.get("path") or "/*"
    path = (match.get("safe_regex") or {}).get("regex") or path
    cluster = (route.get("route") or {}).get("cluster", "")
    if cluster.startswith("outbound|"):
        _, number, _, host = cluster.split("|")
        return f"{host}:{number}{path}"
    return f"{name}:{port}{path}"


def default_route(site: Site, service: Service, port: Port) -> Json:
    """The route to a port of a Service that no VirtualService speaks of."""
    cluster = outbound_name(service.host, port.number)
    action: Json = {"cluster": cluster, **_timeout("0s", legacy=site.legacy)}
    hashing = _hash_policy(site, service, port, "")
    if hashing:
        action["hash_policy"] = hashing
    # Only the routes of VirtualServices know today that a hash chooses.
    retries = retry_policy(None, site.scope.mesh.retries, hashing=bool(hashing) and site.legacy, legacy=site.legacy)
    if retries:
        action["retry_policy"] = retries
    return {
        "name": "default",
        "match": {"prefix": "/"},
        "decorator": {"operation": f"{service.host}:{port.number}/*"},
        "route": action,
    }


def _timeout(longest: str, *, legacy: bool) -> Json:
    """How long a request may take; that a gRPC client may say so itself, up to as long, Istio 1.2 is not known for."""
    return {"timeout": longest, **({} if legacy else {"max_grpc_timeout": longest})}


def _action(site: Site, rule: api.HTTPRoute, matched: Json) -> Json:
    action = _timeout(duration(rule["timeout"]) if rule.get("timeout") else "0s", legacy=site.legacy)
    hashing: list[Json] = []
    targets = rule.get("route") or []
    for target in targets:
        _, service, port = destination(site, target["destination"])
        if service and port and not (site.legacy and hashing):
            # A target is chosen by its weight alone; what is hashed is hashed for all of them.
            hashing += _hash_policy(site, service, port, target["destination"].get("subset") or "")
    positive = [
        (destination(site, target["destination"])[0], weight, _target_fields(target))
        for target, weight in shares(targets)
    ]
    if len(positive) == 1 and not positive[0][2]:
        action["cluster"] = positive[0][0]
    else:
        action["weighted_clusters"] = {"clusters": [{"name": n, "weight": w, **f} for n, w, f in positive]}
    if hashing:
        action["hash_policy"] = hashing
    default = site.scope.mesh.retries
    # Where there are several targets another one may do, whatever is hashed.
    chosen = bool(hashing) and (site.legacy or len(targets) == 1)
    retries = retry_policy(rule.get("retries"), default, hashing=chosen, legacy=site.legacy)
    if retries:
        action["retry_policy"] = retries
    action |= _rewrite(rule, matched)
    mirrors = _mirrors(site, rule)
    if mirrors:
        action["request_mirror_policies"] = mirrors
    return action


def _target_fields(target: api.HTTPRouteDestination) -> Json:
    """What is done to the headers of the requests that one destination gets."""
    fields, authority = headers_fields(target), set_authority(target)
    return {**fields, "host_rewrite_literal": authority} if authority else fields


def _rewrite(rule: api.HTTPRoute, matched: Json) -> Json:
    rewrite = rule.get("rewrite") or {}
    fields: Json = {}
    if regex := rewrite.get("uriRegexRewrite"):
        fields["regex_rewrite"] = {"pattern": {"regex": regex["match"]}, "substitution": regex.get("rewrite") or ""}
    elif rewrite.get("uri"):
        if "safe_regex" in matched:
            # A pattern has no prefix to cut off: the whole path is replaced, the query kept.
            fields["regex_rewrite"] = {
                "pattern": {"regex": "^[^?]*"},
                "substitution": re.sub(r"\\", r"\\\\", rewrite["uri"]),
            }
        else:
            fields |= _prefix_replaced(rewrite["uri"], matched)
    authority = set_authority(rule) or rewrite.get("authority")
    if authority:
        fields["host_rewrite_literal"] = authority
    return fields


def _prefix_replaced(prefix: str, matched: Json) -> Json:
    """The fields by which the part of the path that was matched is replaced."""
    elements = matched.get("path_separated_prefix")
    if elements and not prefix.strip("/"):
        # What is left begins with a slash of its own, or is nothing at all.
        pattern = f"^{re.escape(elements)}(/?)(.*)"
        return {"regex_rewrite": {"pattern": {"regex": pattern}, "substitution": r"/\2"}}
    return {"prefix_rewrite": prefix}


def _mirrors(site: Site, rule: api.HTTPRoute) -> list[Json]:
    mirrors: list[api.HTTPMirrorPolicy] = list(rule.get("mirrors") or [])
    if rule.get("mirror"):
        percent = percentage(rule.get("mirrorPercentage"), rule.get("mirrorPercent", rule.get("mirror_percent")))
        mirrors.append({"destination": rule["mirror"], "percentage": {"value": percent}})
    found = []
    for mirror in mirrors:
        percent = percentage(mirror.get("percentage"))
        if percent > 0:
            name, _, _ = destination(site, mirror["destination"])
            copies: Json = {"cluster": name, "runtime_fraction": {"default_value": fractional_percent(percent)}}
            if not site.legacy:
                # Until 1.27 the copies' host ended in "-shadow".
                copies |= {"trace_sampled": False, "disable_shadow_host_suffix_append": True}
            found.append(copies)
    return found


def _fault(fault: api.HTTPFaultInjection) -> Json:
    fields: Json = {}
    if delay := fault.get("delay"):
        how_often = percentage(delay.get("percentage"), delay.get("percent"), 0.0)
        fields["delay"] = {
            "fixed_delay": duration(delay.get("fixedDelay") or "0s"),
            "percentage": fractional_percent(how_often),
        }
    if abort := fault.get("abort"):
        how_often = percentage(abort.get("percentage"), abort.get("percent"), 0.0)
        fields["abort"] = {"percentage": fractional_percent(how_often)}
        if abort.get("grpcStatus"):
            fields["abort"]["grpc_status"] = _GRPC[abort["grpcStatus"]]
        else:
            fields["abort"]["http_status"] = abort.get("httpStatus") or 503
    return typed("envoy.extensions.filters.http.fault.v3.HTTPFault", **fields)


_GRPC_NAMES = """
    OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED
    RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS
    UNAUTHENTICATED
"""
_GRPC = {name: number for number, name in enumerate(_GRPC_NAMES.split())}


def _cors(cors: api.CorsPolicy) -> Json:
    origins = [string_match(origin) for origin in cors.get("allowOrigins") or []]
    origins += [{"safe_regex": {"regex": ".*"}} if o == "*" else {"exact": o} for o in cors.get("allowOrigin") or []]
    fields: Json = {
        "allow_origin_string_match": origins,
        "filter_enabled": {"default_value": {"numerator": 100}},
    }
    for name, values in (
        ("allow_methods", cors.get("allowMethods")),
        ("allow_headers", cors.get("allowHeaders")),
        ("expose_headers", cors.get("exposeHeaders")),
    ):
        if values:
            fields[name] = ",".join(values)
    if cors.get("maxAge"):
        fields["max_age"] = duration(cors["maxAge"])[:-1]
    if "allowCredentials" in cors:
        fields["allow_credentials"] = bool(cors["allowCredentials"])
    if cors.get("unmatchedPreflights") == "IGNORE":
        fields["forward_not_matching_preflights"] = False
    return typed("envoy.extensions.filters.http.cors.v3.CorsPolicy", **fields)


def _hash_policy(site: Site, service: Service, port: Port, subset: str) -> list[Json]:
    rule = site.scope.destination_rule(service)
    ring = policies.hash_of(rule, subset, port)
    if site.legacy:
        ring = policies.consistent_hash(policies.merged_policy(rule, subset, port, legacy=True))
    if ring.get("httpHeaderName"):
        return [{"header": {"header_name": ring["httpHeaderName"]}}]
    if cookie := ring.get("httpCookie"):
        fields: Json = {"name": cookie["name"]}
        if cookie.get("ttl"):
            fields["ttl"] = duration(cookie["ttl"])
        if cookie.get("path"):
            fields["path"] = cookie["path"]
        if cookie.get("attributes"):
            fields["attributes"] = [
                {"name": one.get("name") or "", "value": one.get("value") or ""} for one in cookie["attributes"]
            ]
        return [{"cookie": fields}]
    if ring.get("useSourceIp"):
        return [{"connection_properties": {"source_ip": True}}]
    if ring.get("httpQueryParameterName"):
        return [{"query_parameter": {"name": ring["httpQueryParameterName"]}}]
    return []
