# SPDX-License-Identifier: Apache-2.0
"""What no table tells of Services, their endpoints, Ingresses and NetworkPolicies."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from labkit.ground.names import (
    dns1035_label,
    dns1123_label,
    dns1123_subdomain,
    is_ip,
    label_value,
    port_name,
    qualified_name,
)
from meshbox.api.builtin.internal import internal
from meshbox.api.builtin.rules import Context, call, check
from meshbox.api.builtin.vocabulary import CIDR, IP
from meshbox.api.builtin.well_formed import as_dict, as_list, labels, named, port_number, port_or_name, supported
from meshbox.api.problems import Cause, duplicate, forbidden, invalid, not_supported, required
from meshbox.contracts import Obj
from meshbox.ip_texts import Address, read_ip, read_network

__all__: list[str] = []

_PROTOCOLS = ("SCTP", "TCP", "UDP")
_SERVICE_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_BALANCED = "may only be used when `type` is 'LoadBalancer'"
_DAY = 86400
_WILDCARD = r"\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_WILDCARD_WORDS = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', "
    f"regex used for validation is '{_WILDCARD}')"
)
_PODS, _OWN = ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("127.0.0.0/16")


@call("service")
def _service(spec: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    kind, address = spec.get("type") or "ClusterIP", spec.get("clusterIP") or ""
    ports = [as_dict(one) for one in as_list(spec.get("ports"))]
    headless = address == "None"
    if not ports and not headless and kind != "ExternalName":
        causes.append(required(f"{path}.ports"))
    if headless and kind in ("LoadBalancer", "NodePort"):
        causes.append(invalid(f"{path}.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services"))
    if kind == "ExternalName":
        if address:
            causes.append(forbidden(f"{path}.clusterIPs", "may not be set for ExternalName services"))
        named((spec.get("externalName") or "").removesuffix("."), f"{path}.externalName", dns1123_subdomain, causes)
    for index, port in enumerate(ports):
        _service_port(
            port, f"{path}.ports[{index}]", len(ports) > 1, [one.get("name") for one in ports[:index]], causes
        )
    labels(spec.get("selector"), f"{path}.selector", causes)
    _affinity(spec, path, causes)
    _addresses(spec, kind, address, path, causes)
    for index, one in enumerate(as_list(spec.get("externalIPs"))):
        if not read_ip(one):
            causes.append(invalid(f"{path}.externalIPs[{index}]", one or "", IP))
    supported(kind, f"{path}.type", _SERVICE_TYPES, causes)
    _port_sets(ports, kind, path, causes)
    _balancing(spec, kind, path, causes)
    _traffic(spec, kind, path, causes)


def _service_port(port: Obj, path: str, named_all: bool, names: list[Any], causes: list[Cause]) -> None:
    name = port.get("name")
    named(name, f"{path}.name", dns1123_label, causes, needed=named_all)
    if name and name in names:
        causes.append(duplicate(f"{path}.name", name))
    port_number(port.get("port"), f"{path}.port", causes)
    supported(port.get("protocol"), f"{path}.protocol", _PROTOCOLS, causes)
    port_or_name(port.get("targetPort") or 0, f"{path}.targetPort", causes)
    protocol = port.get("appProtocol")
    if protocol is not None:
        causes += [invalid(f"{path}.appProtocol", protocol, words) for words in qualified_name(protocol)]


def _affinity(spec: Obj, path: str, causes: list[Cause]) -> None:
    kind, config = spec.get("sessionAffinity"), spec.get("sessionAffinityConfig")
    supported(kind, f"{path}.sessionAffinity", ("ClientIP", "None"), causes)
    where = f"{path}.sessionAffinityConfig"
    if kind == "ClientIP":
        seconds = as_dict(as_dict(config).get("clientIP")).get("timeoutSeconds")
        if seconds is None:
            causes.append(required(f"{where}.clientIP", "when session affinity type is ClientIP"))
        elif not 0 < seconds <= _DAY:
            detail = f"must be greater than 0 and less than {_DAY}"
            causes.append(invalid(f"{where}.clientIP.timeoutSeconds", seconds, detail))
    elif kind == "None" and config is not None:
        causes.append(forbidden(where, "must not be set when session affinity is None"))


def _addresses(spec: Obj, kind: str, address: str, path: str, causes: list[Cause]) -> None:
    families = as_list(spec.get("ipFamilies"))
    for index, one in enumerate(families):
        if one not in ("IPv4", "IPv6"):
            causes.append(not_supported(f"{path}.ipFamilies[{index}]", one or "", ("IPv4", "IPv6")))
        if one in families[:index]:
            causes.append(duplicate(f"{path}.ipFamilies[{index}]", one))
    policy = spec.get("ipFamilyPolicy")
    policies = ("PreferDualStack", "RequireDualStack", "SingleStack")
    if policy is not None and policy not in policies:
        causes.append(not_supported(f"{path}.ipFamilyPolicy", policy, policies))
    if kind != "ExternalName" and address not in ("", "None") and not is_ip(address):
        causes.append(invalid(f"{path}.clusterIPs[0]", address, IP))


def _port_sets(ports: list[Obj], kind: str, path: str, causes: list[Cause]) -> None:
    """What ports may not have of their Service's type, and not have in common."""
    if kind == "ClusterIP":
        detail = "may not be used when `type` is 'ClusterIP'"
        causes += [
            forbidden(f"{path}.ports[{at}].nodePort", detail) for at, one in enumerate(ports) if one.get("nodePort")
        ]
    taken: set[Any] = set()
    for index, port in enumerate(ports):
        protocol, number = port.get("protocol"), port.get("nodePort")
        if number and (protocol, number) in taken:
            causes.append(duplicate(f"{path}.ports[{index}].nodePort", number))
        taken.add((protocol, number))
    taken.clear()
    for index, port in enumerate(ports):
        protocol, number = port.get("protocol"), port.get("port")
        if (protocol, number) in taken:
            given = internal("api.core.v1.ServicePort", {"protocol": protocol, "port": number})
            causes.append(duplicate(f"{path}.ports[{index}]", given))
        taken.add((protocol, number))


