# SPDX-License-Identifier: Apache-2.0
"""Who may call whom: policies of both releases, as Istio's webhook looks at them."""

from __future__ import annotations

import ipaddress

from labkit.ground import reading
from meshbox.contracts import Obj
from meshbox.mesh.envoy import Json
from meshbox.mesh.istio_validation.problems import Problems, quoted

__all__ = ["authorization_policy", "peer_authentication", "policy", "request_authentication", "telemetry"]


_SOURCE = (
    "principals", "requestPrincipals", "namespaces", "ipBlocks", "remoteIpBlocks", "serviceAccounts", "trustDomains",
    "notPrincipals", "notRequestPrincipals", "notNamespaces", "notIpBlocks", "notRemoteIpBlocks", "notServiceAccounts",
    "notTrustDomains",
)  # fmt: skip
_OPERATION = ("ports", "methods", "paths", "hosts", "notPorts", "notMethods", "notPaths", "notHosts")
_KEYS = (
    "source.ip", "remote.ip", "source.namespace", "source.principal", "source.serviceAccount",
    "source.trustDomain", "request.headers",
    "request.auth.principal", "request.auth.audiences", "request.auth.presenter", "request.auth.claims",
    "destination.ip", "destination.port", "connection.sni", "experimental.envoy.filters",
)  # fmt: skip


def policy(obj: Obj, problems: Problems) -> None:
    """Look at a Policy or MeshPolicy of Istio 1.2."""
    spec: Json = obj.get("spec") or {}
    name = obj["metadata"].get("name", "")
    targets = spec.get("targets") or []
    mesh_wide = not obj["metadata"].get("namespace")
    if mesh_wide:
        problems.require(
            name == "default", f'cluster-scoped authentication policy name must be "default", found {quoted(name)}'
        )
        problems.require(not targets, "cluster-scoped authentication policy must not have targets")
    elif name == "default":
        problems.require(not targets, 'authentication policy with name "default" must not have targets')
    else:
        missing = f"authentication policy with name {quoted(name)} must have at least one target"
        problems.require(targets, missing)
    for target in targets:
        target_name = (target or {}).get("name") or ""
        problems.require(problems.label(target_name), f"target name {quoted(target_name)} must be a valid label")
        for port in (target or {}).get("ports") or []:
            if port.get("number"):
                problems.port(port["number"])


def peer_authentication(obj: Obj, problems: Problems) -> None:
    """Look at a PeerAuthentication."""
    spec: Json = obj.get("spec") or {}
    ports = spec.get("portLevelMtls")
    if not (spec.get("selector") or {}).get("matchLabels") and ports:
        problems.error("mesh/namespace peer authentication cannot have port level mTLS")
    if ports is not None and not ports:
        problems.error("port level mTLS, if defined, must have at least one element")
    for port in ports or {}:
        number = int(port) if str(port).isdigit() else 0
        problems.require(1 <= number <= 65535, "port must be in range 1..65535")
    _selector(spec, problems)


def _selector(spec: Json, problems: Problems) -> None:
    for key, value in ((spec.get("selector") or {}).get("matchLabels") or {}).items():
        problems.require(key, "empty key is not supported in selector: " + quoted(f"{key}={value}"))
        if "*" in key or "*" in str(value):
            problems.error("wildcard is not supported in selector: " + quoted(f"{key}={value}"))


def request_authentication(obj: Obj, problems: Problems) -> None:
    """Look at a RequestAuthentication."""
    spec: Json = obj.get("spec") or {}
    _selector(spec, problems)
    for rule in spec.get("jwtRules") or []:
        rule = rule or {}
        uri = rule.get("jwksUri") or rule.get("jwks_uri") or ""
        if not rule.get("issuer") and not uri:
            problems.error("issuer or jwksUri must be non-empty string")
        problems.require(all(rule.get("audiences") or []), "audience must be non-empty string")
        if uri and not uri.startswith(("http://", "https://")):
            problems.error(f"URI scheme {quoted(uri.partition(':')[0])} is not supported")
        if rule.get("jwks"):
            _jwks(rule["jwks"], problems)
        for location in rule.get("fromHeaders") or []:
            problems.require((location or {}).get("name"), "location header name must be non-empty string")
        problems.require(all(rule.get("fromParams") or []), "location query must be non-empty string")


