# SPDX-License-Identifier: Apache-2.0
"""AuthorizationPolicies with action CUSTOM: somebody else is asked, whom the mesh's settings name.

A shadow rule marks the calls that a policy is about, and the filter after it asks about those. Where nobody can be
asked, those are refused: no rule of a policy may be lost because its provider is misspelt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from meshbox.mesh import rbac_matchers as matchers
from meshbox.mesh.authorization_rules import Reading, policies_of_rules
from meshbox.mesh.envoy import Json, extension
from meshbox.mesh.field_values import ConfigError, duration, nanoseconds
from meshbox.mesh.snapshot import Snapshot

if TYPE_CHECKING:
    from labkit.ground.typed.security import AuthorizationPolicy

__all__ = ["http_filters", "network_filters", "provider_problem"]

_MARK = "istio-ext-authz-"
_PREFIX = "istio_ext_authz_"
_RBAC = "envoy.filters.http.rbac"
_RBAC_TYPE = "envoy.extensions.filters.http.rbac.v3.RBAC"
_TCP_RBAC = "envoy.filters.network.rbac"
_TCP_RBAC_TYPE = "envoy.extensions.filters.network.rbac.v3.RBAC"
_ASK = "envoy.filters.http.ext_authz"
_ASK_TYPE = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
_TCP_ASK = "envoy.filters.network.ext_authz"
_TCP_ASK_TYPE = "envoy.extensions.filters.network.ext_authz.v3.ExtAuthz"
_LONGEST = "600s"
_BAD = "-deny-due-to-bad-CUSTOM-action"
"""What the name of a rule ends in that refuses since nobody can be asked."""
_HEADER_LISTS = (
    "includeRequestHeadersInCheck",
    "includeHeadersInCheck",
    "headersToUpstreamOnAllow",
    "headersToDownstreamOnDeny",
    "headersToDownstreamOnAllow",
)
_SWITCHES = ("failOpen", "clearRouteCache")
_BODY_SWITCHES = ("allowPartialMessage", "packAsBytes")
_HEADER = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")


class _UnusableError(Exception):
    """Why nobody can be asked."""


class _Asked(Struct, frozen=True):
    """Whom a policy asks.

    Args:
        settings: The provider's.
        grpc: Whether it is asked by gRPC.
        host: Its host.
        cluster: Where it is.
    """

    settings: Json
    grpc: bool
    host: str
    cluster: str


def provider_problem(snapshot: Snapshot, policies: list[AuthorizationPolicy]) -> str:
    """Why those whom `policies` of one workload name cannot be asked; "" where they can."""
    try:
        _asked(snapshot, policies)
    except _UnusableError as problem:
        return str(problem)
    return ""


def http_filters(snapshot: Snapshot, policies: list[AuthorizationPolicy]) -> list[Json]:
    """The filters that ask about requests."""
    try:
        asked = _asked(snapshot, policies)
    except _UnusableError:
        return [extension(_RBAC, _RBAC_TYPE, rules=_refused(snapshot, policies, http=True))]
    shadow = _shadow(snapshot, policies, http=True)
    settings = asked.settings
    fields: Json = {
        "failure_mode_allow": bool(settings.get("failOpen")),
        "transport_api_version": "V3",
        "filter_enabled_metadata": _marked(_RBAC),
    }
    if settings.get("statusOnError"):
        fields["status_on_error"] = {"code": int(settings["statusOnError"])}
    body = settings.get("includeRequestBodyInCheck")
    if body is not None:
        fields["with_request_body"] = {
            "max_request_bytes": int(body.get("maxRequestBytes") or 0),
            "allow_partial_message": bool(body.get("allowPartialMessage")),
            "pack_as_bytes": bool(body.get("packAsBytes")),
        }
    if asked.grpc:
        fields["grpc_service"] = _grpc(asked)
    else:
        fields |= _http(asked)
    return [extension(_RBAC, _RBAC_TYPE, **shadow), extension(_ASK, _ASK_TYPE, **fields)]


def network_filters(snapshot: Snapshot, policies: list[AuthorizationPolicy]) -> list[Json]:
    """The filters that ask about connections: as in Istio, a server that speaks HTTP only is not asked about them."""
    try:
        asked = _asked(snapshot, policies)
    except _UnusableError:
        rules = _refused(snapshot, policies, http=False)
        return [extension(_TCP_RBAC, _TCP_RBAC_TYPE, stat_prefix="tcp.", rules=rules)]
    if not asked.grpc:
        return []
    shadow = _shadow(snapshot, policies, http=False)
    ask = extension(
        _TCP_ASK,
        _TCP_ASK_TYPE,
        stat_prefix="tcp.",
        failure_mode_allow=bool(asked.settings.get("failOpen")),
        transport_api_version="V3",
        grpc_service=_grpc(asked),
        filter_enabled_metadata=_marked(_TCP_RBAC),
    )
    return [extension(_TCP_RBAC, _TCP_RBAC_TYPE, stat_prefix="tcp.", **shadow), ask]


def _rules(snapshot: Snapshot, policies: list[AuthorizationPolicy], *, http: bool) -> Json:
    """What the policies are about, each rule by its name."""
    reading = Reading(snapshot.plan, http, denies=True, trust_domains=snapshot.mesh.trust_domains)
    return policies_of_rules(policies, reading, _MARK)


def _refused(snapshot: Snapshot, policies: list[AuthorizationPolicy], *, http: bool) -> Json:
    rules = _rules(snapshot, policies, http=http)
    return {"action": "DENY", "policies": {f"{name}{_BAD}": rule for name, rule in rules.items()}}


def _shadow(snapshot: Snapshot, policies: list[AuthorizationPolicy], *, http: bool) -> Json:
    rules = {"action": "DENY", "policies": _rules(snapshot, policies, http=http)}
    return {"shadow_rules": rules, "shadow_rules_stat_prefix": _PREFIX}


def _marked(name: str) -> Json:
    key = {"key": f"{_PREFIX}shadow_effective_policy_id"}
    return {"filter": name, "path": [key], "value": {"string_match": {"prefix": _MARK}}}


def _asked(snapshot: Snapshot, policies: list[AuthorizationPolicy]) -> _Asked:
    names = sorted({((p.get("spec") or {}).get("provider") or {}).get("name") or "" for p in policies})
    if len(names) > 1:
        raise _UnusableError(f"only one provider can be asked for a workload, its policies name {', '.join(names)}")
    name = names[0]
    provider = snapshot.mesh.providers.get(name)
    if not provider:
        known = ", ".join(sorted(snapshot.mesh.providers)) or "none"
        raise _UnusableError(f"meshConfig.extensionProviders has no {name!r} (there are: {known})")
    for kind in ("envoyExtAuthzHttp", "envoyExtAuthzGrpc"):
        if provider.get(kind) is not None:
            return _checked(snapshot, name, provider[kind], grpc=kind.endswith("Grpc"))
    raise _UnusableError(f"provider {name!r} is neither envoyExtAuthzHttp nor envoyExtAuthzGrpc")


def _checked(snapshot: Snapshot, name: str, settings: Any, *, grpc: bool) -> _Asked:
    if not isinstance(settings, dict):
        raise _UnusableError(f"provider {name!r} must be a map of settings")
    port = settings.get("port")
    if not isinstance(port, int) or not 1 <= port <= 65535:
        raise _UnusableError(f"provider {name!r}: port must be in the range 1..65535")
    namespace, _, host = str(settings.get("service") or "").rpartition("/")
    service = next(
        (s for s in snapshot.services if s.host == host and namespace in ("", s.namespace)),
        None,
    )
    if service is None:
        raise _UnusableError(f"provider {name!r}: there is no service {settings.get('service')!r} in the mesh")
    if service.port(port) is None:
        raise _UnusableError(f"provider {name!r}: {host} has no port {port}")
    status = str(settings.get("statusOnError") or "")
    if status and not (status.isdigit() and 100 <= int(status) <= 599):
        raise _UnusableError(f"provider {name!r}: statusOnError {status!r} is no status of HTTP")
    prefix = str(settings.get("pathPrefix") or "")
    if prefix and not prefix.startswith("/"):
        raise _UnusableError(f"provider {name!r}: pathPrefix must begin with `/`")
    if odd := next(_malformed(settings), ""):
        raise _UnusableError(f"provider {name!r}: {odd}")
    for field in _HEADER_LISTS:
        if "*" in (settings.get(field) or []):
            raise _UnusableError(f"provider {name!r}: {field} holds a single *, which says nothing of a header's name")
    return _Asked(settings, grpc, host, f"outbound|{port}||{host}")


def _malformed(settings: Json) -> Iterator[str]:
    """Which of a provider's settings has not its form: a ConfigMap has no schema that would refuse it."""
    for field in _SWITCHES:
        if not isinstance(settings.get(field) or False, bool):
            # Text such as "false" would let everybody in where nobody answers.
            yield f"{field} must be true or false"
    for field in _HEADER_LISTS:
        found = settings.get(field) or []
        if not isinstance(found, list) or not all(isinstance(one, str) and one for one in found):
            yield f"{field} must be a list of headers' names"
    added = settings.get("includeAdditionalHeadersInCheck") or {}
    if not isinstance(added, dict) or not all(map(_HEADER.fullmatch, added)):
        yield "includeAdditionalHeadersInCheck must be a map of headers"
    try:
        if settings.get("timeout") and nanoseconds(settings["timeout"]) <= 0:
            yield "timeout must be more than 0s"
    except ConfigError:
        yield 'timeout must be a duration, such as "10s"'
    body = settings.get("includeRequestBodyInCheck")
    if body is None:
        return
    if not isinstance(body, dict) or not all(isinstance(body.get(one) or False, bool) for one in _BODY_SWITCHES):
        yield "includeRequestBodyInCheck must be a map of settings"
        return
    most = body.get("maxRequestBytes")
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most < 2**32:
        yield "includeRequestBodyInCheck.maxRequestBytes must be 1 or more"


