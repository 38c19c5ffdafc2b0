# SPDX-License-Identifier: Apache-2.0
"""managedFields by the short ways are what they are by sets of paths: for a new object, and where nothing is new."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshbox.api import managed_fields
from meshbox.api.fields import collect, encode, own_fields
from meshbox.api.managed_fields import Entries, created_fields, track
from meshbox.api.merge_keys import BuiltIn, Custom, Shape
from meshbox.api.options import WriteOptions
from meshbox.api.resources import Registry
from meshbox.contracts import Obj

POD: Obj = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "p",
        "namespace": "default",
        "uid": "u",
        "labels": {"app": "x", "empty": ""},
        "annotations": {},
        "finalizers": ["b/b", "a/a"],
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "v"}],
    },
    "spec": {
        "containers": [
            {
                "name": "c",
                "ports": [
                    {"containerPort": 80, "name": "a"},
                    {"containerPort": 80, "protocol": "TCP", "hostPort": 1},
                    {"containerPort": 80, "protocol": "UDP"},
                ],
                "env": [
                    {"name": "E", "value": ""},
                    {"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "x"}}},
                    {"name": "F", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                ],
                "args": ["a", "a"],
                "resources": {},
            }
        ],
        "tolerations": [{"key": "k"}],
        "volumes": [],
        "nodeSelector": {"a": "b"},
    },
    "status": {"conditions": [{"type": "Ready", "status": "True"}], "phase": "Pending"},
}
DEPLOYMENT: Obj = {
    "metadata": {"name": "d", "labels": {}},
    "spec": {"strategy": {}, "template": {"metadata": {}, "spec": {"containers": []}}, "selector": {"matchLabels": {}}},
}
SERVICE: Obj = {
    "metadata": {},
    "spec": {"ports": [{"port": 80, "protocol": "TCP"}, {"port": 80}], "clusterIPs": ["10.0.0.1"]},
    "status": {"loadBalancer": {}},
}
SCHEMA = {
    "properties": {
        "spec": {
            "properties": {
                "hosts": {"x-kubernetes-list-type": "set"},
                "servers": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
                "whole": {"x-kubernetes-map-type": "atomic"},
            }
        }
    }
}
CUSTOM: Obj = {
    "metadata": {"name": "x", "annotations": {"a": "b"}},
    "spec": {
        "hosts": ["b", "a"],
        "servers": [{"name": "z", "port": {"number": 1}}, {"name": "y"}],
        "whole": {"a": 1},
        "none": None,
        "empty": {},
    },
}
CASES = [
    pytest.param(POD, BuiltIn("Pod"), id="pod"),
    pytest.param(DEPLOYMENT, BuiltIn("Deployment"), id="deployment"),
    pytest.param(SERVICE, BuiltIn("Service"), id="service"),
    pytest.param({"metadata": {"name": "c"}, "data": {"b": "1", "a": "2"}}, BuiltIn("ConfigMap"), id="data"),
    pytest.param({"metadata": {"name": "c"}}, BuiltIn("ConfigMap"), id="nothing"),
    pytest.param(CUSTOM, Custom(SCHEMA), id="custom"),
    pytest.param({"metadata": {"name": "x"}, "spec": {}}, Custom(SCHEMA), id="empty custom"),
]


@pytest.mark.parametrize(("obj", "shape"), CASES)
def test_a_new_objects_fields_are_the_set_of_its_paths(obj: Obj, shape: Shape) -> None:
    paths: set[tuple[str, ...]] = set()
    for name, value in own_fields(obj).items():
        if name != "metadata" or value:
            collect(value, shape.field(name), (f"f:{name}",), paths)
    paths.discard(("f:metadata",))
    unowned = managed_fields._unowned(shape)
    assert created_fields(obj, shape) == encode(path for path in paths if not unowned.issuperset(path))


def test_the_conditions_of_a_job_are_one_value() -> None:
    status = {"conditions": [{"type": "Complete", "status": "True"}]}
    assert created_fields({"status": status}, BuiltIn("Job")) == {"f:status": {"f:conditions": {}}}
    item = {".": {}, "f:status": {}, "f:type": {}}
    listed = {".": {}, 'k:{"type":"Complete"}': item}
    assert created_fields({"status": status}, BuiltIn("Deployment")) == {"f:status": {"f:conditions": listed}}


def test_a_set_of_paths_is_written_as_the_server_orders_it() -> None:
    paths = [("f:b",), ("f:a", "f:z"), ("f:a",), ("f:a", "f:c", "f:d"), ("f:c", "f:d")]
    written = '{"f:a":{".":{},"f:c":{"f:d":{}},"f:z":{}},"f:b":{},"f:c":{"f:d":{}}}'
    assert json.dumps(encode(paths), separators=(",", ":")) == written


CHANGES: list[tuple[str, str, dict[str, Any]]] = [
    ("kubelet", "status", {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}),
    ("kubelet", "status", {"phase": "Failed", "conditions": [{"type": "Ready", "status": "True"}]}),
    ("other", "status", {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}),
    ("kubelet", "status", {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}),
    ("kubelet", "status", {"phase": "Pending", "conditions": []}),
    ("kubelet", "status", {"phase": "Running"}),
    ("kubelet", "status", {"phase": "Running", "reason": "x", "conditions": [{"type": "New", "status": "True"}]}),
    ("kubelet", "status", {"phase": "Running", "conditions": [{"type": "New", "status": "False"}]}),
]


def test_what_its_writer_has_already_is_told_alike_however_it_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    pods = Registry(legacy=False).get("pods")
    assert pods is not None

    def played() -> list[Any]:
        before, seen = POD, []
        for manager, subresource, status in CHANGES:
            obj = {**before, "metadata": {**before["metadata"]}, "status": status}
            track(pods, before, obj, WriteOptions(manager), subresource)
            told = obj["metadata"]["managedFields"]
            seen.append([{key: value for key, value in one.items() if key != "time"} for one in told])
            before = obj
        return seen

    quickly = played()
    monkeypatch.setattr(Entries, "stays", lambda *_: False)
    assert quickly == played()
    assert [len(one) for one in quickly] == [1, 1, 2, 2, 1, 1, 1, 1]
