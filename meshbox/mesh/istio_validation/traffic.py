# SPDX-License-Identifier: Apache-2.0
"""DestinationRules, Gateways, ServiceEntries and Sidecars, as Istio's webhook looks at them."""

from __future__ import annotations

from labkit.ground.names import is_ip
from meshbox.contracts import Obj
from meshbox.mesh.envoy import Json
from meshbox.mesh.envoy_filters.patches import unplayed
from meshbox.mesh.istio_validation.problems import Problems, quoted
from meshbox.mesh.istio_validation.virtual_service import exported

__all__ = ["destination_rule", "envoy_filter", "gateway", "service_entry", "sidecar"]


_PROTOCOLS = {
    "HTTP",
    "HTTP2",
    "GRPC",
    "GRPC-WEB",
    "HTTPS",
    "TLS",
    "TCP",
    "MONGO",
    "REDIS",
    "MYSQL",
    "UDP",
    "HTTP_PROXY",
}
_PARTS = ("outlierDetection", "connectionPool", "loadBalancer", "tls", "tunnel", "proxyProtocol", "retryBudget")


def destination_rule(obj: Obj, problems: Problems) -> None:
    """Look at a DestinationRule."""
    spec: Json = obj.get("spec") or {}
    problems.domain(spec.get("host"))
    _policy(spec.get("trafficPolicy"), problems)
    names: set[str] = set()
    for subset in spec.get("subsets") or []:
        name = (subset or {}).get("name") or ""
        problems.require(name, "subset name cannot be empty")
        if name:
            problems.require(problems.label(name), f"subset name is invalid: {name}")
        if name in names:
            problems.error(f"duplicate subset name: {name}")
        names.add(name)
        problems.tags((subset or {}).get("labels"))
        _policy((subset or {}).get("trafficPolicy"), problems)
    exported(spec.get("exportTo"), problems)


def _policy(policy: Json | None, problems: Problems) -> None:
    if policy is None:
        return
    levels = policy.get("portLevelSettings")
    if levels is None and all(policy.get(part) is None for part in _PARTS):
        problems.error("traffic policy must have at least one field")
        return
    _parts(policy, problems)
    for level in levels or []:
        level = level or {}
        if level.get("port") is None:
            problems.error("portTrafficPolicy must have valid port")
        elif level["port"].get("number") or not problems.legacy:
            problems.port(level["port"].get("number"))
        if all(level.get(part) is None for part in _PARTS):
            problems.error("port traffic policy must have at least one field")
        else:
            _parts(level, problems)


def _parts(policy: Json, problems: Problems) -> None:
    _outlier(policy.get("outlierDetection"), problems)
    _pool(policy.get("connectionPool"), problems)
    _balancer(policy.get("loadBalancer"), problems)
    _client_tls(policy.get("tls"), problems)


def _outlier(outlier: Json | None, problems: Problems) -> None:
    if outlier is None:
        return
    for key in ("baseEjectionTime", "interval"):
        if outlier.get(key) is not None:
            problems.duration(outlier[key])
    if (outlier.get("consecutiveErrors") or 0) < 0:
        problems.error("outlier detection consecutive errors cannot be negative")
    if outlier.get("consecutiveErrors"):
        problems.warn("outlier detection consecutive errors is deprecated, use consecutiveGatewayErrors or "
                      "consecutive5xxErrors instead")  # fmt: skip
    if not outlier.get("splitExternalLocalOriginErrors") and outlier.get("consecutiveLocalOriginFailures"):
        problems.error("outlier detection consecutive local origin failures is specified, but split external local "
                       "origin errors is set to false")  # fmt: skip
    problems.percent(outlier.get("maxEjectionPercent"))
    problems.percent(outlier.get("minHealthPercent"))


