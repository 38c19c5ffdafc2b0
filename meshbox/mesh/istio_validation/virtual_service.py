# SPDX-License-Identifier: Apache-2.0
"""VirtualServices, as Istio's webhook looks at them: for which hosts, at which gateways, and by which matches."""

from __future__ import annotations

import re

from labkit.ground.hosts import gateway_key, overlap, within
from labkit.ground.names import is_ip
from labkit.ground.unreachable import unused
from meshbox.contracts import Obj
from meshbox.mesh.envoy import Json
from meshbox.mesh.istio_validation import texts
from meshbox.mesh.istio_validation.attachment import exported
from meshbox.mesh.istio_validation.problems import Problems
from meshbox.mesh.istio_validation.routes import destinations, manipulations, outcomes
from meshbox.mesh.istio_validation.texts import quoted

__all__ = ["check"]

_MESH = "mesh"


def check(obj: Obj, problems: Problems) -> None:
    """Look at a VirtualService."""
    spec: Json = obj.get("spec") or {}
    gateways = [str(name) for name in spec.get("gateways") or []]
    hosts = [str(host) for host in spec.get("hosts") or []]
    delegate = not hosts and not problems.legacy
    if delegate:
        problems.require(not gateways, "delegate virtual service must have no gateways specified")
        problems.require(not spec.get("tls"), "delegate virtual service must have no tls route specified")
        problems.require(not spec.get("tcp"), "delegate virtual service must have no tcp route specified")
    outside = bool(gateways) and _MESH not in gateways
    _gateway_names(gateways, problems)
    if problems.legacy:
        problems.require(hosts, "virtual service must have at least one host")
    elif not outside:
        _claims(spec, gateways, problems)
    _hosts(spec, hosts, problems, outside=outside)
    if not any(spec.get(section) for section in ("http", "tcp", "tls")):
        problems.error("http, tcp or tls must be provided in virtual service")
    for rule in spec.get("http") or []:
        _http(rule or {}, problems, delegate=delegate)
    for rule in spec.get("tls") or []:
        # Today's Istio takes one without gateways for one of theirs here.
        _tls(rule or {}, hosts, problems, outside=outside if problems.legacy else _MESH not in gateways)
    for rule in spec.get("tcp") or []:
        _tcp(rule or {}, problems)
    exported(spec.get("exportTo"), problems, obj["metadata"].get("namespace") or "")
    for one in unused(spec):
        problems.warn(f"virtualService {one}")


def _claims(spec: Json, gateways: list[str], problems: Problems) -> None:
    """Only a gateway can route by what a token claims."""
    for rule in spec.get("http") or []:
        for match in (rule or {}).get("match") or []:
            for section in ("headers", "withoutHeaders"):
                for name in sorted(filter(texts.is_claim, (match or {}).get(section) or {})):
                    problems.error(f"JWT claim based routing (key: {name}) is only supported for gateway, "
                                   f"found no gateways: [{' '.join(gateways)}]")  # fmt: skip


def _sni(spec: Json) -> bool:
    return any((match or {}).get("sniHosts") for rule in spec.get("tls") or [] for match in rule.get("match") or [])


def _passed_through_problem(host: str) -> str:
    """Why it is no name by which a sidecar calls through a gateway."""
    form = "outbound_.<PORT>_._.<HOSTNAME>"
    _, port, *rest = host.split("_")
    if len(rest) < 2:
        return f"domain name {host} invalid, should follow '{form}' format"
    for part, needed in ((port, "[0-9]"), (rest[1], "[a-zA-Z]")):
        if not re.search(needed, part):
            odd = quoted(part.strip("."))
            return f"domain name {quoted(host)} invalid (label {odd} invalid). should follow {form} format"
    return ""


def _host_problem(host: str, *, outside: bool, sni: bool, legacy: bool) -> str:
    """Why it is no host; `sni`: the names by which sidecars call each other through gateways are allowed there."""
    if outside and sni and not legacy and host.startswith("outbound_"):
        return _passed_through_problem(host)
    if outside and sni and host.split(".")[0] == "outbound_":
        shaped = re.search("outbound_.([0-8].*).*", host)
        return "" if shaped else f'domain name {quoted(host)} invalid (label "outbound_" invalid)'
    return texts.domain_problem(host, wildcard=True)


def _hosts(spec: Json, hosts: list[str], problems: Problems, *, outside: bool) -> None:
    valid, sni = True, _sni(spec)
    for host in hosts:
        said = _host_problem(host, outside=outside, sni=sni, legacy=problems.legacy)
        if said and not is_ip(host):
            problems.error(said)
            valid = False
        elif not outside and host == "*":
            problems.error("wildcard host * is not allowed for virtual services bound to the mesh gateway")
            valid = False
    if not valid:
        return
    for index, first in enumerate(hosts):
        for second in hosts[index + 1 :]:
            if overlap(first, second):
                problems.error(f"duplicate hosts in virtual service: {first} & {second}")


def _gateway_names(names: list[str], problems: Problems) -> None:
    for name in names:
        namespace, slash, rest = name.partition("/")
        if not slash:
            if "." in name and not problems.legacy:
                better = f'prefer the <namespace>/<name> format: "{gateway_key(name, "")}"'
                problems.warn(f'using legacy gatewayName format "{name}"; {better}')
            problems.domain(name, wildcard=False)
            # Istio looks no further.
            return
        if not namespace or not rest:
            problems.error("config namespace and gateway name cannot be empty")
        problems.require(problems.label(namespace), f"invalid value for namespace: {quoted(namespace)}")
        problems.require(problems.label(rest), f"invalid value for gateway name: {quoted(rest)}")


