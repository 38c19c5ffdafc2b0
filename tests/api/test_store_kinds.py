# SPDX-License-Identifier: Apache-2.0
"""What the API server does for single kinds: namespaces, Services, definitions of custom resources."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.api.objects import ObjectStore
from meshbox.api.options import WriteOptions
from meshbox.rbac.users import ADMIN

from .conftest import CRDS, config_map, crd, refused

DEPLOYMENTS = "deployments.apps"


class TestNamespace:
    def test_it_is_active_and_labelled(self, objects: ObjectStore) -> None:
        created = objects.create("namespaces", {"metadata": {"name": "shop"}})
        assert created["status"] == {"phase": "Active"}
        assert created["spec"] == {"finalizers": ["kubernetes"]}
        assert created["metadata"]["labels"] == {"kubernetes.io/metadata.name": "shop"}

    def test_it_terminates_and_takes_nothing_new(self, objects: ObjectStore) -> None:
        objects.create("namespaces", {"metadata": {"name": "shop"}})
        objects.create("configmaps", config_map(), "shop")
        going = objects.delete("namespaces", "shop")
        assert going["status"]["phase"] == "Terminating"
        error = refused(objects.create, "configmaps", config_map("new"), "shop")
        assert (error.code, error.reason) == (403, "Forbidden")
        assert error.message == (
            'configmaps "new" is forbidden: unable to create new content in namespace shop because it is being '
            "terminated"
        )
        assert error.details["causes"][0]["reason"] == "NamespaceTerminating"
        objects.update("namespaces", {**going, "spec": {}}, subresource="finalize")
        assert objects.find("namespaces", "shop") is None

    @pytest.mark.parametrize("name", ["default", "kube-system", "kube-public"])
    def test_some_may_not_be_deleted(self, objects: ObjectStore, name: str) -> None:
        error = refused(objects.delete, "namespaces", name)
        assert error.message == f'namespaces "{name}" is forbidden: this namespace may not be deleted'


class TestService:
    def service(self, name: str = "web", **spec: Any) -> dict[str, Any]:
        return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}

    def test_it_has_an_address_that_lasts(self, objects: ObjectStore) -> None:
        spec = objects.create("services", self.service())["spec"]
        cidr = objects.settings.plan.service_cidr
        assert spec["clusterIP"].startswith(f"127.{objects.settings.plan.number}.")
        assert spec["clusterIPs"] == [spec["clusterIP"]]
        assert int(spec["clusterIP"].split(".")[2]) in range(16, 32), cidr
        changed = objects.patch("services", "web", {"spec": {"clusterIP": None, "clusterIPs": None}})
        assert changed["spec"]["clusterIP"] == spec["clusterIP"]

    def test_addresses_differ(self, objects: ObjectStore) -> None:
        found = {objects.create("services", self.service(f"s{i}"))["spec"]["clusterIP"] for i in range(200)}
        assert len(found) == 200

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            (
                {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]},
                '[spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-'
                'stack services, spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster]',
            ),
            (
                {"clusterIP": "fd00::1"},
                'spec.clusterIPs[0]: Invalid value: ["fd00::1"]: IPv6 is not configured on this cluster',
            ),
        ],
    )
    def test_there_is_no_ipv6(self, objects: ObjectStore, spec: dict[str, Any], words: str) -> None:
        error = refused(objects.create, "services", self.service("web", **spec))
        assert (error.code, error.message) == (422, f'Service "web" is invalid: {words}')
        objects.create("services", self.service("web", ipFamilyPolicy="PreferDualStack"))

    def test_an_address_is_asked_for_once(self, objects: ObjectStore) -> None:
        address = str(objects.settings.plan.service_cidr[10])
        objects.create("services", self.service("a", clusterIP=address))
        error = refused(objects.create, "services", self.service("b", clusterIP=address))
        assert f"failed to allocate IP {address}: provided IP is already allocated" in error.message
        error = refused(objects.create, "services", self.service("c", clusterIP="10.0.0.1"))
        assert "10.0.0.1: the provided network does not match the current range" in error.message
        error = refused(
            objects.patch, "services", "a", {"spec": {"clusterIP": str(objects.settings.plan.service_cidr[11])}}
        )
        assert "may not change once set" in error.message

    def test_a_headless_service_has_none(self, objects: ObjectStore) -> None:
        assert objects.create("services", self.service(clusterIP="None"))["spec"]["clusterIPs"] == ["None"]

    def test_node_ports_are_in_the_range_and_differ(self, objects: ObjectStore) -> None:
        ports = [{"port": port} for port in range(1, 60)]
        spec = objects.create("services", self.service(type="NodePort", ports=ports))["spec"]
        found = [port["nodePort"] for port in spec["ports"]]
        assert len(set(found)) == 59
        assert all(30000 <= port <= 32767 for port in found)
        again = objects.patch("services", "web", {"metadata": {"labels": {"a": "b"}}})
        assert again["spec"]["ports"] == spec["ports"]

    def test_a_node_port_is_taken_once(self, objects: ObjectStore) -> None:
        port = {"port": 80, "nodePort": 31380}
        objects.create("services", self.service("a", type="LoadBalancer", ports=[port]))
        error = refused(objects.create, "services", self.service("b", type="NodePort", ports=[port]))
        assert error.message == (
            'Service "b" is invalid: spec.ports[0].nodePort: Invalid value: 31380: provided port is already allocated'
        )
        error = refused(
            objects.create, "services", self.service("c", type="NodePort", ports=[{"port": 1, "nodePort": 80}])
        )
        assert "provided port is not in the valid range. The range of valid ports is 30000-32767" in error.message

    def test_a_service_that_becomes_cluster_ip_gives_its_ports_back(self, objects: ObjectStore) -> None:
        objects.create("services", self.service("a", type="NodePort", ports=[{"port": 80, "nodePort": 31380}]))
        changed = objects.patch("services", "a", {"spec": {"type": "ClusterIP"}})
        assert changed["spec"]["ports"][0].get("nodePort") is None
        objects.create("services", self.service("b", type="NodePort", ports=[{"port": 80, "nodePort": 31380}]))

    def test_the_api_servers_own_has_the_first_address(self, objects: ObjectStore) -> None:
        assert objects.get("services", "kubernetes")["spec"]["clusterIP"] == str(objects.settings.plan.service_cidr[1])


class TestCustomResources:
    def test_it_is_established_and_served_at_once(self, objects: ObjectStore) -> None:
        created = objects.create(CRDS, crd())
        conditions = {one["type"]: one["status"] for one in created["status"]["conditions"]}
        assert conditions == {"NamesAccepted": "True", "Established": "True"}
        assert created["status"]["acceptedNames"] == {
            "plural": "widgets",
            "singular": "widget",
            "kind": "Widget",
            "listKind": "WidgetList",
        }
        assert created["status"]["storedVersions"] == ["v1"]
        assert "widgets.example.com" in objects.resources()
        widget = objects.create("widgets.example.com", {"metadata": {"name": "w"}, "spec": {"size": 1}})
        assert (widget["apiVersion"], widget["kind"]) == ("example.com/v1", "Widget")
        assert widget["metadata"]["generation"] == 1

    def test_it_is_served_again_after_a_restart(self, objects: ObjectStore) -> None:
        objects.create(CRDS, crd())
        objects.create("widgets.example.com", {"metadata": {"name": "w"}})
        objects.close()
        again = ObjectStore(objects.settings)
        try:
            assert again.get("widgets.example.com", "w")["kind"] == "Widget"
        finally:
            again.close()

    def test_its_objects_go_with_it(self, objects: ObjectStore) -> None:
        objects.create(CRDS, crd())
        objects.create("widgets.example.com", {"metadata": {"name": "w"}})
        objects.delete(CRDS, "widgets.example.com")
        assert objects.find(CRDS, "widgets.example.com") is None
        assert "widgets.example.com" not in objects.resources()
        objects.create(CRDS, crd())
        assert objects.list("widgets.example.com") == []

    def test_it_waits_for_an_object_with_a_finalizer(self, objects: ObjectStore) -> None:
        objects.create(CRDS, crd())
        objects.create("widgets.example.com", {"metadata": {"name": "w", "finalizers": ["example.com/hold"]}})
        objects.delete(CRDS, "widgets.example.com")
        assert objects.get(CRDS, "widgets.example.com")["metadata"]["deletionTimestamp"]
        objects.patch("widgets.example.com", "w", {"metadata": {"finalizers": None}})
        assert objects.find(CRDS, "widgets.example.com") is None

    def test_names_that_are_taken_are_not_accepted(self, objects: ObjectStore) -> None:
        objects.create(CRDS, crd())
        second = crd("gizmos", "Widget")
        status = objects.create(CRDS, second)["status"]
        conditions = {one["type"]: one for one in status["conditions"]}
        assert conditions["NamesAccepted"]["status"] == "False"
        assert conditions["NamesAccepted"]["message"] == '"WidgetList" is already in use'
        assert conditions["Established"]["status"] == "False"
        assert "gizmos.example.com" not in objects.resources()
        objects.delete(CRDS, "widgets.example.com")
        assert "gizmos.example.com" in objects.resources(), "the names are free now"

    def test_its_schema_prunes_defaults_and_refuses(self, objects: ObjectStore) -> None:
        size = {"type": "integer", "minimum": 1}
        spec = {"type": "object", "properties": {"size": size, "colour": {"type": "string", "default": "red"}}}
        schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
        objects.create(CRDS, crd(schema=schema))
        made = objects.create("widgets.example.com", {"metadata": {"name": "w"}, "spec": {"size": 2, "extra": 1}})
        assert made["spec"] == {"size": 2, "colour": "red"}
        error = refused(objects.create, "widgets.example.com", {"metadata": {"name": "x"}, "spec": {"size": 0}})
        assert error.code == 422
        assert error.message.startswith('Widget.example.com "x" is invalid: spec.size: Invalid value: 0')

    def test_a_new_storage_version_shows_old_objects_anew(self, objects: ObjectStore) -> None:
        objects.create(CRDS, crd())
        before = objects.create("widgets.example.com", {"metadata": {"name": "w"}})
        definition = objects.get(CRDS, "widgets.example.com")
        definition["spec"]["versions"][0]["storage"] = False
        definition["spec"]["versions"].append({**definition["spec"]["versions"][0], "name": "v2", "storage": True})
        stored = objects.update(CRDS, definition)["status"]["storedVersions"]
        assert stored == ["v1", "v2"]
        now = objects.get("widgets.example.com", "w")
        assert now["apiVersion"] == "example.com/v2"
        assert now["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_a_signing_request_says_who_asks(objects: ObjectStore) -> None:
    request = {"metadata": {"name": "r"}, "spec": {"username": "somebody", "uid": "1", "extra": {"a": ["b"]}}}
    made = objects.create("certificatesigningrequests.certificates.k8s.io", request, options=WriteOptions(user=ADMIN))
    told = {name: made["spec"].get(name) for name in ("username", "groups", "uid", "extra")}
    groups = ["system:masters", "system:authenticated"]
    assert told == {"username": "kubernetes-admin", "groups": groups, "uid": None, "extra": None}


def test_a_pod_that_waits_for_its_gates_says_so(objects: ObjectStore) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}], "schedulingGates": [{"name": "g"}]}
    made = objects.create("pods", {"metadata": {"name": "p"}, "spec": spec}, "default")
    [told] = made["status"]["conditions"]
    assert (told["type"], told["status"], told["reason"]) == ("PodScheduled", "False", "SchedulingGated")