def _timeout(settings: Json) -> str:
    return duration(settings["timeout"]) if settings.get("timeout") else _LONGEST


def _grpc(asked: _Asked) -> Json:
    where = {"cluster_name": asked.cluster, "authority": asked.host}
    return {"envoy_grpc": where, "timeout": _timeout(asked.settings)}


def _http(asked: _Asked) -> Json:
    settings = asked.settings
    service: Json = {
        "server_uri": {
            "uri": f"http://{asked.host}",
            "cluster": asked.cluster,
            "timeout": _timeout(settings),
        }
    }
    if settings.get("pathPrefix"):
        service["path_prefix"] = settings["pathPrefix"]
    added = settings.get("includeAdditionalHeadersInCheck") or {}
    if added:
        headers = [{"key": key, "value": str(value)} for key, value in sorted(added.items())]
        service["authorization_request"] = {"headers_to_add": headers}
    answers = {
        "allowed_upstream_headers": _names(settings.get("headersToUpstreamOnAllow")),
        "allowed_client_headers": _names(settings.get("headersToDownstreamOnDeny")),
        "allowed_client_headers_on_success": _names(settings.get("headersToDownstreamOnAllow")),
    }
    if any(answers.values()):
        service["authorization_response"] = {key: value for key, value in answers.items() if value}
    sent = _names(settings.get("includeRequestHeadersInCheck") or settings.get("includeHeadersInCheck"))
    return {"http_service": service, **({"allowed_headers": sent} if sent else {})}


def _names(headers: list[str] | None) -> Json | None:
    if not headers:
        return None
    return {"patterns": [matchers.text_match(str(header), ignore_case=True) for header in headers]}
