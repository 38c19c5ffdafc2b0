"""What a cluster has before anybody asks: namespaces, the Service of its own API, priority classes."""

from __future__ import annotations

from typing import Any

from labkit.sandbox.contracts import Obj
from labkit.sandbox.controllers.meta import MANAGER, Context

__all__ = ["API_PORT", "bootstrap"]

API_PORT = 6443
"""Port of the API server on the node's address."""

_SLICES = "endpointslices.discovery.k8s.io"
_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
_PRIORITIES = {
    "system-cluster-critical": (
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    "system-node-critical": (
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
}


def bootstrap(context: Context) -> None:
    """Create what is missing, and correct what names the node's address."""
    for name in _NAMESPACES:
        _ensure(context, "namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for name, (value, description) in _PRIORITIES.items():
        priority: dict[str, Any] = {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": description,
        }
        if not context.settings.legacy:
            priority["preemptionPolicy"] = "PreemptLowerPriority"
        _ensure(context, "priorityclasses.scheduling.k8s.io", priority)
    _api_service(context)


def _api_service(context: Context) -> None:
    plan = context.settings.plan
    labels = {"component": "apiserver", "provider": "kubernetes"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": str(plan.service_cidr[1]),
            "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": API_PORT}],
        },
    }
    _ensure(context, "services", service)
    port = {"name": "https", "port": API_PORT, "protocol": "TCP"}
    endpoints: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            # Its slice is written below, under the name that readers expect.
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{"addresses": [{"ip": plan.node}], "ports": [port]}],
    }
    _ensure(context, "endpoints", endpoints, "subsets")
    if _SLICES not in context.objects.resources():
        return
    endpoint_slice: dict[str, Any] = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [plan.node], "conditions": {"ready": True}}],
        "ports": [port],
    }
    _ensure(context, _SLICES, endpoint_slice, "endpoints")


def _ensure(context: Context, resource: str, wanted: Obj, field: str = "") -> None:
    """Create `wanted` where there is no such object; else bring `field` up to date, if one is named."""
    meta = wanted["metadata"]
    known = context.objects.find(resource, meta["name"], meta.get("namespace"))
    if known is None:
        context.objects.create(resource, wanted, meta.get("namespace"), manager=MANAGER)
    elif field and known.get(field) != wanted[field]:
        context.objects.update(resource, {**known, field: wanted[field]}, manager=MANAGER)
