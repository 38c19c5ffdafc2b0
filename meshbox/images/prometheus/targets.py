# SPDX-License-Identifier: Apache-2.0
"""What Prometheus' Kubernetes service discovery would find, as targets with its `__meta_kubernetes_*` labels.

The roles and labels are those of Prometheus' documentation of `kubernetes_sd_config`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["RESOURCES", "targets"]

Json = dict[str, Any]
Labels = dict[str, str]

RESOURCES = {
    "node": "/api/v1/nodes",
    "pod": "/api/v1/pods",
    "service": "/api/v1/services",
    "endpoints": "/api/v1/endpoints",
    "ingress": "/apis/networking.k8s.io/v1/ingresses",
}
"""Role → the resource it is about."""

_PRE = "__meta_kubernetes_"


def targets(role: str, objects: Mapping[str, Iterable[Json]], namespaces: frozenset[str] = frozenset()) -> list[Json]:
    """Targets of a role, as `http_sd_configs` wants them.

    Args:
        role: "node", "pod", "service", "endpoints", "endpointslice" or "ingress".
        objects: Role → the objects it is about ("endpoints" needs pods and services too).
        namespaces: Only of these; empty for all.

    Returns:
        Target groups, each with one target and its labels; empty for an unknown role.
    """
    makers = {
        "node": _nodes,
        "pod": _pods,
        "service": _services,
        "endpoints": _endpoints,
        "endpointslice": _endpoints,
        "ingress": _ingresses,
    }
    maker = makers.get(role)
    if maker is None:
        return []
    inside = {
        kind: [one for one in found if not namespaces or one["metadata"].get("namespace") in namespaces]
        for kind, found in objects.items()
    }
    return [{"targets": [address], "labels": labels} for address, labels in maker(inside)]


def _name(text: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", text)


def _described(kind: str, metadata: Json) -> Labels:
    """Labels and annotations of an object, each with its `…present` twin."""
    labels: Labels = {}
    for what in ("label", "annotation"):
        for key, value in (metadata.get(f"{what}s") or {}).items():
            labels[f"{_PRE}{kind}_{what}_{_name(key)}"] = value
            labels[f"{_PRE}{kind}_{what}present_{_name(key)}"] = "true"
    return labels


def _nodes(objects: Mapping[str, list[Json]]) -> Iterator[tuple[str, Labels]]:
    for node in objects.get("node", []):
        addresses = {one["type"]: one["address"] for one in node.get("status", {}).get("addresses") or []}
        labels = {f"{_PRE}node_name": node["metadata"]["name"], **_described("node", node["metadata"])}
        labels |= {f"{_PRE}node_address_{kind}": address for kind, address in addresses.items()}
        yield f"{addresses.get('InternalIP', '')}:10250", {**labels, "instance": node["metadata"]["name"]}


def _pod_labels(pod: Json) -> Labels:
    metadata, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
    ready = next((one["status"] for one in status.get("conditions") or [] if one["type"] == "Ready"), "unknown")
    owner: Json = next((one for one in metadata.get("ownerReferences") or [] if one.get("controller")), {})
    return {
        f"{_PRE}namespace": metadata.get("namespace", ""),
        f"{_PRE}pod_name": metadata["name"],
        f"{_PRE}pod_ip": status.get("podIP", ""),
        f"{_PRE}pod_ready": ready.lower(),
        f"{_PRE}pod_phase": status.get("phase", ""),
        f"{_PRE}pod_node_name": spec.get("nodeName", ""),
        f"{_PRE}pod_host_ip": status.get("hostIP", ""),
        f"{_PRE}pod_uid": metadata.get("uid", ""),
        f"{_PRE}pod_controller_kind": owner.get("kind", ""),
        f"{_PRE}pod_controller_name": owner.get("name", ""),
        **_described("pod", metadata),
    }


def _containers(pod: Json) -> Iterator[tuple[Json, bool]]:
    spec = pod.get("spec", {})
    for container in spec.get("containers") or []:
        yield container, False
    for container in spec.get("initContainers") or []:
        yield container, True


def _container_labels(container: Json, init: bool, port: Json | None) -> Labels:
    labels = {
        f"{_PRE}pod_container_name": container["name"],
        f"{_PRE}pod_container_image": container.get("image", ""),
        f"{_PRE}pod_container_init": str(init).lower(),
    }
    if port:
        labels |= {
            f"{_PRE}pod_container_port_name": port.get("name", ""),
            f"{_PRE}pod_container_port_number": str(port["containerPort"]),
            f"{_PRE}pod_container_port_protocol": port.get("protocol", "TCP"),
        }
    return labels


def _pods(objects: Mapping[str, list[Json]]) -> Iterator[tuple[str, Labels]]:
    for pod in objects.get("pod", []):
        ip = pod.get("status", {}).get("podIP")
        if not ip:
            continue
        shared = _pod_labels(pod)
        for container, init in _containers(pod):
            ports = container.get("ports") or []
            for port in ports:
                yield f"{ip}:{port['containerPort']}", {**shared, **_container_labels(container, init, port)}
            if not ports:
                yield ip, {**shared, **_container_labels(container, init, None)}


def _service_labels(service: Json) -> Labels:
    metadata, spec = service["metadata"], service.get("spec", {})
    labels = {
        f"{_PRE}namespace": metadata.get("namespace", ""),
        f"{_PRE}service_name": metadata["name"],
        f"{_PRE}service_type": spec.get("type", "ClusterIP"),
        **_described("service", metadata),
    }
    if spec.get("clusterIP"):
        labels[f"{_PRE}service_cluster_ip"] = spec["clusterIP"]
    return labels


def _services(objects: Mapping[str, list[Json]]) -> Iterator[tuple[str, Labels]]:
    for service in objects.get("service", []):
        host = f"{service['metadata']['name']}.{service['metadata'].get('namespace', '')}.svc"
        for port in service.get("spec", {}).get("ports") or []:
            labels = {
                f"{_PRE}service_port_name": port.get("name", ""),
                f"{_PRE}service_port_number": str(port["port"]),
                f"{_PRE}service_port_protocol": port.get("protocol", "TCP"),
            }
            yield f"{host}:{port['port']}", {**_service_labels(service), **labels}


def _endpoints(objects: Mapping[str, list[Json]]) -> Iterator[tuple[str, Labels]]:
    services = {_key(one): one for one in objects.get("service", [])}
    pods = {_key(one): one for one in objects.get("pod", [])}
    for endpoints in objects.get("endpoints", []):
        metadata = endpoints["metadata"]
        namespace = metadata.get("namespace", "")
        shared = {f"{_PRE}namespace": namespace, f"{_PRE}endpoints_name": metadata["name"]}
        shared |= _described("endpoints", metadata)
        if service := services.get((namespace, metadata["name"])):
            shared |= _service_labels(service)
        for subset in endpoints.get("subsets") or []:
            for port in subset.get("ports") or []:
                for ready in ("addresses", "notReadyAddresses"):
                    for address in subset.get(ready) or []:
                        yield _endpoint(address, port, ready == "addresses", shared, pods, namespace)


def _key(item: Json) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _endpoint(
    address: Json, port: Json, ready: bool, shared: Labels, pods: Mapping[tuple[str, str], Json], namespace: str
) -> tuple[str, Labels]:
    labels = {
        **shared,
        f"{_PRE}endpoint_port_name": port.get("name", ""),
        f"{_PRE}endpoint_port_protocol": port.get("protocol", "TCP"),
        f"{_PRE}endpoint_ready": str(ready).lower(),
    }
    reference = address.get("targetRef") or {}
    if reference:
        labels |= {
            f"{_PRE}endpoint_address_target_kind": reference.get("kind", ""),
            f"{_PRE}endpoint_address_target_name": reference.get("name", ""),
        }
    pod = pods.get((namespace, reference.get("name", ""))) if reference.get("kind") == "Pod" else None
    if pod:
        labels |= _pod_labels(pod)
        for container, init in _containers(pod):
            for own in container.get("ports") or []:
                if own["containerPort"] == port["port"]:
                    labels |= _container_labels(container, init, own)
    return f"{address['ip']}:{port['port']}", labels


def _ingresses(objects: Mapping[str, list[Json]]) -> Iterator[tuple[str, Labels]]:
    for ingress in objects.get("ingress", []):
        metadata = ingress["metadata"]
        secure = {host for tls in ingress.get("spec", {}).get("tls") or [] for host in tls.get("hosts") or []}
        for rule in ingress.get("spec", {}).get("rules") or []:
            host = rule.get("host", "*")
            for path in (rule.get("http") or {}).get("paths") or [{}]:
                labels = {
                    f"{_PRE}namespace": metadata.get("namespace", ""),
                    f"{_PRE}ingress_name": metadata["name"],
                    f"{_PRE}ingress_host": host,
                    f"{_PRE}ingress_path": path.get("path", "/"),
                    f"{_PRE}ingress_scheme": "https" if host in secure else "http",
                }
                yield host, {**labels, **_described("ingress", metadata)}
