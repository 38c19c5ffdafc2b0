# SPDX-License-Identifier: Apache-2.0
"""The rules of one AuthorizationPolicy as the policies of Envoy's RBAC.

What only HTTP can show is no part of a plain connection. As in Istio, an ALLOW rule that asks for it allows no such
connection, and a rule that denies is read without it, so that it denies more. The same holds for what has no meaning
for a proxy: it never opens a door.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from msgspec import Struct

from meshbox.addresses import AddressPlan
from meshbox.mesh import rbac_matchers as matchers
from meshbox.mesh.envoy import Json, cidr, extension

if TYPE_CHECKING:
    from labkit.ground.typed.security import AuthorizationPolicy, Condition, Operation, Rule, Source

__all__ = ["Reading", "policies_of_rules"]

_EXPERIMENTAL = "experimental."
_HTTP_SOURCES = ("requestPrincipals", "notRequestPrincipals")
_HTTP_OPERATIONS = ("hosts", "notHosts", "methods", "notMethods", "paths", "notPaths")
_KEYS = frozenset(
    (
        *("source.ip", "remote.ip", "source.namespace", "source.principal", "source.serviceAccount"),
        *("source.trustDomain", "request.headers", "request.auth.principal", "request.auth.audiences"),
        *("request.auth.presenter", "request.auth.claims", "destination.ip", "destination.port", "connection.sni"),
    )
)
_OF_CALL = ("destination.ip", "destination.port", "connection.sni")
_NAMING = ("request.headers", "request.auth.claims")
_LOCAL_DOMAIN = "cluster.local"
_LONGEST = 256
_LITERAL = re.compile(r"[-A-Za-z0-9._~%!$&'()+,;:@=]*")
"""What may stand beside the wildcards of a path's template; of anything else Envoy dies."""
_TEMPLATE = "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"


class Reading(Struct, frozen=True):
    """What rules are read for.

    Args:
        plan: The sandbox's addresses.
        http: Whether requests are looked at, not only connections.
        denies: Whether what a rule holds for is refused, or asked about elsewhere.
        trust_domains: The mesh's own trust domain, then those that stand for it.
        legacy: Whether Istio 1.2's rules apply.
    """

    plan: AddressPlan
    http: bool
    denies: bool
    trust_domains: tuple[str, ...] = (_LOCAL_DOMAIN,)
    legacy: bool = False


_Part = tuple[Iterable[str] | None, Iterable[str] | None, Callable[[str], Json]]
"""What is asked for, what is not, and how one value of either is said to Envoy."""


_NEVER: Json = {"permissions": [{"not_rule": {"any": True}}], "principals": [{"not_id": {"any": True}}]}
"""What a policy without rules holds for; so it is seen in a proxy, and by `istioctl experimental authz check`."""


def policies_of_rules(policies: Iterable[AuthorizationPolicy], reading: Reading, prefix: str = "") -> Json:
    """Envoy's policies by name, one a rule."""
    found: Json = {}
    for policy in policies:
        meta, rules = policy["metadata"], (policy.get("spec") or {}).get("rules") or []
        name = f"{prefix}ns[{meta['namespace']}]-policy[{meta['name']}]-rule"
        for index, rule in enumerate(rules):
            made = _Rules(reading, meta["namespace"]).rule(rule or {})
            if made is not None:
                found[f"{name}[{index}]"] = made
        if not rules:
            found[f"{name}[0]"] = _NEVER
    return found


