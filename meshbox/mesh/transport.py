# SPDX-License-Identifier: Apache-2.0
"""TLS on both ends of a connection: between sidecars, towards other servers, and at gateways."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from labkit.ground.names import is_ip
from meshbox.mesh import cipher_suites
from meshbox.mesh.envoy import ADS, Json, extension
from meshbox.mesh.mesh_config import MeshConfig
from meshbox.mesh.model import HTTP_PROTOCOLS, Port, Service
from meshbox.mesh.policies import speaks_http2

if TYPE_CHECKING:
    from labkit.ground.typed.destination_rules import ClientTLS, TrafficPolicy
    from labkit.ground.typed.hosts import ServerTLS

__all__ = [
    "ISTIO_ALPN",
    "RAW_ALPN",
    "RAW_FIRST",
    "client_roots",
    "credential_resource",
    "credentials",
    "downstream_mutual",
    "file_secret",
    "gateway_tls",
    "introduced",
    "names_by_request",
    "proxied",
    "root_file_secret",
    "sni",
    "upstream",
]


RAW_ALPN = "istio-raw"
"""What a sidecar offers with bytes that are no HTTP, on a port that HTTP may be spoken on as well."""

RAW_FIRST = (RAW_ALPN, "istio-peer-exchange", "istio")
"""All that it offers with them: where HTTP alone may be spoken, or bytes alone, the first of these is not known."""

ISTIO_ALPN = ("istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2")
"""What a sidecar offers, by which another sidecar tells it from an application's own TLS."""

_CLIENTS_VERSIONS: Json = {
    "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"}
}
"""What today's proxies say as clients, since Envoy by itself knows no 1.3 then."""

_MAY_BE_HTTP = (*HTTP_PROTOCOLS, "AUTO")
_TLS = "envoy.transport_sockets.tls"
_UPSTREAM = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
_DOWNSTREAM = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
_RAW = extension("envoy.transport_sockets.raw_buffer", "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer")

_PROXY_PROTOCOL = "envoy.transport_sockets.upstream_proxy_protocol"
_ASKING = ("MUTUAL", "OPTIONAL_MUTUAL")
"""The modes in which clients show certificates of somebody else's than the mesh."""

_VERSIONS = {"TLSV1_0": "TLSv1_0", "TLSV1_1": "TLSv1_1", "TLSV1_2": "TLSv1_2", "TLSV1_3": "TLSv1_3"}


_FOR_A_MOMENT = {**ADS, "initial_fetch_timeout": "1s"}


def _secret(name: str) -> Json:
    # Identities always come. What somebody else must provide may be missing: a proxy does not wait for it for ever.
    return {"name": name, "sds_config": ADS if name in ("default", "ROOTCA") else _FOR_A_MOMENT}


def file_secret(certificate: str, key: str) -> str:
    """The name under which a certificate and key in a proxy's own files are asked for."""
    return f"file-cert:{certificate}~{key}"


def root_file_secret(path: str, revoked: str = "") -> str:
    """The name under which CA certificates in a proxy's own files are asked for.

    Args:
        path: Their file; "system" for those that the machine trusts.
        revoked: The file that lists revoked certificates; empty for none.
    """
    return f"file-root:{path}" + (f"~{revoked}" if revoked else "")


def sni(service: Service, port: Port, subset: str) -> str:
    """The server name between sidecars: dots and port in Istio's own form, so that gateways can route by it."""
    return f"outbound_.{port.number}_.{subset}_.{service.host}"


def _sans(names: Iterable[str], san_type: str = "") -> list[Json]:
    found = []
    for name in names:
        kind = san_type or ("URI" if "://" in name else "IP_ADDRESS" if is_ip(name) else "DNS")
        found.append({"san_type": kind, "matcher": {"exact": name}})
    return found


