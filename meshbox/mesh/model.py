# SPDX-License-Identifier: Apache-2.0
"""What a proxy's configuration is computed from: Services, workloads and the mesh's own settings, out of stored
objects.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from labkit.ground import reading
from labkit.ground.hosts import DOMAIN
from meshbox.contracts import View
from meshbox.interception import EVERYTHING, Interception
from meshbox.mesh.settings import number, span_tags
from meshbox.port_protocols import HTTP_PROTOCOLS, TLS_PROTOCOLS, protocol_of

if TYPE_CHECKING:
    from meshbox.typed.containers import Container
    from meshbox.typed.pods import Pod

__all__ = [
    "HTTP_PROTOCOLS",
    "TLS_PROTOCOLS",
    "Endpoint",
    "Port",
    "Service",
    "Workload",
    "annotations_of",
    "in_order",
    "labels",
    "protocol_of",
]


TRUST_DOMAIN = "cluster.local"
"""Whose identities the mesh's are, unless its settings name another."""


def labels(obj: View) -> dict[str, str]:
    """The labels of an object."""
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: View) -> dict[str, str]:
    """The annotations of an object."""
    return obj["metadata"].get("annotations") or {}


def _own_tracing(proxy: Container | None) -> tuple[float, str, str]:
    """What the settings of one proxy say of its spans."""
    variables = (proxy or {}).get("env") or []
    text = next((e.get("value") or "" for e in variables if e.get("name") == "PROXY_CONFIG"), "")
    if '"tracing"' not in text:
        return -1.0, "", ""
    try:
        found = reading.json_value(text)["tracing"]
        address = str((found.get("zipkin") or {}).get("address") or "")
    except (reading.ReadingError, AttributeError, KeyError, TypeError):
        return -1.0, "", ""
    port = address.partition(":")[2]
    return number(found.get("sampling"), -1.0), address if not port or port.isdigit() else "", span_tags(found)


@dataclass(frozen=True)
class Workload:
    """One pod, as proxies and telemetry see it.

    Args:
        pod: The pod's name.
        namespace: Its namespace.
        ip: Its IP; empty while it has none.
        labels: Its labels.
        service_account: The account it runs as.
        name: The workload behind it: its Deployment, StatefulSet, Job …, else the pod itself.
        kind: That workload's kind in lower case, e.g. "deployment".
        proxy: "sidecar", "router" (a gateway) or "" without a proxy.
        ports: The ports its containers declare, the proxy's own excepted.
        open_ports: The ports that its application listens on besides.
        unprivileged: Whether its proxy may not bind ports below 1024.
        locality: Where it runs, "region/zone/subzone"; empty where that is not known.
        node: The node it runs on.
        trust_domain: Whose identity it has.
        interception: What its sidecar takes of its connections.
        tracing: What its proxy's own settings say: percentage of requests traced (negative: nothing), where spans
            go, and their tags.
    """

    pod: str
    namespace: str
    ip: str
    labels: Mapping[str, str]
    service_account: str
    name: str
    kind: str = "deployment"
    proxy: str = ""
    ports: tuple[int, ...] = ()
    open_ports: tuple[int, ...] = ()
    unprivileged: bool = False
    locality: str = ""
    node: str = ""
    trust_domain: str = TRUST_DOMAIN
    interception: Interception = EVERYTHING
    tracing: tuple[float, str, str] = (-1.0, "", "")

    def __hash__(self) -> int:
        return hash((self.namespace, self.pod))

    @classmethod
    def of(
        cls,
        pod: Pod,
        locality: str = "",
        listening: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
        trust_domain: str = TRUST_DOMAIN,
    ) -> Workload:
        """The workload that `pod`, which runs at `locality`, is an instance of.

        Args:
            pod: The pod.
            locality: Where it runs.
            listening: What applications listen on, by pods' addresses.
            trust_domain: The mesh's.
        """
        meta, spec = pod["metadata"], pod.get("spec", {})
        owner = next((o for o in meta.get("ownerReferences", []) if o.get("controller")), None)
        name, kind = meta["name"], "pod"
        if owner is not None:
            name, kind = owner["name"], owner["kind"].lower()
            pod_hash = labels(pod).get("pod-template-hash", "")
            if kind == "replicaset" and pod_hash and name.endswith(f"-{pod_hash}"):
                name, kind = name.removesuffix(f"-{pod_hash}"), "deployment"
        containers = [*spec.get("containers", []), *spec.get("initContainers", [])]
        proxy = next((c for c in containers if c["name"] == "istio-proxy"), None)
        arguments = [*(proxy.get("command") or []), *(proxy.get("args") or [])] if proxy else []
        role = next((word for word in ("sidecar", "router") if word in arguments[:3]), "")
        ports = {
            p["containerPort"]
            for c in spec.get("containers", [])
            if c["name"] != "istio-proxy"
            for p in c.get("ports") or []
            if p.get("protocol", "TCP") == "TCP"
        }
        unprivileged = any(
            e.get("name") == "ISTIO_META_UNPRIVILEGED_POD" and e.get("value") == "true"
            for e in (proxy or {}).get("env") or []
        )
        ip = pod.get("status", {}).get("podIP", "")
        return cls(
            pod=meta["name"],
            namespace=meta.get("namespace", "default"),
            ip=ip,
            labels=labels(pod),
            service_account=spec.get("serviceAccountName") or "default",
            name=name,
            kind=kind,
            proxy=role,
            ports=tuple(sorted(ports)),
            open_ports=tuple(port for port in listening.get(ip, ()) if port not in ports) if role == "sidecar" else (),
            unprivileged=unprivileged,
            locality=locality,
            node=spec.get("nodeName") or "",
            trust_domain=trust_domain,
            interception=Interception.of(spec),
            tracing=_own_tracing(proxy),
        )

    @property
    def app(self) -> str:
        """Istio's `app` of telemetry."""
        return self.labels.get("app", "unknown")

    @property
    def version(self) -> str:
        """Istio's `version` of telemetry."""
        return self.labels.get("version", "unknown")

    @property
    def canonical_service(self) -> str:
        """The canonical service, by Istio's order of labels."""
        keys = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
        return next((self.labels[key] for key in keys if self.labels.get(key)), self.name)

    @property
    def canonical_revision(self) -> str:
        """The canonical revision, by Istio's order of labels."""
        keys = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")
        return next((self.labels[key] for key in keys if self.labels.get(key)), "latest")

    @property
    def principal(self) -> str:
        """The SPIFFE identity; empty for a machine that is said to have none."""
        return self.service_account and f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"