class _Rules:
    """Reads the rules of the policies of one namespace."""

    def __init__(self, reading: Reading, namespace: str) -> None:
        self._reading = reading
        self._namespace = namespace

    def rule(self, rule: Rule) -> Json | None:
        """One rule; None where it can hold for nothing."""
        asks_more = not self._reading.http and _asks_for_http(rule)
        if (asks_more or _unreadable(rule)) and not self._reading.denies:
            return None
        principals = [self._source(entry.get("source") or {}) for entry in rule.get("from") or []]
        permissions = [self._operation(entry.get("operation") or {}) for entry in rule.get("to") or []]
        and_principals, and_permissions = self._conditions(rule.get("when") or [])
        return {
            "principals": [_both("and_ids", "ids", p, and_principals) for p in principals or [{"any": True}]],
            "permissions": [_both("and_rules", "rules", p, and_permissions) for p in permissions or [{"any": True}]],
        }

    def _source(self, source: Source) -> Json:
        parts: list[_Part] = [
            (self._domains(source.get("principals")), self._domains(source.get("notPrincipals")), matchers.principal),
            (source.get("namespaces"), source.get("notNamespaces"), matchers.namespace),
            (source.get("serviceAccounts"), source.get("notServiceAccounts"), self._account),
            (
                self._aliases(source.get("trustDomains")),
                self._aliases(source.get("notTrustDomains")),
                matchers.trust_domain,
            ),
            (source.get("ipBlocks"), source.get("notIpBlocks"), lambda block: {"direct_remote_ip": cidr(block)}),
            (source.get("remoteIpBlocks"), source.get("notRemoteIpBlocks"), lambda block: {"remote_ip": cidr(block)}),
        ]
        if self._reading.http:
            parts.append((source.get("requestPrincipals"), source.get("notRequestPrincipals"), self._request_principal))
        return _all("and_ids", "ids", _parts(parts, "or_ids", "ids", "not_id"))

    def _operation(self, operation: Operation) -> Json:
        parts: list[_Part] = [(operation.get("ports"), operation.get("notPorts"), self._port)]
        if self._reading.http:
            hosts = operation.get("hosts"), operation.get("notHosts")
            parts += [
                (*hosts, lambda host: matchers.header_match(":authority", host, ignore_case=True)),
                (
                    operation.get("methods"),
                    operation.get("notMethods"),
                    lambda one: matchers.header_match(":method", one),
                ),
                (_readable(operation.get("paths")), _readable(operation.get("notPaths")), _path),
            ]
        return _all("and_rules", "rules", _parts(parts, "or_rules", "rules", "not_rule"))

    def _conditions(self, conditions: list[Condition]) -> tuple[list[Json], list[Json]]:
        """The `when` of a rule: what asks for the caller, and what asks for the call."""
        principals: list[Json] = []
        permissions: list[Json] = []
        for condition in conditions:
            key = condition.get("key", "")
            make = self._condition(key) if self._reading.http or not key.startswith("request.") else None
            if make is None:
                continue
            values, others = condition.get("values"), condition.get("notValues")
            if key == "source.principal":
                values, others = self._domains(values), self._domains(others)
            elif key == "source.trustDomain":
                values, others = self._aliases(values), self._aliases(others)
            if key in _OF_CALL or key.startswith(_EXPERIMENTAL):
                permissions += _parts([(values, others, make)], "or_rules", "rules", "not_rule")
            else:
                principals += _parts([(values, others, make)], "or_ids", "ids", "not_id")
        return principals, permissions

    def _condition(self, key: str) -> Callable[[str], Json] | None:
        name = key.partition("[")[0]
        inner = _inner(key)
        first = inner[0] if inner else ""
        if not _known(key):
            return None
        if name.startswith(_EXPERIMENTAL):
            return lambda value: matchers.filter_metadata(name.removeprefix(_EXPERIMENTAL), first, value)
        known: dict[str, Callable[[str], Json]] = {
            "source.ip": lambda value: {"direct_remote_ip": cidr(value)},
            "remote.ip": lambda value: {"remote_ip": cidr(value)},
            "source.namespace": matchers.namespace,
            "source.principal": matchers.principal,
            "source.serviceAccount": self._account,
            "source.trustDomain": matchers.trust_domain,
            "request.headers": lambda value: matchers.header_match(first, value),
            "request.auth.principal": self._request_principal,
            "request.auth.audiences": lambda value: matchers.claim(("aud",), matchers.text_match(value), listed=True),
            "request.auth.presenter": lambda value: matchers.claim(("azp",), matchers.text_match(value), listed=True),
            "request.auth.claims": lambda value: matchers.claim(inner, matchers.text_match(value), listed=True),
            "destination.ip": lambda value: {"destination_ip": cidr(value)},
            "destination.port": self._port,
            "connection.sni": lambda value: {"requested_server_name": matchers.text_match(value)},
        }
        return known.get(name)

    def _port(self, port: str) -> Json:
        return {"destination_port": self._reading.plan.port(int(port))}

    @property
    def _request_principal(self) -> Callable[[str], Json]:
        return matchers.whole_request_principal if self._reading.legacy else matchers.request_principal

    def _account(self, value: str) -> Json:
        """A service account: of the policy's own namespace unless another is named."""
        namespace, slash, name = value.partition("/")
        if not slash:
            namespace, name = self._namespace, value
        return matchers.authenticated(
            {"safe_regex": {"regex": f"spiffe://.+/ns/{re.escape(namespace)}/(.+/|)sa/{re.escape(name)}(/.+)?"}}
        )

    def _domains(self, principals: list[str] | None) -> list[str] | None:
        """Principals, those of the mesh's own trust domain in all of its names."""
        if not principals:
            return None
        found: list[str] = []
        for principal in map(str, principals):
            domain, _, rest = principal.partition("/")
            own = domain == _LOCAL_DOMAIN or any(_alike(domain, name) for name in self._reading.trust_domains)
            if rest.count("/") == 3 and domain != "*" and own:
                # One that a star stands for is meant by what is written.
                names = self._reading.trust_domains
                found += [principal if _ends(name, domain) else f"{name}/{rest}" for name in names]
            else:
                found.append(principal)
        return list(dict.fromkeys(found))

    def _aliases(self, domains: list[str] | None) -> list[str] | None:
        """Trust domains, the mesh's own in all of its names."""
        known = self._reading.trust_domains
        found = (name for one in domains or [] for name in (known if str(one) in known else [str(one)]))
        return list(dict.fromkeys(found)) or None