def _pool(pool: Json | None, problems: Problems) -> None:
    if pool is None:
        return
    http, tcp = pool.get("http"), pool.get("tcp")
    if http is None and tcp is None:
        problems.error("connection pool must have at least one field")
    words = {
        "http1MaxPendingRequests": "http1 max pending requests",
        "http2MaxRequests": "http2 max requests",
        "maxRequestsPerConnection": "max requests per connection",
        "maxRetries": "max retries",
    }
    for key, name in words.items():
        problems.require(((http or {}).get(key) or 0) >= 0, f"{name} must be non-negative")
    if (http or {}).get("idleTimeout") is not None:
        problems.duration((http or {})["idleTimeout"])
    if (http or {}).get("h2UpgradePolicy") == "UPGRADE" and (http or {}).get("useClientProtocol"):
        problems.error("use client protocol must not be true when H2UpgradePolicy is UPGRADE")
    problems.require(((tcp or {}).get("maxConnections") or 0) >= 0, "max connections must be non-negative")
    for key in ("connectTimeout", "idleTimeout", "maxConnectionDuration"):
        if (tcp or {}).get(key) is not None:
            problems.duration((tcp or {})[key])
    for key in ("time", "interval"):
        if ((tcp or {}).get("tcpKeepalive") or {}).get(key) is not None:
            problems.duration((tcp or {})["tcpKeepalive"][key])


def _balancer(balancer: Json | None, problems: Problems) -> None:
    ring = (balancer or {}).get("consistentHash")
    if ring is None:
        return
    keys = ("httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName")
    if not problems.legacy and not any(ring.get(key) for key in keys):
        problems.error("must specify one of: httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName")
    cookie = ring.get("httpCookie")
    if cookie is not None:
        problems.require(cookie.get("name"), "name required for HttpCookie")
        if problems.legacy:
            problems.require(cookie.get("ttl") is not None, "ttl required for HttpCookie")
        if cookie.get("ttl") is not None and str(cookie["ttl"]) not in ("0", "0s"):
            problems.duration(cookie["ttl"])


def _client_tls(tls: Json | None, problems: Problems) -> None:
    if tls is None:
        return
    if tls.get("mode") == "ISTIO_MUTUAL" and not problems.legacy:
        for key, name in (("clientCertificate", "client certificate"), ("privateKey", "private key"),
                          ("caCertificates", "CA bundle"), ("credentialName", "credentialName")):  # fmt: skip
            if tls.get(key):
                problems.error(f"ISTIO_MUTUAL TLS cannot have associated {name}")
    if tls.get("mode") == "MUTUAL" and not tls.get("credentialName"):
        problems.require(tls.get("clientCertificate"), "client certificate required for mutual tls")
        problems.require(tls.get("privateKey"), "private key required for mutual tls")


def gateway(obj: Obj, problems: Problems) -> None:
    """Look at a Gateway."""
    spec: Json = obj.get("spec") or {}
    name = obj["metadata"].get("name", "")
    problems.require(problems.label(name), f"invalid gateway name: {quoted(name)}")
    servers = spec.get("servers") or []
    problems.require(servers, "gateway must have at least one server")
    names: set[str] = set()
    for server in servers:
        _server(server or {}, problems)
        port_name = ((server or {}).get("port") or {}).get("name") or ""
        if (server or {}).get("port") is not None:
            unique = f"port names in servers must be unique: duplicate name {port_name}"
            problems.require(port_name not in names, unique)
            names.add(port_name)


def _server(server: Json, problems: Problems) -> None:
    problems.require(server.get("hosts"), "server config must contain at least one host")
    for host in server.get("hosts") or []:
        _slash_host(host, problems, gateway=True)
    port, tls = server.get("port"), server.get("tls")
    before = len(problems.errors)
    _server_port(port, problems)
    sound = len(problems.errors) == before
    _server_tls(tls, problems)
    if not sound or port is None:
        return
    protocol = str(port.get("protocol") or "").upper()
    if protocol in ("HTTPS", "TLS"):
        problems.require(tls is not None, "server must have TLS settings for HTTPS/TLS protocols")
    elif tls is not None and protocol in ("HTTP", "HTTP2", "GRPC", "GRPC-WEB"):
        passes = (tls.get("mode") or "PASSTHROUGH") in ("PASSTHROUGH", "AUTO_PASSTHROUGH")
        certificates = any(tls.get(key) for key in ("caCertificates", "privateKey", "serverCertificate"))
        problems.require(passes and not certificates, "server cannot have TLS settings for plain text HTTP ports")
    elif tls is not None:
        problems.error("server cannot have TLS settings for non HTTPS/TLS ports")


