# SPDX-License-Identifier: Apache-2.0
"""What the console writes: Istio's objects by its wizards, *Create* pages and editor; where sidecars are injected."""

from __future__ import annotations

import json
from typing import Any

from labkit.ground import reading
from labkit.ground.names import dns1123_label, dns1123_subdomain
from meshbox.images.kiali.istio import Kind, details
from meshbox.images.kiali.permissions import Permissions
from meshbox.images.kiali.sources import Kubernetes, SourceError

__all__ = ["create", "delete", "object_path", "patch", "patch_namespace", "patch_workload"]

Json = dict[str, Any]
_WORKLOADS = {
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets/{}",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments/{}",
    "Pod": "/api/v1/namespaces/{}/pods/{}",
    "ReplicaSet": "/apis/apps/v1/namespaces/{}/replicasets/{}",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets/{}",
}


def _collection(kubernetes: Kubernetes, kind: Kind, namespace: str) -> str:
    base = kubernetes.resources(kind.group).get(kind.plural)
    if base is None or dns1123_label(namespace):
        raise SourceError(f"there are no {kind.plural} in namespace {namespace} of this cluster", 404)
    return f"{base}/namespaces/{namespace}/{kind.plural}"


def object_path(kubernetes: Kubernetes, kind: Kind, namespace: str, name: str) -> str:
    """Where the API server has an object.

    Raises:
        SourceError: this release has no such kind, or nothing can have that name.
    """
    if dns1123_subdomain(name):
        raise SourceError(f"there is no {kind.single} {namespace}/{name}", 404)
    return f"{_collection(kubernetes, kind, namespace)}/{name}"


def _content(body: bytes, what: str) -> Json:
    try:
        content = reading.json_value(body)
    except reading.ReadingError:
        raise SourceError(f"the {what} is not JSON", 400) from None
    if not isinstance(content, dict):
        raise SourceError(f"the {what} is no JSON object", 400)
    return content


def create(kubernetes: Kubernetes, may: Permissions, kind: Kind, namespace: str, body: bytes) -> Json:
    """Create an object; the console sends it without its kind and version, which the path says.

    Raises:
        SourceError: the API server refuses, with its words; Istio's own if it is Istio that does.
    """
    content = _content(body, "object")
    collection = _collection(kubernetes, kind, namespace)
    version = collection.split("/namespaces/")[0].removeprefix("/apis/")
    content |= {"apiVersion": version, "kind": kind.kind}
    created = kubernetes.post(collection, json.dumps(content).encode())
    return details(may, kind, namespace, created)


def patch(kubernetes: Kubernetes, may: Permissions, kind: Kind, namespace: str, name: str, body: bytes) -> Json:
    """Merge a change into an object: what is null in it goes.

    Raises:
        SourceError: there is no such object, or the API server refuses.
    """
    path = object_path(kubernetes, kind, namespace, name)
    changed = kubernetes.patch(path, json.dumps(_content(body, "change")).encode())
    return details(may, kind, namespace, changed)


def delete(kubernetes: Kubernetes, kind: Kind, namespace: str, name: str) -> None:
    """Delete an object.

    Raises:
        SourceError: there is no such object, or the API server refuses.
    """
    kubernetes.delete(object_path(kubernetes, kind, namespace, name))


def patch_namespace(kubernetes: Kubernetes, name: str, body: bytes) -> Json:
    """Merge a change into a namespace, such as the label by which sidecars come to its pods; the namespace.

    Raises:
        SourceError: there is none, or the API server refuses.
    """
    if dns1123_label(name):
        raise SourceError(f"there is no namespace {name}", 404)
    return kubernetes.patch(f"/api/v1/namespaces/{name}", json.dumps(_content(body, "change")).encode())


def patch_workload(kubernetes: Kubernetes, namespace: str, name: str, kind: str, body: bytes) -> None:
    """Merge a change into a workload, such as the annotation by which its pods have a sidecar or none.

    Raises:
        SourceError: there is none, or none of that kind can be changed, or the API server refuses.
    """
    if kind not in _WORKLOADS:
        raise SourceError(f"Workload type not managed: {kind}", 400)
    if dns1123_label(namespace) or dns1123_subdomain(name):
        raise SourceError(f"there is no workload {namespace}/{name}", 404)
    kubernetes.patch(_WORKLOADS[kind].format(namespace, name), json.dumps(_content(body, "change")).encode())
