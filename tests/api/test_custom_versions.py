# SPDX-License-Identifier: Apache-2.0
"""Custom resources in several versions, their scale and status, and what definitions must say, as Kubernetes 1.35.4."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Cluster, crd

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"
MERGE = {"Content-Type": "application/merge-patch+json"}
TEXT = {"type": "string"}


def _schema(status: Any = None, **spec: Any) -> dict[str, Any]:
    properties: dict[str, Any] = {"spec": {"type": "object", "properties": spec}}
    return {
        "openAPIV3Schema": {"type": "object", "properties": {**properties, **({"status": status} if status else {})}}
    }


def _widget(version: str = "v1", name: str = "w", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": f"example.com/{version}", "kind": "Widget", "metadata": {"name": name}, "spec": spec}


async def test_each_version_has_its_own_fields_and_defaults(cluster: Cluster) -> None:
    definition = crd(schema=_schema(color=TEXT, old=TEXT), storage=False, deprecated=True)
    more = _schema(color=TEXT, extra={"type": "string", "default": "more"})
    definition["spec"]["versions"].append({"name": "v2", "served": True, "storage": True, "schema": more})
    assert (await cluster.request("POST", CRDS, definition)).status == 201
    made = await cluster.request("POST", f"{WIDGETS}?fieldValidation=Warn", _widget(color="red", old="x", extra="y"))
    # What the version that is kept does not have is lost, though the one that was written has it.
    assert (made.status, made.body["spec"]) == (201, {"color": "red"})
    assert made.headers.getall("Warning") == [
        '299 - "example.com/v1 Widget is deprecated; use example.com/v2 Widget"',
        '299 - "unknown field \\"spec.extra\\""',
    ]
    second = WIDGETS.replace("/v1/", "/v2/")
    assert (await cluster.request("GET", f"{second}/w")).body["spec"] == {"color": "red", "extra": "more"}
    await cluster.request("POST", second, _widget("v2", "x", extra="z"))
    assert (await cluster.request("GET", f"{WIDGETS}/x")).body["spec"] == {}
    assert (await cluster.request("GET", f"{second}/x")).body["spec"] == {"extra": "z"}
    assert (await cluster.request("GET", second)).body["metadata"]["continue"] == ""


async def test_a_scale_is_judged_by_the_schema(cluster: Cluster) -> None:
    scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    definition = crd(schema=_schema(replicas={"type": "integer", "minimum": 0}), subresources={"scale": scale})
    await cluster.request("POST", CRDS, definition)
    assert (await cluster.request("POST", WIDGETS, _widget())).status == 201
    assert (await cluster.request("GET", f"{WIDGETS}/w/scale")).body["spec"] == {}
    body = {"spec": {"replicas": -1}}
    refused = await cluster.request("PATCH", f"{WIDGETS}/w/scale", body, headers=MERGE)
    assert [(one["field"], one["message"]) for one in refused.body["details"]["causes"]] == [
        ("spec.replicas", "Invalid value: -1: spec.replicas in body should be greater than or equal to 0"),
        (".spec.replicas", "Invalid value: -1: should be a non-negative integer"),
    ]
    strategic = {"Content-Type": "application/strategic-merge-patch+json"}
    assert (await cluster.request("PATCH", f"{WIDGETS}/w/scale", body, headers=strategic)).status == 415
    wrong = await cluster.request("POST", WIDGETS, {**_widget(name="x"), "spec": 1})
    assert wrong.body["details"]["causes"][1] == {
        "reason": "FieldValueInvalid",
        "field": ".spec.replicas",
        "message": "Invalid value: 0: .spec.replicas accessor error: 1 is of the type int64, "
        "expected map[string]interface{}",
    }


async def test_a_status_is_told_of_from_where_it_begins(cluster: Cluster) -> None:
    status = {"type": "object", "properties": {"n": {"type": "array", "items": TEXT}}}
    await cluster.request("POST", CRDS, crd(schema=_schema(status), subresources={"status": {}}))
    await cluster.request("POST", WIDGETS, _widget())
    reply = await cluster.request("PATCH", f"{WIDGETS}/w/status", {"status": {"n": [1]}}, headers=MERGE)
    cause = reply.body["details"]["causes"][0]
    said = 'Invalid value: "integer": n[0] in body must be of type string: "integer"'
    assert (cause["field"], cause["message"]) == ("status.n[0]", said)


@pytest.mark.parametrize(
    ("annotation", "field", "condition"),
    [
        (None, "metadata.annotations[api-approved.kubernetes.io]", ()),
        ("sure", "metadata.annotations[api-approved.kubernetes.io]", ()),
        ("https://a.b/1", "", ("True", "ApprovedAnnotation", "approved in https://a.b/1")),
        ("unapproved, a test", "", ("False", "UnapprovedAnnotation", 'not approved: "unapproved, a test"')),
    ],
)
async def test_groups_of_the_community_must_be_approved(
    cluster: Cluster, annotation: str | None, field: str, condition: tuple[str, ...]
) -> None:
    definition = crd()
    definition["spec"]["group"] = "x.k8s.io"
    definition["metadata"] = {"name": "widgets.x.k8s.io"}
    if annotation:
        definition["metadata"]["annotations"] = {"api-approved.kubernetes.io": annotation}
    reply = await cluster.request("POST", CRDS, definition)
    assert reply.body.get("details", {}).get("causes", [{"field": ""}])[0]["field"] == field
    if not field:
        last = reply.body["status"]["conditions"][-1]
        assert last["type"] == "KubernetesAPIApprovalPolicyConformant"
        assert (last["status"], last["reason"], last["message"]) == condition


async def test_a_definition_does_not_begin_to_keep_all_fields(cluster: Cluster) -> None:
    await cluster.request("POST", CRDS, crd(schema=_schema(a=TEXT)))
    place, words = f"{CRDS}/widgets.example.com", "Invalid value: true: cannot set to true, set "
    body = {"spec": {"preserveUnknownFields": True}}
    reply = await cluster.request("PATCH", place, body, headers=MERGE)
    assert reply.status == 422
    assert reply.body["details"]["causes"][0]["message"].startswith(words)
    # Its name has been judged when it was made.
    reply = await cluster.request("PATCH", place, {"spec": {"group": "x.y"}}, headers=MERGE)
    assert [one["field"] for one in reply.body["details"]["causes"]] == ["spec.group"]