def _server_port(port: Json | None, problems: Problems) -> None:
    if port is None:
        problems.error("port is required")
        return
    protocol = port.get("protocol") or ""
    known = (
        "HTTP, HTTP2, GRPC, MONGO, REDIS, MYSQL, TCP"
        if problems.legacy
        else ("HTTP, HTTP2, GRPC, GRPC-WEB, MONGO, REDIS, MYSQL, TCP")
    )
    if str(protocol).upper() not in _PROTOCOLS:
        problems.error(f"invalid protocol {quoted(protocol)}, supported protocols are {known}")
    problems.port(port.get("number"))
    if port.get("targetPort"):
        problems.error("targetPort has no impact on Gateways")
    if not port.get("name"):
        shown = f"number:{port.get('number', 0)} protocol:{quoted(protocol)} "
        problems.error(f"port name must be set: {shown}")


def _server_tls(tls: Json | None, problems: Problems) -> None:
    mode = (tls or {}).get("mode") or "PASSTHROUGH"
    if tls is None or mode not in ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL"):
        return
    if tls.get("credentialName") or tls.get("credentialNames") or tls.get("tlsCertificates"):
        return
    words = "SIMPLE TLS" if mode == "SIMPLE" else "MUTUAL TLS"
    problems.require(tls.get("serverCertificate"), f"{words} requires a server certificate")
    problems.require(tls.get("privateKey"), f"{words} requires a private key")
    if mode != "SIMPLE":
        problems.require(tls.get("caCertificates"), f"{words} requires a client CA bundle")


def _slash_host(host: str, problems: Problems, *, gateway: bool) -> None:
    namespace, slash, name = host.partition("/")
    if not slash:
        if gateway:
            _host_part(host, problems, gateway=True)
        else:
            problems.error("host must be of form namespace/dnsName")
        return
    if not namespace or not name:
        problems.error("config namespace and dnsName in host entry cannot be empty")
    special = ("*", ".") if gateway else ("*", ".", "~")
    if namespace not in special:
        where = "gateway" if gateway else "sidecar"
        problems.require(problems.label(namespace), f"invalid namespace value {quoted(namespace)} in {where}")
    _host_part(name, problems, gateway=gateway)


def _host_part(host: str, problems: Problems, *, gateway: bool) -> None:
    if host != "*" and "." not in host:
        problems.error("short names (non FQDN) are not allowed")
    problems.domain(host, ip=gateway)


def service_entry(obj: Obj, problems: Problems) -> None:
    """Look at a ServiceEntry."""
    spec: Json = obj.get("spec") or {}
    hosts, ports = spec.get("hosts") or [], spec.get("ports") or []
    resolution = spec.get("resolution") or "NONE"
    problems.require(hosts, "service entry must have at least one host")
    for host in hosts:
        if host == "*":
            problems.error(f"invalid host {host}")
        else:
            problems.domain(host)
    problems.each(spec.get("addresses"), problems.subnet)
    if any("/" in str(a) for a in spec.get("addresses") or []) and resolution not in ("NONE", "STATIC"):
        problems.error("CIDR addresses are allowed only for NONE/STATIC resolution types")
    _entry_ports(ports, problems)
    if spec.get("workloadSelector") and spec.get("endpoints") is not None:
        problems.error("only one of WorkloadSelector or Endpoints is allowed in Service Entry")
    _entry_endpoints(spec, resolution, {p.get("name") or "" for p in ports}, problems)
    same = all(
        str(p.get("protocol") or "").upper() in ("HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTPS", "TLS") for p in ports
    )
    if resolution != "NONE" and len(hosts) > 1 and not same:
        problems.error("multiple hosts provided with non-HTTP, non-TLS ports")
    exported(spec.get("exportTo"), problems)


