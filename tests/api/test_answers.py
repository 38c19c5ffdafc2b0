# SPDX-License-Identifier: Apache-2.0
"""What the server says where a request is right, half right or wrong: codes, words and forms, as the real one has."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest

from meshbox.api import openapi

from .conftest import CRDS, MAPS, Cluster, config_map, crd

PODS = "/api/v1/namespaces/default/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}
MERGE = {"Content-Type": "application/merge-patch+json"}
APPLY = {"Content-Type": "application/apply-patch+yaml"}


def token(**content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def pod(name: str = "p", **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


def deployment() -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod()["spec"]}
    return {"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template}}


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ("resourceVersion=abc", 400, 'invalid resource version: resourceVersion: Invalid value: "abc": strconv'),
        (f"resourceVersion={10**20}", 400, "value out of range"),
        ("resourceVersion=99999999", 504, "Timeout: Too large resource version: 99999999, current: "),
        ("resourceVersionMatch=Exact", 422, "resourceVersionMatch is forbidden unless resourceVersion is provided"),
        ("resourceVersionMatch=Exact&resourceVersion=0", 422, 'resourceVersionMatch "exact" is forbidden for'),
        ("resourceVersionMatch=Foo&resourceVersion=1", 422, 'Unsupported value: "Foo": supported values: "Exact"'),
        ("sendInitialEvents=true", 422, "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"),
        ("continue=abc", 400, "invalid continue token: continue key is not valid: invalid character 'i' looking for"),
        (f"continue={token(v='v0')}", 400, 'server does not recognize this encoded version "v0"'),
        (f"continue={token(v='meta.k8s.io/v1')}", 400, "incorrect encoded start resourceVersion"),
        (f"continue={token(v='meta.k8s.io/v1', rv=1)}", 400, "encoded start key empty"),
        ("fieldSelector=a%3Db%3Dc", 400, "invalid field selector: unescaped character in value: 61"),
        ("fieldSelector=abc", 400, "invalid selector: 'abc'; can't understand 'abc'"),
        ("watch=1&resourceVersionMatch=Exact", 422, "forbidden for watch unless sendInitialEvents is provided"),
    ],
)
async def test_what_a_list_cannot_be_asked(cluster: Cluster, query: str, code: int, words: str) -> None:
    reply = await cluster.request("GET", f"{MAPS}?{query}")
    assert (reply.status, words in reply.body["message"]) == (code, True), reply.body


async def test_pages_follow_each_other(cluster: Cluster) -> None:
    for name in "abc":
        cluster.objects.create("configmaps", config_map(name))
    seen, more = [], ""
    while True:
        page = (await cluster.request("GET", f"{MAPS}?limit=2&continue={more}")).body
        seen += [one["metadata"]["name"] for one in page["items"]]
        if not (more := page["metadata"].get("continue", "")):
            break
        assert page["metadata"]["remainingItemCount"] == 1
    assert seen == ["a", "b", "c"]


async def test_the_name_comes_first(cluster: Cluster) -> None:
    cluster.objects.create("configmaps", config_map("a"))
    reply = await cluster.request("GET", f"{MAPS}/a")
    assert reply.text.startswith('{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","namespace":"default"')


async def test_a_patch_that_leaves_no_object_is_named(cluster: Cluster) -> None:
    cluster.objects.create("deployments.apps", deployment())
    wrong = {"spec": {"replicas": "three"}}
    reply = await cluster.request("PATCH", f"{DEPLOYMENTS}/web", wrong, headers=STRATEGIC)
    said = 'patch: Invalid value: "map[spec:map[replicas:three]]": unrecognized type: int32'
    assert (reply.status, reply.body["message"]) == (422, f' "" is invalid: {said}')
    reply = await cluster.request("PATCH", f"{DEPLOYMENTS}/web", wrong, headers=MERGE)
    said = "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
    assert (reply.status, reply.body["message"].endswith(said)) == (422, True)


async def test_new_items_come_where_the_patch_has_them(cluster: Cluster) -> None:
    wanted = deployment()
    wanted["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": "1"}, {"name": "B"}]
    cluster.objects.create("deployments.apps", wanted)

    async def env(*items: dict[str, Any]) -> list[str] | None:
        patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "env": list(items)}]}}}}
        reply = await cluster.request("PATCH", f"{DEPLOYMENTS}/web", patch, headers=STRATEGIC)
        container = reply.body["spec"]["template"]["spec"]["containers"][0]
        return [one["name"] for one in container["env"]] if "env" in container else None

    assert await env({"name": "N", "value": "2"}) == ["N", "A", "B"]
    assert await env({"name": "B", "value": "3"}, {"name": "M"}) == ["N", "A", "B", "M"]
    gone = [{"name": name, "$patch": "delete"} for name in "NABM"]
    assert await env(*gone) is None


async def test_an_apply_creates_and_knows_the_fields(cluster: Cluster) -> None:
    apply = f"{PODS}/p?fieldManager=me&fieldValidation=Strict"
    body = {"apiVersion": "v1", "kind": "Pod", **pod()}
    wrong = json.loads(json.dumps(body))
    wrong["spec"]["containers"][0]["imagee"] = "x"
    reply = await cluster.request("PATCH", apply, wrong, headers=APPLY)
    said = '.spec.containers[name="c"].imagee: field not declared in schema'
    assert reply.status == 500
    assert reply.body["message"] == f"failed to create typed patch object (/p; /v1, Kind=Pod): {said}"
    assert (await cluster.request("PATCH", apply, body, headers=APPLY)).status == 201
    assert (await cluster.request("PATCH", apply, body, headers=APPLY)).status == 200


async def test_a_uid_is_never_patched(cluster: Cluster) -> None:
    cluster.objects.create("configmaps", config_map("a"))
    reply = await cluster.request("PATCH", f"{MAPS}/a", {"metadata": {"uid": "x"}}, headers=MERGE)
    words = 'ConfigMap "a" is invalid: metadata.uid: Invalid value: "x": field is immutable'
    assert (reply.status, reply.body["message"]) == (422, words)


async def test_forms_of_an_answer(cluster: Cluster) -> None:
    reply = await cluster.request("GET", "/apis/apps", headers={"Accept": "application/yaml"})
    assert reply.headers["Content-Type"].startswith("application/yaml")
    assert "name: apps\n" in reply.text
    reply = await cluster.request("GET", "/apis/apps", headers={"User-Agent": "curl/8"})
    assert reply.text.startswith('{\n  "kind": "APIGroup"')
    assert reply.text.endswith("}")
    for path in ("/apis/apps", "/api/v1/pods", "/api/v1/namespaces/default", "/api/v1/namespaces/nope"):
        assert (await cluster.request("GET", path)).text.endswith("}\n"), path
    reply = await cluster.request("GET", "/api/v1/endpoints")
    assert "v1 Endpoints is deprecated in v1.33+" in reply.headers["Warning"]


async def test_a_definition_that_goes_takes_no_more_objects(cluster: Cluster) -> None:
    cluster.objects.create(CRDS, crd())
    resource = next(name for name in cluster.objects.resources() if cluster.objects.resource(name).crd)
    kind = cluster.objects.resource(resource)
    one = {"metadata": {"name": "one", "finalizers": ["x.example.com/stay"]}}
    cluster.objects.create(resource, one)
    cluster.objects.delete(CRDS, resource)
    conditions = cluster.objects.get(CRDS, resource)["status"]["conditions"]
    assert [one["reason"] for one in conditions if one["type"] == "Terminating"] == ["InstanceDeletionInProgress"]
    path = f"/apis/{kind.group}/{kind.version}/namespaces/default/{kind.plural}"
    body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "two"}}
    reply = await cluster.request("POST", path, body)
    words = f'{resource} "two" is forbidden: create not allowed while custom resource definition is terminating'
    assert (reply.status, reply.body["message"]) == (403, words)
    cluster.objects.patch(resource, "one", {"metadata": {"finalizers": None}}, "default")
    assert cluster.objects.find(CRDS, resource) is None


async def test_an_eviction_asks_the_budget(cluster: Cluster) -> None:
    budgets = "poddisruptionbudgets.policy"
    selector = {"matchLabels": {"app": "web"}}
    cluster.objects.create(budgets, {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": selector}})
    cluster.objects.create("pods", pod(app="web"))
    ready = {"type": "Ready", "status": "True"}
    running = cluster.objects.get("pods", "p") | {"status": {"phase": "Running", "conditions": [ready]}}
    cluster.objects.update("pods", running, subresource="status")

    def allow(count: int) -> None:
        healthy = {"currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1, "observedGeneration": 1}
        budget = cluster.objects.get(budgets, "b") | {"status": {**healthy, "disruptionsAllowed": count}}
        cluster.objects.update(budgets, budget, subresource="status")

    async def evict() -> Any:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
        return await cluster.request("POST", f"{PODS}/p/eviction", body)

    allow(0)
    reply = await evict()
    assert (reply.status, reply.body["reason"]) == (429, "TooManyRequests")
    assert reply.body["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    words = "The disruption budget b needs 1 healthy pods and has 1 currently"
    assert reply.body["details"]["causes"] == [{"reason": "DisruptionBudget", "message": words}]
    allow(1)
    assert (await evict()).status == 201
    assert cluster.objects.get(budgets, "b")["status"]["disruptionsAllowed"] == 0


async def test_roles_count_over_the_wire(cluster: Cluster) -> None:
    jane = {"Impersonate-User": "jane"}
    reply = await cluster.request("GET", PODS, headers=jane)
    words = 'pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default"'
    assert (reply.status, reply.body["message"]) == (403, words)
    rules = [
        {"verbs": ["list", "create"], "apiGroups": ["", "rbac.authorization.k8s.io"], "resources": ["pods", "roles"]}
    ]
    group = {"apiGroup": "rbac.authorization.k8s.io"}
    cluster.objects.create("roles.rbac.authorization.k8s.io", {"metadata": {"name": "r"}, "rules": rules})
    reference, subject = {**group, "kind": "Role", "name": "r"}, {**group, "kind": "User", "name": "jane"}
    binding = {"metadata": {"name": "r"}, "roleRef": reference, "subjects": [subject]}
    cluster.objects.create("rolebindings.rbac.authorization.k8s.io", binding)
    assert (await cluster.request("GET", PODS, headers=jane)).status == 200
    more = {"metadata": {"name": "m"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]}
    path = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles"
    reply = await cluster.request("POST", path, more, headers=jane)
    assert (reply.status, "attempting to grant RBAC permissions not currently held" in reply.text) == (403, True)
    review = {"spec": {"namespace": "default"}}
    reply = await cluster.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review, headers=jane)
    assert {"verbs": rules[0]["verbs"], "apiGroups": rules[0]["apiGroups"], "resources": rules[0]["resources"]} in (
        reply.body["status"]["resourceRules"]
    )


def test_what_explain_reads() -> None:
    schemas = openapi.document("v1")["components"]["schemas"]
    container = schemas["io.k8s.api.core.v1.Container"]["properties"]
    assert container["imagePullPolicy"]["enum"] == ["Always", "IfNotPresent", "Never"]
    assert container["image"]["description"] == "The image that the container is made of."
    assert "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta" in schemas
    assert not [name for name in schemas if not name.startswith(("io.k8s.api.", "io.k8s.apimachinery."))]


async def test_a_selector_may_escape(cluster: Cluster) -> None:
    selector = quote(r"metadata.name=a\,b")
    reply = await cluster.request("GET", f"{MAPS}?fieldSelector={selector}")
    assert (reply.status, reply.body["items"]) == (200, [])
