# SPDX-License-Identifier: Apache-2.0
"""Server-side apply asks for types first, and merges lists in an order of its own, as Kubernetes 1.35.4."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Cluster, config_map, crd, pod

APPLY = {"Content-Type": "application/apply-patch+yaml"}
WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"
TEXT = {"type": "string"}
ITEM = {
    "type": "object",
    "required": ["k"],
    "properties": {"k": TEXT, "p": {"type": "integer", "default": 7}, "v": TEXT},
}
SPEC: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": TEXT,
        "count": {"type": "integer"},
        "on": {"type": "boolean"},
        "for": {"type": "string", "format": "duration"},
        "names": {"type": "array", "items": TEXT, "x-kubernetes-list-type": "set"},
        "plain": {"type": "array", "items": TEXT},
        "items": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k", "p"],
            "items": ITEM,
        },
        "labels": {"type": "object", "additionalProperties": TEXT},
        "any": {"x-kubernetes-preserve-unknown-fields": True},
        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"a": TEXT}},
        "either": {"x-kubernetes-int-or-string": True},
    },
}


async def _served(cluster: Cluster) -> None:
    schema = {"type": "object", "properties": {"spec": SPEC}}
    definition = crd(schema={"openAPIV3Schema": schema})
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    assert (await cluster.request("POST", path, definition)).status == 201


def _widget(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"name": 1}, ".spec.name: expected string, got &value.valueUnstructured{Value:1}"),
        (
            {"name": {"a": [1, "x"]}},
            ".spec.name: expected string, got "
            '&value.valueUnstructured{Value:map[string]interface {}{"a":[]interface {}{1, "x"}}}',
        ),
        ({"count": "x"}, ".spec.count: expected numeric (int or float), got string"),
        ({"count": {}}, ".spec.count: expected numeric (int or float), got map[string]interface {}"),
        ({"on": 1}, ".spec.on: expected boolean, got &{1}"),
        ({"for": [1]}, ".spec.for: expected any scalar, got &{[1]}"),
        ({"plain": {"a": 1}}, ".spec.plain: expected list, got &{map[a:1]}"),
        ({"plain": [True]}, ".spec.plain[0]: expected string, got &value.valueUnstructured{Value:true}"),
        ({"labels": 1.5}, ".spec.labels: expected map, got &{1.5}"),
        ({"labels": {"a": 1}}, ".spec.labels.a: expected string, got &value.valueUnstructured{Value:1}"),
        ({"open": {"a": 1}}, ".spec.open.a: expected string, got &value.valueUnstructured{Value:1}"),
        ({"names": ["a", "a"]}, '.spec.names: duplicate entries for key [="a"]'),
        (
            {"names": [None]},
            ".spec.names: element 0: associative list without keys has an element that's an explicit null",
        ),
        ({"items": [{"k": "a"}, {"k": "a", "p": 7}]}, '.spec.items: duplicate entries for key [k="a",p=7]'),
        ({"items": [{"k": "a", "v": 1}]}, '.spec.items[k="a",p=7].v: expected string, got '
         "&value.valueUnstructured{Value:1}"),
        ({"items": [None]}, ".spec.items: element 0: associative list with keys may not have a null element"),
        ({"items": ["a"]}, ".spec.items: element 0: associative list with keys may not have non-map elements"),
        ({"strange": 1}, ".spec.strange: field not declared in schema"),
    ],
)  # fmt: skip
async def test_what_is_applied_has_the_types_of_its_kind(cluster: Cluster, spec: dict[str, Any], said: str) -> None:
    await _served(cluster)
    reply = await cluster.request("PATCH", f"{WIDGETS}/w?fieldManager=me", _widget(**spec), headers=APPLY)
    begin = "failed to create typed patch object (/w; example.com/v1, Kind=Widget): "
    assert (reply.status, reply.body["message"]) == (500, begin + said)
    assert not {"reason", "details"} & set(reply.body)


async def test_what_has_the_types_is_applied(cluster: Cluster) -> None:
    await _served(cluster)
    spec = {
        "any": {"a": [1]},
        "open": {"b": {"c": 1}},
        "either": "x",
        "for": "3s",
        "items": [{"k": "a"}],
        "names": ["a"],
    }
    reply = await cluster.request("PATCH", f"{WIDGETS}/w?fieldManager=me", _widget(**spec), headers=APPLY)
    assert (reply.status, reply.body["spec"]) == (201, {**spec, "items": [{"k": "a", "p": 7}]})


async def test_built_in_kinds_are_asked_as_well(cluster: Cluster) -> None:
    path = "/api/v1/namespaces/default/pods/p?fieldManager=me"
    wrong = {"apiVersion": "v1", "kind": "Pod", **pod("p")}
    wrong["spec"]["containers"][0] |= {"image": 3, "ports": [{"containerPort": "x"}]}
    wrong["metadata"]["labels"] = {"a": 1}
    reply = await cluster.request("PATCH", path, wrong, headers=APPLY)
    assert reply.status == 500
    assert sorted(reply.body["message"].splitlines()[1:]) == [
        "  .metadata.labels.a: expected string, got &value.valueUnstructured{Value:1}",
        '  .spec.containers[name="web"].image: expected string, got &value.valueUnstructured{Value:3}',
        '  .spec.containers[name="web"].ports[containerPort="x",protocol="TCP"].containerPort: '
        "expected numeric (int or float), got string",
    ]
    wrong["spec"]["containers"] = [{"name": "c", "image": "x"}] * 2
    del wrong["metadata"]["labels"]
    reply = await cluster.request("PATCH", path, wrong, headers=APPLY)
    said = '.spec.containers: duplicate entries for key [name="c"]'
    assert (reply.status, reply.body["message"].partition(": ")[2]) == (500, said)


async def test_a_merged_list_has_the_order_of_what_was_applied(cluster: Cluster) -> None:
    await _served(cluster)

    async def apply(manager: str, *names: str) -> list[str]:
        items = [{"k": name} for name in names]
        path = f"{WIDGETS}/w?fieldManager={manager}"
        reply = await cluster.request("PATCH", path, _widget(items=items), headers=APPLY)
        assert reply.status in (200, 201), reply.text
        return [one["k"] for one in reply.body["spec"]["items"]]

    assert await apply("one", "a", "b", "c") == ["a", "b", "c"]
    assert await apply("two", "x", "b", "y", "a") == ["x", "b", "c", "y", "a"]
    assert await apply("three", "z", "y") == ["x", "b", "c", "z", "y", "a"]


async def test_a_null_that_is_applied_stays_one(cluster: Cluster) -> None:
    await _served(cluster)
    path = f"{WIDGETS}/w?fieldManager=me"
    assert (await cluster.request("PATCH", path, _widget(labels={"a": "b"}), headers=APPLY)).status == 201
    reply = await cluster.request("PATCH", path, _widget(labels={"a": None}), headers=APPLY)
    said = 'Invalid value: "null": spec.labels.a in body must be of type string: "null"'
    assert (reply.status, reply.body["details"]["causes"][0]["message"]) == (422, said)
    created = await cluster.request("POST", WIDGETS, {**_widget(labels={"a": None}), "metadata": {"name": "v"}})
    assert (created.status, created.body["spec"]) == (201, {"labels": {}})


async def test_a_refusal_without_details_has_none(cluster: Cluster) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    reply = await cluster.request("POST", f"{path}?fieldValidation=Strict", {**config_map(), "dta": {}})
    assert (reply.status, "details" in reply.body) == (400, False)


async def test_a_status_that_a_request_cannot_change_is_not_judged(cluster: Cluster) -> None:
    status = {"type": "object", "properties": {"n": {"type": "integer"}}}
    schema = {"type": "object", "properties": {"spec": SPEC, "status": status}}
    definition = crd(schema={"openAPIV3Schema": schema}, subresources={"status": {}})
    await cluster.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    wrong = {**_widget(name="x"), "status": {"n": "x", "strange": 1}}
    created = await cluster.request("POST", f"{WIDGETS}?fieldValidation=Warn", wrong)
    assert (created.status, "status" in created.body) == (201, False)
    assert created.headers["Warning"] == '299 - "unknown field \\"status.strange\\""'
    merge = {"Content-Type": "application/merge-patch+json"}
    body = {"spec": {"name": "y"}, "status": {"n": "x"}}
    reply = await cluster.request("PATCH", f"{WIDGETS}/w", body, headers=merge)
    assert (reply.status, reply.body["spec"], "status" in reply.body) == (200, {"name": "y"}, False)
    refused = await cluster.request("PATCH", f"{WIDGETS}/w/status", body, headers=merge)
    assert (refused.status, refused.body["details"]["causes"][0]["field"]) == (422, "status.n")