def _istio_mutual(
    service: Service, port: Port, subset: str, names: list[str], server: str = "", *, http2: bool, legacy: bool
) -> Json:
    return extension(
        _TLS,
        _UPSTREAM,
        common_tls_context={
            "tls_certificate_sds_secret_configs": [_secret("default")],
            "combined_validation_context": {
                "default_validation_context": {"match_typed_subject_alt_names": _sans(names)} if names else {},
                "validation_context_sds_secret_config": _secret("ROOTCA"),
            },
            # Pods' ports may be more than this Service's port: another of theirs may leave open what is spoken.
            "alpn_protocols": ["istio", "h2"] if http2 else list(RAW_FIRST[port.protocol in _MAY_BE_HTTP :]),
            **({} if legacy else _CLIENTS_VERSIONS),
        },
        sni=server or sni(service, port, subset),
    )


def upstream(
    service: Service,
    port: Port,
    subset: str,
    policy: TrafficPolicy,
    mesh: MeshConfig,
    *,
    legacy: bool,
    credentials: bool = True,
    accounts: Iterable[str] = (),
) -> Json:
    """The transport fields of a cluster.

    Without a rule, Istio 1.2 sends plain text; today a sidecar is met with mTLS and others with plain text.

    Args:
        service: The Service.
        port: Its port.
        subset: Its subset; empty for the whole host.
        policy: What holds for them.
        mesh: The mesh's settings.
        legacy: Whether Istio 1.2's rules apply.
        credentials: Whether the proxy looks at `credentialName`. A sidecar does where the rule was written for some
            workloads: else every sidecar would have to be given the secret, and Istio leaves out TLS as a whole.
        accounts: The identities of the pods behind it, those included that are not ready.
    """
    tls = policy.get("tls") or {}
    mode = tls.get("mode") or ("DISABLE" if tls else "")
    names = list(tls.get("subjectAltNames") or []) or _identities(service, port, accounts)
    http2 = speaks_http2(port, policy, mesh)
    if mode == "ISTIO_MUTUAL":
        return {
            "transport_socket": _istio_mutual(
                service, port, subset, names, tls.get("sni") or "", http2=http2, legacy=legacy
            )
        }
    if mode in ("SIMPLE", "MUTUAL"):
        if tls.get("credentialName") and not credentials:
            return {}
        return {"transport_socket": _originate(service, port, tls, mesh, legacy=legacy, http2=http2)}
    if mode == "DISABLE" or not mesh.auto_mtls or service.external or service.resolution == "NONE":
        return {}
    if (policy.get("loadBalancer") or {}).get("simple") == "PASSTHROUGH":
        # Which of them is called nobody knows: all are met alike.
        behind = [endpoint.workload for endpoint in service.endpoints.get(port.number, ())]
        if behind and all(workload is not None and workload.proxy == "sidecar" for workload in behind):
            return {"transport_socket": _istio_mutual(service, port, subset, names, http2=http2, legacy=legacy)}
        return {}
    return {
        "transport_socket_matches": [
            {
                "name": "tlsMode-istio",
                "match": {"tlsMode": "istio"},
                "transport_socket": _istio_mutual(service, port, subset, names, http2=http2, legacy=legacy),
            },
            {"name": "tlsMode-disabled", "match": {}, "transport_socket": _RAW},
        ]
    }


def names_by_request(policy: TrafficPolicy) -> Json:
    """How TLS towards a server that is given no `sni` follows the name in each HTTP request; empty for others."""
    tls = policy.get("tls") or {}
    if tls.get("mode") not in ("SIMPLE", "MUTUAL") or tls.get("sni"):
        return {}
    verified = not tls.get("subjectAltNames") and not tls.get("insecureSkipVerify")
    return {"auto_sni": True, **({"auto_san_validation": True} if verified else {})}


def proxied(fields: Json, version: str) -> Json:
    """The transport fields of a cluster whose servers are told by a PROXY header who calls.

    Args:
        fields: As `upstream`, or `introduced`, gives them.
        version: "V1" or "V2".
    """
    if "transport_socket_matches" not in fields:
        return {**fields, "transport_socket": _headed(fields.get("transport_socket", _RAW), {"version": version})}
    matches = [
        one
        if one["transport_socket"]["name"] == _PROXY_PROTOCOL
        else {**one, "transport_socket": _headed(one["transport_socket"], {"version": version})}
        for one in fields["transport_socket_matches"]
    ]
    return {**fields, "transport_socket_matches": matches}


