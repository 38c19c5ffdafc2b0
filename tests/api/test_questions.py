# SPDX-License-Identifier: Apache-2.0
"""Questions that are answered and never kept, names that are taken, versions that are deprecated."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.tokens import ISSUER

from .conftest import CRDS, MAPS, Cluster, config_map, crd, deployment

ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
WIDGETS = "namespaces/default/widgets"
REVIEWS = "/apis/authorization.k8s.io/v1"
ABOUT = {"verb": "get", "resource": "pods", "namespace": "other"}


def _token(seconds: int) -> dict[str, Any]:
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": seconds}}


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (
            f"{ACCOUNTS}/bot/token",
            _token(300),
            'TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 300: may not '
            "specify a duration less than 10 minutes",
        ),
        (
            f"{ACCOUNTS}/bot/token",
            _token(2**32 + 1),
            'TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 4294967297: may '
            "not specify a duration larger than 2^32 seconds",
        ),
        (
            f"{REVIEWS}/namespaces/default/localsubjectaccessreviews",
            {"metadata": {"namespace": "default"}, "spec": {"user": "jane", "resourceAttributes": ABOUT}},
            '.authorization.k8s.io "" is invalid: spec.resourceAttributes.namespace: Invalid value: "other": must '
            "match metadata.namespace",
        ),
        (
            "/apis/scheduling.k8s.io/v1/priorityclasses",
            {"metadata": {"name": "system-mine"}, "value": 1},
            'PriorityClass.scheduling.k8s.io "system-mine" is invalid: metadata.name: Forbidden: priority class names '
            "with 'system-' prefix are reserved for system use only. error: system-mine is not a known system priority "
            "class",
        ),
        (
            f"{REVIEWS}/subjectaccessreviews",
            {"spec": {"user": "jane", "resourceAttributes": ABOUT, "nonResourceAttributes": {"path": "/x"}}},
            '.authorization.k8s.io "" is invalid: spec.nonResourceAttributes: Invalid value: {"Path":"/x","Verb":""}: '
            "cannot be specified in combination with resourceAttributes",
        ),
    ],
)
async def test_what_asks_wrongly_is_refused(cluster: Cluster, path: str, body: dict[str, Any], said: str) -> None:
    cluster.objects.create("serviceaccounts", {"metadata": {"name": "bot"}})
    reply = await cluster.request("POST", path, body)
    assert (reply.status, reply.body["message"]) == (422, said)


async def test_a_token_is_for_whom_it_was_made(cluster: Cluster) -> None:
    cluster.objects.create("serviceaccounts", {"metadata": {"name": "bot"}})
    made = await cluster.request("POST", f"{ACCOUNTS}/bot/token", _token(600))
    assert made.status == 201

    async def review(*audiences: str) -> dict[str, Any]:
        spec = {"token": made.body["status"]["token"], "audiences": list(audiences)}
        reply = await cluster.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": spec})
        status: dict[str, Any] = reply.body["status"]
        return status

    assert (await review("else", ISSUER))["audiences"] == [ISSUER]
    why = f'[invalid bearer token, token audiences ["{ISSUER}"] is invalid for the target audiences ["else"]]'
    assert await review("else") == {"user": {}, "error": why}


async def test_a_name_is_taken_until_its_object_is_gone(cluster: Cluster) -> None:
    one = config_map("a")
    one["metadata"]["finalizers"] = ["example.com/f"]
    cluster.objects.create("configmaps", one)
    taken = await cluster.request("POST", MAPS, config_map("a"))
    assert taken.body["message"] == 'configmaps "a" already exists'
    await cluster.request("DELETE", f"{MAPS}/a")
    ends = await cluster.request("POST", MAPS, config_map("a"))
    assert (ends.status, ends.body["message"]) == (409, 'object is being deleted: configmaps "a" already exists')


async def test_a_version_that_is_deprecated_says_so(cluster: Cluster) -> None:
    definition = crd()
    (newest,) = definition["spec"]["versions"]
    old = {**newest, "storage": False, "deprecated": True}
    definition["spec"]["versions"] += [
        {**old, "name": "v1beta1", "deprecationWarning": "go on!"},
        {**old, "name": "v1alpha1"},
    ]
    cluster.objects.create(CRDS, definition)
    said = {
        version: (await cluster.request("GET", f"/apis/example.com/{version}/{WIDGETS}")).headers.get("Warning")
        for version in ("v1", "v1beta1", "v1alpha1")
    }
    assert said == {
        "v1": None,
        "v1beta1": '299 - "go on!"',
        "v1alpha1": '299 - "example.com/v1alpha1 Widget is deprecated; use example.com/v1 Widget"',
    }
    # A refusal does not keep it back.
    missing = await cluster.request("GET", f"/apis/example.com/v1beta1/{WIDGETS}/none")
    assert (missing.status, missing.headers["Warning"]) == (404, '299 - "go on!"')


async def test_discovery_says_what_may_be_done(cluster: Cluster) -> None:
    cluster.objects.create(CRDS, crd())
    core = (await cluster.request("GET", "/api/v1")).body["resources"]
    names = [one["name"] for one in core]
    assert names == sorted(names)
    found = {one["name"]: one for one in core}
    assert "deletecollection" not in found["namespaces"]["verbs"]
    assert (await cluster.request("DELETE", "/api/v1/namespaces")).status == 405
    assert "version" not in found["pods/exec"]
    extending = (await cluster.request("GET", "/apis/apiextensions.k8s.io/v1")).body["resources"][0]
    assert extending["categories"] == ["api-extensions"]
    (custom,) = (await cluster.request("GET", "/apis/example.com/v1")).body["resources"]
    assert " ".join(custom["verbs"]) == "delete deletecollection get list patch create update watch"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/apis/certificates.k8s.io/v1/certificatesigningrequests?fieldSelector=spec.signerName%3Da", ""),
        ("/apis/batch/v1/jobs?fieldSelector=status.failed%3D1", 'field label "status.failed" not supported for Job'),
        (
            "/apis/apps/v1/replicasets?fieldSelector=status.replicas%3D1",
            '"status.replicas" is not a known field selector: only "metadata.name", "metadata.namespace"',
        ),
    ],
)
async def test_fields_that_can_be_selected_on(cluster: Cluster, path: str, said: str) -> None:
    reply = await cluster.request("GET", path)
    assert reply.status == (400 if said else 200)
    assert said in reply.body.get("message", "")


async def test_a_scale_has_columns_of_its_own(cluster: Cluster) -> None:
    cluster.objects.create("deployments.apps", deployment())
    path = "/apis/apps/v1/namespaces/default/deployments/web/scale?includeObject=Object"
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    shown = (await cluster.request("GET", path, headers=accept)).body
    assert [one["name"] for one in shown["columnDefinitions"]] == ["Name", "Desired", "Available", "Age"]
    (row,) = shown["rows"]
    assert (row["cells"][:3], row["object"]["kind"]) == (["web", 1, 0], "Scale")


@pytest.mark.parametrize(
    ("kind", "short", "said"),
    [
        ("Widget", [], ("ListKindConflict", '"WidgetList" is already in use')),
        (
            "Thing",
            ["widgets", "widget"],
            ("ShortNamesConflict", '["widgets" is already in use, "widget" is already in use]'),
        ),
        ("WidgetList", [], ("KindConflict", '"WidgetList" is already in use')),
        ("Thing", ["th"], ("NoConflicts", "no conflicts found")),
    ],
)
async def test_names_that_another_definition_has(
    cluster: Cluster, kind: str, short: list[str], said: tuple[str, str]
) -> None:
    cluster.objects.create(CRDS, crd())
    other = crd("things", kind)
    other["spec"]["names"] |= {"shortNames": short, "singular": "thing", "listKind": f"{kind}List"}
    accepted = cluster.objects.create(CRDS, other)["status"]["conditions"][0]
    assert (accepted["reason"], accepted["message"]) == said


async def test_what_becomes_of_dependents_is_one_of_four(cluster: Cluster) -> None:
    cluster.objects.create("configmaps", config_map("a"))
    reply = await cluster.request("DELETE", f"{MAPS}/a?propagationPolicy=Foo")
    assert reply.body["message"] == (
        'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "Foo": supported values: '
        '"Foreground", "Background", "Orphan", "nil"'
    )
