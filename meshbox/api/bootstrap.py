# SPDX-License-Identifier: Apache-2.0
"""What a cluster has before anybody created anything."""

from __future__ import annotations

from meshbox.addresses import AddressPlan
from meshbox.contracts import Obj, Objects
from meshbox.rbac import defaults as rbac

__all__ = ["API_PORT", "bootstrap"]

API_PORT = 6443
"""Port of the API server on the node, where it is free."""

_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")


def bootstrap(objects: Objects, plan: AddressPlan) -> None:
    """Create what is missing of the namespaces, the `kubernetes` Service and the roles of every cluster."""
    for name in _NAMESPACES:
        if objects.find("namespaces", name) is None:
            objects.create("namespaces", {"metadata": {"name": name}})
    _service(objects, plan)
    rbac.bootstrap(objects)


def _service(objects: Objects, plan: AddressPlan) -> None:
    labels = {"component": "apiserver", "provider": "kubernetes"}
    if objects.find("services", "kubernetes", "default") is None:
        first = str(plan.service_cidr[1])
        port = {"name": "https", "port": 443, "protocol": "TCP", "targetPort": API_PORT}
        spec = {"type": "ClusterIP", "clusterIP": first, "ports": [port], "sessionAffinity": "None"}
        objects.create("services", {"metadata": {"name": "kubernetes", "labels": labels}, "spec": spec}, "default")


def publish(objects: Objects, plan: AddressPlan, port: int) -> None:
    """Say where the API server answers: the Endpoints and EndpointSlice of the `kubernetes` Service."""
    node = plan.node
    endpoints = {
        "metadata": {"name": "kubernetes", "namespace": "default"},
        "subsets": [{"addresses": [{"ip": node}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    }
    _apply(objects, "endpoints", endpoints)
    slice_ = {
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [node], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
    _apply(objects, "endpointslices.discovery.k8s.io", slice_)


def _apply(objects: Objects, resource: str, obj: Obj) -> None:
    if objects.find(resource, obj["metadata"]["name"], obj["metadata"]["namespace"]) is None:
        objects.create(resource, obj)
    else:
        objects.update(resource, obj)
