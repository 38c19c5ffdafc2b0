# SPDX-License-Identifier: Apache-2.0
"""What istiod writes for the Gateway API: classes, and what a Gateway runs as; without any Envoy."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from meshbox.contracts import AdmissionRequest
from meshbox.mesh.admission import MeshAdmission
from meshbox.mesh.gateway_api.unplayed import unplayed
from meshbox.mesh.kinds import GATEWAY_CLASSES, KUBERNETES_GATEWAYS

from .cluster import Cluster
from .istiod import Istiod

Obj = dict[str, Any]


def classes(cluster: Cluster) -> dict[str, str]:
    return {
        one["metadata"]["name"]: next(c["message"] for c in one["status"]["conditions"] if c["type"] == "Accepted")
        for one in cluster.list(GATEWAY_CLASSES)
    }


async def test_classes_are_made_with_the_definitions_and_again(cluster_of: Callable[[str], Cluster]) -> None:
    cluster = cluster_of("1.30.3")
    istiod = Istiod(cluster)
    istiod.api.start()
    istiod.tell()
    cluster.install_gateway_api()
    both = dict.fromkeys(("istio", "istio-remote"), "Handled by Istio controller")
    await istiod.until(lambda: classes(cluster) == both, "both classes")
    made = cluster.get(GATEWAY_CLASSES, "istio")
    assert made["spec"] == {
        "controllerName": "istio.io/gateway-controller",
        "description": "The default Istio GatewayClass",
    }
    cluster.delete(GATEWAY_CLASSES, "istio")
    await istiod.until(lambda: classes(cluster) == both, "the class again")
    await istiod.api.stop()


async def test_a_class_of_ones_own_is_accepted_and_somebody_elses_is_not_touched(istiod: Istiod) -> None:
    for name, controller in (("mine", "istio.io/gateway-controller"), ("nginx", "example.com/nginx")):
        istiod.cluster.put(GATEWAY_CLASSES, {"metadata": {"name": name}, "spec": {"controllerName": controller}})
    handled = {"istio", "istio-remote", "mine"}

    def done() -> bool:
        found = classes(istiod.cluster)
        return {name for name, words in found.items() if words == "Handled by Istio controller"} == handled

    await istiod.until(done, "three classes")
    assert classes(istiod.cluster)["nginx"] == "Waiting for controller"
    istiod.gateway(gatewayClassName="mine")
    await istiod.until(lambda: istiod.found("services", "gw-mine"), "a Service named after the class")


async def test_nothing_is_written_before_istiod_is_ready(istiod: Istiod) -> None:
    istiod.ready = False
    istiod.gateway()
    istiod.tell()
    await istiod.api.stop()
    assert not istiod.found("services")
    assert istiod.condition("Accepted") == ("Unknown", "Pending", "Waiting for controller")
    assert not istiod.cluster.list(GATEWAY_CLASSES)


async def test_what_a_gateway_runs_as(istiod: Istiod) -> None:
    secure = {"name": "tls", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "shop"}]}}
    again = {"name": "other", "port": 80, "protocol": "HTTP", "hostname": "a.example"}
    made = istiod.gateway(listeners=[{"name": "web", "port": 80, "protocol": "HTTP"}, again, secure])
    await istiod.deployed()
    own = {
        "gateway.networking.k8s.io/gateway-name": "gw",
        "gateway.networking.k8s.io/gateway-class-name": "istio",
    }
    service, deployment = istiod.found("services"), istiod.found("deployments.apps")
    assert service["metadata"]["labels"] == own
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["spec"]["selector"] == {"gateway.networking.k8s.io/gateway-name": "gw"}
    assert [(one["name"], one["port"], one["targetPort"], one["appProtocol"]) for one in service["spec"]["ports"]] == [
        ("status-port", 15021, 15021, "tcp"),
        ("web", 80, 80, "http"),
        ("tls", 443, 443, "https"),
    ]
    managed = {"gateway.istio.io/managed": "istio.io-gateway-controller"}
    assert deployment["metadata"]["labels"] == own | managed
    template = deployment["spec"]["template"]
    assert template["metadata"]["labels"] == {
        **own,
        **managed,
        "sidecar.istio.io/inject": "false",
        "service.istio.io/canonical-name": "gw-istio",
        "service.istio.io/canonical-revision": "latest",
    }
    assert template["metadata"]["annotations"]["prometheus.io/port"] == "15020"
    (container,) = template["spec"]["containers"]
    assert (container["name"], container["image"]) == ("istio-proxy", "docker.io/istio/proxyv2:1.30.3")
    assert container["args"][:2] == ["proxy", "router"]
    assert template["spec"]["serviceAccountName"] == "gw-istio"
    owner = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "name": "gw",
        "uid": made["metadata"]["uid"],
    }
    for resource in ("services", "deployments.apps", "serviceaccounts"):
        assert istiod.found(resource)["metadata"]["ownerReferences"] == [owner]
    annotations = istiod.found(KUBERNETES_GATEWAYS, "gw")["metadata"]["annotations"]
    assert annotations == {"gateway.istio.io/controller-version": "5"}


async def test_what_runs_follows_its_gateway(istiod: Istiod) -> None:
    istiod.gateway()
    await istiod.deployed()
    istiod.gateway(
        metadata={"annotations": {"networking.istio.io/service-type": "ClusterIP"}, "labels": {"team": "books"}},
        listeners=[{"name": "web", "port": 8080, "protocol": "HTTP"}],
    )

    def changed() -> bool:
        spec = istiod.found("services")["spec"]
        return (spec["type"], [one["port"] for one in spec["ports"]]) == ("ClusterIP", [15021, 8080])

    await istiod.until(changed, "the Service to follow")
    assert istiod.found("deployments.apps")["metadata"]["labels"]["team"] == "books"
    istiod.cluster.delete("services", "gw-istio", "bookinfo")
    await istiod.until(lambda: istiod.found("services"), "the Service again")


@pytest.mark.parametrize(
    ("metadata", "infrastructure", "name", "account"),
    [
        ({"annotations": {"gateway.istio.io/name-override": "door"}}, None, "door", "door"),
        ({"annotations": {"gateway.istio.io/service-account": "porter"}}, None, "gw-istio", "porter"),
        ({"labels": {"a": "own"}}, {"labels": {"b": "given"}, "annotations": {"c": "said"}}, "gw-istio", "gw-istio"),
    ],
)
async def test_names_labels_and_annotations_that_users_choose(
    istiod: Istiod, metadata: Obj, infrastructure: Obj | None, name: str, account: str
) -> None:
    istiod.gateway(metadata=metadata, **({"infrastructure": infrastructure} if infrastructure else {}))
    await istiod.until(lambda: istiod.found("services", name), "a Service")
    assert istiod.found("serviceaccounts", account)
    assert istiod.found("deployments.apps", name)["spec"]["template"]["spec"]["serviceAccountName"] == account
    if infrastructure:
        found = istiod.found("services", name)["metadata"]
        assert (found["labels"].get("a"), found["labels"]["b"], found["annotations"]) == (None, "given", {"c": "said"})


async def test_a_config_map_changes_what_is_made(istiod: Istiod) -> None:
    container = {"name": "istio-proxy", "resources": {"requests": {"cpu": "222m"}}}
    overlays = {
        "deployment": json.dumps({"spec": {"replicas": 2, "template": {"spec": {"containers": [container]}}}}),
        "service": "spec: {type: NodePort}",
        "horizontalPodAutoscaler": "spec: {minReplicas: 2, maxReplicas: 3}",
    }
    meta = {"name": "options", "namespace": "bookinfo"}
    istiod.cluster.put("configmaps", {"metadata": meta, "data": overlays})
    istiod.gateway(infrastructure={"parametersRef": {"group": "", "kind": "ConfigMap", "name": "options"}})
    await istiod.deployed()
    spec = istiod.found("deployments.apps")["spec"]
    assert spec["replicas"] == 2
    (found,) = spec["template"]["spec"]["containers"]
    assert found["resources"]["requests"] == {"cpu": "222m", "memory": "40Mi"}
    assert found["args"][:2] == ["proxy", "router"]
    assert istiod.found("services")["spec"]["type"] == "NodePort"
    assert istiod.found("horizontalpodautoscalers.autoscaling")["spec"]["maxReplicas"] == 3
    assert not istiod.found("poddisruptionbudgets.policy")
    istiod.cluster.put("configmaps", {"metadata": meta, "data": {"service": "spec: {type: ClusterIP}"}})
    await istiod.until(lambda: istiod.found("services")["spec"]["type"] == "ClusterIP", "the Service to follow")


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        (
            "ConfigMap",
            None,
            'parametersRef targeting configmap "bookinfo/options", but configmap does not exist',
        ),
        ("Secret", None, "invalid parameters: unknown infrastructure parameters type /Secret"),
        (
            "ConfigMap",
            {"pod": "{}"},
            'unsupported overlay "pod" (supported: [deployment horizontalPodAutoscaler podDisruptionBudget service'
            " serviceAccount])",
        ),
        ("ConfigMap", {"service": "metadata: {name: other}"}, "illegal metadata change"),
    ],
)
async def test_parameters_that_cannot_be_followed(istiod: Istiod, kind: str, data: Obj | None, words: str) -> None:
    if data is not None:
        istiod.cluster.put("configmaps", {"metadata": {"name": "options", "namespace": "bookinfo"}, "data": data})
    istiod.gateway(infrastructure={"parametersRef": {"group": "", "kind": kind, "name": "options"}})
    await istiod.until(lambda: istiod.condition("Accepted")[0] == "False", "a refusal")
    assert istiod.condition("Accepted") == ("False", "InvalidParameters", words)
    assert not istiod.found("services")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"service": "spec: {ports: [{port: 81, name: web}]}"}, 'spec.ports[2].name: Duplicate value: "web"'),
        ({"service": "spec: {sessionAffinity: Sometimes}"}, 'spec.sessionAffinity: Unsupported value: "Sometimes"'),
        ({"deployment": "spec: {replicas: -1}"}, "spec.replicas: Invalid value: -1"),
        ({"deployment": "spec: {replica: 2}"}, ".spec.replica: field not declared in schema"),
    ],
)
async def test_parameters_that_kubernetes_refuses(istiod: Istiod, data: Obj, words: str) -> None:
    istiod.cluster.put("configmaps", {"metadata": {"name": "options", "namespace": "bookinfo"}, "data": data})
    istiod.gateway(infrastructure={"parametersRef": {"group": "", "kind": "ConfigMap", "name": "options"}})
    await istiod.until(lambda: istiod.cluster.warnings("gw"), "a warning")
    assert words in istiod.cluster.warnings("gw")[0]
    await istiod.until(lambda: istiod.condition("Programmed")[1] == "AddressNotUsable", "a status")
    assert not istiod.found("services")


async def test_a_name_that_is_too_long_is_told(istiod: Istiod) -> None:
    name = "g" * 60
    istiod.gateway(name=name)
    await istiod.until(lambda: istiod.cluster.warnings(name), "a warning")
    assert "must be no more than 63 bytes" in istiod.cluster.warnings(name)[0]
    await istiod.until(lambda: istiod.condition("Programmed", name)[1] == "AddressNotUsable", "a status")


async def test_a_later_versions_gateway_is_left_alone(istiod: Istiod) -> None:
    istiod.gateway(metadata={"annotations": {"gateway.istio.io/controller-version": "6"}})
    await istiod.until(lambda: istiod.condition("Programmed")[1] == "AddressNotUsable", "a status")
    assert not istiod.found("services")


@pytest.mark.parametrize(
    ("fields", "warnings"),
    [
        ({}, []),
        ({"allowedListeners": {"namespaces": {"from": "All"}}}, []),
        (
            {"tls": {"backend": {"clientCertificateRef": {"name": "shop"}}}},
            ["spec.tls.backend has no effect in the sandbox"],
        ),
        ({"tls": {"frontend": {"default": {}}}}, []),
        ({"gatewayClassName": "nginx", "defaultScope": "All"}, []),
    ],
)
def test_what_is_not_played_is_told_at_once(fields: Obj, warnings: list[str]) -> None:
    spec = {"gatewayClassName": "istio", "listeners": [], **fields}
    assert unplayed(KUBERNETES_GATEWAYS, {"spec": spec}) == warnings


def test_kinds_that_are_not_played_are_told_at_once(cluster_of: Callable[[str], Cluster]) -> None:
    cluster = cluster_of("1.30.3")
    admission = MeshAdmission(cluster, cluster.settings)
    meta = {"name": "more", "namespace": "bookinfo"}
    request = AdmissionRequest(
        "CREATE", "udproutes.gateway.networking.k8s.io", "bookinfo", "more", {"metadata": meta, "spec": {}}
    )
    admission.validate(request)
    assert request.warnings == ["UDPRoute has no effect in the sandbox"]
