# SPDX-License-Identifier: Apache-2.0
"""Sidecars, as Istio's webhook looks at them."""

from __future__ import annotations

import re

from meshbox.contracts import Obj
from meshbox.mesh.envoy import Json
from meshbox.mesh.istio_validation import gateway
from meshbox.mesh.istio_validation.attachment import workloads_selected
from meshbox.mesh.istio_validation.destination_rule import pool
from meshbox.mesh.istio_validation.problems import UNIX, Problems
from meshbox.mesh.istio_validation.routes import destination
from meshbox.mesh.istio_validation.texts import quoted

__all__ = ["check"]


def check(obj: Obj, problems: Problems) -> None:
    """Look at a Sidecar."""
    spec: Json = obj.get("spec") or {}
    namespace = obj["metadata"].get("namespace") or ""
    if problems.legacy:
        _legacy(spec, problems)
        return
    selector = spec.get("workloadSelector")
    if selector is not None and not workloads_selected(selector, "sidecar", problems):
        return
    ingress, egress = spec.get("ingress") or [], spec.get("egress") or []
    policy, inbound = spec.get("outboundTrafficPolicy"), spec.get("inboundConnectionPool")
    if not egress and not ingress and policy is None and inbound is None:
        problems.warnings.clear()
        problems.error("sidecar: empty configuration provided")
        return
    ports: set[int] = set()
    for listener in ingress:
        _ingress(listener or {}, ports, problems)
    pool(inbound, problems)
    _egress(egress, namespace, problems)
    _policy(policy, problems)


def _legacy(spec: Json, problems: Problems) -> None:
    selector = spec.get("workloadSelector")
    if not spec.get("egress"):
        problems.error("sidecar: missing egress")
        return
    if selector is not None and selector.get("labels") is None:
        problems.error("sidecar: workloadSelector cannot have empty labels")
    ports: set[object] = set()
    for listener in spec.get("ingress") or []:
        listener = listener or {}
        if listener.get("port") is None:
            problems.error("sidecar: port is required for ingress listeners")
            continue
        _bound(listener, ports, problems)
        _old_endpoint(str(listener.get("defaultEndpoint") or ""), problems)
    ports.clear()
    for index, listener in enumerate(spec["egress"]):
        listener = listener or {}
        _only_last_without_port(listener, last=index == len(spec["egress"]) - 1, problems=problems)
        if listener.get("port") is not None:
            _bound(listener, ports, problems)
        problems.require(listener.get("hosts"), "sidecar: egress listener must contain at least one host")
        for host in listener.get("hosts") or []:
            gateway.namespaced_host(str(host), problems, gateway=False)


def _bound(listener: Json, seen: set[object], problems: Problems) -> None:
    """The port and address of a listener, which none of those in `seen` may have."""
    port, bind = listener["port"], str(listener.get("bind") or "")
    _egress_port(port, bind, str(listener.get("captureMode") or "DEFAULT"), problems)
    number = port.get("number") or 0
    unique = "ports on IP bound listeners" if number else "unix domain socket values for listeners"
    problems.require((number or bind) not in seen, f"sidecar: {unique} must be unique")
    seen.add(number or bind)


def _old_endpoint(endpoint: str, problems: Problems) -> None:
    form = "sidecar: defaultEndpoint must be of form 127.0.0.1:<port>"
    host, colon, rest = endpoint.partition(":")
    if not endpoint:
        problems.error("sidecar: default endpoint must be set for all ingress listeners")
    elif endpoint.startswith(UNIX):
        problems.socket(endpoint.removeprefix(UNIX))
    elif not colon:
        problems.error(form)
    else:
        problems.require(host in ("", "127.0.0.1"), form)
        _endpoint_port(rest.partition(":")[0], problems)


def _only_last_without_port(listener: Json, problems: Problems, *, last: bool) -> None:
    if listener.get("port") is None and not last:
        problems.error("sidecar: the egress listener with empty port should be the last listener in the list")


def _ingress(listener: Json, ports: set[int], problems: Problems) -> None:
    port = listener.get("port")
    if port is None:
        problems.error("sidecar: port is required for ingress listeners")
        return
    problems.require(not port.get("targetPort"), "targetPort has no impact on Sidecars")
    number, protocol = port.get("number") or 0, str(port.get("protocol") or "")
    _port(port, problems)
    problems.port(number)
    if listener.get("bind"):
        problems.address(listener["bind"])
    problems.require(number not in ports, "sidecar: ports on IP bound listeners must be unique")
    ports.add(number)
    _endpoint(str(listener.get("defaultEndpoint") or ""), problems)
    _ingress_tls(listener.get("tls"), protocol, problems)
    settings = listener.get("connectionPool")
    pool(settings, problems)
    if (settings or {}).get("http") is not None and protocol.lower() not in gateway.HTTP:
        named = f"port {number} ({quoted(port.get('name') or '')})"
        problems.warn(
            f"sidecar: HTTP connection pool settings are configured for {named} but its protocol is not HTTP "
            f"({protocol}); only TCP settings will apply"
        )


