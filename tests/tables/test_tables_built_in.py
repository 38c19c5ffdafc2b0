# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from meshbox.api.tables import printer_columns as registry
from meshbox.api.tables import to_table
from meshbox.contracts import ApiError, Obj

NOW = datetime(2026, 1, 1, 1, 0, tzinfo=UTC)
META = {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}
TEMPLATE = {"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j:2"}]}}
SELECTOR = {"matchLabels": {"app": "x"}}


def cells(resource: str, obj: Obj, *, legacy: bool = False) -> list[Any]:
    return list(to_table(resource, [{"metadata": META, **obj}], crd=None, now=NOW, legacy=legacy)["rows"][0]["cells"])


def names(resource: str, *, legacy: bool = False) -> list[str]:
    """As kubectl prints them; those of -o wide in brackets."""
    shown = to_table(resource, [], crd=None, legacy=legacy)["columnDefinitions"]
    return [f"[{c['name'].upper()}]" if c["priority"] else c["name"].upper() for c in shown]


def service(**spec: Any) -> Obj:
    return {"spec": {"type": "ClusterIP", "clusterIP": "127.1.16.5", "ports": [{"port": 80}], **spec}}


PORTS = [{"port": 80, "nodePort": 31380, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]


@pytest.mark.parametrize(
    ("obj", "shown"),
    [
        (service(), ["ClusterIP", "127.1.16.5", "<none>", "80/TCP"]),
        (service(clusterIP="None", clusterIPs=["None"]), ["ClusterIP", "None", "<none>", "80/TCP"]),
        (service(type="NodePort", ports=PORTS), ["NodePort", "127.1.16.5", "<none>", "80:31380/TCP,53/UDP"]),
        (service(type="LoadBalancer"), ["LoadBalancer", "127.1.16.5", "<pending>", "80/TCP"]),
        (
            service(type="LoadBalancer") | {"status": {"loadBalancer": {"ingress": [{"ip": "127.1.8.1"}]}}},
            ["LoadBalancer", "127.1.16.5", "127.1.8.1", "80/TCP"],
        ),
        (service(externalIPs=["1.2.3.4"]), ["ClusterIP", "127.1.16.5", "1.2.3.4", "80/TCP"]),
        (
            {"spec": {"type": "ExternalName", "externalName": "example.com"}},
            ["ExternalName", "<none>", "example.com", "<none>"],
        ),
    ],
)
def test_services(obj: Obj, shown: list[str]) -> None:
    assert cells("services", obj)[1:5] == shown


def test_services_show_their_selector_when_wide() -> None:
    assert names("services")[-1] == "[SELECTOR]"
    assert cells("services", service(selector={"istio": "ingressgateway", "app": "x"}))[-1] == (
        "app=x,istio=ingressgateway"
    )


def test_deployments() -> None:
    obj = {
        "spec": {"replicas": 3, "template": TEMPLATE, "selector": SELECTOR},
        "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1},
    }
    assert names("deployments.apps") == [
        "NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "[CONTAINERS]", "[IMAGES]", "[SELECTOR]",
    ]  # fmt: skip
    assert cells("deployments.apps", obj) == ["x", "2/3", 3, 1, "60m", "a,b", "i:1,j:2", "app=x"]
    assert cells("deployments.extensions", obj, legacy=True) == cells("deployments.apps", obj)
    assert cells("replicasets.apps", obj | {"status": {"replicas": 3}})[:5] == ["x", 3, 3, 0, "60m"]
    assert cells("statefulsets.apps", obj)[:3] == ["x", "2/3", "60m"]


def test_daemon_sets() -> None:
    obj = {
        "spec": {"template": {"spec": {**TEMPLATE["spec"], "nodeSelector": {"disk": "ssd"}}}, "selector": SELECTOR},
        "status": {"desiredNumberScheduled": 1, "currentNumberScheduled": 1, "numberReady": 1, "numberAvailable": 1},
    }
    assert cells("daemonsets.apps", obj)[:8] == ["x", 1, 1, 1, 0, 1, "disk=ssd", "60m"]


def test_jobs() -> None:
    done = {
        "spec": {"completions": 1, "template": TEMPLATE, "selector": SELECTOR},
        "status": {
            "succeeded": 1,
            "startTime": "2026-01-01T00:00:00Z",
            "completionTime": "2026-01-01T00:00:07Z",
            "conditions": [
                {"type": "SuccessCriteriaMet", "status": "True"},
                {"type": "Complete", "status": "True"},
            ],
        },
    }
    assert cells("jobs.batch", done)[:5] == ["x", "Complete", "1/1", "7s", "60m"]
    assert names("jobs.batch", legacy=True)[:4] == ["NAME", "COMPLETIONS", "DURATION", "AGE"]
    assert cells("jobs.batch", done, legacy=True)[:4] == ["x", "1/1", "7s", "60m"]
    running = {"spec": {"parallelism": 3}, "status": {"startTime": "2026-01-01T00:59:00Z"}}
    assert cells("jobs.batch", running)[1:4] == ["Running", "0/1 of 3", "60s"]
    assert cells("jobs.batch", {})[1:4] == ["Running", "0/1", ""]


def test_cron_jobs() -> None:
    obj = {
        "spec": {"schedule": "* * * * *", "suspend": False, "jobTemplate": {"spec": {"template": TEMPLATE}}},
        "status": {"active": [{}], "lastScheduleTime": "2026-01-01T00:59:30Z"},
    }
    assert cells("cronjobs.batch", obj) == [
        "x", "* * * * *", "<none>", "False", 1, "30s", "60m", "a,b", "i:1,j:2", "<none>",
    ]  # fmt: skip


def test_nodes() -> None:
    obj = {
        "metadata": META | {"labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "master"}},
        "spec": {"unschedulable": True},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "127.1.0.1"}],
            "nodeInfo": {"kubeletVersion": "v1.35.0", "osImage": "Debian"},
        },
    }
    assert cells("nodes", obj) == [
        "x", "Ready,SchedulingDisabled", "control-plane,master", "60m", "v1.35.0",
        "127.1.0.1", "<none>", "Debian", "<unknown>", "<unknown>",
    ]  # fmt: skip
    assert cells("nodes", {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})[1] == "NotReady"
    assert cells("nodes", {})[1:3] == ["Unknown", "<none>"]


