# SPDX-License-Identifier: Apache-2.0
"""Applications, workloads and Services as the console lists and shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.ground.hosts import fqdn
from labkit.ground.routing import VirtualService, destinations, rule_host
from meshbox.images.kiali.istio import NETWORKING, Config, whole
from meshbox.images.kiali.mesh import Json, Mesh, Workload, has_proxy
from meshbox.images.kiali.permissions import Permissions

if TYPE_CHECKING:
    from labkit.ground.typed import virtual_services as api
    from labkit.ground.typed.destination_rules import DestinationRule

__all__ = ["app", "apps", "pod", "service", "services", "workload", "workloads"]


def _labels_of(workloads: list[Workload]) -> dict[str, str]:
    """The labels of several workloads; different values of one label joined with commas."""
    values: dict[str, set[str]] = {}
    for one in workloads:
        for name, value in one.labels.items():
            values.setdefault(name, set()).add(value)
    return {name: ",".join(sorted(found)) for name, found in values.items()}


def apps(mesh: Mesh, namespace: str) -> Json:
    """The applications of a namespace."""
    found = [
        {
            "name": name,
            "istioSidecar": all(one.sidecar for one in workloads),
            "labels": _labels_of(workloads),
            "istioReferences": [],
        }
        for name, workloads in sorted(mesh.apps(namespace).items())
    ]
    return {"namespace": {"name": namespace}, "applications": found}


def app(mesh: Mesh, namespace: str, name: str) -> Json | None:
    """One application; None if there is none."""
    workloads = mesh.apps(namespace).get(name)
    if workloads is None:
        return None
    services = {one["metadata"]["name"] for item in workloads for one in mesh.services_of(item)}
    shown = [
        {"workloadName": one.name, "istioSidecar": one.sidecar, "serviceAccountNames": _accounts(one)}
        for one in workloads
    ]
    answer: Json = {"namespace": {"name": namespace}, "name": name, "workloads": shown}
    return answer | {"serviceNames": sorted(services), "runtimes": []}


def _accounts(one: Workload) -> list[str]:
    return sorted({item["spec"].get("serviceAccountName", "default") for item in one.pods})


def _overview(one: Workload) -> Json:
    meta = one.object["metadata"]
    return {
        "name": one.name,
        "type": one.kind,
        "createdAt": meta.get("creationTimestamp", ""),
        "resourceVersion": meta.get("resourceVersion", ""),
        "istioSidecar": one.sidecar,
        "labels": one.labels,
        "appLabel": "app" in one.labels,
        "versionLabel": "version" in one.labels,
        "podCount": len(one.pods),
        "healthAnnotations": {},
        "istioReferences": [],
        "serviceAccountNames": _accounts(one),
    } | _injection(one)


def _injection(one: Workload) -> Json:
    """What a workload says of its own sidecar; nothing where it leaves that to the namespace."""
    template = (one.object.get("spec") or {}).get("template") or one.object
    said = ((template.get("metadata") or {}).get("annotations") or {}).get("sidecar.istio.io/inject")
    return {} if said is None else {"istioInjectionAnnotation": said == "true"}


def workloads(mesh: Mesh, namespace: str) -> Json:
    """The workloads of a namespace."""
    return {"namespace": {"name": namespace}, "workloads": [_overview(one) for one in mesh.workloads(namespace)]}


def workload(mesh: Mesh, namespace: str, name: str, validations: Json) -> Json | None:
    """One workload with its pods; None if there is none."""
    one = mesh.workload(namespace, name)
    if one is None:
        return None
    status = one.status()
    return _overview(one) | {
        "replicas": status["currentReplicas"],
        "availableReplicas": status["availableReplicas"],
        "desiredReplicas": status["desiredReplicas"],
        "runtimes": [],
        "pods": [pod(item) for item in one.pods],
        "services": [_service(item, mesh) for item in mesh.services_of(one)],
        "additionalDetails": [],
        "annotations": one.object["metadata"].get("annotations") or {},
        "dashboardAnnotations": {},
        "validations": validations,
        "workloadEntries": [],
    }


def pod(one: Json) -> Json:
    """One pod."""
    meta, spec, status = one["metadata"], one["spec"], one.get("status") or {}
    ready = {item["name"]: item.get("ready", False) for item in status.get("containerStatuses") or []}

    def shown(container: Json) -> Json:
        name = container["name"]
        return {"name": name, "image": container["image"], "isProxy": name == "istio-proxy", "isReady": ready.get(name)}

    containers = [shown(item) for item in spec["containers"]]
    native = [shown(item) for item in spec.get("initContainers", ()) if item["name"] == "istio-proxy"]
    inits = [shown(item) for item in spec.get("initContainers", ()) if item["name"] != "istio-proxy"]
    synced = {"CDS": "Synced", "EDS": "Synced", "LDS": "Synced", "RDS": "Synced"} if has_proxy(one) else None
    labels = meta.get("labels") or {}
    owners = [{"name": ref["name"], "kind": ref["kind"]} for ref in meta.get("ownerReferences") or []]
    return {
        "name": meta["name"],
        "labels": labels,
        "createdAt": meta.get("creationTimestamp", ""),
        "createdBy": owners,
        "containers": [item for item in containers if not item["isProxy"]] or containers,
        "istioContainers": [item for item in containers if item["isProxy"]] + native,
        "istioInitContainers": [item for item in inits if item["name"].startswith("istio")],
        "status": status.get("phase", "Unknown"),
        "statusMessage": status.get("message", ""),
        "statusReason": status.get("reason", ""),
        "appLabel": "app" in labels,
        "versionLabel": "version" in labels,
        "annotations": meta.get("annotations") or {},
        "proxyStatus": synced,
        "serviceAccountName": spec.get("serviceAccountName", "default"),
    }


def _service(one: Json, mesh: Mesh) -> Json:
    meta, spec = one["metadata"], one["spec"]
    found = mesh.workloads_of(one)
    return {
        "name": meta["name"],
        "createdAt": meta.get("creationTimestamp", ""),
        "resourceVersion": meta.get("resourceVersion", ""),
        "type": spec.get("type", "ClusterIP"),
        "ip": spec.get("clusterIP", ""),
        "externalName": spec.get("externalName", ""),
        "ports": [{key: port.get(key, "") for key in ("name", "protocol", "port")} for port in spec.get("ports") or []],
        "namespace": {"name": meta["namespace"]},
        "labels": meta.get("labels") or {},
        "selector": spec.get("selector") or {},
        "selectors": spec.get("selector") or {},
        "istioSidecar": bool(found) and all(item.sidecar for item in found),
        "healthAnnotations": {},
        "istioReferences": [],
        "kialiWizard": "",
        "additionalDetailSample": None,
    }


def services(mesh: Mesh, namespace: str, validations: Json) -> Json:
    """The Services of a namespace."""
    found = [_service(one, mesh) for one in mesh.services(namespace)]
    return {"namespace": {"name": namespace}, "services": found, "validations": validations}


def service(mesh: Mesh, namespace: str, name: str, config: Config, tls: Json, may: Permissions) -> Json | None:
    """One Service with its endpoints, workloads and Istio's objects for it; None if there is none.

    Raises:
        SourceError: the API server does not say what may be done with those objects.
    """
    one = mesh.service(namespace, name)
    if one is None:
        return None
    host = fqdn(name, namespace)

    shown = _service(one, mesh)
    return {
        "service": shown,
        "endpoints": _endpoints(mesh.endpoints(namespace, name)),
        "istioSidecar": shown["istioSidecar"],
        "workloads": [_overview(item) for item in mesh.workloads_of(one)],
        "virtualServices": {
            "items": _rules_for(config, host),
            "permissions": may.of(namespace, NETWORKING, "virtualservices"),
        },
        "destinationRules": {
            "items": _policies_for(config, host),
            "permissions": may.of(namespace, NETWORKING, "destinationrules"),
        },
        "serviceEntries": [],
        "namespaceMTLS": tls,
        "additionalDetails": [],
        "validations": {},
    }


def _rules_for(config: Config, host: str) -> list[api.VirtualService]:
    """The VirtualServices that speak for a host, or send requests to it."""
    found: list[api.VirtualService] = config.get("virtualServices", [])

    def named(one: api.VirtualService) -> set[str]:
        return {whole(name) for name in (*VirtualService.of(one).hosts, *(to.host for to in destinations(one)))}

    return [one for one in found if host in named(one)]


def _policies_for(config: Config, host: str) -> list[DestinationRule]:
    found: list[DestinationRule] = config.get("destinationRules", [])
    return [one for one in found if whole(rule_host(one)) == host]


def _endpoints(found: Json | None) -> list[Json]:
    answer = []
    for subset in (found or {}).get("subsets") or []:
        addresses = [
            {
                "kind": (address.get("targetRef") or {}).get("kind", ""),
                "name": (address.get("targetRef") or {}).get("name", ""),
                "ip": address["ip"],
            }
            for address in subset.get("addresses") or []
        ]
        ports = [{key: port.get(key, "") for key in ("name", "protocol", "port")} for port in subset.get("ports") or []]
        answer.append({"addresses": addresses, "ports": ports})
    return answer
