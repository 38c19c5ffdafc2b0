# SPDX-License-Identifier: Apache-2.0
"""The semantics of creates, updates and deletes, as the API server has them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from meshbox.api.objects import ObjectStore
from meshbox.contracts import AdmissionRequest, ApiError

from .conftest import config_map, deployment, pod, refused

DEPLOYMENTS = "deployments.apps"


class TestCreate:
    def test_the_server_fills_in_its_own_metadata(self, objects: ObjectStore) -> None:
        given = config_map(a="1")
        given["metadata"] |= {"uid": "mine", "resourceVersion": "7", "generation": 9, "selfLink": "/x"}
        created = objects.create("configmaps", given, "default")
        meta = created["metadata"]
        assert created["apiVersion"], created["kind"] == ("v1", "ConfigMap")
        assert meta["namespace"] == "default"
        assert re.fullmatch(r"[0-9a-f-]{36}", meta["uid"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", meta["creationTimestamp"])
        assert int(meta["resourceVersion"]) == objects.store.version
        assert "generation" not in meta
        assert "selfLink" not in meta
        assert given["metadata"]["uid"] == "mine", "the caller's object was changed"

    def test_what_is_returned_is_the_callers_own(self, objects: ObjectStore) -> None:
        objects.create("configmaps", config_map(a="1"))["data"]["a"] = "changed"
        objects.get("configmaps", "settings")["data"]["a"] = "changed"
        objects.list("configmaps")[0]["data"]["a"] = "changed"
        assert objects.get("configmaps", "settings")["data"] == {"a": "1"}

    def test_a_generated_name_has_five_more_characters(self, objects: ObjectStore) -> None:
        names = {objects.create("pods", {**pod(), "metadata": {"generateName": "web-"}})["metadata"]["name"]}
        names |= {objects.create("pods", {**pod(), "metadata": {"generateName": "web-"}})["metadata"]["name"]}
        assert len(names) == 2
        assert all(re.fullmatch(r"web-[bcdfghjklmnpqrstvwxz2456789]{5}", name) for name in names)

    def test_a_status_is_not_created(self, objects: ObjectStore) -> None:
        created = objects.create("pods", pod() | {"status": {"phase": "Running", "podIP": "1.2.3.4"}})
        assert created["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
        assert objects.create(DEPLOYMENTS, deployment() | {"status": {"replicas": 3}})["status"] == {}

    def test_a_node_registers_with_its_status(self, objects: ObjectStore) -> None:
        node = {"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "2"}}}
        assert objects.create("nodes", node)["status"]["capacity"] == {"cpu": "2"}

    def test_the_same_name_again_is_refused(self, objects: ObjectStore) -> None:
        objects.create("configmaps", config_map())
        error = refused(objects.create, "configmaps", config_map())
        assert (error.code, error.reason) == (409, "AlreadyExists")
        assert error.message == 'configmaps "settings" already exists'
        assert error.details == {"name": "settings", "kind": "configmaps"}

    def test_a_namespace_must_exist(self, objects: ObjectStore) -> None:
        error = refused(objects.create, "configmaps", config_map(), "nowhere")
        assert (error.code, error.message) == (404, 'namespaces "nowhere" not found')

    def test_the_namespaces_of_object_and_request_must_agree(self, objects: ObjectStore) -> None:
        given = config_map()
        given["metadata"]["namespace"] = "kube-system"
        error = refused(objects.create, "configmaps", given, "default")
        assert error.code == 400
        assert "does not match the namespace sent on the request" in error.message

    @pytest.mark.parametrize(
        ("resource", "name", "words"),
        [
            ("configmaps", "Upper", "a lowercase RFC 1123 subdomain must consist of"),
            ("services", "1abc", "a DNS-1035 label must consist of"),
            ("namespaces", "a.b", "must not contain dots"),
            ("namespaces", "A", "a lowercase RFC 1123 label must consist of"),
            ("configmaps", "a" * 254, "must be no more than 253 characters"),
            ("roles.rbac.authorization.k8s.io", "a/b", "may not contain '/'"),
        ],
    )
    def test_a_bad_name_is_invalid(self, objects: ObjectStore, resource: str, name: str, words: str) -> None:
        error = refused(objects.create, resource, {"metadata": {"name": name}})
        assert (error.code, error.reason) == (422, "Invalid")
        assert words in error.message
        assert error.details["causes"][0]["field"] == "metadata.name"
        assert error.details["causes"][0]["reason"] == "FieldValueInvalid"

    def test_a_name_is_required(self, objects: ObjectStore) -> None:
        error = refused(objects.create, "configmaps", {"data": {}})
        assert (
            error.message == 'ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required'
        )

    def test_bad_labels_are_all_named(self, objects: ObjectStore) -> None:
        given = config_map()
        given["metadata"]["labels"] = {"a b": "x", "ok": "no spaces please"}
        error = refused(objects.create, "configmaps", given)
        assert [one["field"] for one in error.details["causes"]] == ["metadata.labels"] * 2
        assert error.message.startswith('ConfigMap "settings" is invalid: [metadata.labels: Invalid value: "a b": name')

    @pytest.mark.parametrize(
        ("field", "value"),
        [("labels", {"a": 1}), ("labels", []), ("annotations", {"a": True}), ("finalizers", "x"), ("name", 5)],
    )
    def test_metadata_of_the_wrong_type_is_refused(self, objects: ObjectStore, field: str, value: Any) -> None:
        given = config_map()
        given["metadata"][field] = value
        error = refused(objects.create, "configmaps", given)
        assert error.code == 400
        assert f"metadata.{field}" in error.message

    def test_a_resource_that_is_not_served_is_not_found(self, objects: ObjectStore) -> None:
        error = refused(objects.create, "gadgets.example.com", {"metadata": {"name": "a"}})
        assert (error.code, error.message) == (404, "the server could not find the requested resource")
        assert objects.list("gadgets.example.com") == []
        assert objects.find("gadgets.example.com", "a") is None

    def test_string_data_of_a_secret_becomes_data(self, objects: ObjectStore) -> None:
        created = objects.create(
            "secrets", {"metadata": {"name": "s"}, "stringData": {"a": "b"}, "data": {"c": "ZA=="}}
        )
        assert created["data"] == {"a": "Yg==", "c": "ZA=="}
        assert created["type"] == "Opaque"
        assert "stringData" not in created


class TestUpdate:
    def test_an_older_resource_version_conflicts(self, objects: ObjectStore) -> None:
        first = objects.create("configmaps", config_map(a="1"))
        objects.update("configmaps", {**first, "data": {"a": "2"}})
        error = refused(objects.update, "configmaps", {**first, "data": {"a": "3"}})
        assert (error.code, error.reason) == (409, "Conflict")
        assert error.message == (
            'Operation cannot be fulfilled on configmaps "settings": the object has been modified; please apply your '
            "changes to the latest version and try again"
        )

    def test_without_a_resource_version_the_last_write_wins(self, objects: ObjectStore) -> None:
        first = objects.create("configmaps", config_map(a="1"))
        objects.update("configmaps", {**first, "data": {"a": "2"}})
        del first["metadata"]["resourceVersion"]
        assert objects.update("configmaps", {**first, "data": {"a": "3"}})["data"] == {"a": "3"}

    def test_another_uid_conflicts(self, objects: ObjectStore) -> None:
        first = objects.create("configmaps", config_map())
        first["metadata"]["uid"] = "another"
        error = refused(objects.update, "configmaps", first)
        assert error.code == 409
        assert "Precondition failed: UID in precondition: another, UID in object meta: " in error.message

    def test_what_changes_nothing_is_no_write(self, objects: ObjectStore) -> None:
        first = objects.create(DEPLOYMENTS, deployment())
        assert objects.update(DEPLOYMENTS, first) == first
        assert objects.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 1}}) == first
        assert objects.store.version == int(first["metadata"]["resourceVersion"])

    def test_generation_counts_changes_of_the_spec_only(self, objects: ObjectStore) -> None:
        objects.create(DEPLOYMENTS, deployment())
        labelled = objects.patch(DEPLOYMENTS, "web", {"metadata": {"labels": {"a": "b"}}})
        assert labelled["metadata"]["generation"] == 1
        with_status = objects.patch(DEPLOYMENTS, "web", {"status": {"replicas": 1}}, subresource="status")
        assert with_status["metadata"]["generation"] == 1
        assert objects.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 2}})["metadata"]["generation"] == 2

    def test_the_status_is_written_by_its_subresource_only(self, objects: ObjectStore) -> None:
        first = objects.create(DEPLOYMENTS, deployment())
        first["status"] = {"replicas": 5}
        first["spec"]["replicas"] = 7
        assert objects.update(DEPLOYMENTS, first, subresource="status")["spec"]["replicas"] == 1
        now = objects.get(DEPLOYMENTS, "web")
        assert now["status"] == {"replicas": 5}
        now["status"] = {"replicas": 6}
        now["spec"]["replicas"] = 7
        now = objects.update(DEPLOYMENTS, now)
        assert (now["status"], now["spec"]["replicas"]) == ({"replicas": 5}, 7)

    def test_scale_changes_the_replicas(self, objects: ObjectStore) -> None:
        objects.create(DEPLOYMENTS, deployment())
        objects.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 4}}, subresource="scale")
        assert objects.get(DEPLOYMENTS, "web")["spec"]["replicas"] == 4
        assert objects.get(DEPLOYMENTS, "web")["metadata"]["generation"] == 2
        assert refused(objects.patch, DEPLOYMENTS, "web", {"spec": {"replicas": -1}}, subresource="scale").code == 422
        assert refused(objects.patch, "configmaps", "web", {}, subresource="scale").code == 404

    def test_the_name_cannot_change(self, objects: ObjectStore) -> None:
        objects.create("configmaps", config_map())
        error = refused(objects.patch, "configmaps", "settings", {"metadata": {"name": "other"}})
        assert error.code == 400
        assert "does not match the name on the URL (settings)" in error.message

    def test_the_servers_metadata_stays(self, objects: ObjectStore) -> None:
        first = objects.create("configmaps", config_map())
        patch = {"metadata": {"creationTimestamp": "1999-01-01T00:00:00Z", "uid": None, "labels": {"a": "b"}}}
        now = objects.patch("configmaps", "settings", patch)
        for field in ("creationTimestamp", "uid"):
            assert now["metadata"][field] == first["metadata"][field]

    def test_an_immutable_config_map_keeps_its_data(self, objects: ObjectStore) -> None:
        objects.create("configmaps", config_map(a="1") | {"immutable": True})
        error = refused(objects.patch, "configmaps", "settings", {"data": {"a": "2"}})
        assert "data: Forbidden: field is immutable when `immutable` is set" in error.message
        objects.patch("configmaps", "settings", {"metadata": {"labels": {"a": "b"}}})


class TestDelete:
    def test_what_is_not_there(self, objects: ObjectStore) -> None:
        error = refused(objects.delete, "configmaps", "none")
        assert error.message == 'configmaps "none" not found'
        assert error.details == {"name": "none", "kind": "configmaps"}

    def test_the_uid_is_a_precondition(self, objects: ObjectStore) -> None:
        uid = objects.create("configmaps", config_map())["metadata"]["uid"]
        assert refused(objects.delete, "configmaps", "settings", uid="other").code == 409
        objects.delete("configmaps", "settings", uid=uid)
        assert objects.find("configmaps", "settings") is None

    def test_finalizers_hold_an_object_back(self, objects: ObjectStore) -> None:
        held = config_map()
        held["metadata"]["finalizers"] = ["example.com/hold"]
        objects.create("configmaps", held)
        going = objects.delete("configmaps", "settings")
        assert going["metadata"]["deletionTimestamp"]
        assert objects.delete("configmaps", "settings") == going
        words = refused(
            objects.patch, "configmaps", "settings", {"metadata": {"finalizers": ["example.com/hold", "b.c/d"]}}
        ).message
        assert "no new finalizers can be added if the object is being deleted" in words
        objects.patch("configmaps", "settings", {"metadata": {"finalizers": None}})
        assert objects.find("configmaps", "settings") is None

    @pytest.mark.parametrize(("propagation", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
    def test_propagation_leaves_a_finalizer(self, objects: ObjectStore, propagation: Any, finalizer: str) -> None:
        objects.create("configmaps", config_map())
        going = objects.delete("configmaps", "settings", propagation=propagation)
        assert going["metadata"]["finalizers"] == [finalizer]
        objects.delete("configmaps", "settings", propagation="Background")
        assert objects.find("configmaps", "settings") is None

    def test_a_running_pod_has_its_grace_period(self, objects: ObjectStore) -> None:
        objects.create("pods", pod(nodeName="n", terminationGracePeriodSeconds=12))
        going = objects.delete("pods", "web")["metadata"]
        assert going["deletionGracePeriodSeconds"] == 12
        assert going["deletionTimestamp"] > going["creationTimestamp"]
        shorter = objects.delete("pods", "web", grace_period=5)["metadata"]
        assert shorter["deletionGracePeriodSeconds"] == 5
        assert shorter["deletionTimestamp"] < going["deletionTimestamp"]
        assert objects.delete("pods", "web", grace_period=25)["metadata"]["deletionGracePeriodSeconds"] == 5
        objects.delete("pods", "web", grace_period=0)
        assert objects.find("pods", "web") is None

    @pytest.mark.parametrize("phase", ["Succeeded", "Failed", None])
    def test_a_pod_of_which_nothing_runs_goes_at_once(self, objects: ObjectStore, phase: str | None) -> None:
        objects.create("pods", pod(**({"nodeName": "n"} if phase else {})))
        if phase:
            objects.patch("pods", "web", {"status": {"phase": phase}}, subresource="status")
        objects.delete("pods", "web")
        assert objects.find("pods", "web") is None

    def test_a_pod_with_a_finalizer_waits_for_both(self, objects: ObjectStore) -> None:
        given = pod(nodeName="n")
        given["metadata"]["finalizers"] = ["example.com/hold"]
        objects.create("pods", given)
        objects.delete("pods", "web", grace_period=0)
        assert objects.get("pods", "web")["metadata"]["deletionGracePeriodSeconds"] == 0
        objects.patch("pods", "web", {"metadata": {"finalizers": []}})
        assert objects.find("pods", "web") is None


class Recording:
    """An admission plugin that labels pods, and refuses what is named so."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []

    def mutate(self, request: AdmissionRequest) -> None:
        if request.resource == "pods" and request.operation == "CREATE":
            request.object["metadata"].setdefault("labels", {})["injected"] = "yes"
            request.object["spec"]["containers"].append(
                {"name": "sidecar", "image": "proxy", "resources": {"limits": {"memory": "1024Mi"}}}
            )

    def validate(self, request: AdmissionRequest) -> None:
        self.seen.append((request.operation, request.resource, request.name))
        if request.name == "refused":
            raise ApiError(400, "BadRequest", "admission webhook denied the request")


class TestAdmission:
    def test_a_plugin_changes_and_refuses_writes(self, objects: ObjectStore) -> None:
        plugin = Recording()
        objects.add_admission(plugin)
        created = objects.create("pods", pod())
        assert created["metadata"]["labels"] == {"injected": "yes"}
        assert [one["name"] for one in created["spec"]["containers"]] == ["web", "sidecar"]
        assert created["spec"]["containers"][1]["terminationMessagePath"] == "/dev/termination-log", "not defaulted"
        assert created["spec"]["containers"][1]["resources"]["limits"] == {"memory": "1Gi"}, "not in the one form"
        assert refused(objects.create, "configmaps", config_map("refused")).code == 400
        assert objects.find("configmaps", "refused") is None
        objects.patch("pods", "web", {"metadata": {"labels": {"a": "b"}}})
        objects.delete("pods", "web")
        assert plugin.seen == [
            ("CREATE", "pods", "web"),
            ("CREATE", "configmaps", "refused"),
            ("UPDATE", "pods", "web"),
            ("DELETE", "pods", "web"),
        ]
