# SPDX-License-Identifier: Apache-2.0
"""What runs in the cluster, as Kiali names it: workloads, the apps they belong to, the Services before them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.ground.labels import selects as chosen
from meshbox.images.kiali.sources import Kubernetes, SourceError

__all__ = ["SYSTEM", "Json", "Mesh", "Workload", "mesh_of", "selects", "validated_name"]

SYSTEM = "istio-system"
Json = dict[str, Any]

_CORE = {
    "namespaces": "/api/v1/namespaces",
    "pods": "/api/v1/pods",
    "services": "/api/v1/services",
    "endpoints": "/api/v1/endpoints",
}
_APPS = ("deployments", "replicasets", "statefulsets", "daemonsets")
_PROXY = "istio-proxy"


def selects(selector: Mapping[str, str] | None, labels: Mapping[str, str]) -> bool:
    """Whether a selector that is not empty matches `labels`."""
    return bool(selector) and chosen(selector, labels)


def validated_name(name: str, namespace: str) -> str:
    """The key of an object's validation."""
    return f"{name}.{namespace}"


@dataclass
class Workload:
    """A workload and its pods.

    Args:
        namespace: Its namespace.
        name: Its name.
        kind: "Deployment", "StatefulSet", …; "Pod" for a pod that nothing controls.
        object: The object as the API has it.
        pods: Its pods that have not ended.
    """

    namespace: str
    name: str
    kind: str
    object: Json
    pods: list[Json] = field(default_factory=list)

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its pods."""
        template = (self.object.get("spec") or {}).get("template") or self.object
        return (template.get("metadata") or {}).get("labels") or {}

    @property
    def app(self) -> str:
        """Its label app; "" without."""
        return self.labels.get("app", "")

    @property
    def sidecar(self) -> bool:
        """Whether each of its pods has a proxy; pods of gateways are proxies."""
        return bool(self.pods) and all(has_proxy(pod) for pod in self.pods)

    def status(self) -> Json:
        """Its replicas, as its health shows them."""
        spec, status = self.object.get("spec") or {}, self.object.get("status") or {}
        desired = int(spec.get("replicas", status.get("desiredNumberScheduled", 1)))
        current = int(status.get("replicas", status.get("currentNumberScheduled", 0)))
        available = int(status.get("availableReplicas", status.get("readyReplicas", status.get("numberAvailable", 0))))
        if self.kind == "Pod":
            current = available = len(self.pods)
        synced = sum(has_proxy(pod) for pod in self.pods)
        return {
            "name": self.name,
            "desiredReplicas": desired,
            "currentReplicas": current,
            "availableReplicas": available,
            "syncedProxies": synced if synced else -1,
        }


def has_proxy(pod: Json) -> bool:
    """Whether a pod has Istio's proxy, as container or as native sidecar."""
    spec = pod["spec"]
    return any(one["name"] == _PROXY for one in (*spec["containers"], *spec.get("initContainers", ())))


class Mesh:
    """The cluster's objects at one moment.

    Args:
        objects: Resource ("pods", …) → objects.
    """

    def __init__(self, objects: Mapping[str, list[Json]]) -> None:
        self.objects = objects

    def namespaces(self) -> list[Json]:
        """The namespaces that hold no part of Kubernetes itself."""
        return [one for one in self.objects["namespaces"] if not one["metadata"]["name"].startswith("kube-")]

    def services(self, namespace: str) -> list[Json]:
        """The Services of a namespace."""
        return _within(self.objects["services"], namespace)

    def service(self, namespace: str, name: str) -> Json | None:
        """One Service; None if there is none."""
        return _named(self.services(namespace), name)

    def endpoints(self, namespace: str, name: str) -> Json | None:
        """The Endpoints of a Service."""
        return _named(_within(self.objects.get("endpoints", []), namespace), name)

    def pods(self, namespace: str) -> list[Json]:
        """The pods of a namespace."""
        return _within(self.objects["pods"], namespace)

    @functools.cached_property
    def _workloads(self) -> list[Workload]:
        found: dict[tuple[str, str, str], Workload] = {}
        parents: dict[tuple[str, str], str] = {}
        for resource, kind in (
            ("deployments", "Deployment"),
            ("statefulsets", "StatefulSet"),
            ("daemonsets", "DaemonSet"),
        ):
            for one in self.objects.get(resource, []):
                meta = one["metadata"]
                key = meta["namespace"], kind, meta["name"]
                found[key] = Workload(meta["namespace"], meta["name"], kind, one)
        for one in self.objects.get("replicasets", []):
            owner = _owner(one)
            if owner:
                parents[one["metadata"]["namespace"], one["metadata"]["name"]] = owner[1]
        for pod in self.objects["pods"]:
            if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
                continue
            meta = pod["metadata"]
            owner = _owner(pod) or ("Pod", meta["name"])
            if owner[0] == "ReplicaSet" and (meta["namespace"], owner[1]) in parents:
                owner = "Deployment", parents[meta["namespace"], owner[1]]
            key = meta["namespace"], *owner
            if key not in found:
                found[key] = Workload(meta["namespace"], owner[1], owner[0], pod)
            found[key].pods.append(pod)
        return [found[key] for key in sorted(found)]

    def workloads(self, namespace: str = "") -> list[Workload]:
        """The workloads of a namespace, or of all."""
        return [one for one in self._workloads if namespace in ("", one.namespace)]

    def workload(self, namespace: str, name: str) -> Workload | None:
        """One workload; None if there is none."""
        return next((one for one in self.workloads(namespace) if one.name == name), None)

    def apps(self, namespace: str) -> dict[str, list[Workload]]:
        """The apps of a namespace, each with its workloads."""
        found: dict[str, list[Workload]] = {}
        for one in self.workloads(namespace):
            if one.app:
                found.setdefault(one.app, []).append(one)
        return found

    def services_of(self, workload: Workload) -> list[Json]:
        """The Services that select a workload's pods."""
        services = self.services(workload.namespace)
        return [one for one in services if selects(one["spec"].get("selector"), workload.labels)]

    def workloads_of(self, service: Json) -> list[Workload]:
        """The workloads that a Service selects."""
        found = self.workloads(service["metadata"]["namespace"])
        return [one for one in found if selects(service["spec"].get("selector"), one.labels)]


def _within(objects: list[Json], namespace: str) -> list[Json]:
    return [one for one in objects if one["metadata"].get("namespace") == namespace]


def _named(objects: list[Json], name: str) -> Json | None:
    return next((one for one in objects if one["metadata"]["name"] == name), None)


def _owner(one: Json) -> tuple[str, str] | None:
    owner = next((ref for ref in one["metadata"].get("ownerReferences") or [] if ref.get("controller")), None)
    return (owner["kind"], owner["name"]) if owner else None


def mesh_of(kubernetes: Kubernetes) -> Mesh:
    """Read the cluster.

    Raises:
        SourceError: the API server cannot be reached.
    """
    objects = {name: kubernetes.list(path) for name, path in _CORE.items()}
    for name in _APPS:
        try:
            objects[name] = kubernetes.list(f"/apis/apps/v1/{name}")
        except SourceError as error:
            # The release's role does not give Kiali all of them (1.2.2: no DaemonSets): those are not shown.
            if error.status != 403:
                raise
            objects[name] = []
    return Mesh(objects)
