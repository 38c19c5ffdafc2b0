# SPDX-License-Identifier: Apache-2.0
"""Tokens end with what they are bound to; who may change objects may not for that make them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import MAPS, Cluster, config_map, pod

ACCOUNT = "/api/v1/namespaces/default/serviceaccounts/robot"
WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
RBAC = "rbac.authorization.k8s.io"


async def _token(cluster: Cluster, reference: dict[str, Any] | None = None) -> str:
    spec = {} if reference is None else {"boundObjectRef": reference}
    answer = await cluster.request("POST", f"{ACCOUNT}/token", {"spec": spec})
    assert answer.status == 201, answer.text
    return str(answer.body["status"]["token"])


async def _works(cluster: Cluster, token: str) -> bool:
    answer = await cluster.request("POST", WHO, {}, headers={"Authorization": f"Bearer {token}"})
    assert answer.status in (201, 401)
    return answer.status == 201


@pytest.fixture(autouse=True)
def account(cluster: Cluster) -> None:
    cluster.objects.create("serviceaccounts", {"metadata": {"name": "robot", "namespace": "default"}})


async def test_a_token_ends_with_its_account(cluster: Cluster) -> None:
    token = await _token(cluster)
    assert await _works(cluster, token)
    cluster.objects.delete("serviceaccounts", "robot", "default")
    assert not await _works(cluster, token)
    # One of the same name is another.
    cluster.objects.create("serviceaccounts", {"metadata": {"name": "robot", "namespace": "default"}})
    assert not await _works(cluster, token)
    review = {"spec": {"token": token}}
    answer = await cluster.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
    assert answer.body["status"] == {"user": {}, "error": "invalid bearer token"}


async def test_a_token_ends_with_its_pod(cluster: Cluster) -> None:
    made = cluster.objects.create("pods", pod(serviceAccountName="robot"), "default")
    token = await _token(cluster, {"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": made["metadata"]["uid"]})
    free = await _token(cluster)
    assert await _works(cluster, token)
    cluster.objects.delete("pods", "web", "default", grace_period=0)
    assert (await _works(cluster, token), await _works(cluster, free)) == (False, True)


async def test_what_a_token_cannot_be_bound_to(cluster: Cluster) -> None:
    for reference, code in (
        ({"kind": "Pod", "name": "nobody"}, 404),
        ({"kind": "Service", "name": "kubernetes"}, 400),
    ):
        answer = await cluster.request("POST", f"{ACCOUNT}/token", {"spec": {"boundObjectRef": reference}})
        assert answer.status == code
    cluster.objects.create("pods", pod(serviceAccountName="robot"), "default")
    reference = {"kind": "Pod", "name": "web", "uid": "of another"}
    answer = await cluster.request("POST", f"{ACCOUNT}/token", {"spec": {"boundObjectRef": reference}})
    assert (answer.status, answer.body["reason"]) == (409, "Conflict")


async def test_an_apply_that_creates_asks_for_both(cluster: Cluster) -> None:
    def allow(*verbs: str) -> None:
        rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": list(verbs)}
        cluster.objects.create(f"roles.{RBAC}", {"metadata": {"name": "-".join(verbs)}, "rules": [rule]}, "default")
        bound = {
            "metadata": {"name": "-".join(verbs)},
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "-".join(verbs)},
            "subjects": [{"kind": "User", "name": "jane", "apiGroup": RBAC}],
        }
        cluster.objects.create(f"rolebindings.{RBAC}", bound, "default")

    headers = {"Content-Type": "application/apply-patch+yaml", "Impersonate-User": "jane"}
    place = f"{MAPS}/settings?fieldManager=jane"
    allow("patch")
    answer = await cluster.request("PATCH", place, config_map(a="1"), headers=headers)
    assert answer.status == 403
    assert 'User "jane" cannot create resource "configmaps" in API group ""' in answer.body["message"]
    allow("create")
    assert (await cluster.request("PATCH", place, config_map(a="1"), headers=headers)).status == 201
    assert (await cluster.request("PATCH", place, config_map(a="2"), headers=headers)).status == 200
