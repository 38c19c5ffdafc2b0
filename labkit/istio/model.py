# SPDX-License-Identifier: Apache-2.0
"""What a release of Istio consists of, as far as lessons depend on it. The figures are in `releases`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from labkit.cluster.ownership import Byproduct

__all__ = ["Addon", "Component", "Facts", "Layout", "Service", "ServicePort"]


@dataclass(frozen=True)
class ServicePort:
    """A port of a Service.

    Args:
        name: Its name; "" where the release gives it none.
        port: The Service's port.
        target: The pod's port; 0 for the same.
        protocol: "TCP" or "UDP".
    """

    name: str
    port: int
    target: int = 0
    protocol: Literal["TCP", "UDP"] = "TCP"


@dataclass(frozen=True)
class Service:
    """A Service in namespace istio-system.

    Args:
        name: Its name.
        ports: Its ports, in the release's order.
        type: Its type.
        headless: Whether it has no ClusterIP.
        addon: The add-on it belongs to; "" for Istio's own.
    """

    name: str
    ports: tuple[ServicePort, ...]
    type: Literal["ClusterIP", "LoadBalancer"] = "ClusterIP"
    headless: bool = False
    addon: str = ""

    @property
    def shown(self) -> str:
        """What kubectl shows in the column PORT(S), without node ports."""
        return ",".join(f"{p.port}/{p.protocol}" for p in self.ports)


@dataclass(frozen=True)
class Component:
    """A workload in namespace istio-system.

    Args:
        name: Its name.
        images: Its containers' images, in order.
        kind: Its kind.
        addon: The add-on it is; "" for Istio's own.
        task: What it does, in a few words.
    """

    name: str
    images: tuple[str, ...]
    kind: Literal["Deployment", "Job"] = "Deployment"
    addon: str = ""
    task: str = ""

    @property
    def ready(self) -> str:
        """What kubectl shows in the column READY once all is well."""
        return f"{0 if self.kind == 'Job' else len(self.images)}/{len(self.images)}"

    @property
    def status(self) -> str:
        """What kubectl shows in the column STATUS once all is well."""
        return "Completed" if self.kind == "Job" else "Running"


@dataclass(frozen=True)
class Addon:
    """Something to see the mesh with.

    Args:
        name: "prometheus", "grafana", "jaeger" or "kiali".
        service: The Service people use.
        port: Its port.
        selector: Labels of its pods, as `kubectl get pod -l` takes them.
        path: Where its pages begin.
    """

    name: str
    service: str
    port: int
    selector: str
    path: str = "/"


@dataclass(frozen=True)
class Layout:
    """Files of a release directory, relative to it, each list in the order to apply.

    Args:
        crds: Files with the CRDs.
        demo: Files of the demo profile.
        addons: Files of add-ons that the demo profile does not bring.
        marks: Files without which a folder is not this release.
        version_in: A file that names an image of the release's version.
        creates_namespace: Whether these files bring namespace istio-system.
    """

    crds: tuple[str, ...]
    demo: tuple[str, ...]
    addons: tuple[str, ...]
    marks: tuple[str, ...]
    version_in: str
    creates_namespace: bool


@dataclass(frozen=True)
class Facts:
    """All that lessons know of a release.

    Args:
        version: Its version.
        crds: Names of Istio's CRDs, sorted: what `kubectl get crd | grep istio.io` lists.
        components: Workloads in namespace istio-system, add-ons included.
        services: Services there, sorted by name.
        webhooks: Names of webhook configurations in its manifests.
        addons: Ways to see the mesh.
        layout: Its files.
        archive: Name of the official archive, with {system} to fill in.
        api_version: apiVersion of its networking kinds, as its samples write it.
        duration: Its histogram of how long requests take, in seconds or milliseconds as the name says.
        byproducts: What its components make while they run, and what stands in no manifest therefore.
    """

    version: str
    crds: tuple[str, ...]
    components: tuple[Component, ...]
    services: tuple[Service, ...]
    webhooks: tuple[str, ...]
    addons: tuple[Addon, ...]
    layout: Layout
    archive: str
    api_version: str
    duration: str
    byproducts: tuple[Byproduct, ...]