def _balancing(spec: Obj, kind: str, path: str, causes: list[Cause]) -> None:
    balanced, ranges = kind == "LoadBalancer", as_list(spec.get("loadBalancerSourceRanges"))
    where = f"{path}.LoadBalancerSourceRanges"
    if ranges and not balanced:
        causes.append(forbidden(where, _BALANCED))
    for index, one in enumerate((one or "").strip() for one in ranges):
        if not read_network(one):
            causes.append(invalid(f"{where}[{index}]", one, CIDR))
    if spec.get("allocateLoadBalancerNodePorts") is not None and not balanced:
        causes.append(forbidden(f"{path}.allocateLoadBalancerNodePorts", _BALANCED))
    wanted = spec.get("loadBalancerClass")
    if wanted is not None and not balanced:
        causes.append(forbidden(f"{path}.loadBalancerClass", _BALANCED))
    elif wanted is not None:
        causes += [invalid(f"{path}.loadBalancerClass", wanted, words) for words in qualified_name(wanted)]


def _traffic(spec: Obj, kind: str, path: str, causes: list[Cause]) -> None:
    policy, choices = spec.get("externalTrafficPolicy"), ("Cluster", "Local")
    reached = kind in ("LoadBalancer", "NodePort") or (kind == "ClusterIP" and as_list(spec.get("externalIPs")))
    if policy and not reached:
        detail = "may only be set for externally-accessible services"
        causes.append(invalid(f"{path}.externalTrafficPolicy", policy, detail))
    elif reached:
        supported(policy, f"{path}.externalTrafficPolicy", choices, causes)
    checked = spec.get("healthCheckNodePort")
    if checked and not (kind == "LoadBalancer" and policy == "Local"):
        detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        causes.append(invalid(f"{path}.healthCheckNodePort", checked, detail))
    inside = spec.get("internalTrafficPolicy")
    if inside is not None and inside not in choices:
        causes.append(not_supported(f"{path}.internalTrafficPolicy", inside, choices))
    near = spec.get("trafficDistribution")
    wanted = ("PreferClose", "PreferSameZone", "PreferSameNode")
    if near is not None and near not in wanted:
        causes.append(not_supported(f"{path}.trafficDistribution", near, wanted))