def _port(port: Json, problems: Problems) -> None:
    if port.get("name"):
        problems.port_name(port["name"])
    problems.protocol(port.get("protocol"))


def _endpoint(endpoint: str, problems: Problems) -> None:
    if not endpoint:
        return
    if endpoint.startswith(UNIX):
        problems.socket(endpoint.removeprefix(UNIX))
        return
    split = re.fullmatch(r"(?:\[([^\[\]]*)\]|([^:\[\]]*)):([^:\[\]]*)", endpoint)
    if split is None:
        colons = endpoint.count(":")
        said = "missing port in address" if not colons or endpoint.endswith("]") else "too many colons in address"
        problems.error(f"address {endpoint}: {said}")
        host, port = "", ""
    else:
        host, port = split[1] or split[2] or "", split[3]
    if host not in ("", "127.0.0.1", "0.0.0.0", "::1", "::"):
        problems.error("sidecar: defaultEndpoint must be of form 127.0.0.1:<port>,0.0.0.0:<port>,[::1]:port,"
                       "[::]:port,unix://filepath or unset")  # fmt: skip
    _endpoint_port(port, problems)


def _endpoint_port(port: str, problems: Problems) -> None:
    if re.fullmatch("[+-]?[0-9]+", port):
        problems.port(int(port))
    else:
        parsed = f"strconv.Atoi: parsing {quoted(port)}: invalid syntax"
        problems.error(f"sidecar: defaultEndpoint port ({port}) is not a number: {parsed}")


def _ingress_tls(tls: Json | None, protocol: str, problems: Problems) -> None:
    if tls is None:
        return
    for key, words in (
        ("subjectAltNames", "subjectAltNames is not supported in ingress tls"),
        ("httpsRedirect", "httpsRedirect is not supported"),
        ("credentialName", "credentialName is not currently supported"),
        ("credentialNames", "credentialNames is not currently supported"),
        ("tlsCertificates", "tls_certificates is not currently supported"),
    ):
        problems.require(not tls.get(key), f"sidecar: {words}")
    if tls.get("mode") in ("ISTIO_MUTUAL", "AUTO_PASSTHROUGH"):
        problems.error(f"configuration is invalid: cannot set mode to {tls['mode']} in sidecar ingress tls")
    if protocol.lower() not in gateway.TLS:
        problems.error("server cannot have TLS settings for non HTTPS/TLS ports")
    gateway.server_tls(tls, problems)


def _egress(listeners: list[Json | None], namespace: str, problems: Problems) -> None:
    seen: set[object] = set()
    for index, one in enumerate(listeners):
        listener, port = one or {}, (one or {}).get("port")
        _only_last_without_port(listener, last=index == len(listeners) - 1, problems=problems)
        if port is not None:
            problems.require(not port.get("targetPort"), "targetPort has no impact on Sidecars")
            _bound(listener, seen, problems)
        problems.require(listener.get("hosts"), "sidecar: egress listener must contain at least one host")
        _egress_hosts([str(host) for host in listener.get("hosts") or []], namespace, problems)


def _egress_port(port: Json, bind: str, mode: str, problems: Problems) -> None:
    _port(port, problems)
    if port.get("number"):
        problems.port(port["number"])
        if bind:
            problems.address(bind)
        return
    if bind.startswith(UNIX):
        problems.socket(bind.removeprefix(UNIX))
    else:
        problems.error("sidecar: ports with 0 value must have a unix domain socket bind address")
    if mode not in ("DEFAULT", "NONE"):
        problems.error("sidecar: captureMode must be DEFAULT/NONE for unix domain socket listeners")


def _egress_hosts(hosts: list[str], namespace: str, problems: Problems) -> None:
    seen: dict[str, set[str]] = {}
    for host in hosts:
        where, slash, name = host.partition("/")
        if slash:
            known = seen.setdefault(namespace if where == "." else where, set())
            if {name, "*"} & known if name != "*" else known:
                problems.warn(f"duplicated egress host: {host}")
            known.add(name)
        gateway.namespaced_host(host, problems, gateway=False)
    if "*" in seen.get("*", ()) and len(seen) > 1:
        problems.warn("`*/*` host select all resources, no other hosts can be added")


def _policy(policy: Json | None, problems: Problems) -> None:
    proxy = (policy or {}).get("egressProxy")
    if proxy is None:
        return
    if (policy or {}).get("mode") != "ALLOW_ANY":
        problems.error("sidecar: egress_proxy must be set only with ALLOW_ANY outbound_traffic_policy mode")
        return
    problems.domain(proxy.get("host"), wildcard=False)
    if proxy.get("port") is None:
        problems.error("sidecar: egress_proxy port must be non-nil")
        return
    destination(proxy, problems)
