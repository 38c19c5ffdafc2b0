# SPDX-License-Identifier: Apache-2.0
"""What Istio makes for a Gateway: a ServiceAccount, a Deployment of its proxy, and the Service before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meshbox.contracts import Obj, View
from meshbox.mesh.gateway_api.binding import NAME_OVERRIDE, own_name
from meshbox.mesh.gateway_api.listeners import Listener
from meshbox.mesh.gateway_api.proxy_pod import proxy_pod
from meshbox.mesh.inject import Template
from meshbox.mesh.kinds import GATEWAY_API
from meshbox.mesh.model import annotations_of, labels

__all__ = ["CLASS_LABEL", "NAME_LABEL", "OVERLAYS", "VERSION", "resources"]

NAME_LABEL = f"{GATEWAY_API}/gateway-name"
CLASS_LABEL = f"{GATEWAY_API}/gateway-class-name"
VERSION = "gateway.istio.io/controller-version"
"""On a Gateway: which version of Istio's controller looks after it."""

_ACCOUNT = "gateway.istio.io/service-account"
_SERVICE_TYPE = "networking.istio.io/service-type"
_MANAGED = {"gateway.istio.io/managed": "istio.io-gateway-controller"}
_LONGEST = 63
_NOT_PASSED_ON = (NAME_OVERRIDE, _ACCOUNT, VERSION, "kubectl.kubernetes.io/last-applied-configuration")

OVERLAYS = {
    "serviceAccount": "serviceaccounts",
    "deployment": "deployments.apps",
    "service": "services",
    "horizontalPodAutoscaler": "horizontalpodautoscalers.autoscaling",
    "podDisruptionBudget": "poddisruptionbudgets.policy",
}
"""The keys of a ConfigMap that changes what is made, and the resource that each changes."""


def resources(gateway: View, template: Template, more: Sequence[Listener] = ()) -> dict[str, Obj]:
    """What is made for a Gateway, by the name under which a ConfigMap may change it.

    The last two, an autoscaler and a disruption budget, are made only where a ConfigMap asks for them.

    Args:
        gateway: The Gateway.
        template: What Istio was installed with.
        more: The listeners that ListenerSets add to it.
    """
    name, meta = own_name(gateway), gateway["metadata"]
    account = annotations_of(gateway).get(_ACCOUNT) or name
    own = {NAME_LABEL: meta["name"], CLASS_LABEL: gateway["spec"]["gatewayClassName"]}
    given, annotations = _passed_on(gateway, "labels"), _passed_on(gateway, "annotations")
    selector = {NAME_LABEL: meta["name"]}

    def head(kind: str, version: str, called: str, extra: Mapping[str, str] | None = None) -> Obj:
        owner = {
            "apiVersion": f"{GATEWAY_API}/v1",
            "kind": "Gateway",
            "name": meta["name"],
            "uid": meta["uid"],
        }
        made: Obj = {
            "name": called,
            "namespace": meta["namespace"],
            "labels": {**given, **own, **(extra or {})},
            "ownerReferences": [owner],
        }
        if annotations:
            made["annotations"] = dict(annotations)
        return {"apiVersion": version, "kind": kind, "metadata": made}

    pod_labels = {
        "sidecar.istio.io/inject": "false",
        "service.istio.io/canonical-name": name,
        "service.istio.io/canonical-revision": "latest",
        **given,
        **own,
        **_MANAGED,
    }
    pod_annotations = {
        **annotations,
        "istio.io/rev": "default",
        "prometheus.io/path": "/stats/prometheus",
        "prometheus.io/port": "15020",
        "prometheus.io/scrape": "true",
    }
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    return {
        "serviceAccount": head("ServiceAccount", "v1", account),
        "deployment": {
            **head("Deployment", "apps/v1", name, _MANAGED),
            "spec": {
                "selector": {"matchLabels": selector},
                "template": {
                    "metadata": {"annotations": pod_annotations, "labels": pod_labels},
                    "spec": proxy_pod(gateway, name, account, template),
                },
            },
        },
        "service": {**head("Service", "v1", name), "spec": _service(gateway, selector, more)},
        "horizontalPodAutoscaler": {
            **head("HorizontalPodAutoscaler", "autoscaling/v2", name),
            "spec": {"scaleTargetRef": target, "maxReplicas": 1},
        },
        "podDisruptionBudget": {
            **head("PodDisruptionBudget", "policy/v1", name),
            "spec": {"selector": {"matchLabels": selector}},
        },
    }


def _passed_on(gateway: View, what: str) -> dict[str, str]:
    """The labels or annotations that a Gateway gives to what is made: `spec.infrastructure`, else its own."""
    infrastructure = gateway["spec"].get("infrastructure") or {}
    if what in infrastructure:
        found = infrastructure[what] or {}
        return {key: value for key, value in found.items() if not key.startswith(f"{GATEWAY_API}/")}
    own = labels(gateway) if what == "labels" else annotations_of(gateway)
    return {key: value for key, value in own.items() if what == "labels" or key not in _NOT_PASSED_ON}


def _service(gateway: View, selector: dict[str, str], more: Sequence[Listener]) -> Obj:
    kind = annotations_of(gateway).get(_SERVICE_TYPE) or "LoadBalancer"
    ports: list[dict[str, Any]] = [{"name": "status-port", "port": 15021, "protocol": "TCP", "appProtocol": "tcp"}]
    own = [(one["name"], one["port"], one["protocol"]) for one in gateway["spec"].get("listeners") or []]
    for section, number, protocol in (*own, *((one.section, one.port, one.protocol) for one in more)):
        if any(port["port"] == number for port in ports):
            continue
        # A listener's name may be longer than a port's, and have dots.
        name = section.replace(".", "-")[:_LONGEST]
        ports.append({"name": name, "port": number, "protocol": "TCP", "appProtocol": protocol.lower()})
    made: Obj = {"ipFamilyPolicy": "PreferDualStack", "ports": ports, "selector": selector, "type": kind}
    addresses = gateway["spec"].get("addresses") or []
    if addresses and kind == "LoadBalancer" and addresses[0].get("value"):
        made["loadBalancerIP"] = addresses[0]["value"]
    return made
