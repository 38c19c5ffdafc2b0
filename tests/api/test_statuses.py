# SPDX-License-Identifier: Apache-2.0
"""What a client writes by the status subresource of a built-in object is judged, in the words of Kubernetes 1.35.4."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Cluster, pod

MERGE = {"Content-Type": "application/merge-patch+json"}
IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
INGRESS = "status.loadBalancer.ingress"
LEAST, MOST = "must be greater than or equal to 0", "cannot be greater than status.replicas"
POD = {"metadata": {"labels": {"a": "b"}}, "spec": pod()["spec"]}
ONCE = {"spec": {"restartPolicy": "Never", "containers": pod()["spec"]["containers"]}}
SELECTOR = {"matchLabels": {"a": "b"}}
CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
AIM = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}
BACKEND = {"service": {"name": "x", "port": {"number": 80}}}
HOME = {
    "deployments": ("apis/apps/v1/namespaces/default", {"selector": SELECTOR, "template": POD}),
    "statefulsets": ("apis/apps/v1/namespaces/default", {"selector": SELECTOR, "template": POD, "serviceName": "x"}),
    "jobs": ("apis/batch/v1/namespaces/default", {"template": ONCE}),
    "horizontalpodautoscalers": (
        "apis/autoscaling/v2/namespaces/default",
        {"maxReplicas": 3, "scaleTargetRef": AIM},
    ),
    "poddisruptionbudgets": ("apis/policy/v1/namespaces/default", {"minAvailable": 1, "selector": SELECTOR}),
    "ingresses": ("apis/networking.k8s.io/v1/namespaces/default", {"defaultBackend": BACKEND}),
    "services": ("api/v1/namespaces/default", {"ports": [{"port": 80}], "type": "LoadBalancer"}),
    "resourcequotas": ("api/v1/namespaces/default", {"hard": {"pods": "1"}}),
    "persistentvolumeclaims": ("api/v1/namespaces/default", CLAIM),
    "pods": ("api/v1/namespaces/default", pod()["spec"]),
    "nodes": ("api/v1", {}),
    "namespaces": ("api/v1", {}),
}


@pytest.mark.parametrize(
    ("plural", "status", "causes"),
    [
        ("deployments", {"replicas": 1, "availableReplicas": 5}, [
            ("status.availableReplicas", f"Invalid value: 5: {MOST}"),
            ("status.availableReplicas", "Invalid value: 5: cannot be greater than readyReplicas"),
        ]),
        ("deployments", {"collisionCount": -1}, [("status.collisionCount", f"Invalid value: -1: {LEAST}")]),
        ("statefulsets", {"replicas": 1, "currentReplicas": 2, "readyReplicas": 0, "availableReplicas": 1}, [
            ("status.currentReplicas", f"Invalid value: 2: {MOST}"),
            ("status.availableReplicas", "Invalid value: 1: cannot be greater than status.readyReplicas"),
        ]),
        ("jobs", {"active": -1}, [("status.active", f"Invalid value: -1: {LEAST}")]),
        ("jobs", {"uncountedTerminatedPods": {"succeeded": ["a", "a"]}}, [
            ("status.uncountedTerminatedPods.succeeded[1]", 'Duplicate value: "a"'),
        ]),
        ("horizontalpodautoscalers", {"currentReplicas": 1, "desiredReplicas": -2}, [
            ("status.desiredReplicas", f"Invalid value: -2: {LEAST}"),
        ]),
        ("poddisruptionbudgets", {"disruptionsAllowed": -1, "conditions": [{"type": "A", "status": "Q"}]}, [
            ("status.conditions[0].status", 'Unsupported value: "Q": supported values: "False", "True", "Unknown"'),
            ("status.conditions[0].lastTransitionTime", "Required value"),
            ("status.conditions[0].reason", "Required value"),
            ("status.disruptionsAllowed", f"Invalid value: -1: {LEAST}"),
        ]),
        ("ingresses", {"loadBalancer": {"ingress": [{"ip": "x"}]}}, [
            (f"{INGRESS}[0].ip", f'Invalid value: "x": {IP}'),
        ]),
        ("services", {"loadBalancer": {"ingress": [{"hostname": "1.2.3.4"}, {"ip": "1.2.3.4", "ipMode": "Q"}]}}, [
            (f"{INGRESS}[0].hostname", 'Invalid value: "1.2.3.4": must be a DNS name, not an IP address'),
            (f"{INGRESS}[1].ipMode", 'Unsupported value: "Q": supported values: "Proxy", "VIP"'),
        ]),
        ("resourcequotas", {"hard": {"configmaps": "-1"}, "used": {"pods": "1500m"}}, [
            ("status.hard[configmaps]", f'Invalid value: "-1": {LEAST}'),
            ("status.used[pods]", 'Invalid value: "1500m": must be an integer'),
        ]),
        ("persistentvolumeclaims", {"capacity": {"storage": "-1"}}, [
            ("status.capacity[storage]", "Invalid value: -1: must be a valid resource quantity"),
        ]),
        ("persistentvolumeclaims", {"capacity": {"storage": "-1Gi"}}, [
            ("status.capacity[storage]", "Invalid value: -1073741824: must be a valid resource quantity"),
        ]),
        ("persistentvolumeclaims", {"capacity": {"storage": "-2m"}}, [
            ("status.capacity[storage]", "Invalid value: -1: must be a valid resource quantity"),
        ]),
        ("pods", {"podIP": "x"}, [("status.podIPs[0]", f'Invalid value: "x": {IP}')]),
        ("pods", {"podIPs": [{"ip": "1.2.3.4"}, {"ip": "1.2.3.5"}]}, [
            (
                "status.podIPs",
                'Invalid value: [{"IP":"1.2.3.4"},{"IP":"1.2.3.5"}]: '
                "may specify no more than one IP for each IP family",
            ),
        ]),
        ("nodes", {"capacity": {"cpu": "-1"}, "addresses": [{"type": "Q", "address": "x"}] * 2}, [
            ("status.addresses[1]", 'Duplicate value: {"Type":"Q","Address":"x"}'),
            ("status.capacity.cpu", f'Invalid value: "-1": {LEAST}'),
        ]),
        ("namespaces", {"phase": "Terminating"}, [
            ("status.Phase", "Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"),
        ]),
    ],
)  # fmt: skip
async def test_a_status_is_judged(
    cluster: Cluster, plural: str, status: dict[str, Any], causes: list[tuple[str, str]]
) -> None:
    home, spec = HOME[plural]
    cluster.objects.create("serviceaccounts", {"metadata": {"name": "default"}}, "default")
    made = await cluster.request("POST", f"/{home}/{plural}", {"metadata": {"name": "x"}, "spec": spec})
    assert made.status == 201, made.text
    reply = await cluster.request("PATCH", f"/{home}/{plural}/x/status", {"status": status}, headers=MERGE)
    assert [(one["field"], one["message"]) for one in reply.body["details"]["causes"]] == causes


async def test_what_cannot_be_applied_to_a_status_cannot_be_converted(cluster: Cluster) -> None:
    await cluster.request("POST", "/api/v1/nodes", {"metadata": {"name": "x"}})
    body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "x"}, "status": {"capacity": {"cpu": "x"}}}
    headers = {"Content-Type": "application/apply-patch+yaml"}
    reply = await cluster.request("PATCH", "/api/v1/nodes/x/status?fieldManager=me", body, headers=headers)
    words = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    begin = "failed to convert new object (/x; /v1, Kind=Node) to proper version"
    said = f"{begin}: unable to convert unstructured object to /v1, Kind=Node: {words}"
    assert (reply.status, reply.body["message"]) == (500, said)
