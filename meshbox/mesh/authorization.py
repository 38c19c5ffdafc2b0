# SPDX-License-Identifier: Apache-2.0
"""AuthorizationPolicies as Envoy's RBAC: for HTTP in the route table, for TCP in the filter chain."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from meshbox.addresses import AddressPlan
from meshbox.mesh.envoy import Json, cidr, extension, typed
from meshbox.mesh.kinds import AUTHORIZATION_POLICIES
from meshbox.mesh.model import Workload
from meshbox.mesh.snapshot import Snapshot

if TYPE_CHECKING:
    from labkit.ground.typed.security import AuthorizationPolicy, Condition, Operation, Rule, Source

__all__ = ["ALLOW_FILTER", "DENY_FILTER", "network_filters", "policies_of", "route_config"]


DENY_FILTER, ALLOW_FILTER = "istio.rbac.deny", "istio.rbac.allow"
"""Names of the two RBAC filters: denials are looked at first, whatever is allowed."""

_PER_ROUTE = "envoy.extensions.filters.http.rbac.v3.RBACPerRoute"
_NETWORK = "envoy.extensions.filters.network.rbac.v3.RBAC"
_JWT = "envoy.filters.http.jwt_authn"
_HTTP_KEYS = ("requestPrincipals", "notRequestPrincipals", "remoteIpBlocks", "notRemoteIpBlocks")
_HTTP_OPERATIONS = ("hosts", "notHosts", "methods", "notMethods", "paths", "notPaths")


def policies_of(snapshot: Snapshot, workload: Workload) -> list[AuthorizationPolicy]:
    """The AuthorizationPolicies that apply to `workload` and that the sandbox enforces (ALLOW and DENY)."""
    if snapshot.legacy:
        return []
    found = snapshot.selected(AUTHORIZATION_POLICIES, workload)
    return [p for p in found if ((p.get("spec") or {}).get("action") or "ALLOW") in ("ALLOW", "DENY")]


def _by_action(policies: list[AuthorizationPolicy], action: str) -> list[AuthorizationPolicy]:
    return [p for p in policies if ((p.get("spec") or {}).get("action") or "ALLOW") == action]


def route_config(snapshot: Snapshot, policies: list[AuthorizationPolicy]) -> Json:
    """The per-filter configuration of a route table; empty without policies."""
    found: Json = {}
    for action, name in (("DENY", DENY_FILTER), ("ALLOW", ALLOW_FILTER)):
        chosen = _by_action(policies, action)
        if chosen:
            rules = {"action": action, "policies": _rules(chosen, snapshot.plan, http=True)}
            found[name] = typed(_PER_ROUTE, rbac={"rules": rules})
    return found


def network_filters(snapshot: Snapshot, policies: list[AuthorizationPolicy]) -> list[Json]:
    """The filters of a TCP chain."""
    found = []
    for action in ("DENY", "ALLOW"):
        chosen = _by_action(policies, action)
        if chosen:
            rules = {"action": action, "policies": _rules(chosen, snapshot.plan, http=False)}
            found.append(extension("envoy.filters.network.rbac", _NETWORK, stat_prefix="tcp.", rules=rules))
    return found


def _rules(policies: list[AuthorizationPolicy], plan: AddressPlan, *, http: bool) -> Json:
    found: Json = {}
    for policy in policies:
        meta, spec = policy["metadata"], policy.get("spec") or {}
        deny = spec.get("action") == "DENY"
        for index, rule in enumerate(spec.get("rules") or []):
            if not http and not deny and _asks_for_http(rule):
                # What only HTTP can show never allows a plain connection.
                continue
            name = f"ns[{meta['namespace']}]-policy[{meta['name']}]-rule[{index}]"
            found[name] = _rule(rule or {}, plan, http=http)
    return found


def _asks_for_http(rule: Rule) -> bool:
    sources = [entry.get("source") or {} for entry in rule.get("from") or []]
    operations = [entry.get("operation") or {} for entry in rule.get("to") or []]
    conditions = [condition.get("key", "") for condition in rule.get("when") or []]
    return (
        any(source.get(key) for source in sources for key in _HTTP_KEYS)
        or any(operation.get(key) for operation in operations for key in _HTTP_OPERATIONS)
        or any(key.startswith(("request.", "remote.ip")) for key in conditions)
    )


def _rule(rule: Rule, plan: AddressPlan, *, http: bool) -> Json:
    principals = [_source(entry.get("source") or {}, http=http) for entry in rule.get("from") or []]
    permissions = [_operation(entry.get("operation") or {}, plan, http=http) for entry in rule.get("to") or []]
    and_principals, and_permissions = _conditions(rule.get("when") or [], plan, http=http)
    return {
        "principals": [_both("and_ids", "ids", p, and_principals) for p in principals or [{"any": True}]],
        "permissions": [_both("and_rules", "rules", p, and_permissions) for p in permissions or [{"any": True}]],
    }


def _both(key: str, inner: str, first: Json, more: list[Json]) -> Json:
    return {key: {inner: [first, *more]}} if more else first


def _all(key: str, inner: str, parts: list[Json]) -> Json:
    return parts[0] if len(parts) == 1 else {key: {inner: parts}} if parts else {"any": True}


_Part = tuple[list[str] | None, list[str] | None, Callable[[str], Json]]
"""What is asked for, what is not, and how one value of either is said to Envoy."""


def _source(source: Source, *, http: bool) -> Json:
    parts: list[_Part] = [
        (source.get("principals"), source.get("notPrincipals"), _principal),
        (source.get("namespaces"), source.get("notNamespaces"), _namespace),
        (source.get("serviceAccounts"), source.get("notServiceAccounts"), _account),
        (source.get("trustDomains"), source.get("notTrustDomains"), _trust_domain),
        (source.get("ipBlocks"), source.get("notIpBlocks"), lambda block: {"direct_remote_ip": cidr(block)}),
    ]
    if http:
        blocks = source.get("remoteIpBlocks"), source.get("notRemoteIpBlocks")
        parts += [
            (*blocks, lambda block: {"remote_ip": cidr(block)}),
            (source.get("requestPrincipals"), source.get("notRequestPrincipals"), _request_principal),
        ]
    return _all("and_ids", "ids", _parts(parts, "or_ids", "ids", "not_id"))


def _operation(operation: Operation, plan: AddressPlan, *, http: bool) -> Json:
    parts: list[_Part] = [(operation.get("ports"), operation.get("notPorts"), lambda port: _port(port, plan))]
    if http:
        hosts = operation.get("hosts"), operation.get("notHosts")
        paths = operation.get("paths"), operation.get("notPaths")
        parts += [
            (*hosts, lambda host: _header(":authority", host, ignore_case=True)),
            (operation.get("methods"), operation.get("notMethods"), lambda method: _header(":method", method)),
            (*paths, lambda path: {"url_path": {"path": _matcher(path)}}),
        ]
    return _all("and_rules", "rules", _parts(parts, "or_rules", "rules", "not_rule"))


def _parts(parts: list[_Part], either: str, inner: str, negated: str) -> list[Json]:
    found: list[Json] = []
    for wanted, unwanted, make in parts:
        if wanted:
            found.append({either: {inner: [make(str(value)) for value in wanted]}})
        if unwanted:
            found.append({negated: {either: {inner: [make(str(value)) for value in unwanted]}}})
    return found


def _port(port: str, plan: AddressPlan) -> Json:
    return {"destination_port": plan.port(int(port))}


def _matcher(value: str, *, ignore_case: bool = False) -> Json:
    """Istio's way with "*": alone it is anything there is, at an end it stands for the rest."""
    found: Json
    if value == "*":
        return {"safe_regex": {"regex": ".+"}}
    if value.startswith("*"):
        found = {"suffix": value[1:]}
    elif value.endswith("*"):
        found = {"prefix": value[:-1]}
    else:
        found = {"exact": value}
    return {**found, "ignore_case": True} if ignore_case else found


