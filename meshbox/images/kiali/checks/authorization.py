# SPDX-License-Identifier: Apache-2.0
"""What is wrong with AuthorizationPolicies: rules that name nobody, or ask for what no connection tells."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from labkit.ground.hosts import within
from meshbox.images.kiali.checks import tls
from meshbox.images.kiali.checks.findings import Finding, found
from meshbox.images.kiali.checks.registry import Registry

if TYPE_CHECKING:
    from labkit.ground.typed.security import AuthorizationPolicy, Rule

__all__ = ["authorization_policy"]

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"}
_GRPC = re.compile(r"((/[a-zA-Z.]+)+)(/[a-zA-Z]+)")
_BY_CERTIFICATE = ("principals", "notPrincipals", "namespaces", "notNamespaces")
_CONDITIONS = ("source.namespace", "source.principal", "connection.sni")
"""What a proxy knows of a caller by mutual TLS only."""


def authorization_policy(one: AuthorizationPolicy, registry: Registry) -> Iterator[Finding]:
    """What is wrong with an AuthorizationPolicy."""
    namespace, spec = str(one["metadata"].get("namespace")), one.get("spec") or {}
    labels = (spec.get("selector") or {}).get("matchLabels")
    yield from registry.unselected(labels, namespace, "spec/selector/matchLabels")
    rules = [rule or {} for rule in spec.get("rules") or []]
    for number, rule in enumerate(rules):
        yield from _callers(rule, number, registry)
        yield from _operations(rule, number, namespace, registry)
    if not tls.arrives(labels, namespace, registry):
        for number, rule in enumerate(rules):
            yield from found("KIA0105", *_by_certificate(rule, number))


def _sources(rule: Rule, number: int) -> Iterator[tuple[str, Any]]:
    for index, entry in enumerate(rule.get("from") or []):
        yield f"spec/rules[{number}]/from[{index}]/source", (entry or {}).get("source") or {}


def _callers(rule: Rule, number: int, registry: Registry) -> Iterator[Finding]:
    for path, source in _sources(rule, number):
        for index, name in enumerate(source.get("namespaces") or []):
            if name not in registry.namespaces:
                yield Finding("KIA0101", f"{path}/namespaces[{index}]")


def _operations(rule: Rule, number: int, namespace: str, registry: Registry) -> Iterator[Finding]:
    for index, entry in enumerate(rule.get("to") or []):
        path, operation = f"spec/rules[{number}]/to[{index}]/operation", (entry or {}).get("operation") or {}
        for place, method in enumerate(operation.get("methods") or []):
            if method.strip().upper() not in _METHODS and not _GRPC.fullmatch(method):
                yield Finding("KIA0102", f"{path}/methods[{place}]")
        for place, host in enumerate(operation.get("hosts") or []):
            if not _known(str(host), namespace, registry):
                code = registry.unmatched(str(host), namespace, "KIA0104")
                yield Finding(code, f"{path}/hosts[{place}]")


def _known(host: str, namespace: str, registry: Registry) -> bool:
    name = registry.host(host, namespace)
    if name in ("*", tls.namespace_host(namespace)) or registry.has(host, namespace):
        return True
    for one in registry.items("virtualServices"):
        place = one["metadata"]["namespace"]
        if any(within(name, registry.host(str(its), place)) for its in (one.get("spec") or {}).get("hosts") or []):
            return True
    return False


def _by_certificate(rule: Rule, number: int) -> Iterator[str]:
    """Where a rule asks for what only a certificate says."""
    for path, source in _sources(rule, number):
        yield from (f"{path}/{field}" for field in _BY_CERTIFICATE if source.get(field))
    for index, condition in enumerate(rule.get("when") or []):
        if (condition or {}).get("key") in _CONDITIONS:
            yield f"spec/rules[{number}]/when[{index}]"
