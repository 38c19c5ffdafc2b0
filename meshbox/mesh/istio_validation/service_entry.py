# SPDX-License-Identifier: Apache-2.0
"""ServiceEntries and the workloads that are no pods, as Istio's webhook looks at them."""

from __future__ import annotations

import re

from labkit.ground.names import is_ip
from meshbox.contracts import Obj
from meshbox.mesh.envoy import Json
from meshbox.mesh.istio_validation import texts
from meshbox.mesh.istio_validation.attachment import exported, workloads_selected
from meshbox.mesh.istio_validation.gateway import HTTP, TLS
from meshbox.mesh.istio_validation.problems import UNIX, Problems
from meshbox.mesh.istio_validation.texts import quoted

__all__ = ["AUTO_ALLOCATE", "check", "workload_entry", "workload_group"]

AUTO_ALLOCATE = "networking.istio.io/enable-autoallocate-ip"
"""The label by which a ServiceEntry does without addresses of its own."""

_DYNAMIC = "resolution type DYNAMIC_DNS"


def check(obj: Obj, problems: Problems) -> None:
    """Look at a ServiceEntry."""
    spec: Json = obj.get("spec") or {}
    hosts, ports = spec.get("hosts") or [], [port or {} for port in spec.get("ports") or []]
    resolution = spec.get("resolution") or "NONE"
    selector = spec.get("workloadSelector")
    if selector is not None and not problems.legacy and not workloads_selected(selector, "service entry", problems):
        return
    if selector is not None and spec.get("endpoints"):
        problems.error("only one of WorkloadSelector or Endpoints is allowed in Service Entry")
    problems.require(hosts, "service entry must have at least one host")
    for host in hosts:
        if host == "*":
            problems.error(f"invalid host {host}")
        elif problems.domain(host) and (partial := texts.partial_wildcard(host)):
            problems.warn(partial)
    problems.each(spec.get("addresses"), problems.subnet)
    if any("/" in str(a) for a in spec.get("addresses") or []) and resolution not in ("NONE", "STATIC"):
        problems.error("CIDR addresses are allowed only for NONE/STATIC resolution types")
    label = str((obj["metadata"].get("labels") or {}).get(AUTO_ALLOCATE, "")).lower()
    _ports(ports, problems, bare=not spec.get("addresses") and (resolution == "NONE" or label == "false"))
    _resolution(spec, resolution, ports, problems)
    if resolution != "NONE" and len(hosts) > 1 and any(_protocol(port) not in (*HTTP, *TLS) for port in ports):
        problems.error("multiple hosts provided with non-HTTP, non-TLS ports")
    for port in ports if problems.legacy else ():
        _port(port, problems)
    exported(spec.get("exportTo"), problems, obj["metadata"].get("namespace") or "", nobody=True)


def _protocol(port: Json) -> str:
    return str(port.get("protocol") or "").lower()


def _ports(ports: list[Json], problems: Problems, *, bare: bool) -> None:
    """`bare`: whether connections can be told from others by their port only."""
    names: set[str] = set()
    numbers: set[int] = set()
    for port in ports:
        name, number = port.get("name") or "", port.get("number") or 0
        problems.require(name not in names, f"service entry port name {quoted(name)} already defined")
        problems.require(number not in numbers, f"service entry port {number} already defined")
        names.add(name)
        numbers.add(number)
        if port.get("targetPort"):
            problems.port(port["targetPort"])
        if bare and port.get("protocol") in (None, "", "TCP"):
            problems.warn("addresses are required for ports serving TCP (or unset) protocol when IP Autoallocation is "
                          "not enabled")  # fmt: skip
        if not problems.legacy:
            _port(port, problems)


def _port(port: Json, problems: Problems) -> None:
    problems.port_name(port.get("name"))
    problems.protocol(port.get("protocol"))
    problems.port(port.get("number"))


def _resolution(spec: Json, resolution: str, ports: list[Json], problems: Problems) -> None:
    endpoints = [endpoint or {} for endpoint in spec.get("endpoints") or []]
    hosts = [str(host) for host in spec.get("hosts") or []]
    names = {port.get("name") or "" for port in ports}
    selects = spec.get("workloadSelector") is not None
    if resolution == "NONE":
        problems.require(not endpoints, "no endpoints should be provided for resolution type none")
        if selects:
            problems.warn("workloadSelector should not be set when resolution mode is NONE")
    elif resolution == "STATIC":
        if problems.legacy:
            problems.require(endpoints, "endpoints must be provided if service entry resolution mode is static")
        for endpoint in endpoints:
            _entry(endpoint, problems, names=names, dns=False)
    elif resolution == "DYNAMIC_DNS":
        _dynamic(spec, hosts, ports, problems)
    else:
        _by_dns(hosts, endpoints, resolution, names, problems)
        bytes_only = any(port.get("protocol") and _protocol(port) not in (*HTTP, "udp") for port in ports)
        if spec.get("addresses") and len(hosts) > 1 and bytes_only:
            problems.warn("service entry can not have more than one host specified simultaneously with address and "
                          "tcp port")  # fmt: skip


