# SPDX-License-Identifier: Apache-2.0
"""Services: ports whose names say no protocol, and Services that lead to the same pods in contrary ways."""

from __future__ import annotations

from collections.abc import Iterator

from labkit.cluster import Obj
from labkit.ground.labels import selects
from labkit.istio.analyze.messages import listed, quoted
from labkit.istio.analyze.world import SYSTEM, Said, World, full, name, namespace, of_istio

__all__ = ["protocol", "services"]

_PROTOCOLS = frozenset(
    ("tcp", "udp", "http", "http_proxy", "http2", "https", "grpc", "grpc-web", "tls", "mongo", "redis", "mysql")
)
_KUBERNETES = {"kubernetes.io/h2c": "http2", "kubernetes.io/ws": "http", "kubernetes.io/wss": "https"}
"""Kubernetes' own names for what an application speaks."""

_KNOWN_PORTS = {25: "tcp", 53: "udp", 3306: "tcp", 27017: "tcp"}
"""Ports where the server speaks first: Istio takes them for TCP without a name."""


def services(world: World) -> Iterator[Said]:
    """What is wrong with them."""
    for item in world.all("Service"):
        if namespace(item) not in SYSTEM and not of_istio(item):
            yield from _ports(item)
    for item in world.all("Deployment"):
        template = item["spec"].get("template") or {}
        managed = (item["metadata"].get("labels") or {}).get("gateway.istio.io/managed")
        if managed != "istio.io-mesh-controller" and world.in_mesh(item, template):
            yield from _same_pods(item, template, world)


def _ports(item: Obj) -> Iterator[Said]:
    outside = item["spec"].get("type") == "ExternalName"
    for port in item["spec"].get("ports") or []:
        written = port.get("name") or ""
        if protocol(port) and not (outside and written == "tcp"):
            continue
        if outside:
            yield Said(item, "IST0150")
        else:
            yield Said(item, "IST0118", (written, port.get("port") or 0, port.get("targetPort") or 0))


def protocol(port: Obj) -> str:
    """What a port says it speaks; "" where Istio has to guess."""
    if (port.get("protocol") or "TCP") == "UDP":
        return "udp"
    said = port.get("appProtocol") or port.get("name") or ""
    if port.get("appProtocol") in _KUBERNETES:
        return _KUBERNETES[said]
    lower = said.lower()
    first = "grpc-web" if lower == "grpc-web" or lower.startswith("grpc-web-") else lower.partition("-")[0]
    if first in _PROTOCOLS:
        return first
    return "" if port.get("appProtocol") else _KNOWN_PORTS.get(port.get("port") or 0, "")


def _same_pods(item: Obj, template: Obj, world: World) -> Iterator[Said]:
    labels = (template.get("metadata") or {}).get("labels") or {}
    protocols: dict[int, dict[str, list[str]]] = {}
    targets: dict[str, dict[int, str]] = {}
    for service in world.all("Service"):
        selector = service["spec"].get("selector")
        if namespace(service) != namespace(item) or not selector or not selects(selector, labels):
            continue
        for port in service["spec"].get("ports") or []:
            number = port.get("port") or 0
            protocols.setdefault(number, {}).setdefault(port.get("protocol") or "TCP", []).append(full(service))
            targets.setdefault(str(port.get("targetPort") or number), {})[number] = full(service)
    for number, by_protocol in sorted(protocols.items()):
        if len(by_protocol) > 1:
            names = sorted(one for names in by_protocol.values() for one in names)
            yield Said(item, "IST0116", (name(item), number, listed(names)))
    for target, by_port in sorted(targets.items()):
        if len(by_port) > 1:
            about = listed(sorted(by_port.values())), quoted(target), listed(sorted(by_port))
            yield Said(item, "IST0137", (name(item), *about))