def introduced(fields: Json) -> Json:
    """The transport fields of a cluster for raw bytes: whom a sidecar speaks for is told to other sidecars first.

    Args:
        fields: As `upstream` gives them.
    """
    plain = fields.get("transport_socket", _RAW)
    matches = fields.get("transport_socket_matches") or [{"name": "any", "match": {}, "transport_socket": plain}]
    secure, rest = matches[:-1], matches[-1]
    others = {key: value for key, value in fields.items() if not key.startswith("transport_socket")}
    return {
        **others,
        "transport_socket_matches": [
            *({**one, "transport_socket": _with_header(one["transport_socket"])} for one in secure),
            {
                "name": "sidecar",
                "match": {"proxy": "sidecar"},
                "transport_socket": _with_header(rest["transport_socket"]),
            },
            rest,
        ],
    }


def _with_header(socket: Json) -> Json:
    return _headed(socket, {"version": "V2", "pass_through_tlvs": {"match_type": "INCLUDE_ALL"}})


def _headed(socket: Json, config: Json) -> Json:
    return extension(
        _PROXY_PROTOCOL,
        "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
        config=config,
        transport_socket=socket,
    )


def _identities(service: Service, port: Port, accounts: Iterable[str]) -> list[str]:
    found = {e.workload.principal for e in service.endpoints.get(port.number, ()) if e.workload}
    return sorted(found.union(accounts, service.subject_alt_names) - {""})


def _originate(service: Service, port: Port, tls: ClientTLS, mesh: MeshConfig, *, legacy: bool, http2: bool) -> Json:
    context: Json = {} if legacy else {"tls_params": {**_CLIENTS_VERSIONS["tls_params"], **_choices(mesh)}}
    names = _sans(tls.get("subjectAltNames") or (() if legacy else service.subject_alt_names))
    validation = {"match_typed_subject_alt_names": names} if names else {}
    credential = tls.get("credentialName")
    if tls.get("mode") == "MUTUAL":
        name = (
            f"kubernetes://{credential}"
            if credential
            else file_secret(
                tls.get("clientCertificate") or "/etc/certs/cert-chain.pem",
                tls.get("privateKey") or "/etc/certs/key.pem",
            )
        )
        context["tls_certificate_sds_secret_configs"] = [_secret(name)]
    if tls.get("insecureSkipVerify"):
        root = ""
    elif credential:
        root = f"{credential_resource(credential)}-cacert"
    elif tls.get("caCertificates"):
        root = root_file_secret(tls["caCertificates"], tls.get("caCrl") or "")
    else:
        # Istio 1.2 trusted any server unless told whom to trust; today the machine's own list of CAs decides.
        root = "" if legacy else root_file_secret("system", tls.get("caCrl") or "")
    if root:
        context["combined_validation_context"] = {
            "default_validation_context": validation,
            "validation_context_sds_secret_config": _secret(root),
        }
    if http2:
        context["alpn_protocols"] = ["h2"]
    # Of HTTP each request says it; what else is sent names none.
    server = tls.get("sni")
    return extension(_TLS, _UPSTREAM, common_tls_context=context, **({"sni": server} if server else {}))


def downstream_mutual(
    *, http: bool, trust_domains: Iterable[str] = (), names: Iterable[str] = (), limits: ServerTLS | None = None
) -> Json:
    """The server's side of mTLS between sidecars: any identity of this mesh, which policies then look at.

    Args:
        http: Whether HTTP is spoken inside.
        trust_domains: The mesh's; without, whatever its authority has signed.
        names: The only identities that are let in; empty for all of the mesh.
        limits: The versions and ciphers that are taken; None for whatever Envoy takes.
    """
    parameters = _parameters(limits or {})
    prefixes = [f"spiffe://{domain}/" for domain in trust_domains] or ["spiffe://"]
    mesh = [{"san_type": "URI", "matcher": {"prefix": prefix}} for prefix in prefixes]
    return extension(
        _TLS,
        _DOWNSTREAM,
        common_tls_context={
            "tls_certificate_sds_secret_configs": [_secret("default")],
            "combined_validation_context": {
                "default_validation_context": {"match_typed_subject_alt_names": _sans(names) or mesh},
                "validation_context_sds_secret_config": _secret("ROOTCA"),
            },
            # Of a client that offers none of HTTP's, Envoy sees by its first bytes which one it speaks.
            "alpn_protocols": ["h2", "http/1.1"] if http else ["istio-peer-exchange", "istio"],
            **({"tls_params": parameters} if parameters else {}),
        },
        require_client_certificate=True,
    )