def _http(rule: Json, problems: Problems, *, delegate: bool) -> None:
    _conflicts(rule, problems, delegate=delegate)
    matches = [match or {} for match in rule.get("match") or []]
    if problems.legacy:
        manipulations(rule, problems)
    for match in matches:
        _match(match, problems)
    for match in matches:
        _source(match, problems)
        namespace = match.get("sourceNamespace")
        if namespace:
            problems.require(problems.label(namespace), f"sourceNamespace match {namespace} is invalid")
    if not problems.legacy:
        manipulations(rule, problems)
    outcomes(rule, problems)


def _conflicts(rule: Json, problems: Problems, *, delegate: bool) -> None:
    name = rule.get("name") or ""
    redirect, response = rule.get("redirect") is not None, rule.get("directResponse") is not None
    if rule.get("delegate") is not None and not delegate:
        problems.require(not redirect, f"root HTTP route {name} must not specify redirect")
        problems.require(rule.get("route") is None, f"root HTTP route {name} must not specify route")
        return
    problems.require(rule.get("delegate") is None, "delegate HTTP route cannot contain delegate")
    other = "redirect" if redirect else "direct_response"
    if redirect or response:
        problems.require(not rule.get("route"), f"HTTP route cannot contain both route and {other}")
        problems.require(rule.get("fault") is None, f"HTTP route cannot contain both fault and {other}")
        problems.require(rule.get("rewrite") is None, f"HTTP route rule cannot contain both rewrite and {other}")
    elif not rule.get("route"):
        what = "HTTP route or redirect" if problems.legacy else "HTTP route, redirect or direct_response"
        problems.error(f"{what} is required")
    if redirect and response:
        problems.error("HTTP route rule cannot contain both direct_response and redirect")
    if redirect and rule.get("websocketUpgrade"):
        problems.error("WebSocket upgrade is not allowed on redirect rules")
    if rule.get("mirror") is not None and rule.get("mirrors"):
        problems.error("HTTP route cannot contain both mirror and mirrors")


def _match(match: Json, problems: Problems) -> None:
    for name, value in sorted((match.get("headers") or {}).items()):
        if value is None and not problems.legacy:
            problems.error(f"header match {name} cannot be null")
        problems.header_name(name)
        problems.string_match(value, "headers")
    for name, value in sorted((match.get("withoutHeaders") or {}).items()):
        problems.header_name(name)
        if (value or {}).get("regex") != "*":
            # (That one asks only whether the header is there.)
            problems.string_match(value, "withoutHeaders")
    # A path may begin with anything.
    problems.string_match(match.get("uri"), "uri", prefix=False)
    for section in ("scheme", "method", "authority"):
        problems.string_match(match.get(section), section)
    for name, value in sorted((match.get("queryParams") or {}).items()):
        # Envoy refuses the table of all routes of a port for it.
        problems.require(name, "query parameter name cannot be empty")
        problems.string_match(value, "queryParams")


def _source(match: Json, problems: Problems) -> None:
    """Where a request or connection comes from, and to which port."""
    if match.get("port"):
        problems.port(match["port"])
    problems.tags(match.get("sourceLabels"))
    _gateway_names([str(name) for name in match.get("gateways") or []], problems)


def _tls(rule: Json, hosts: list[str], problems: Problems, *, outside: bool) -> None:
    problems.require(rule.get("match"), "TLS route must have at least one match condition")
    for match in rule.get("match") or []:
        match = match or {}
        names = match.get("sniHosts") or []
        problems.require(names, "TLS match must have at least one SNI host")
        for name in names:
            _sni_host(str(name), hosts, problems, outside=outside)
        problems.each(match.get("destinationSubnets"), problems.subnet)
        _source(match, problems)
    if not problems.legacy:
        problems.require(rule.get("route"), "TLS route is required")
    destinations(rule.get("route") or [], problems)


def _sni_host(name: str, hosts: list[str], problems: Problems, *, outside: bool) -> None:
    said = _host_problem(name, outside=outside, sni=True, legacy=problems.legacy)
    if said and is_ip(name):
        problems.warn(
            f"using an IP address ({quoted(name)}) goes against SNI spec and most clients do not support this"
        )
    elif said:
        problems.error(said)
    elif not any(within(name, host) for host in hosts):
        words = f"SNI host is not a compatible subset of the virtual service hosts: {name}"
        if not problems.legacy:
            listed = ", ".join(hosts)
            words = (
                f"SNI host {quoted(name)} is not a compatible subset of any of the virtual service hosts: [{listed}]"
            )
        problems.error(words)


def _tcp(rule: Json, problems: Problems) -> None:
    for match in rule.get("match") or []:
        problems.each((match or {}).get("destinationSubnets"), problems.subnet)
        if (match or {}).get("sourceSubnet") and problems.legacy:
            problems.subnet(match["sourceSubnet"])
        _source(match or {}, problems)
    if not problems.legacy:
        problems.require(rule.get("route"), "TCP route is required")
    destinations(rule.get("route") or [], problems)