def _jwks(text: str, problems: Problems) -> None:
    try:
        keys = reading.json_value(text)
    except reading.ReadingError as error:
        problems.error(f"jwks parse error: failed to unmarshal JWK set: {error.problem}")
        return
    if not isinstance(keys, dict) or not isinstance(keys.get("keys"), list):
        problems.error("jwks parse error: failed to unmarshal JWK set: no keys found")


def authorization_policy(obj: Obj, problems: Problems) -> None:
    """Look at an AuthorizationPolicy."""
    spec: Json = obj.get("spec") or {}
    before = len(problems.errors)
    _selector(spec, problems)
    action = spec.get("action") or "ALLOW"
    if action == "CUSTOM":
        problems.require((spec.get("provider") or {}).get("name"), "`provider.name` must not be empty")
    elif spec.get("provider"):
        problems.error("`provider` must not be set with action other than CUSTOM")
    if action == "DENY" and spec.get("rules") is None:
        problems.error("DENY action without `rules` is meaningless as it will never be triggered, "
                       "add an empty rule `{}` if you want it be triggered on every request")  # fmt: skip
    for index, rule in enumerate(spec.get("rules") or []):
        _rule(rule or {}, index, problems)
    name = f"{obj['metadata'].get('name', '')}.{obj['metadata'].get('namespace', '')}"
    problems.errors[before:] = [f"invalid policy {name}: {error}" for error in problems.errors[before:]]


def _rule(rule: Json, index: int, problems: Problems) -> None:
    for section, part, keys in (("from", "source", _SOURCE), ("to", "operation", _OPERATION)):
        if rule.get(section) is not None and not rule[section]:
            problems.error(f"`{section}` must not be empty, found at rule {index}")
        for entry in rule.get(section) or []:
            content = (entry or {}).get(part)
            if content is None:
                problems.error(f"`{section}.{part}` must not be nil, found at rule {index}")
            elif not any(content.get(key) for key in keys):
                problems.error(f"`{section}.{part}` must not be empty, found at rule {index}")
            else:
                _values(content, problems)
    for condition in rule.get("when") or []:
        key = (condition or {}).get("key") or ""
        if not key:
            problems.error("`key` must not be empty")
        elif not condition.get("values") and not condition.get("notValues"):
            problems.error(f"at least one of `values` or `notValues` must be set for key {key}")
        elif key.split("[")[0] not in _KEYS:
            problems.error(f"invalid `value` for `key` {key}: unknown attribute: {key}")


def _values(content: Json, problems: Problems) -> None:
    for key, values in content.items():
        name = key[0].upper() + key[1:]
        for value in values or []:
            if value == "":
                problems.error(f"`empty value not allowed, found in {name}")
            elif key in ("ports", "notPorts"):
                sound = str(value).isdigit() and 1 <= int(value) <= 65535
                problems.require(sound, f"invalid port {value}: must be in the range 1..65535")
            elif key.lower().endswith("ipblocks"):
                try:
                    ipaddress.ip_network(str(value), strict=False)
                except ValueError:
                    problems.error(f"invalid CIDR {value}: invalid CIDR address: {value}")


def telemetry(obj: Obj, problems: Problems) -> None:
    """Look at a Telemetry."""
    spec: Json = obj.get("spec") or {}
    _selector(spec, problems)
    for tracing in spec.get("tracing") or []:
        if len((tracing or {}).get("providers") or []) > 1:
            problems.error("multiple providers is not currently supported")
        percent = (tracing or {}).get("randomSamplingPercentage")
        if isinstance(percent, int | float) and not 0 <= percent <= 100:
            problems.error(f"invalid sampling percentage: {percent}")