def _ends(text: str, pattern: str) -> bool:
    """Whether `pattern` is a star with the end of `text`."""
    return pattern.startswith("*") and text.endswith(pattern[1:])


def _alike(one: str, other: str) -> bool:
    """Whether one of two may mean the other, with a star at its beginning or end."""
    for text, pattern in ((one, other), (other, one)):
        if text == pattern or _ends(text, pattern) or (pattern.endswith("*") and text.startswith(pattern[:-1])):
            return True
    return False


def _asks_for_http(rule: Rule) -> bool:
    sources = [entry.get("source") or {} for entry in rule.get("from") or []]
    operations = [entry.get("operation") or {} for entry in rule.get("to") or []]
    return (
        any(source.get(key) for source in sources for key in _HTTP_SOURCES)
        or any(operation.get(key) for operation in operations for key in _HTTP_OPERATIONS)
        or any(condition.get("key", "").startswith("request.") for condition in rule.get("when") or [])
    )


def _unreadable(rule: Rule) -> bool:
    """Whether something of a rule has no meaning for a proxy."""
    operations = [entry.get("operation") or {} for entry in rule.get("to") or []]
    paths = [path for one in operations for path in (*(one.get("paths") or []), *(one.get("notPaths") or []))]
    keys = [condition.get("key", "") for condition in rule.get("when") or []]
    return not all(map(_known, keys)) or not all(_sound_template(path) for path in paths)


def _known(key: str) -> bool:
    """Whether a condition's key means something, with names in its brackets: Envoy takes none that is empty."""
    name, inner = key.partition("[")[0], _inner(key)
    if name in _NAMING or name.startswith(_EXPERIMENTAL):
        return bool(inner) and all(inner) and not re.search(r"[\x00\r\n]", key)
    return name in _KEYS


def _inner(key: str) -> tuple[str, ...]:
    """What stands in the brackets of a condition's key."""
    _, bracket, rest = key.partition("[")
    return tuple(re.findall(r"\[([^\[\]]*)\]", bracket + rest))


def _sound_template(path: str) -> bool:
    """Whether a path with {*} or {**} is a template that Envoy takes: each a whole segment, {**} the last."""
    if not _is_template(path):
        return True
    parts = path.removeprefix("/").split("/")
    wide = [index for index, part in enumerate(parts) if part == "{**}"]
    after = parts[wide[0] + 1 :] if wide else []
    sound = all(part in ("{*}", "{**}") or _LITERAL.fullmatch(part) for part in parts) and all(parts[:-1])
    sound = sound and path.startswith("/") and len(path) <= _LONGEST
    return sound and not any(part in ("{*}", "{**}") for part in after)


def _is_template(path: str) -> bool:
    return "{*}" in path or "{**}" in path


def _readable(paths: list[str] | None) -> list[str] | None:
    return paths if paths and all(_sound_template(path) for path in paths) else None


def _path(value: str) -> Json:
    if not _is_template(value):
        return {"url_path": {"path": matchers.text_match(value)}}
    template = value.replace("{**}", "**").replace("{*}", "*")
    return {"uri_template": extension("uri-template", _TEMPLATE, path_template=template)}


def _both(key: str, inner: str, first: Json, more: list[Json]) -> Json:
    return {key: {inner: [first, *more]}} if more else first


def _all(key: str, inner: str, parts: list[Json]) -> Json:
    return parts[0] if len(parts) == 1 else {key: {inner: parts}} if parts else {"any": True}


def _parts(parts: list[_Part], either: str, inner: str, negated: str) -> list[Json]:
    found: list[Json] = []
    for wanted, unwanted, make in parts:
        if wanted:
            found.append({either: {inner: [make(str(value)) for value in wanted]}})
        if unwanted:
            found.append({negated: {either: {inner: [make(str(value)) for value in unwanted]}}})
    return found
