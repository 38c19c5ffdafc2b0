# SPDX-License-Identifier: Apache-2.0
"""DestinationRules, as Istio's webhook looks at them; and connection pools, which Sidecars have as well."""

from __future__ import annotations

from typing import Any

from labkit.ground.names import is_ip
from meshbox.contracts import Obj
from meshbox.mesh.envoy import Json
from meshbox.mesh.field_values import ConfigError, nanoseconds
from meshbox.mesh.istio_validation import localities, texts
from meshbox.mesh.istio_validation.attachment import exported, selected
from meshbox.mesh.istio_validation.problems import Problems

__all__ = ["check", "pool"]


_LEVEL = ("outlierDetection", "connectionPool", "loadBalancer", "tls")
_PARTS = (*_LEVEL, "portLevelSettings", "tunnel", "proxyProtocol", "retryBudget")
_LARGEST_TABLE = 5000011
_LARGEST_RING, _LONGEST_SNI = 8388608, 255
"""Envoy's limits: of one cluster beyond them it refuses all that a proxy is told of clusters."""


def check(obj: Obj, problems: Problems) -> None:
    """Look at a DestinationRule."""
    spec: Json = obj.get("spec") or {}
    problems.domain(spec.get("host"))
    _policy(spec.get("trafficPolicy"), problems)
    names: set[str] = set()
    for subset in spec.get("subsets") or []:
        name = (subset or {}).get("name") or ""
        if name in names and not problems.legacy:
            problems.error(f"duplicate subset names: {name}")
        names.add(name)
        if name:
            problems.require(problems.label(name), f"subset name is invalid: {name}")
        else:
            problems.error("subset name cannot be empty")
        problems.tags((subset or {}).get("labels"))
        with problems.unheard():
            _policy((subset or {}).get("trafficPolicy"), problems)
    selector = spec.get("workloadSelector")
    namespace = obj["metadata"].get("namespace") or ""
    exported(spec.get("exportTo"), problems, namespace, selective=selector is not None)
    selected(selector, problems)


def _policy(policy: Json | None, problems: Problems) -> None:
    if policy is None:
        return
    if all(policy.get(part) is None for part in _PARTS):
        problems.error("traffic policy must have at least one field")
        return
    if policy.get("tunnel") is not None and policy.get("proxyProtocol") is not None:
        problems.error("tunnel and proxyProtocol must not be set together")
        return
    _parts(policy, problems)
    for level in policy.get("portLevelSettings") or []:
        level = level or {}
        if level.get("port") is None:
            problems.error("portTrafficPolicy must have valid port")
        if all(level.get(part) is None for part in _LEVEL):
            problems.error("port traffic policy must have at least one field")
        else:
            with problems.unheard():
                _parts(level, problems)
    _tunnel(policy.get("tunnel"), problems)


def _parts(policy: Json, problems: Problems) -> None:
    _outlier(policy.get("outlierDetection"), problems)
    pool(policy.get("connectionPool"), problems)
    _balancer(policy.get("loadBalancer"), problems, ejects=policy.get("outlierDetection") is not None)
    _client_tls(policy.get("tls"), problems)


def _duration(settings: Json, key: str, problems: Problems) -> None:
    if settings.get(key) is not None:
        problems.duration(settings[key])


def _outlier(outlier: Json | None, problems: Problems) -> None:
    if outlier is None:
        return
    _duration(outlier, "baseEjectionTime", problems)
    if problems.legacy and (outlier.get("consecutiveErrors") or 0) < 0:
        problems.error("outlier detection consecutive errors cannot be negative")
    if outlier.get("consecutiveErrors"):
        problems.warn("outlier detection consecutive errors is deprecated, use consecutiveGatewayErrors or "
                      "consecutive5xxErrors instead")  # fmt: skip
    if not outlier.get("splitExternalLocalOriginErrors") and outlier.get("consecutiveLocalOriginFailures"):
        problems.error("outlier detection consecutive local origin failures is specified, but split external local "
                       "origin errors is set to false")  # fmt: skip
    _duration(outlier, "interval", problems)
    problems.percent(outlier.get("maxEjectionPercent"))
    problems.percent(outlier.get("minHealthPercent"))


def pool(settings: Json | None, problems: Problems) -> None:
    """A connection pool."""
    if settings is None:
        return
    http, tcp = settings.get("http"), settings.get("tcp")
    if http is None and tcp is None:
        problems.error("connection pool must have at least one field")
        return
    http, tcp = http or {}, tcp or {}
    for key, name in (
        ("http1MaxPendingRequests", "http1 max pending requests"),
        ("http2MaxRequests", "http2 max requests"),
        ("maxRequestsPerConnection", "max requests per connection"),
        ("maxRetries", "max retries"),
    ):
        problems.require((http.get(key) or 0) >= 0, f"{name} must be non-negative")
    _duration(http, "idleTimeout", problems)
    if http.get("h2UpgradePolicy") == "UPGRADE" and http.get("useClientProtocol"):
        problems.error("use client protocol must not be true when H2UpgradePolicy is UPGRADE")
    problems.require((http.get("maxConcurrentStreams") or 0) >= 0, "max concurrent streams must be non-negative")
    problems.require((tcp.get("maxConnections") or 0) >= 0, "max connections must be non-negative")
    _duration(tcp, "connectTimeout", problems)
    _duration(tcp, "maxConnectionDuration", problems)
    if problems.legacy or not _without(tcp.get("idleTimeout")):
        _duration(tcp, "idleTimeout", problems)
    for key in ("time", "interval"):
        _duration(tcp.get("tcpKeepalive") or {}, key, problems)