def _by_dns(hosts: list[str], endpoints: list[Json], resolution: str, names: set[str], problems: Problems) -> None:
    for host in hosts if not endpoints else ():
        odd = texts.domain_problem(host, wildcard=False)
        if odd and problems.legacy:
            problems.error("hosts must be FQDN if no endpoints are provided for resolution mode DNS")
        elif odd:
            problems.error("hosts must be FQDN or contain only prefix wildcards if no endpoints are provided for "
                           f"resolution mode {resolution}, {odd}")  # fmt: skip
            break
    if resolution == "DNS_ROUND_ROBIN" and len(endpoints) > 1:
        problems.error(f"there must only be 0 or 1 endpoint for resolution mode {resolution}")
    for endpoint in endpoints:
        address = str(endpoint.get("address") or "")
        if not is_ip(address) and texts.domain_problem(address, wildcard=False):
            problems.error(f"endpoint address {quoted(address)} is not a valid FQDN or an IP address")
        problems.tags(endpoint.get("labels"))
        _entry_ports(endpoint, names, problems)


def _dynamic(spec: Json, hosts: list[str], ports: list[Json], problems: Problems) -> None:
    """Names that are looked up as they are called: all come from the requests."""
    problems.require(hosts, f"at least one wildcard host must be provided for {_DYNAMIC}")
    for host in hosts:
        problems.require(host.startswith("*"), "host must be wildcarded for resolution mode DYNAMIC_DNS")
    if spec.get("addresses"):
        problems.error(f"addresses cannot be set for {_DYNAMIC}. HTTP route domains will only be generated"
                       "from the hosts field values")  # fmt: skip
    if spec.get("endpoints"):
        problems.error(f"endpoints cannot be set for {_DYNAMIC}. Destination IP address determined from hosts"
                       "field values")  # fmt: skip
    for port in ports:
        known = _protocol(port) in ("http", "http2", "grpc", "tls")
        problems.require(known, f"only HTTP, TLS, GRPC, and HTTP2 protocols are supported for {_DYNAMIC}")


def _entry(entry: Json, problems: Problems, *, names: set[str] | None, dns: bool) -> None:
    """A workload by its address.

    Args:
        entry: A WorkloadEntry.
        problems: Is told what is wrong.
        names: The ports that there are, by name; None where that is not known.
        dns: Whether the address may be a name.
    """
    address = str(entry.get("address") or "")
    if not address and not problems.legacy:
        network = entry.get("network")
        if not network:
            problems.error("address is required")
            return
        problems.warn(f"address is unset with network {quoted(network)}")
    elif address.startswith(UNIX):
        problems.socket(address.removeprefix(UNIX))
        problems.require(not entry.get("ports"), f"unix endpoint {address} must not include ports")
    elif problems.legacy:
        problems.subnet(address)
    elif not is_ip(address):
        if dns and texts.domain_problem(address, wildcard=False):
            problems.error(f"endpoint address {quoted(address)} is not a valid FQDN or an IP address")
        elif not dns:
            problems.error(f"endpoint address {quoted(address)} is not a valid IP address")
    _entry_ports(entry, names, problems)
    problems.tags(entry.get("labels"))
    if address.startswith(UNIX) and names is not None and len(names) != 1:
        problems.error("exactly 1 service port required for unix endpoints")


def _entry_ports(entry: Json, names: set[str] | None, problems: Problems) -> None:
    for name, port in sorted((entry.get("ports") or {}).items()):
        if names is not None and name not in names:
            problems.error(f"endpoint port {port} is not defined by the service entry")
        problems.port_name(name)
        problems.port(port)


def workload_entry(obj: Obj, problems: Problems) -> None:
    """Look at a WorkloadEntry."""
    _entry(obj.get("spec") or {}, problems, names=None, dns=True)


def workload_group(obj: Obj, problems: Problems) -> None:
    """Look at a WorkloadGroup."""
    spec: Json = obj.get("spec") or {}
    if spec.get("template") is None:
        problems.error("template is required")
        return
    odd = list(texts.label_problems((spec.get("metadata") or {}).get("labels") or {}))
    if odd:
        problems.error(f"invalid labels: {texts.listing(odd)}")
    elif spec.get("probe") is not None:
        _probe(spec["probe"], problems)


def _probe(probe: Json, problems: Problems) -> None:
    for key in ("periodSeconds", "initialDelaySeconds", "timeoutSeconds", "successThreshold", "failureThreshold"):
        problems.require((probe.get(key) or 0) >= 0, f"{key} must be non-negative")
    http, tcp, command = probe.get("httpGet"), probe.get("tcpSocket"), probe.get("exec")
    if http is not None:
        problems.port(http.get("port"))
        if http.get("scheme") not in (None, "", "HTTP", "HTTPS"):
            problems.error('httpGet.scheme must be one of "HTTPS", "HTTP"')
        for header in http.get("httpHeaders") or []:
            name = str((header or {}).get("name") or "")
            odd = f"header name {name} is not a valid header name" if name else "header name cannot be empty"
            problems.require(re.fullmatch("[-A-Za-z0-9]+", name), odd)
    elif tcp is not None:
        problems.port(tcp.get("port"))
    elif command is not None:
        problems.require(command.get("command"), "exec.command is required")
    else:
        # Istio's CRD has probes by gRPC; its webhook knows none.
        found = "<nil>" if probe.get("grpc") is None else "*v1alpha3.ReadinessProbe_Grpc"
        problems.error(f"unknown health check method {found}")
