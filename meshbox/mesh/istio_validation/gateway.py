# SPDX-License-Identifier: Apache-2.0
"""Gateways, as Istio's webhook looks at them, with what Sidecars share: hosts with a namespace, and servers' TLS."""

from __future__ import annotations

from meshbox.contracts import Obj
from meshbox.mesh import cipher_suites
from meshbox.mesh.envoy import Json
from meshbox.mesh.istio_validation import texts
from meshbox.mesh.istio_validation.problems import UNIX, Problems
from meshbox.mesh.istio_validation.texts import quoted

__all__ = ["HTTP", "SEMANTICS", "TLS", "check", "namespaced_host", "server_tls"]

SEMANTICS = "internal.istio.io/gateway-semantics"
"""Marks a Gateway that was made of one of the Kubernetes Gateway API."""

HTTP = ("http", "http2", "grpc", "grpc-web", "http_proxy", "hbone", "double-hbone")
TLS = ("https", "tls")
_OTHERS = ("tcp", "udp", "mongo", "redis", "mysql")
_FILES = ("serverCertificate", "privateKey", "caCertificates")


def check(obj: Obj, problems: Problems) -> None:
    """Look at a Gateway."""
    spec: Json = obj.get("spec") or {}
    name = obj["metadata"].get("name", "")
    derived = (obj["metadata"].get("annotations") or {}).get(SEMANTICS) == "gateway"
    problems.require(problems.label(name) or derived, f"invalid gateway name: {quoted(name)}")
    servers = spec.get("servers") or []
    problems.require(servers, "gateway must have at least one server")
    for server in servers:
        _server(server or {}, problems, derived=derived)
    names: set[str] = set()
    for server in servers:
        port = (server or {}).get("port")
        if port is None:
            continue
        port_name = port.get("name") or ""
        problems.require(port_name not in names, f"port names in servers must be unique: duplicate name {port_name}")
        names.add(port_name)
        if _protocol(port) not in HTTP and (server.get("tls") or {}).get("httpsRedirect"):
            problems.warn("tls.httpsRedirect should only be used with http servers")


def _protocol(port: Json) -> str:
    return str(port.get("protocol") or "").lower()


def _server(server: Json, problems: Problems, *, derived: bool) -> None:
    problems.require(server.get("hosts"), "server config must contain at least one host")
    for host in server.get("hosts") or []:
        namespaced_host(host, problems, gateway=True, nowhere=derived)
    port, tls, bind = server.get("port"), server.get("tls"), str(server.get("bind") or "")
    before = len(problems.errors)
    _port(port, bind, problems)
    sound = len(problems.errors) == before
    if problems.legacy:
        # Istio 1.2 did not look at it.
        pass
    elif bind.startswith(UNIX):
        problems.socket(bind.removeprefix(UNIX))
        if (port or {}).get("number"):
            problems.error(f"port number must be 0 for unix domain socket: {_shown(port or {}, problems)}")
    elif bind:
        problems.address(bind)
    server_tls(tls, problems)
    if not sound or port is None:
        return
    protocol = _protocol(port)
    if protocol in TLS:
        problems.require(tls is not None, "server must have TLS settings for HTTPS/TLS protocols")
    elif tls is not None and protocol in HTTP:
        passes = (tls.get("mode") or "PASSTHROUGH") in ("PASSTHROUGH", "AUTO_PASSTHROUGH")
        certificates = any(tls.get(key) for key in _FILES)
        problems.require(passes and not certificates, "server cannot have TLS settings for plain text HTTP ports")
    elif tls is not None:
        problems.error("server cannot have TLS settings for non HTTPS/TLS ports")


def _port(port: Json | None, bind: str, problems: Problems) -> None:
    if port is None:
        problems.error("port is required")
        return
    kinds = f"HTTP, HTTP2, GRPC, {'' if problems.legacy else 'GRPC-WEB, '}MONGO, REDIS, MYSQL, TCP"
    if _protocol(port) not in (*HTTP, *TLS, *_OTHERS):
        problems.error(f"invalid protocol {quoted(port.get('protocol') or '')}, supported protocols are {kinds}")
    if port.get("number") or not bind.startswith(UNIX):
        problems.port(port.get("number"))
    if port.get("targetPort") and not problems.legacy:
        problems.error("targetPort has no impact on Gateways")
    problems.require(port.get("name"), f"port name must be set: {_shown(port, problems)}")