def _header(name: str, value: str, *, ignore_case: bool = False) -> Json:
    return {"header": {"name": name, "string_match": _matcher(value, ignore_case=ignore_case)}}


def _authenticated(matcher: Json) -> Json:
    return {"authenticated": {"principal_name": matcher}}


def _principal(value: str) -> Json:
    if value in ("*", "") or value.startswith("*"):
        return _authenticated(_matcher(value or "*"))
    return _authenticated(_matcher(f"spiffe://{value}"))


def _namespace(value: str) -> Json:
    pattern = re.escape(value).replace(r"\*", ".*")
    return _authenticated({"safe_regex": {"regex": f".*/ns/{pattern}/.*"}})


def _trust_domain(value: str) -> Json:
    pattern = re.escape(value).replace(r"\*", "[^/]*")
    return _authenticated({"safe_regex": {"regex": f"spiffe://{pattern}/.*"}})


def _account(value: str) -> Json:
    namespace, slash, name = value.rpartition("/")
    pattern = f".*/ns/{re.escape(namespace) if slash else '[^/]*'}/sa/{re.escape(name)}"
    return _authenticated({"safe_regex": {"regex": pattern}})


def _claim(path: tuple[str, ...], matcher: Json, *, listed: bool = False) -> Json:
    keys = [{"key": "payload"}, *({"key": part} for part in path)]
    value: Json = {"string_match": matcher}
    if listed:
        # A claim may be one text or a list of them.
        value = {"or_match": {"value_matchers": [value, {"list_match": {"one_of": value}}]}}
    return {"metadata": {"filter": _JWT, "path": keys, "value": value}}


