# SPDX-License-Identifier: Apache-2.0
"""What an update leaves, drops and refuses, as clients meet it."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.api.objects import ObjectStore
from meshbox.api.options import WriteOptions
from meshbox.contracts import ApiError, Obj

from .conftest import crd, deployment, refused

STRICT = WriteOptions("test", validation="Strict")


def service(**spec: Any) -> Obj:
    return {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}], **spec}}


def patched(objects: ObjectStore, **spec: Any) -> Obj:
    found: Obj = objects.patch("services", "web", {"spec": spec}, options=WriteOptions("test", validation="Strict"))
    changed: Obj = found["spec"]
    return changed


class TestTypeOfAService:
    def test_what_the_new_type_does_not_have_goes(self, objects: ObjectStore) -> None:
        whole = service(
            type="LoadBalancer",
            externalTrafficPolicy="Local",
            loadBalancerClass="a.example.com/b",
            sessionAffinity="ClientIP",
        )
        made = objects.create("services", whole)["spec"]
        assert made["ports"][0]["nodePort"] != made["healthCheckNodePort"] > 0
        assert made["allocateLoadBalancerNodePorts"] is True
        nodes = patched(objects, type="NodePort")
        assert nodes["ports"][0]["nodePort"] == made["ports"][0]["nodePort"]
        assert nodes["externalTrafficPolicy"] == "Local"
        gone = {"healthCheckNodePort", "loadBalancerClass", "allocateLoadBalancerNodePorts"}
        assert not gone & nodes.keys()
        inside = patched(objects, type="ClusterIP", sessionAffinity="None")
        assert "nodePort" not in inside["ports"][0]
        assert not {"externalTrafficPolicy", "sessionAffinityConfig"} & inside.keys()
        assert inside["clusterIP"] == made["clusterIP"]
        name = patched(objects, type="ExternalName", externalName="example.com")
        assert not {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"} & name.keys()

    def test_what_a_client_gives_with_the_wrong_type_is_refused(self, objects: ObjectStore) -> None:
        objects.create("services", service(type="NodePort"))
        with pytest.raises(ApiError) as caught:
            patched(objects, type="ClusterIP", externalTrafficPolicy="Local", ports=[{"port": 80, "nodePort": 31999}])
        assert caught.value.message == (
            'Service "web" is invalid: [spec.ports[0].nodePort: Forbidden: may not be used when `type` is '
            "'ClusterIP', spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for "
            "externally-accessible services]"
        )

    def test_a_port_of_the_same_name_keeps_its_node_port(self, objects: ObjectStore) -> None:
        ports = [{"name": "web", "port": 80, "nodePort": 31001}, {"name": "tls", "port": 443, "nodePort": 31002}]
        objects.create("services", service(type="NodePort", ports=ports))

        def now(*ports: Obj) -> dict[str, int]:
            return {one["name"]: one["nodePort"] for one in patched(objects, ports=list(ports))["ports"]}

        moved = now({"name": "web", "port": 8080}, {"name": "other", "port": 443})
        assert moved["web"] == 31001
        assert moved["other"] != 31002, "the port is the same, its name is not"
        # What the client gives to another port is no longer kept for this one.
        assert now({"name": "web", "port": 80}, {"name": "new", "port": 81, "nodePort": 31001})["web"] != 31001

    def test_ports_that_go_or_come_do_not_hold_back_a_new_type(self, objects: ObjectStore) -> None:
        ports = [{"name": "web", "port": 80, "nodePort": 31001}, {"name": "tls", "port": 443, "nodePort": 31002}]
        objects.create("services", service(type="LoadBalancer", ports=ports))
        kept = patched(objects, allocateLoadBalancerNodePorts=False)["ports"]
        assert [one["nodePort"] for one in kept] == [31001, 31002], "they stay until somebody takes them away"
        bare = patched(objects, type="ClusterIP", ports=[ports[1], {"name": "new", "port": 90}])["ports"]
        assert [(one["name"], one.get("nodePort")) for one in bare] == [("tls", None), ("new", None)]

    def test_a_client_that_leaves_out_what_was_given_keeps_it(self, objects: ObjectStore) -> None:
        made = objects.create("services", service(type="LoadBalancer", externalTrafficPolicy="Local"))
        bare = service(type="LoadBalancer", externalTrafficPolicy="Local")
        bare["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
        kept = objects.update("services", bare, options=WriteOptions("test", validation="Strict"))["spec"]
        for field in ("clusterIP", "clusterIPs", "healthCheckNodePort", "ports"):
            assert kept[field] == made["spec"][field]
        with pytest.raises(ApiError) as caught:
            patched(objects, healthCheckNodePort=32001)
        assert caught.value.message == (
            'Service "web" is invalid: spec.healthCheckNodePort: Forbidden: field is immutable'
        )


def test_a_deployment_counts_changes_of_its_annotations(objects: ObjectStore) -> None:
    made = objects.create("deployments.apps", deployment())
    name, labels = made["metadata"]["name"], {"metadata": {"labels": {"a": "b"}}}
    assert objects.patch("deployments.apps", name, labels)["metadata"]["generation"] == 1
    noted = objects.patch("deployments.apps", name, {"metadata": {"annotations": {"a": "b"}}})
    assert noted["metadata"]["generation"] == 2
    status = {**noted, "status": {"replicas": 1}}
    status["metadata"] = {**noted["metadata"], "annotations": {"a": "c"}}
    assert objects.update("deployments.apps", status, subresource="status")["metadata"]["generation"] == 2


def test_a_pod_needs_its_service_account(objects: ObjectStore) -> None:
    pod = {
        "metadata": {"name": "p"},
        "spec": {"serviceAccountName": "robot", "containers": [{"name": "a", "image": "b"}]},
    }
    assert refused(objects.create, "pods", pod).message == (
        'pods "p" is forbidden: error looking up service account default/robot: serviceaccount "robot" not found'
    )
    objects.create("serviceaccounts", {"metadata": {"name": "robot"}})
    assert objects.create("pods", pod)["spec"]["serviceAccountName"] == "robot"


def test_owners_and_finalizers(objects: ObjectStore) -> None:
    event = {"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "u", "controller": True}
    other = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": True}
    meta = {"name": "c", "ownerReferences": [event, other], "finalizers": ["mine"]}
    listed = (
        '[{"apiVersion":"v1","kind":"Event","name":"e","uid":"u","controller":true},'
        '{"apiVersion":"v1","kind":"Pod","name":"p","uid":"u","controller":true}]'
    )
    assert [
        f"{one['field']}: {one['message']}"
        for one in refused(objects.create, "configmaps", {"metadata": meta}).details["causes"]
    ] == [
        "metadata.ownerReferences: Invalid value: "
        '{"apiVersion":"v1","kind":"Event","name":"e","uid":"u","controller":true}: '
        "/v1, Kind=Event is disallowed from being an owner",
        f"metadata.ownerReferences: Invalid value: {listed}: Only one reference can have Controller set to true. "
        'Found "true" in references for Event/e and Pod/p',
        'metadata.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully '
        "qualified",
    ]


def test_what_a_scale_shows_has_to_be_a_number(objects: ObjectStore) -> None:
    definition = crd()
    for version in definition["spec"]["versions"]:
        version["subresources"] = {"scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}}
        version["schema"] = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    objects.create("customresourcedefinitions.apiextensions.k8s.io", definition)
    name = definition["metadata"]["name"]
    for size, said in (
        ("x", "Invalid value: 0: .spec.size accessor error: x is of the type string, expected int64"),
        (-1, "Invalid value: -1: should be a non-negative integer"),
    ):
        error = refused(objects.create, name, {"metadata": {"name": "w"}, "spec": {"size": size}})
        assert error.details["causes"][0] == {
            "reason": "FieldValueInvalid", "message": said, "field": ".spec.size",
        }  # fmt: skip


def test_what_counts_as_a_change_of_a_generation(objects: ObjectStore) -> None:
    """As on a Kubernetes 1.35.4: the labels of an EndpointSlice, nothing of a PriorityClass."""
    objects.create("priorityclasses.scheduling.k8s.io", {"metadata": {"name": "a"}, "value": 1})
    told = objects.patch("priorityclasses.scheduling.k8s.io", "a", {"description": "more"})
    assert told["metadata"]["generation"] == 1
    objects.create(
        "endpointslices.discovery.k8s.io", {"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": []}
    )
    labelled = objects.patch("endpointslices.discovery.k8s.io", "a", {"metadata": {"labels": {"a": "b"}}})
    assert labelled["metadata"]["generation"] == 2