def _shown(port: Json, problems: Problems) -> str:
    """A port as Go prints its message."""
    fields = (
        ("number", port.get("number")),
        ("protocol", port.get("protocol") and quoted(port["protocol"])),
        ("name", port.get("name") and quoted(port["name"])),
        ("target_port", port.get("targetPort")),
    )
    shown = " ".join(f"{name}:{value}" for name, value in fields if value)
    return f"{shown} " if problems.legacy else shown


def server_tls(tls: Json | None, problems: Problems) -> None:
    """The TLS settings of a server."""
    if tls is None:
        return
    mode = tls.get("mode") or "PASSTHROUGH"
    _ciphers(tls, problems)
    if mode == "ISTIO_MUTUAL" and not problems.legacy:
        for key, name in (
            ("serverCertificate", "server certificate"),
            ("privateKey", "private key"),
            ("caCertificates", "CA bundle"),
            ("tlsCertificates", "tlsCertificates"),
            ("credentialName", "credentialName"),
            ("credentialNames", "credentialNames"),
        ):
            problems.require(not tls.get(key), f"ISTIO_MUTUAL TLS cannot have associated {name}")
        return
    sources = [tls.get(key) for key in ("credentialName", "credentialNames", "tlsCertificates")]
    if mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH") and (any(sources) or any(tls.get(k) for k in (*_FILES, "caCrl"))):
        problems.warn(f"{mode} mode does not use certificates, they will be ignored")
    files = bool(tls.get("serverCertificate") and tls.get("privateKey"))
    if sum(map(bool, (files, *sources))) > 1 and not problems.legacy:
        problems.error("only one of credential_name, credential_names, server_certificate/private_key, "
                       "tls_certificates should be specified")  # fmt: skip
    if mode in ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL"):
        if tls.get("credentialName") or tls.get("credentialNames"):
            return
        _certificates(tls, "SIMPLE TLS" if mode == "SIMPLE" else "MUTUAL TLS", problems)
    if tls.get("caCrl"):
        if tls.get("credentialName"):
            problems.error("CRL is not supported with credentialName. CRL has to be specified in the credential")
        problems.require(mode != "SIMPLE", "CRL is not supported with SIMPLE TLS")


def _certificates(tls: Json, words: str, problems: Problems) -> None:
    bundle = words == "SIMPLE TLS" or tls.get("caCertificates")
    missing = f"{words} requires a client CA bundle"
    if not problems.legacy:
        problems.require(bundle, missing)
    several = tls.get("tlsCertificates") or []
    if len(several) > 2:
        problems.warn(f"{words} can support up to 2 server certificates")
    for one in several or [tls]:
        problems.require((one or {}).get("serverCertificate"), f"{words} requires a server certificate")
        problems.require((one or {}).get("privateKey"), f"{words} requires a private key")
    if problems.legacy:
        problems.require(bundle, missing)


def _ciphers(tls: Json, problems: Problems) -> None:
    suites = [str(suite) for suite in tls.get("cipherSuites") or []]
    if tls.get("minProtocolVersion") in ("TLSV1_0", "TLSV1_1") and not suites:
        problems.warn("TLS version below TLSV1_2 require setting compatible ciphers as by default they no longer "
                      "include compatible ciphers.")  # fmt: skip
    unknown = cipher_suites.unknown(suites)
    twice = {one for one in suites if suites.count(one) > 1 and one not in unknown}
    for kind, found in (("invalid", unknown), ("duplicate", twice)):
        if found:
            problems.warn(f"ignoring {kind} cipher suites: [{' '.join(sorted(found))}]")


def namespaced_host(host: str, problems: Problems, *, gateway: bool, nowhere: bool = False) -> None:
    """A host of a Gateway or a Sidecar, namespace/name; `nowhere`: the namespace "~" is allowed to a Gateway."""
    namespace, slash, name = host.partition("/")
    if not slash:
        if gateway:
            _host_part(host, problems, gateway=True)
        else:
            problems.error("host must be of form namespace/dnsName")
        return
    if not namespace or not name:
        problems.error("config namespace and dnsName in host entry cannot be empty")
    special = ("*", ".", "~") if not gateway or nowhere else ("*", ".")
    if namespace not in special:
        where = "gateway" if gateway else "sidecar"
        problems.require(problems.label(namespace), f"invalid namespace value {quoted(namespace)} in {where}")
    _host_part(name, problems, gateway=gateway)


def _host_part(host: str, problems: Problems, *, gateway: bool) -> None:
    if host != "*" and "." not in host:
        problems.error("short names (non FQDN) are not allowed")
    if not problems.domain(host, ip=gateway) and not gateway:
        # Istio says this twice of a Sidecar's.
        problems.error(problems.errors[-1])
    partial = texts.partial_wildcard(host)
    problems.require(not partial or problems.legacy, partial)