def credentials(tls: ServerTLS) -> list[str]:
    """The Secrets that a Gateway's server names for its certificates; where it names several, they count alone."""
    return list(tls.get("credentialNames") or [name for name in [tls.get("credentialName")] if name])


def client_roots(tls: ServerTLS) -> str:
    """The Secret that says whose clients a Gateway's server trusts; empty where no Secret does.

    Who may issue certificates for clients can be somebody else's business than the server's own.
    """
    if tls.get("mode") not in _ASKING:
        return ""
    found = tls.get("caCertCredentialName") or next(iter(credentials(tls)), "")
    return f"{found}-cacert" if found else ""


def credential_resource(name: str) -> str:
    """The name under which a proxy asks for a credential; one that says what it is stays."""
    if name.startswith("builtin://"):
        return "ROOTCA" if name.endswith("-cacert") else "default"
    return name if "://" in name else f"kubernetes://{name}"


def gateway_tls(tls: ServerTLS, mesh: MeshConfig, *, http: bool) -> Json:
    """The transport of a Gateway's server that ends TLS.

    Args:
        tls: The server's `tls`.
        mesh: Says what counts where the server does not.
        http: Whether HTTP is spoken inside.
    """
    mode = tls.get("mode") or ""
    if mode == "ISTIO_MUTUAL":
        return downstream_mutual(http=http, names=tls.get("subjectAltNames") or ())
    certificates = [credential_resource(name) for name in credentials(tls)] or [
        file_secret(one.get("serverCertificate") or "", one.get("privateKey") or "")
        for one in tls.get("tlsCertificates") or [tls]
    ]
    context: Json = {
        "tls_certificate_sds_secret_configs": [_secret(name) for name in certificates],
        "alpn_protocols": ["h2", "http/1.1"] if http else [],
    }
    if mode in _ASKING:
        names = _sans(tls.get("subjectAltNames") or ())
        validation: Json = {"match_typed_subject_alt_names": names} if names else {}
        for key, field in (
            ("verify_certificate_spki", tls.get("verifyCertificateSpki")),
            ("verify_certificate_hash", tls.get("verifyCertificateHash")),
        ):
            if field:
                validation[key] = field
        roots = client_roots(tls)
        files = root_file_secret(tls.get("caCertificates") or "", tls.get("caCrl") or "")
        context["combined_validation_context"] = {
            "default_validation_context": validation,
            "validation_context_sds_secret_config": _secret(credential_resource(roots) if roots else files),
        }
    if parameters := {**_parameters(cast("ServerTLS", mesh.tls_defaults)), **_choices(mesh), **_parameters(tls)}:
        context["tls_params"] = parameters
    return extension(_TLS, _DOWNSTREAM, common_tls_context=context, require_client_certificate=mode == "MUTUAL")


def _choices(mesh: MeshConfig) -> Json:
    """Ciphers and curves of the mesh's `tlsDefaults`: for TLS that is not between sidecars."""
    found = {
        "cipher_suites": cipher_suites.known(mesh.tls_defaults.get("cipherSuites") or []),
        "ecdh_curves": mesh.tls_defaults.get("ecdhCurves"),
    }
    return {name: values for name, values in found.items() if values}


def _parameters(tls: ServerTLS) -> Json:
    parameters: Json = {}
    if tls.get("minProtocolVersion") in _VERSIONS:
        parameters["tls_minimum_protocol_version"] = _VERSIONS[tls["minProtocolVersion"]]
    if tls.get("maxProtocolVersion") in _VERSIONS:
        parameters["tls_maximum_protocol_version"] = _VERSIONS[tls["maxProtocolVersion"]]
    # As Istio, which leaves out what Envoy would refuse the whole listener for.
    if suites := cipher_suites.known(tls.get("cipherSuites") or []):
        parameters["cipher_suites"] = suites
    return parameters