def test_events() -> None:
    obj = {
        "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{app}"},
        "type": "Warning",
        "reason": "BackOff",
        "message": "Back-off restarting failed container \n",
        "source": {"component": "kubelet", "host": "node"},
        "firstTimestamp": "2026-01-01T00:50:00Z",
        "lastTimestamp": "2026-01-01T00:59:50Z",
        "count": 7,
    }
    assert names("events") == [
        "LAST SEEN", "TYPE", "REASON", "OBJECT", "[SUBOBJECT]", "[SOURCE]", "MESSAGE",
        "[FIRST SEEN]", "[COUNT]", "[NAME]",
    ]  # fmt: skip
    assert cells("events", obj) == [
        "10s", "Warning", "BackOff", "pod/p", "spec.containers{app}", "kubelet, node",
        "Back-off restarting failed container", "10m", 7, "x",
    ]  # fmt: skip
    new = {"regarding": {"kind": "Node", "name": "n"}, "note": "ok", "eventTime": "2026-01-01T00:59:00.000000Z"}
    assert cells("events.events.k8s.io", new)[0::3] == ["60s", "node/n", "ok", "x"]


def test_endpoints() -> None:
    addresses = [{"ip": f"127.1.64.{n}"} for n in range(1, 5)]
    two_ports = {"subsets": [{"addresses": addresses[:1], "ports": [{"port": 80}, {"port": 443}]}]}
    assert cells("endpoints", two_ports)[1] == "127.1.64.1:80,127.1.64.1:443"
    many = {"subsets": [{"addresses": addresses, "ports": [{"port": 80}, {"port": 443}]}]}
    assert cells("endpoints", many)[1] == "127.1.64.1:80,127.1.64.2:80,127.1.64.3:80 + 5 more..."
    assert cells("endpoints", {})[1] == "<none>"
    slice_ = {
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 9080}],
        "endpoints": [{"addresses": [a["ip"]]} for a in addresses],
    }
    assert cells("endpointslices.discovery.k8s.io", slice_)[1:4] == [
        "IPv4", "9080", "127.1.64.1,127.1.64.2,127.1.64.3 + 1 more...",
    ]  # fmt: skip
    assert cells("endpointslices.discovery.k8s.io", {"addressType": "IPv4"})[2:4] == ["<unset>", "<unset>"]