@call("subset")
def _subset(subset: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    if not as_list(subset.get("addresses")) and not as_list(subset.get("notReadyAddresses")):
        causes.append(required(path, "must specify `addresses` or `notReadyAddresses`"))


@call("old_ip")
def _old_ip(text: Any, path: str, causes: list[Cause], _context: Context) -> None:
    # Endpoints' addresses are asked twice, by an older rule and by that for special addresses.
    if (address := read_ip(text)) is None:
        causes.append(invalid(path, text or "", "must be a valid IP address"))
        return
    _special(address, text, path, causes)


def _special(address: Address, text: str, path: str, causes: list[Cause]) -> None:
    """No endpoint has an address that means something else."""
    if address in _PODS and address not in _OWN:
        # The addresses of a sandbox's pods lie in 127.1.0.0/16 to 127.254.0.0/16.
        return
    for kind, words in (
        ("is_unspecified", f"may not be unspecified ({text})"),
        ("is_loopback", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        ("is_link_local", "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
    ):
        if getattr(address, kind):
            causes.append(invalid(path, text, words))


@call("endpoint_ports")
def _endpoint_ports(ports: list[Any], path: str, causes: list[Cause], _context: Context) -> None:
    for index, one in enumerate(ports):
        where, port = f"{path}[{index}]", as_dict(one)
        named(port.get("name"), f"{where}.name", dns1123_label, causes, needed=len(ports) > 1)
        port_number(port.get("port"), f"{where}.port", causes)
        supported(port.get("protocol"), f"{where}.protocol", _PROTOCOLS, causes)
        if (as_ := port.get("appProtocol")) is not None:
            causes += [invalid(f"{where}.appProtocol", as_, words) for words in qualified_name(as_)]


def _domain(text: str) -> list[str]:
    said = dns1123_subdomain(text)
    return said or ["should be a domain with at least two segments separated by dots"] * ("." not in text)


def _slice_address(text: Any, kind: str, path: str, where: str, causes: list[Cause]) -> None:
    ip = read_ip(text)
    if ip is None:
        causes.append(invalid(path, text or "", IP))
    elif kind == "IPv6" and ip.version == 4 and ":" in text:
        # Of IPv6 all is read as it should be written.
        causes.append(invalid(path, text, "must not be an IPv4-mapped IPv6 address"))
    elif kind == "IPv6" and ip.version == 6 and str(ip) != text:
        causes.append(invalid(path, text, f'must be in canonical form ("{ip}")'))
    else:
        if kind != f"IPv{ip.version}":
            causes.append(invalid(where, text, f"must be an {kind} address"))
        _special(ip, text, path, causes)


@call("slice_endpoints")
def _slice_endpoints(endpoints: list[Any], path: str, causes: list[Cause], context: Context) -> None:
    kind = context.whole.get("addressType")
    for index, one in enumerate(endpoints):
        addresses = as_list(as_dict(one).get("addresses"))
        where = f"{path}[{index}].addresses"
        if not addresses:
            causes.append(required(where, "must contain at least 1 address"))
        for position, text in enumerate(addresses):
            if kind in ("IPv4", "IPv6"):
                _slice_address(text, kind, f"{where}[{position}]", where, causes)
            elif kind == "FQDN":
                named(text, f"{where}[{position}]", _domain, causes)
        host = as_dict(one).get("hostname")
        if host is not None:
            causes += [invalid(f"{path}[{index}].hostname", host, words) for words in dns1123_label(host)]
        node = as_dict(one).get("nodeName")
        if node is not None:
            causes += [invalid(f"{path}[{index}].nodeName", node, words) for words in dns1123_subdomain(node)]
        hints = as_dict(as_dict(one).get("hints"))
        for field, rule in (("forZones", label_value), ("forNodes", dns1123_subdomain)):
            names = [as_dict(hint).get("name") or "" for hint in as_list(hints.get(field))]
            for position, name in enumerate(names):
                told = f"{path}[{index}].hints.{field}[{position}].name"
                causes += [duplicate(told, name)] if name in names[:position] else []
                causes += [invalid(told, name, words) for words in rule(name)]
    names = [as_dict(one).get("name") or "" for one in as_list(context.whole.get("ports"))]
    causes += [duplicate(f"ports[{i}].name", name) for i, name in enumerate(names) if name in names[:i]]


@call("host")
def _host(text: str, path: str, causes: list[Cause], _context: Context) -> None:
    if is_ip(text):
        causes.append(invalid(path, text, "must be a DNS name, not an IP address"))
        return
    if "*" not in (text or ""):
        causes += [invalid(path, text or "", words) for words in dns1123_subdomain(text or "")]
    elif not re.fullmatch(_WILDCARD, text):
        causes.append(invalid(path, text, _WILDCARD_WORDS))


@call("ingress_class")
def _ingress_class(obj: Obj, _path: str, causes: list[Cause], context: Context) -> None:
    key, name = "kubernetes.io/ingress.class", as_dict(obj.get("spec")).get("ingressClassName")
    annotations = as_dict(as_dict(obj.get("metadata")).get("annotations"))
    if context.new and name is not None and key in annotations and (annotations[key] or "") != name:
        detail = "must match `ingressClassName` when both are specified"
        causes.append(invalid(f"annotations.{key}", annotations[key] or "", detail))


@call("ingress_some")
def _ingress_some(spec: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    if not as_list(spec.get("rules")) and spec.get("defaultBackend") is None:
        causes.append(invalid(path, spec.get("rules"), "either `defaultBackend` or `rules` must be specified"))


@call("backend")
def _backend(backend: Obj, path: str, causes: list[Cause], context: Context) -> None:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        causes.append(invalid(path, "", "cannot set both resource and service backends"))
    elif resource is not None:
        check("V1IngressResource", as_dict(resource), f"{path}.resource", causes, context)
    elif service is None:
        causes.append(invalid(path, "", "resource or service backend is required"))
    else:
        _service_backend(as_dict(service), path, causes)


def _service_backend(service: Obj, path: str, causes: list[Cause]) -> None:
    named(service.get("name"), f"{path}.service.name", dns1035_label, causes)
    port, where = as_dict(service.get("port")), f"{path}.service.port"
    name, number = port.get("name"), port.get("number")
    if name and number:
        causes.append(invalid(path, "", "cannot set both port name & port number"))
    elif name:
        causes += [invalid(f"{where}.name", name, words) for words in port_name(name)]
    elif number:
        port_number(number, f"{where}.number", causes)
    else:
        causes.append(required(path, "port name or number is required"))


@call("ingress_path")
def _ingress_path(one: Obj, path: str, causes: list[Cause], context: Context) -> None:
    kind, text = one.get("pathType"), one.get("path") or ""
    if kind is None:
        return
    if kind in ("Exact", "Prefix"):
        if not text.startswith("/"):
            causes.append(invalid(f"{path}.path", text, "must be an absolute path"))
        for sign in ("//", "/./", "/../", "%2f", "%2F"):
            if sign in text:
                causes.append(invalid(f"{path}.path", text, f"must not contain '{sign}'"))
        for sign in ("/..", "/."):
            if text.endswith(sign):
                causes.append(invalid(f"{path}.path", text, f"cannot end with '{sign}'"))
    elif kind == "ImplementationSpecific":
        if text and not text.startswith("/"):
            causes.append(invalid(f"{path}.path", text, "must be an absolute path"))
    else:
        causes.append(not_supported(f"{path}.pathType", kind, ("Exact", "ImplementationSpecific", "Prefix")))
    _backend(as_dict(one.get("backend")), f"{path}.backend", causes, context)


@call("policy_types")
def _policy_types(types: list[Any], path: str, causes: list[Cause], _context: Context) -> None:
    if len(types) > 2:
        causes.append(invalid(path, types, "may not specify more than two policyTypes"))
        return
    for index, one in enumerate(types):
        if one not in ("Ingress", "Egress"):
            causes.append(not_supported(f"{path}[{index}]", one or "", ("Ingress", "Egress")))


@call("policy_port")
def _policy_port(port: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    start, end, where = port.get("port"), port.get("endPort"), f"{path}.endPort"
    if start is None:
        if end is not None:
            causes.append(invalid(where, end, "may not be specified when `port` is not specified"))
        return
    port_or_name(start, f"{path}.port", causes)
    if end is None:
        return
    if isinstance(start, str):
        causes.append(invalid(where, end, "may not be specified when `port` is non-numeric"))
        return
    if end < start:
        causes.append(invalid(where, start, "must be greater than or equal to `port`"))
    port_number(end, where, causes)


@call("peer")
def _peer(peer: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    chosen = [name for name in ("podSelector", "namespaceSelector") if peer.get(name) is not None]
    if not chosen and peer.get("ipBlock") is None:
        causes.append(required(path, "must specify a peer"))
    elif chosen and peer.get("ipBlock") is not None:
        causes.append(forbidden(path, "may not specify both ipBlock and another peer"))


@call("excepted")
def _excepted(block: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    if (read := read_network(block.get("cidr"))) is None:
        return
    whole: Any = read[1]
    for index, text in enumerate(as_list(block.get("except"))):
        where = f"{path}.except[{index}]"
        if (found := read_network(text)) is None:
            causes.append(invalid(where, text or "", CIDR))
            continue
        part: Any = found[1]
        if not (part.version == whole.version and part.subnet_of(whole) and part != whole):
            causes.append(invalid(where, text, "must be a strict subset of `cidr`"))