def _without(timeout: str | None) -> bool:
    """Whether it is less than a millisecond: a connection then stays."""
    try:
        return timeout is not None and abs(nanoseconds(timeout)) < 10**6
    except ConfigError:
        return False


def _balancer(balancer: Json | None, problems: Problems, *, ejects: bool) -> None:
    if balancer is None:
        return
    _hash(balancer.get("consistentHash"), problems)
    if problems.legacy:
        return
    localities.check(balancer.get("localityLbSetting"), problems, ejects=ejects)
    warmup = balancer.get("warmup")
    if warmup is None:
        return
    if warmup.get("duration") is None:
        problems.error("duration is required")
    _duration(warmup, "duration", problems)
    if (warmup.get("minimumPercent") or 0) > 100:
        problems.error("minimumPercent value should be less than or equal to 100")
    if warmup.get("aggression") is not None and warmup["aggression"] < 1:
        problems.error("aggression should be greater than or equal to 1")


def _hash(ring: Json | None, problems: Problems) -> None:
    if ring is None:
        return
    for least in (ring.get("minimumRingSize"), (ring.get("ringHash") or {}).get("minimumRingSize")):
        problems.require(_number(least) <= _LARGEST_RING, f"minimumRingSize must be at most {_LARGEST_RING}")
    odd = texts.header_value_problem(str(ring.get("httpHeaderName") or ""), legacy=True)
    problems.require(not odd, odd)
    cookie = ring.get("httpCookie")
    if cookie is not None:
        problems.require(cookie.get("name"), "name required for HttpCookie")
        problems.require(not str(cookie.get("ttl") or "").startswith("-"), "ttl of HttpCookie must not be negative")
        if problems.legacy:
            problems.require(cookie.get("ttl") is not None, "ttl required for HttpCookie")
        names: set[str] = set()
        for attribute in cookie.get("attributes") or []:
            name = (attribute or {}).get("name") or ""
            problems.require(name, "cookie attribute name cannot be empty")
            odd = texts.header_value_problem(f"{name}{(attribute or {}).get('value') or ''}", legacy=True)
            problems.require(not odd, odd)
            if name in names:
                problems.error(f"duplicate cookie attribute name: {name}")
            names.update([name] if name else [])
    if problems.legacy:
        return
    maglev = ring.get("maglev")
    if _number(ring.get("minimumRingSize")):
        problems.warn("consistent hash MinimumRingSize is deprecated, use ConsistentHashLB's RingHash configuration "
                      "instead")  # fmt: skip
        if maglev is not None or ring.get("ringHash") is not None:
            problems.error("only one of MinimumRingSize or Maglev/Ringhash can be specified")
    if maglev is not None:
        size = _number(maglev.get("tableSize"))
        problems.require(size, "tableSize must be set for maglev")
        problems.require(size < _LARGEST_TABLE, f"tableSize must be less than {_LARGEST_TABLE} for maglev")
        problems.require(_is_prime(size), "tableSize must be a prime number for maglev")


def _number(value: Any) -> int:
    """A number of 64 bits, which JSON may give as text."""
    return int(value) if str(value or "").isdecimal() else 0


def _is_prime(number: int) -> bool:
    """As Envoy decides it; of numbers beyond the largest table, refused anyhow, as far as is quickly known."""
    largest = min(number, _LARGEST_TABLE)
    if 0 < number < 4:
        return True
    return number % 2 == 1 and all(number % factor for factor in range(3, int(largest**0.5) + 1, 2))


def _client_tls(tls: Json | None, problems: Problems) -> None:
    if tls is None:
        return
    problems.require(len(str(tls.get("sni") or "")) <= _LONGEST_SNI, f"sni must have at most {_LONGEST_SNI} characters")
    mode = tls.get("mode")
    credential = tls.get("credentialName")
    if tls.get("insecureSkipVerify"):
        if mode == "SIMPLE" and (tls.get("caCertificates") or credential or tls.get("subjectAltNames") is not None):
            problems.error("cannot specify CaCertificates or CredentialName or SubjectAltNames when "
                           "InsecureSkipVerify is set true")  # fmt: skip
        if mode == "MUTUAL" and (tls.get("caCertificates") or tls.get("subjectAltNames") is not None):
            problems.error("cannot specify CaCertificates or SubjectAltNames when InsecureSkipVerify is set true")
    if mode in ("SIMPLE", "MUTUAL") and credential:
        if any(tls.get(key) for key in ("clientCertificate", "caCertificates", "privateKey", "caCrl")):
            problems.error("cannot specify client certificates or CA certificate or CA CRL If credentialName is set")
        return
    if mode == "MUTUAL":
        problems.require(tls.get("clientCertificate"), "client certificate required for mutual tls")
        problems.require(tls.get("privateKey"), "private key required for mutual tls")


def _tunnel(tunnel: Json | None, problems: Problems) -> None:
    if tunnel is None:
        return
    if tunnel.get("protocol") not in (None, "", "CONNECT", "POST"):
        problems.error('tunnel protocol must be "CONNECT" or "POST"')
    host = str(tunnel.get("targetHost") or "")
    odd = texts.domain_problem(host, wildcard=False)
    if odd and not is_ip(host):
        problems.error(f"tunnel target host must be valid FQDN or IP address: {odd}; {host} is not a valid IP")
    port = tunnel.get("targetPort") or 0
    if not 1 <= port <= 65535:
        problems.error(f"tunnel target port is invalid: port number {port} must be in the range 1..65535")
