# SPDX-License-Identifier: Apache-2.0
"""The way into the mesh: where the ingress gateway can be reached from here."""

from __future__ import annotations

import atexit
import socket
from dataclasses import dataclass
from typing import Literal

from labkit import cluster, display
from labkit.cluster import Obj
from labkit.ground.errors import ClusterError
from labkit.istio.releases import NAMESPACE

__all__ = ["Ingress", "ingress"]

SERVICE = "istio-ingressgateway"
_PORT = "get service {service} -n {namespace} -o jsonpath='{{.spec.ports[?(@.name==\"{name}\")].nodePort}}'"
_HOST = "get pods -l istio=ingressgateway -n {namespace} -o jsonpath='{{.items[0].status.hostIP}}'"


_PATIENCE = 2.0
"""Seconds that a node or load balancer has to answer before it counts as out of reach."""


@dataclass(frozen=True)
class Ingress(display.Shown):
    """Where the ingress gateway answers.

    Args:
        host: Its address from here: INGRESS_HOST.
        port: The port for http: INGRESS_PORT.
        secure_port: The port for https: SECURE_INGRESS_PORT; 0 where there is none.
        how: What leads there.
        why: Why this way and not a better one.
    """

    host: str
    port: int
    secure_port: int
    how: Literal["LoadBalancer", "NodePort", "port-forward"]
    why: str = ""

    @property
    def url(self) -> str:
        """http://GATEWAY_URL, without a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def rich(self) -> display.Rich:
        """In words, to show."""
        return display.message(f"{self.url} by {self.how}" + (f": {self.why}" if self.why else ""), "good")


def ingress(*, show: bool = True) -> Ingress:
    """Find the way in: the load balancer's address, else a node's port, else a port-forward.

    A port-forward stays open until this process ends, and is used again by later calls.

    Args:
        show: Whether to show the commands that a reader would type.

    Raises:
        ClusterError: There is no ingress gateway, or none of its pods runs.
    """
    services = cluster.get("service", SERVICE, namespace=NAMESPACE)
    if not services:
        raise ClusterError(
            f"there is no Service {SERVICE} in namespace {NAMESPACE}",
            next_step="Install Istio first: 01-install-istio.",
        )
    service = services[0]
    if show:
        cluster.kubectl(f"get service {SERVICE} -n {NAMESPACE}")
    ways, why = _ways(service, show)
    # A way that refuses may be right all the same: Envoy listens only once a Gateway says so.
    seen = {way: _look(way) for way in ways}
    for wanted in ("open", "refused"):
        for way, state in seen.items():
            if state == wanted:
                return way
    out_of_reach = [f"{way.host}:{way.port} cannot be reached from here" for way in ways]
    return _forwarded(service, "; ".join([why, *out_of_reach]), show)


def _ways(service: Obj, show: bool) -> tuple[list[Ingress], str]:
    ways = []
    why = "EXTERNAL-IP is <pending>: no load balancer serves this cluster"
    external = _external(service)
    if external:
        why = f"EXTERNAL-IP is {external}"
        ways = [
            Ingress(external, _port(service, "http2", "port"), _port(service, "https", "port"), "LoadBalancer", why)
        ]
    elif service["spec"]["type"] != "LoadBalancer":
        why = f"the Service is of type {service['spec']['type']}"
    host = _host(show)
    http, https = (_port(service, name, "nodePort") for name in ("http2", "https"))
    if http:
        if show:
            for name in ("http2", "https"):
                cluster.kubectl(_PORT.format(service=SERVICE, namespace=NAMESPACE, name=name))
        ways.append(Ingress(host, http, https, "NodePort", why))
    return ways, why


def _external(service: Obj) -> str:
    given = service.get("status", {}).get("loadBalancer", {}).get("ingress") or [{}]
    return str(given[0].get("ip") or given[0].get("hostname") or "")


def _port(service: Obj, name: str, field: str) -> int:
    return next((int(port.get(field, 0)) for port in service["spec"]["ports"] if port.get("name") == name), 0)


def _host(show: bool) -> str:
    pods = cluster.get("pods", namespace=NAMESPACE, labels="istio=ingressgateway")
    hosts = [pod["status"]["hostIP"] for pod in pods if pod.get("status", {}).get("hostIP")]
    if not hosts:
        raise ClusterError(
            f"no pod of the ingress gateway runs in namespace {NAMESPACE}",
            next_step=f"`kubectl get pods -n {NAMESPACE} -l istio=ingressgateway` and `istio.diagnose()` say why.",
        )
    if show:
        cluster.kubectl(_HOST.format(namespace=NAMESPACE))
    return str(hosts[0])


def _look(way: Ingress) -> Literal["open", "refused", "silent"]:
    try:
        with socket.create_connection((way.host, way.port), timeout=_PATIENCE):
            return "open"
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "silent"


_forwards: dict[tuple[cluster.Chosen, int], cluster.PortForward] = {}


def _forwarded(service: Obj, why: str, show: bool) -> Ingress:
    https = _port(service, "https", "port")
    return Ingress("127.0.0.1", _forward(80, show), _forward(https, show) if https else 0, "port-forward", why)


def _forward(port: int, show: bool) -> int:
    key = cluster.current(), port
    forward = _forwards.get(key)
    if forward is None or forward.closed:
        if not _forwards:
            atexit.register(_close)
        forward = _forwards[key] = cluster.port_forward(f"svc/{SERVICE}", port, namespace=NAMESPACE, show=show)
    return forward.port


def _close() -> None:
    for forward in _forwards.values():
        forward.close()
    _forwards.clear()
