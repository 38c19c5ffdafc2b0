# SPDX-License-Identifier: Apache-2.0
"""Tables of what leads to pods: Services, Endpoints, Ingresses, policies."""

from __future__ import annotations

from typing import Any

from meshbox.api.tables.formats import NONE, clip, dig, items
from meshbox.api.tables.printer_columns import At, Cells, cells
from meshbox.contracts import Obj

__all__: list[str] = []

_SHOWN = 3


def _load_balancer(obj: Obj) -> list[str]:
    points = items(obj, "status", "loadBalancer", "ingress")
    return sorted({point.get("ip") or point.get("hostname") or "" for point in points} - {""})


def _external_ip(obj: Obj) -> str:
    kind, own = dig(obj, "spec", "type") or "ClusterIP", items(obj, "spec", "externalIPs")
    if kind == "ExternalName":
        return str(dig(obj, "spec", "externalName") or "")
    if kind == "LoadBalancer":
        return ",".join(_load_balancer(obj) + own) or "<pending>"
    return ",".join(own) or NONE


def _port(port: Obj) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{node}/{port.get('protocol') or 'TCP'}"


@cells("service")
def _service(obj: Obj, at: At) -> Cells:
    addresses = items(obj, "spec", "clusterIPs") or [dig(obj, "spec", "clusterIP")]
    return {
        "Cluster-IP": addresses[0] or NONE,
        "External-IP": _external_ip(obj),
        "Port(s)": ",".join(_port(port) for port in items(obj, "spec", "ports")) or NONE,
    }


def _host_port(address: str, port: Any) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@cells("endpoints")
def _endpoints(obj: Obj, at: At) -> Cells:
    subsets = items(obj, "subsets")
    if not subsets:
        return {"Endpoints": NONE}
    texts: list[str] = []
    for subset in subsets:
        addresses, ports = [a["ip"] for a in items(subset, "addresses")], items(subset, "ports")
        texts += [_host_port(a, p["port"]) for p in ports for a in addresses] if ports else addresses
    return {"Endpoints": clip(texts, _SHOWN)}


@cells("endpoint_slice")
def _endpoint_slice(obj: Obj, at: At) -> Cells:
    ports = [str(port.get("port") or port.get("name") or "*") for port in items(obj, "ports")]
    addresses = [address for endpoint in items(obj, "endpoints") for address in items(endpoint, "addresses")]
    return {
        "Ports": clip(ports, _SHOWN, empty="<unset>"),
        "Endpoints": clip(addresses, _SHOWN, empty="<unset>"),
    }


@cells("ingress")
def _ingress(obj: Obj, at: At) -> Cells:
    hosts = [rule["host"] for rule in items(obj, "spec", "rules") if rule.get("host")]
    return {
        "Hosts": clip(hosts, _SHOWN, empty="*"),
        "Address": ",".join(_load_balancer(obj)),
        "Ports": "80, 443" if items(obj, "spec", "tls") else "80",
    }


@cells("ingress_class")
def _ingress_class(obj: Obj, at: At) -> Cells:
    parameters = dig(obj, "spec", "parameters")
    text = NONE
    if parameters:
        group = f".{parameters['apiGroup']}" if parameters.get("apiGroup") else ""
        text = f"{parameters.get('kind', '')}{group}/{parameters.get('name', '')}"
    return {"Parameters": text}


@cells("ip_address")
def _ip_address(obj: Obj, at: At) -> Cells:
    parent = dig(obj, "spec", "parentRef")
    if not parent:
        return {"ParentRef": NONE}
    resource = ".".join(filter(None, [parent.get("resource", ""), parent.get("group", "")])).lower()
    return {"ParentRef": "/".join(filter(None, [resource, parent.get("namespace", ""), parent.get("name", "")]))}