def _entry_ports(ports: list[Json], problems: Problems) -> None:
    names: set[str] = set()
    numbers: set[int] = set()
    for port in ports:
        name, number = port.get("name") or "", port.get("number") or 0
        problems.require(name not in names, f"service entry port name {quoted(name)} already defined")
        problems.require(number not in numbers, f"service entry port {number} already defined")
        names.add(name)
        numbers.add(number)
    for port in ports:
        name, protocol = port.get("name") or "", port.get("protocol") or ""
        problems.require(problems.label(name), f"invalid port name: {name}")
        known = str(protocol).upper() in _PROTOCOLS or (not protocol and not problems.legacy)
        problems.require(known, f"unsupported protocol: {protocol}")
        problems.port(port.get("number"))
        if port.get("targetPort"):
            problems.port(port["targetPort"])


def _entry_endpoints(spec: Json, resolution: str, port_names: set[str], problems: Problems) -> None:
    endpoints = spec.get("endpoints") or []
    if resolution == "NONE":
        problems.require(not endpoints, "no endpoints should be provided for resolution type none")
    elif resolution == "STATIC":
        there = endpoints or spec.get("workloadSelector")
        problems.require(there, "endpoints must be provided if service entry resolution mode is static")
    elif not endpoints:
        for host in spec.get("hosts") or []:
            if "*" in host and resolution != "DYNAMIC_DNS":
                problems.error("hosts must be FQDN if no endpoints are provided for resolution mode DNS")
    for endpoint in endpoints:
        address = (endpoint or {}).get("address") or ""
        is_address = is_ip(address)
        if resolution == "STATIC":
            words = (
                f"{address} is not a valid IP"
                if problems.legacy
                else (f"endpoint address {quoted(address)} is not a valid IP address")
            )
            problems.require(is_address, words)
        elif not is_address:
            before = len(problems.errors)
            problems.domain(address, wildcard=False)
            if len(problems.errors) > before:
                problems.errors[before:] = [f"endpoint address {quoted(address)} is not a valid FQDN or an IP address"]
        problems.tags((endpoint or {}).get("labels"))
        for name, port in ((endpoint or {}).get("ports") or {}).items():
            problems.require(name in port_names, f"endpoint port {port} is not defined by the service entry")
            problems.port(port)


def sidecar(obj: Obj, problems: Problems) -> None:
    """Look at a Sidecar."""
    spec: Json = obj.get("spec") or {}
    if spec.get("workloadSelector") is not None and not (spec["workloadSelector"].get("labels")):
        problems.error("sidecar: workloadSelector cannot have empty labels")
    egress = spec.get("egress") or []
    if problems.legacy and not egress:
        problems.error("sidecar: missing egress")
    elif not egress and not spec.get("ingress") and not spec.get("outboundTrafficPolicy"):
        problems.error("sidecar: empty configuration provided")
    for listener in spec.get("ingress") or []:
        if (listener or {}).get("port") is None:
            problems.error("sidecar: port is required for ingress listeners")
            continue
        problems.port(listener["port"].get("number"))
        endpoint = listener.get("defaultEndpoint") or ""
        if not endpoint:
            problems.require(not problems.legacy, "sidecar: default endpoint must be set for all ingress listeners")
        elif not endpoint.startswith("unix://"):
            _, colon, port = endpoint.rpartition(":")
            problems.require(colon, "sidecar: defaultEndpoint must be of form 127.0.0.1:<port>")
            problems.port(int(port) if port.isdigit() else 0)
    for index, listener in enumerate(egress):
        if (listener or {}).get("port") is None and index != len(egress) - 1:
            problems.error("sidecar: the egress listener with empty port should be the last listener in the list")
        problems.require((listener or {}).get("hosts"), "sidecar: egress listener must contain at least one host")
        for host in (listener or {}).get("hosts") or []:
            _slash_host(host, problems, gateway=False)


def envoy_filter(obj: Obj, problems: Problems) -> None:
    """Look at an EnvoyFilter; what it makes of a proxy, that proxy's Envoy is asked."""
    spec: Json = obj.get("spec") or {}
    if problems.legacy and not spec.get("filters") and not spec.get("configPatches"):
        problems.error("envoy filter: missing filters")
    problems.warnings += [f"{words} in the sandbox" for words in unplayed(spec, legacy=problems.legacy)]