@dataclass(frozen=True)
class Port:
    """A Service's port.

    Args:
        number: The port clients use.
        name: Its name.
        protocol: As `protocol_of` gives it.
        target: The port behind it where that is known without endpoints (a ServiceEntry's targetPort), else None.
    """

    number: int
    name: str
    protocol: str
    target: int | None = None

    @property
    def http(self) -> bool:
        """Whether requests, not only bytes, are routed."""
        return self.protocol in HTTP_PROTOCOLS


@dataclass(frozen=True)
class Endpoint:
    """One address behind a Service's port.

    Args:
        address: An IP; a DNS name where the Service is resolved by DNS; "unix:///path".
        port: Its port.
        labels: The labels that subsets choose by.
        workload: What runs there, where the mesh knows it.
        weight: Its share, next to others.
        locality: Where it is.
        network: The network that it is said to be in.
        hostname: What a pod of a headless Service is called before the Service's own name.
    """

    address: str
    port: int
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    workload: Workload | None = None
    weight: int = 1
    locality: str = ""
    network: str = ""
    hostname: str = ""

    @classmethod
    def at(cls, address: str, port: int, workload: Workload | None, hostname: str | None = None) -> Endpoint:
        """One at an address of a Service, with what is known of the workload there."""
        name = hostname or ""
        if workload is None:
            return cls(address, port, hostname=name)
        return cls(address, port, workload.labels, workload, hostname=name, locality=workload.locality)


def in_order(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """In a stable order, which keeps a cluster's bytes the same, so that proxies are not woken for nothing."""
    return sorted(endpoints, key=lambda endpoint: (endpoint.address, endpoint.port))


@dataclass(frozen=True)
class Service:
    """A host of the mesh: a Kubernetes Service or a host of a ServiceEntry.

    Args:
        host: Fully qualified, e.g. "reviews.bookinfo.svc.cluster.local".
        namespace: Where it was defined.
        name: The Service's own name; for a ServiceEntry the host.
        ports: Its ports.
        addresses: ClusterIPs or the ServiceEntry's addresses; empty for a headless Service.
        endpoints: Port number → addresses behind it.
        resolution: As a ServiceEntry has it: "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS" (the name that the
            caller asks for) or "NONE" (wherever the caller was going).
        external: Whether it lies outside the mesh (no mTLS).
        exported_to: Namespaces that see it: "*", ".", "~" or names; empty where the mesh's settings say it.
        headless: Whether DNS answers with the endpoints themselves.
        subject_alt_names: Identities its endpoints may have (ServiceEntry).
        selector: The labels that choose its pods; empty without.
        nearest: The places that clients prefer it in, as its `trafficDistribution` has it: labels as in
            `failoverPriority`.
        allocated: The addresses that istiod gave it, for programs whose DNS the sidecar answers.
    """

    host: str
    namespace: str
    name: str
    ports: tuple[Port, ...]
    addresses: tuple[str, ...] = ()
    endpoints: Mapping[int, tuple[Endpoint, ...]] = field(default_factory=dict)
    resolution: str = "STATIC"
    external: bool = False
    exported_to: tuple[str, ...] = ()
    headless: bool = False
    subject_alt_names: tuple[str, ...] = ()
    selector: Mapping[str, str] = field(default_factory=dict)
    nearest: tuple[str, ...] = ()
    allocated: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return hash((self.host, self.namespace))

    def port(self, number: int) -> Port | None:
        """Its port `number`, if it has one."""
        return self._by_number.get(number)

    @functools.cached_property
    def _by_number(self) -> dict[int, Port]:
        return {port.number: port for port in reversed(self.ports)}

    @property
    def kubernetes(self) -> bool:
        """Whether it is a Kubernetes Service."""
        return self.host.endswith("." + DOMAIN) and self.name != self.host
