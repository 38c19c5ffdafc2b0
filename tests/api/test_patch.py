# SPDX-License-Identifier: Apache-2.0
"""Patches: merge, JSON, strategic, and server-side apply with its owners of fields."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.api.json_patch import json_patch
from meshbox.api.objects import ObjectStore
from meshbox.api.options import WriteOptions
from meshbox.api.patch import merge_patch
from meshbox.api.strategic import strategic_patch
from meshbox.contracts import ApiError

from .conftest import CRDS, crd


def test_merge_patch_follows_its_rfc() -> None:
    target = {"a": "b", "c": {"d": "e", "f": "g"}, "l": [1, 2]}
    assert merge_patch(target, {"a": "z", "c": {"f": None}, "l": [3], "n": {"x": None, "y": 1}}) == {
        "a": "z",
        "c": {"d": "e"},
        "l": [3],
        "n": {"y": 1},
    }


def test_json_patch_follows_its_rfc() -> None:
    operations = [
        {"op": "test", "path": "/a", "value": 1},
        {"op": "replace", "path": "/a", "value": 2},
        {"op": "add", "path": "/l/-", "value": 9},
        {"op": "remove", "path": "/gone"},
    ]
    assert json_patch({"a": 1, "l": [], "gone": 0}, operations) == {"a": 2, "l": [9]}


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        ({"op": "add"}, 400),
        ([1], 400),
        ([{"op": "dance", "path": "/a"}], 422),
        ([{"path": "/a"}], 422),
        ([{"op": "add", "path": "a", "value": 1}], 422),
        ([{"op": "remove", "path": "/nothing"}], 422),
        ([{"op": "test", "path": "/a", "value": 2}], 422),
        ([{"op": "replace", "path": "/a/b/c", "value": 2}], 422),
        ([{"op": "test", "path": "/a", "value": 1}] * 10_001, 413),
    ],
)
def test_a_json_patch_that_cannot_be_is_refused(operations: Any, code: int) -> None:
    with pytest.raises(ApiError) as caught:
        json_patch({"a": 1}, operations)
    assert caught.value.code == code


def containers(*names: str, **fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": name, "image": f"{name}:1", **fields} for name in names]}}


class TestStrategic:
    def names(self, obj: dict[str, Any]) -> list[str]:
        return [one["name"] for one in obj["spec"]["containers"]]

    def test_a_list_is_merged_by_its_key(self) -> None:
        patch = {"spec": {"containers": [{"name": "b", "image": "b:2"}, {"name": "c", "image": "c:1"}]}}
        result = strategic_patch(containers("a", "b"), patch, "Pod")
        assert [(one["name"], one["image"]) for one in result["spec"]["containers"]] == [
            ("a", "a:1"),
            ("b", "b:2"),
            ("c", "c:1"),
        ]

    def test_an_item_is_deleted(self) -> None:
        patch = {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}
        assert self.names(strategic_patch(containers("a", "b"), patch, "Pod")) == ["b"]

    def test_a_list_is_replaced(self) -> None:
        patch = {"spec": {"containers": [{"name": "z"}, {"$patch": "replace"}]}}
        assert strategic_patch(containers("a"), patch, "Pod") == {"spec": {"containers": [{"name": "z"}]}}

    def test_a_map_is_replaced_or_deleted(self) -> None:
        target = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
        patch = {"spec": {"strategy": {"$patch": "replace", "type": "Recreate"}}}
        assert strategic_patch(target, patch, "Deployment")["spec"] == {"strategy": {"type": "Recreate"}}
        assert strategic_patch({"data": {"a": "b"}}, {"data": {"$patch": "delete"}}, "ConfigMap") == {"data": {}}

    def test_keys_are_retained(self) -> None:
        target = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
        patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
        assert strategic_patch(target, patch, "Deployment")["spec"] == {"strategy": {"type": "Recreate"}}

    def test_the_order_is_set(self) -> None:
        order = [{"name": "c"}, {"name": "a"}]
        patch = {"spec": {"$setElementOrder/containers": order, "containers": [{"name": "c", "image": "c:1"}]}}
        assert self.names(strategic_patch(containers("a", "b"), patch, "Pod")) == ["c", "a", "b"]
        patch = {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}
        assert self.names(strategic_patch(containers("a", "b"), patch, "Pod")) == ["b", "a"]

    def test_finalizers_are_a_set(self) -> None:
        target = {"metadata": {"finalizers": ["a", "b"]}}
        patch = {"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}
        assert strategic_patch(target, patch, "Pod") == {"metadata": {"finalizers": ["b", "c"]}}

    @pytest.mark.parametrize(
        ("kind", "target", "patch", "ports"),
        [
            ("Service", [{"port": 80, "name": "a"}], [{"port": 80, "name": "b"}], [{"port": 80, "name": "b"}]),
            (
                "Service",
                [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
                [{"port": 53, "protocol": "TCP", "name": "t"}],
                [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP", "name": "t"}],
            ),
            ("NetworkPolicy", [{"port": 80}], [{"port": 81}], [{"port": 81}]),
        ],
    )
    def test_ports_depend_on_where_they_are(self, kind: str, target: Any, patch: Any, ports: Any) -> None:
        result = strategic_patch({"spec": {"ports": target}}, {"spec": {"ports": patch}}, kind)
        assert result["spec"]["ports"] == ports

    def test_container_ports_have_another_key(self) -> None:
        target = containers("a", ports=[{"containerPort": 80}, {"containerPort": 81}])
        patch = {"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "http"}]}]}}
        result = strategic_patch(target, patch, "Pod")["spec"]["containers"][0]["ports"]
        assert result == [{"containerPort": 80, "name": "http"}, {"containerPort": 81}]

    def test_directives_never_stay_in_an_object(self) -> None:
        patch = {"spec": {"template": {"spec": {"$setElementOrder/volumes": [{"name": "v"}], "volumes": [
            {"name": "v", "$retainKeys": ["name", "emptyDir"], "emptyDir": {}}]}}}}  # fmt: skip
        result = strategic_patch({}, patch, "Deployment")
        assert result == {"spec": {"template": {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}}}

    def test_an_item_without_its_key_is_refused(self) -> None:
        with pytest.raises(ApiError, match="does not contain declared merge key: name"):
            strategic_patch(containers("a"), {"spec": {"containers": [{"image": "x"}]}}, "Pod")

    def test_custom_resources_have_none(self, objects: ObjectStore) -> None:
        objects.create(CRDS, crd())
        objects.create("widgets.example.com", {"metadata": {"name": "w"}})
        with pytest.raises(ApiError) as caught:
            objects.patch("widgets.example.com", "w", {"spec": {}}, kind="strategic")
        assert caught.value.code == 415
        assert "application/merge-patch+json" in caught.value.message


class Applier:
    """One field manager."""

    def __init__(self, objects: ObjectStore, manager: str, resource: str = "configmaps") -> None:
        self.objects = objects
        self.manager = manager
        self.resource = resource

    def __call__(self, obj: dict[str, Any], *, force: bool = False) -> dict[str, Any]:
        options = WriteOptions(self.manager, validation="Strict")
        name = obj["metadata"]["name"]
        return self.objects.apply(self.resource, name, obj, None, force=force, subresource="", options=options)


def data(**values: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": values}


class TestApply:
    @pytest.fixture
    def ann(self, objects: ObjectStore) -> Applier:
        return Applier(objects, "ann")

    @pytest.fixture
    def ben(self, objects: ObjectStore) -> Applier:
        return Applier(objects, "ben")

    def test_it_creates_and_is_idempotent(self, ann: Applier) -> None:
        first = ann(data(a="1"))
        entry = first["metadata"]["managedFields"][0]
        assert (entry["manager"], entry["operation"], entry["fieldsType"]) == ("ann", "Apply", "FieldsV1")
        assert entry["fieldsV1"] == {"f:data": {"f:a": {}}}
        assert ann(data(a="1")) == first

    def test_what_is_no_longer_applied_goes(self, ann: Applier) -> None:
        ann(data(a="1", b="2"))
        assert ann(data(a="1"))["data"] == {"a": "1"}

    def test_what_others_own_as_well_stays(self, ann: Applier, ben: Applier) -> None:
        ann(data(a="1", b="2"))
        ben(data(b="2"))
        assert ann(data(a="1"))["data"] == {"a": "1", "b": "2"}
        assert ben({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}})["data"] == {"a": "1"}

    def test_another_value_conflicts_until_it_is_forced(self, ann: Applier, ben: Applier) -> None:
        ann(data(a="1"))
        with pytest.raises(ApiError) as caught:
            ben(data(a="2"))
        error = caught.value
        assert (error.code, error.reason) == (409, "Conflict")
        assert error.message == 'Apply failed with 1 conflict: conflict with "ann": .data.a'
        assert error.details["causes"] == [
            {"reason": "FieldManagerConflict", "message": 'conflict with "ann"', "field": ".data.a"}
        ]
        forced = ben(data(a="2"), force=True)
        assert forced["data"] == {"a": "2"}
        assert {one["manager"] for one in forced["metadata"]["managedFields"]} == {"ben"}

    def test_an_update_conflicts_too(self, objects: ObjectStore, ann: Applier) -> None:
        ann(data(a="1", b="1"))
        edit = WriteOptions("editor", validation="Strict")
        objects.patch("configmaps", "c", {"data": {"a": "9", "b": "9"}}, options=edit)
        with pytest.raises(ApiError) as caught:
            ann(data(a="1", b="1"))
        assert caught.value.message == (
            'Apply failed with 2 conflicts: conflicts with "editor" using v1:\n- .data.a\n- .data.b'
        )

    def test_items_of_lists_have_owners(self, objects: ObjectStore) -> None:
        def job(*names: str, image: str = "x") -> dict[str, Any]:
            spec = {"template": {"spec": {"containers": [{"name": name, "image": image} for name in names]}}}
            spec["template"]["metadata"] = {"labels": {"app": "d"}}
            meta = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}}
            return {**meta, "spec": {"selector": {"matchLabels": {"app": "d"}}, **spec}}

        ann, ben = Applier(objects, "ann", "deployments.apps"), Applier(objects, "ben", "deployments.apps")
        ann(job("a"))
        both = ben(job("b"))["spec"]["template"]["spec"]["containers"]
        assert [one["name"] for one in both] == ["a", "b"]
        with pytest.raises(
            ApiError, match=r'conflict with "ann": \.spec\.template\.spec\.containers\[name="a"\]\.image'
        ):
            ben(job("a", "b", image="y"), force=False)
        ben_only = ben(job("b"))["spec"]["template"]["spec"]["containers"]
        assert [one["name"] for one in ben_only] == ["a", "b"]
        ann_none = ann({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}})
        assert [one["name"] for one in ann_none["spec"]["template"]["spec"]["containers"]] == ["b"]

    def test_who_names_himself_is_tracked(self, objects: ObjectStore) -> None:
        created = objects.create("configmaps", data(a="1"), options=WriteOptions("kubectl-create", validation="Warn"))
        assert created["metadata"]["managedFields"][0]["manager"] == "kubectl-create"
        assert created["metadata"]["managedFields"][0]["fieldsV1"] == {"f:data": {".": {}, "f:a": {}}}
        patched = objects.patch("configmaps", "c", {"data": {"b": "2"}}, manager="some-controller")
        entries = {one["manager"]: one["fieldsV1"] for one in patched["metadata"]["managedFields"]}
        assert entries["some-controller"] == {"f:data": {"f:b": {}}}
        patched = objects.patch("configmaps", "c", {"data": {"d": "3"}})
        assert len(patched["metadata"]["managedFields"]) == 2

    def test_entries_can_be_cleared(self, objects: ObjectStore, ann: Applier) -> None:
        ann(data(a="1"))
        clear = [{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]
        now = objects.patch("configmaps", "c", clear, kind="json", options=WriteOptions("x", validation="Strict"))
        assert "managedFields" not in now["metadata"]

    def test_a_custom_resources_schema_says_what_is_merged(self, objects: ObjectStore) -> None:
        port = {"type": "object", "properties": {"number": {"type": "integer"}, "name": {"type": "string"}}}
        ports = {
            "type": "array",
            "items": port,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["number"],
        }
        hosts = {"type": "array", "items": {"type": "string"}}
        spec = {"type": "object", "properties": {"ports": ports, "hosts": hosts}}
        schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
        objects.create(CRDS, crd(schema=schema))

        def widget(**spec: Any) -> dict[str, Any]:
            return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec}

        ann = Applier(objects, "ann", "widgets.example.com")
        ben = Applier(objects, "ben", "widgets.example.com")
        ann(widget(ports=[{"number": 80, "name": "a"}], hosts=["a"]))
        both = ben(widget(ports=[{"number": 81, "name": "b"}]))
        assert both["spec"]["ports"] == [{"number": 80, "name": "a"}, {"number": 81, "name": "b"}]
        with pytest.raises(ApiError, match=r"\.spec\.hosts"):
            ben(widget(hosts=["b"]))

    def test_nobody_owns_what_a_manifest_says_of_a_status(self, objects: ObjectStore) -> None:
        """As in the Gateway API's definitions: each has an empty status."""
        empty = {"acceptedNames": {"kind": "", "plural": ""}, "conditions": [], "storedVersions": []}
        objects.create(CRDS, crd(subresources={"status": {}}))
        widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"a": 1}}
        for manager in ("ann", "ben"):
            made = Applier(objects, manager, CRDS)({**crd(subresources={"status": {}}), "status": empty})
            assert made["status"]["acceptedNames"]["kind"] == "Widget"
            played = Applier(objects, manager, "widgets.example.com")({**widget, "status": {"by": manager}})
            assert "status" not in played
            for one in (made, played):
                owned = next(each for each in one["metadata"]["managedFields"] if each["manager"] == manager)
                assert list(owned["fieldsV1"]) == ["f:spec"]