def _request_principal(value: str) -> Json:
    if value == "*":
        return _claim(("iss",), _matcher("*"))
    # The principal is made of two claims, issuer and subject, which are looked at one by one.
    issuer, _, subject = value.rpartition("/")
    ids = [_claim(("sub",), _matcher(subject))]
    if issuer:
        ids.insert(0, _claim(("iss",), _matcher(issuer)))
    return {"and_ids": {"ids": ids}}


def _conditions(conditions: list[Condition], plan: AddressPlan, *, http: bool) -> tuple[list[Json], list[Json]]:
    """The `when` of a rule: what asks for the caller, and what asks for the call."""
    principals: list[Json] = []
    permissions: list[Json] = []
    for condition in conditions:
        key = condition.get("key", "")
        name, _, rest = key.partition("[")
        inner = tuple(re.findall(r"\[([^\[\]]*)\]", f"[{rest}" if rest else ""))
        make = _condition(name, inner, plan) if http or not name.startswith(("request.", "remote.")) else None
        if make is None:
            continue
        of_call = name in ("destination.ip", "destination.port", "connection.sni")
        target = permissions if of_call else principals
        either, part, negated = ("or_rules", "rules", "not_rule") if of_call else ("or_ids", "ids", "not_id")
        if condition.get("values"):
            target.append({either: {part: [make(str(v)) for v in condition["values"]]}})
        if condition.get("notValues"):
            target.append({negated: {either: {part: [make(str(v)) for v in condition["notValues"]]}}})
    return principals, permissions


def _condition(name: str, inner: tuple[str, ...], plan: AddressPlan) -> Callable[[str], Json] | None:
    first = inner[0] if inner else ""
    known: dict[str, Callable[[str], Json]] = {
        "source.ip": lambda value: {"direct_remote_ip": cidr(value)},
        "remote.ip": lambda value: {"remote_ip": cidr(value)},
        "source.namespace": _namespace,
        "source.principal": _principal,
        "source.serviceAccount": _account,
        "source.trustDomain": _trust_domain,
        "request.headers": lambda value: _header(first, value),
        "request.auth.principal": _request_principal,
        "request.auth.audiences": lambda value: _claim(("aud",), _matcher(value), listed=True),
        "request.auth.presenter": lambda value: _claim(("azp",), _matcher(value)),
        "request.auth.claims": lambda value: _claim(inner, _matcher(value), listed=True),
        "destination.ip": lambda value: {"destination_ip": cidr(value)},
        "destination.port": lambda value: _port(value, plan),
        "connection.sni": lambda value: {"requested_server_name": _matcher(value)},
    }
    return known.get(name)
