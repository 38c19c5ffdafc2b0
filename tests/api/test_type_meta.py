# SPDX-License-Identifier: Apache-2.0
"""What a body says that it is and where it belongs, and the answers of a Kubernetes 1.35.4."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Cluster, crd, pod

MAPS = "/api/v1/namespaces/default/configmaps"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"
SCHEME = 'in scheme "pkg/runtime/scheme.go:111"'
HANDLED = "cannot be handled as a ConfigMap"
UNRECOGNIZED = "the object provided is unrecognized (must be of type"
META = {"name": "a"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": None, "apiVersion": ""}, ""),
        (
            {"kind": "Mop", "apiVersion": "v1"},
            f'Mop in version "v1" {HANDLED}: no kind "Mop" is registered for version "v1" {SCHEME}',
        ),
        (
            {"kind": "Deployment", "apiVersion": "apps/v1"},
            f'Deployment in version "v1" {HANDLED}: converting (v1.Deployment) to (core.ConfigMap): unknown conversion',
        ),
        (
            {"kind": "ConfigMap", "apiVersion": "apps/v1"},
            f'ConfigMap in version "v1" {HANDLED}: no kind "ConfigMap" is registered for version "apps/v1" {SCHEME}',
        ),
        (
            {"kind": "ConfigMap", "apiVersion": "a/b/c"},
            f'{UNRECOGNIZED} ConfigMap): unexpected GroupVersion string: a/b/c ({{"kind": "ConfigMap", "apiVers ...)',
        ),
        (
            {"kind": 7},
            f"{UNRECOGNIZED} ConfigMap): couldn't get version/kind; json parse error: json: cannot unmarshal number "
            'into Go struct field .kind of type string ({"kind": 7, "metadata": {"name ...)',
        ),
    ],
)
async def test_of_a_built_in_object(cluster: Cluster, given: dict[str, Any], message: str) -> None:
    reply = await cluster.request("POST", MAPS, {**given, "metadata": META})
    assert (reply.status, reply.body.get("message", "")) == (400 if message else 201, message)


@pytest.mark.parametrize(
    ("given", "status", "message"),
    [
        ({"kind": "Widget"}, 400, "the API version in the data () does not match the expected API version"),
        ({"apiVersion": "example.com/v1"}, 400, f"{UNRECOGNIZED} Widget): Object 'Kind' is missing in '"),
        (
            {"kind": "Mop", "apiVersion": "example.com/v1"},
            422,
            'Mop.example.com "a" is invalid: kind: Invalid value: "Mop": must be Widget',
        ),
    ],
)
async def test_of_a_custom_object(cluster: Cluster, given: dict[str, Any], status: int, message: str) -> None:
    assert (await cluster.request("POST", DEFINITIONS, crd())).status == 201
    reply = await cluster.request("POST", WIDGETS, {**given, "metadata": META})
    assert reply.status == status
    assert reply.body["message"].startswith(message)


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"name": "a", "namespace": ""}, ""),
        ({"name": "a", "namespace": None}, ""),
        (None, "the name of the object (a based on URL) was undeterminable: name must be provided"),
        ({"name": "b"}, "the name of the object (b) does not match the name on the URL (a)"),
        (
            {"name": "a", "namespace": "x"},
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            "x",
            f'ConfigMap in version "v1" {HANDLED}: json: cannot unmarshal string into Go struct field '
            "ConfigMap.metadata of type v1.ObjectMeta",
        ),
    ],
)
async def test_a_put_names_its_object(cluster: Cluster, meta: Any, message: str) -> None:
    await cluster.request("POST", MAPS, {"metadata": META})
    reply = await cluster.request("PUT", f"{MAPS}/a", {"metadata": meta})
    assert (reply.status, reply.body.get("message", "")) == (400 if message else 200, message)


async def test_some_kinds_are_updated_only_by_who_has_seen_them(cluster: Cluster) -> None:
    leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    await cluster.request("POST", leases, {"metadata": META})
    reply = await cluster.request("PUT", f"{leases}/a", {"metadata": META})
    words = "metadata.resourceVersion: Invalid value: 0: must be specified for an update"
    assert (reply.status, reply.body["message"]) == (422, f'leases.coordination.k8s.io "a" is invalid: {words}')
    assert reply.body["details"]["kind"] == "leases"


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("pods/web/eviction", {}, 400, "name in URL does not match name in Eviction object"),
        (
            "serviceaccounts/a/token",
            {"spec": {"expirationSeconds": 5}},
            422,
            'TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 5: may not '
            "specify a duration less than 10 minutes",
        ),
        (
            "serviceaccounts/a/token",
            {"metadata": {"name": "b"}},
            422,
            'TokenRequest.authentication.k8s.io "a" is invalid: metadata.name: Invalid value: "b": must match the '
            "service account name if specified",
        ),
        (
            "serviceaccounts/a/token",
            {"spec": {"boundObjectRef": {"kind": "Mop", "apiVersion": "v1", "name": "x"}}},
            400,
            "cannot bind token to object of type /v1, Kind=Mop",
        ),
        (
            "serviceaccounts/a/token",
            {"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "web"}}},
            400,
            'cannot bind token for serviceaccount "a" to pod running with different serviceaccount name.',
        ),
    ],
)
async def test_what_is_asked_about_an_object_names_it(
    cluster: Cluster, path: str, body: dict[str, Any], status: int, message: str
) -> None:
    for name in ("a", "default"):
        cluster.objects.create("serviceaccounts", {"metadata": {"name": name}})
    cluster.objects.create("pods", pod())
    reply = await cluster.request("POST", f"/api/v1/namespaces/default/{path}", body)
    assert (reply.status, reply.body["message"]) == (status, message)


async def test_namespaces_are_not_deleted_all_at_once(cluster: Cluster) -> None:
    assert (await cluster.request("DELETE", "/api/v1/namespaces")).status == 405


async def test_a_namespace_without_a_name_is_refused_whoever_watches_over_it(cluster: Cluster) -> None:
    rule = {"operations": ["CREATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["widgets"]}
    hook = {"name": "a.example.com", "clientConfig": {"url": "https://127.0.0.1:1/"}, "rules": [rule]}
    hook |= {"sideEffects": "None", "admissionReviewVersions": ["v1"]}
    configuration = {"metadata": {"name": "a"}, "webhooks": [hook]}
    cluster.objects.create("validatingwebhookconfigurations.admissionregistration.k8s.io", configuration)
    assert (await cluster.request("POST", "/api/v1/namespaces", {"metadata": {}})).status == 422