def test_autoscalers_in_each_version() -> None:
    target = {"kind": "Deployment", "name": "istio-pilot"}
    v2 = {
        "spec": {
            "scaleTargetRef": target,
            "minReplicas": 1,
            "maxReplicas": 5,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
                }
            ],
        },
        "status": {"currentReplicas": 1},
    }
    shown = ["x", "Deployment/istio-pilot", "cpu: <unknown>/80%", "1", 5, 1, "60m"]
    assert cells("horizontalpodautoscalers.autoscaling", v2) == shown
    v1 = {
        "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 5, "targetCPUUtilizationPercentage": 80},
        "status": {"currentReplicas": 1, "currentCPUUtilizationPercentage": 12},
    }
    assert cells("horizontalpodautoscalers.autoscaling", v1, legacy=True)[2] == "12%/80%"
    beta = {"spec": {"metrics": [{"type": "Resource", "resource": {"name": "cpu", "targetAverageUtilization": 80}}]}}
    assert cells("horizontalpodautoscalers.autoscaling", beta, legacy=True)[2] == "<unknown>/80%"


def test_configuration_and_access() -> None:
    assert cells("configmaps", {"data": {"a": "", "b": ""}, "binaryData": {"c": ""}}) == ["x", 3, "60m"]
    assert cells("secrets", {"type": "Opaque", "data": {"a": ""}}) == ["x", "Opaque", 1, "60m"]
    assert cells("serviceaccounts", {"secrets": [{}]}) == ["x", "60m"]
    assert cells("serviceaccounts", {"secrets": [{}]}, legacy=True) == ["x", 1, "60m"]
    assert cells("namespaces", {"status": {"phase": "Active"}}) == ["x", "Active", "60m"]
    assert cells("poddisruptionbudgets.policy", {"spec": {"minAvailable": 1}}) == ["x", "1", "N/A", 0, "60m"]
    binding = {
        "roleRef": {"kind": "ClusterRole", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "n", "name": "a"}, {"kind": "User", "name": "u"}],
    }
    current = cells("clusterrolebindings.rbac.authorization.k8s.io", binding)
    assert current == ["x", "ClusterRole/r", "60m", "u", "", "n/a"]
    old = cells("clusterrolebindings.rbac.authorization.k8s.io", binding, legacy=True)
    assert old == ["x", "60m", "ClusterRole/r", "u", "", "n/a"]
    hooks = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
    assert cells(hooks, {"webhooks": [{}, {}]}) == ["x", 2, "60m"]
    assert names(hooks, legacy=True) == ["NAME", "CREATED AT"]


def test_storage() -> None:
    default = META | {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    assert cells("storageclasses.storage.k8s.io", {"metadata": default, "provisioner": "p"}) == [
        "x (default)", "p", "Delete", "Immediate", False, "60m",
    ]  # fmt: skip
    claim = {
        "spec": {"volumeName": "v", "storageClassName": "fast"},
        "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]},
    }
    assert cells("persistentvolumeclaims", claim) == [
        "x", "Bound", "v", "1Gi", "RWO", "fast", "<unset>", "60m", "<unset>",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "resource", ["customresourcedefinitions.apiextensions.k8s.io", "roles.rbac.authorization.k8s.io"]
)
def test_some_kinds_show_when_they_were_created(resource: str) -> None:
    assert names(resource) == ["NAME", "CREATED AT"]
    assert cells(resource, {}) == ["x", "2026-01-01T00:00:00Z"]


def test_an_unknown_resource_has_a_name_and_an_age() -> None:
    assert names("things.example.com") == ["NAME", "AGE"]
    assert cells("things.example.com", {}) == ["x", "60m"]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("resource", sorted(registry._tables))
def test_every_table_fills_every_column_of_an_empty_object(resource: str, legacy: bool) -> None:
    row = cells(resource, {}, legacy=legacy)
    assert len(row) == len(names(resource, legacy=legacy))
    assert "<invalid>" not in row


@pytest.mark.parametrize("broken", ["text", 7, [1], [[]], {"a": 1}, None, True])
@pytest.mark.parametrize("resource", sorted(registry._tables))
def test_an_object_of_wrong_types_does_not_break_the_table(resource: str, broken: Any) -> None:
    fields = ("spec", "status", "data", "webhooks", "subjects", "subsets", "endpoints", "ports", "series", "secrets")
    row = cells(resource, dict.fromkeys(fields, broken))
    assert "x" in row


def test_rows_carry_what_is_asked_for() -> None:
    obj = {"metadata": META, "data": {}}
    metadata = to_table("configmaps", [obj], crd=None)["rows"][0]["object"]
    assert metadata == {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": META}
    assert to_table("configmaps", [obj], crd=None, include="Object")["rows"][0]["object"] == obj
    assert to_table("configmaps", [obj], crd=None, include="None")["rows"][0]["object"] is None
    with pytest.raises(ApiError, match="includeObject") as refused:
        to_table("configmaps", [obj], crd=None, include="Everything")
    assert refused.value.code == 400
