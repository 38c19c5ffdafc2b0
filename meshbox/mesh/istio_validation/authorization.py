# SPDX-License-Identifier: Apache-2.0
"""AuthorizationPolicies, as Istio's webhook looks at them."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from labkit.ground.names import is_ip
from meshbox.contracts import Obj
from meshbox.mesh.envoy import Json
from meshbox.mesh.istio_validation.attachment import attached
from meshbox.mesh.istio_validation.problems import Problems
from meshbox.mesh.istio_validation.texts import listing, quoted

__all__ = ["check"]


_SOURCE = (
    "principals", "requestPrincipals", "namespaces", "serviceAccounts", "ipBlocks", "remoteIpBlocks", "notPrincipals",
    "notRequestPrincipals", "notNamespaces", "notServiceAccounts", "notIpBlocks", "notRemoteIpBlocks",
)  # fmt: skip
_DOMAINS = ("trustDomains", "notTrustDomains")
_OPERATION = ("ports", "methods", "paths", "hosts", "notPorts", "notMethods", "notPaths", "notHosts")
_OF_PEER = tuple(key for key in (*_SOURCE, *_DOMAINS) if "equestPrincipals" not in key)
"""What a connection shows before any request."""
_PLAIN = (
    "source.namespace", "source.principal", "source.serviceAccount", "source.trustDomain", "request.auth.principal",
    "request.auth.audiences", "request.auth.presenter", "connection.sni",
)  # fmt: skip
_ADDRESSES = ("source.ip", "remote.ip", "destination.ip")
_KEYED = ("request.headers", "request.auth.claims", "experimental.envoy.filters.")
_LITERAL = re.compile(r"[A-Za-z0-9\-._~%!$&'()+,;:@=]+")
"""What a part of a path beside templates may be."""
_ALL_TCP = (
    "configured AuthorizationPolicy will deny all traffic to TCP ports under its scope due to the use of only HTTP "
    "attributes in a DENY rule; it is recommended to explicitly specify the port"
)


def check(obj: Obj, problems: Problems) -> None:
    """Look at an AuthorizationPolicy."""
    spec: Json = obj.get("spec") or {}
    attached(spec, problems)
    action, rules = spec.get("action") or "ALLOW", spec.get("rules")
    if action == "CUSTOM":
        _custom(spec, rules, problems)
    elif spec.get("provider") is not None:
        problems.error(f"`provider` must not be with non CUSTOM action, found {action}")
    if action == "DENY" and rules is None:
        problems.error(_meaningless("DENY"))
    for index, rule in enumerate(rules or []):
        _rule(rule or {}, index, problems, deny=action == "DENY")
    name = f"{obj['metadata'].get('name', '')}.{obj['metadata'].get('namespace', '')}"
    problems.errors[:] = [f"invalid policy {name}: {error}" for error in problems.errors]


def _meaningless(action: str) -> str:
    return (
        f"{action} action without `rules` is meaningless as it will never be triggered, add an empty rule `{{}}` if "
        "you want it be triggered for every request"
    )


def _custom(spec: Json, rules: list[Json] | None, problems: Problems) -> None:
    if rules is None:
        problems.error(_meaningless("CUSTOM"))
    elif not (spec.get("provider") or {}).get("name"):
        problems.error("`provider.name` must not be empty")
    unsupported = "is currently not supported with CUSTOM action"
    for rule in rules or []:
        for entry in (rule or {}).get("from") or []:
            source = (entry or {}).get("source") or {}
            for key in ("namespaces", "serviceAccounts", "trustDomains", "principals", "requestPrincipals"):
                for asked in (key, f"not{key[0].upper()}{key[1:]}"):
                    problems.require(not source.get(asked), f"From.{_go_name(asked)} {unsupported}")
        for condition in (rule or {}).get("when") or []:
            key = (condition or {}).get("key") or ""
            odd = key in ("source.namespace", "source.serviceAccount", "source.trustDomain", "source.principal")
            problems.require(not odd and not key.startswith("request.auth."), f"{key} {unsupported}")


def _go_name(field: str) -> str:
    return field[0].upper() + field[1:]


def _rule(rule: Json, index: int, problems: Problems, *, deny: bool) -> None:
    where = f"found at rule {index}"
    seen: dict[str, list[Json]] = {}
    for section, part, keys in (("from", "source", (*_SOURCE, *_DOMAINS)), ("to", "operation", _OPERATION)):
        found = seen[section] = []
        problems.require(rule.get(section) is None or rule[section], f"`{section}` must not be empty, {where}")
        for entry in rule.get(section) or []:
            content = (entry or {}).get(part)
            if content is None:
                problems.error(f"`{section}.{part}` must not be nil, {where}")
                continue
            found.append(content)
            if section == "from":
                _accounts(content, where, problems)
            empty = f"`{section}.{part}` must not be empty, {where}"
            problems.require(any(content.get(key) for key in keys), empty)
            (_source if section == "from" else _operation)(content, problems)
    for condition in rule.get("when") or []:
        _condition(condition or {}, problems)
    bytes_from = any(source.get(key) is not None for source in seen["from"] for key in _OF_PEER)
    bytes_to = any(operation.get(key) is not None for operation in seen["to"] for key in ("ports", "notPorts"))
    if deny and (not bytes_to if seen["to"] else bool(seen["from"]) and not bytes_from):
        problems.warn(_ALL_TCP)


def _accounts(source: Json, where: str, problems: Problems) -> None:
    others = ("principals", "notPrincipals", "namespaces", "notNamespaces")
    if any(source.get(key) for key in others) and (source.get("serviceAccounts") or source.get("notServiceAccounts")):
        problems.error(f"cannot set serviceAccounts with namespaces or principals, {where}")


def _source(source: Json, problems: Problems) -> None:
    for key in ("ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"):
        for odd in _addresses(source.get(key)):
            problems.error(odd, listed=True)
    for key in (*_SOURCE, *_DOMAINS):
        if key in ("serviceAccounts", "notServiceAccounts"):
            odd = next(filter(None, map(_account, source.get(key) or [])), "")
            problems.require(not odd, f"{odd} in {_go_name(key)}")
        elif key in _DOMAINS:
            odd = _domains(_go_name(key), source.get(key) or [])
            problems.require(not odd, odd)
        else:
            _filled(key, source.get(key), problems)


def _domains(field: str, values: list[str]) -> str:
    """Why they are no trust domains."""
    if not all(values):
        return f"empty value not allowed, found in {field}"
    for value in values:
        if value.count("*") > 1:
            return f"at most one wildcard is allowed, found in {field}: {quoted(value)}"
        if "*" in value and "*" not in (value[0], value[-1]):
            return f"wildcard is only allowed at the start or end, found in {field}: {quoted(value)}"
    odd = next((value for value in values if "/" in value), "")
    return f"trust domain must not contain '/', found in {field}: {quoted(odd)}" if odd else ""


def _account(value: str) -> str:
    """Why it names no service account."""
    form, parts = "expected format 'serviceAccount' or 'namespace/serviceAccount'", value.split("/")
    if not value:
        return "empty value not allowed, found"
    if "*" in value:
        return "wildcard not allowed, found"
    if len(parts) > 2:
        return f"{form}, found {quoted(value)}"
    if len(value) > 320:
        return f"value cannot exceed 320 characters, found {quoted(value)}"
    empty = next((name for name, part in zip(("namespace", "serviceAccount"), parts, strict=False) if not part), "")
    return f"{form}, found empty {empty} {quoted(value)}" if empty else ""


def _operation(operation: Json, problems: Problems) -> None:
    for key in ("ports", "notPorts"):
        for odd in _ports(operation.get(key)):
            problems.error(odd, listed=True)
    for key in _OPERATION:
        _filled(key, operation.get(key), problems)
    for key in ("paths", "notPaths"):
        odd = next(filter(None, (_path(str(path), _go_name(key)) for path in operation.get(key) or [])), "")
        problems.require(not odd, odd)


def _path(path: str, field: str) -> str:
    """Why its templates are none that Envoy has."""
    template, last, bare = "{*}" in path or "{**}" in path, False, path.strip("/")
    start = f"invalid or unsupported path {bare}, found in {field}. "
    for part in bare.split("/"):
        if part in ("{*}", "{**}"):
            if last:
                return f"{start}{{**}} is not the last operator"
            last = part == "{**}"
        elif "{" in part or "}" in part:
            return f"{start}Contains '{{' or '}}' beyond a supported path template"
        elif template and not _LITERAL.fullmatch(part):
            return f"{start}Contains segment {part} with invalid string literal"
    return ""


def _filled(key: str, values: list[Any] | None, problems: Problems) -> None:
    problems.require(all(values or []), f"empty value not allowed, found in {_go_name(key)}")


def _condition(condition: Json, problems: Problems) -> None:
    key = str(condition.get("key") or "")
    if not key:
        problems.error("`key` must not be empty")
        return
    values, unwanted = condition.get("values") or [], condition.get("notValues") or []
    if not values and not unwanted:
        problems.error(f"at least one of `values` or `notValues` must be set for key {key}")
        return
    for name, given in (("value", values), ("notValue", unwanted)):
        odd = _attribute(key, given)
        problems.require(not odd, f"invalid `{name}` for `key` {key}: {odd}")


def _attribute(key: str, values: list[Any]) -> str:
    if not all(values):
        return f"empty value not allowed, found in {key}"
    if key.startswith(_KEYED):
        inner = key.partition("[")[2]
        return "" if len(inner) > 1 and inner.endswith("]") else f"bad key ({key}): should have format a[b]"
    if key in _ADDRESSES or key == "destination.port":
        odd = _ports(values) if key == "destination.port" else _addresses(values)
        return listing(odd) if odd else ""
    if key == "destination.namespace":
        return f"attribute {key} is replaced by the metadata.namespace"
    if key.startswith("destination.labels"):
        return f"attribute {key} is replaced by the workload selector"
    if key in ("destination.name", "destination.user"):
        return f"deprecated attribute {key}: only supported in v1alpha1"
    return "" if key in _PLAIN else f"unknown attribute: {key}"


def _addresses(values: list[Any] | None) -> list[str]:
    """What is wrong with addresses and ranges of them, in Go's words."""
    found = []
    for value in map(str, values or []):
        address, slash, bits = value.rpartition("/")
        if not slash:
            found += [] if is_ip(value) else [f"bad IP address ({value})"]
            continue
        if not is_ip(address):
            said = f"ParseAddr({quoted(address)}): unable to parse IP"
        elif not bits.isdecimal() or (len(bits) > 1 and bits[0] == "0"):
            said = f"bad bits after slash: {quoted(bits)}"
        elif int(bits) > ipaddress.ip_address(address).max_prefixlen:
            said = "prefix length out of range"
        else:
            continue
        found.append(f"bad CIDR range ({value}): netip.ParsePrefix({quoted(value)}): {said}")
    return found


def _ports(values: list[Any] | None) -> list[str]:
    found = []
    for value in map(str, values or []):
        if not re.fullmatch("[0-9]+", value):
            said = f"strconv.ParseUint: parsing {quoted(value)}: invalid syntax"
        elif int(value) >= 2**32:
            said = f"strconv.ParseUint: parsing {quoted(value)}: value out of range"
        elif int(value) > 65535:
            said = "<nil>"
        else:
            continue
        found.append(f"bad port ({value}): {said}")
    return found
