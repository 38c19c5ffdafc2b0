# SPDX-License-Identifier: Apache-2.0
"""Webhooks of users' own: whom they are asked about, what they are told, and what becomes of their answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from tests.api.conftest import MAPS, PODS, Cluster, config_map, pod
from tests.api.hooks import MAPS as MAP_RULE
from tests.api.hooks import MUTATING, VALIDATING, configuration, hook, patch
from tests.api.hooks import PODS as POD_RULE

ACCOUNTS = "serviceaccounts"


@pytest.fixture(autouse=True)
def account(cluster: Cluster) -> None:
    cluster.objects.create(ACCOUNTS, {"metadata": {"name": "default", "namespace": "default"}})


async def test_a_denial_is_told_in_the_servers_words(cluster: Cluster) -> None:
    async with hook(cluster) as one:
        cluster.objects.create(VALIDATING, configuration("mine", one.webhook()))
        one.respond = lambda _: {"allowed": False, "status": {"message": "no pods today"}}
        said = await cluster.request("POST", PODS, pod())
        assert said.status == 400
        assert said.body["message"] == 'admission webhook "hook.example.com" denied the request: no pods today'
        one.respond = lambda _: {"allowed": False, "status": {"code": 403, "reason": "Forbidden"}}
        said = await cluster.request("POST", PODS, pod())
        assert (said.status, said.body["reason"]) == (403, "Forbidden")
        assert said.body["message"] == 'admission webhook "hook.example.com" denied the request: Forbidden'
        one.respond = lambda _: {"allowed": False, "status": {"code": 200}}
        said = await cluster.request("POST", PODS, pod())
        assert said.status == 400
        assert said.body["message"] == 'admission webhook "hook.example.com" denied the request without explanation'
        assert cluster.objects.list("pods") == []


async def test_what_a_webhook_is_told(cluster: Cluster) -> None:
    async with hook(cluster, "first") as first, hook(cluster, "second") as second:
        cluster.objects.create(MUTATING, configuration("mine", first.webhook()))
        cluster.objects.create(VALIDATING, configuration("mine", second.webhook()))
        body = pod()
        body["metadata"] = {"generateName": "web-"}
        made = await cluster.request("POST", f"{PODS}?fieldManager=me", body)
        assert made.status == 201
        (before,), (after,) = first.seen, second.seen
        assert "name" not in before
        assert "name" not in before["object"]["metadata"]
        assert "uid" not in before["object"]["metadata"]
        assert before["kind"] == {"group": "", "version": "v1", "kind": "Pod"}
        assert before["resource"] == {"group": "", "version": "v1", "resource": "pods"}
        assert (before["operation"], before["namespace"], before["dryRun"]) == ("CREATE", "default", False)
        assert before["userInfo"]["username"] == "kubernetes-admin"
        assert before["options"] == {
            "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me",
        }  # fmt: skip
        assert (before["object"]["apiVersion"], before["oldObject"]) == ("v1", None)
        # Who may refuse sees just what is kept afterwards.
        meta = made.body["metadata"]
        assert [after["object"]["metadata"][key] for key in ("name", "uid")] == [meta["name"], meta["uid"]]


async def test_a_patch_is_played_and_completed(cluster: Cluster) -> None:
    async with hook(cluster) as one:
        cluster.objects.create(MUTATING, configuration("mine", one.webhook()))
        sidecar = {"name": "side", "image": "busybox"}
        one.respond = lambda _: {
            **patch(
                {"op": "add", "path": "/spec/containers/-", "value": sidecar},
                {"op": "add", "path": "/metadata/labels", "value": {"seen": "yes"}},
            ),
            "warnings": ["a sidecar was added"],
        }
        made = await cluster.request("POST", PODS, pod())
        assert made.status == 201
        assert made.headers["Warning"] == '299 - "a sidecar was added"'
        kept = cluster.objects.get("pods", "web", "default")
        assert kept["metadata"]["labels"] == {"seen": "yes"}
        assert [c["name"] for c in kept["spec"]["containers"]] == ["web", "side"]
        assert kept["spec"]["containers"][1]["imagePullPolicy"] == "Always"
        assert len(one.seen) == 1


async def test_a_patch_that_leaves_nothing_sound_is_refused(cluster: Cluster) -> None:
    async with hook(cluster) as one:
        cluster.objects.create(MUTATING, configuration("mine", one.webhook()))
        one.respond = lambda _: patch({"op": "replace", "path": "/spec/nowhere/deep", "value": 1})
        said = await cluster.request("POST", PODS, pod())
        assert (said.status, said.body["reason"]) == (500, "InternalError")
        one.respond = lambda _: patch({"op": "replace", "path": "/spec/containers", "value": "none"})
        said = await cluster.request("POST", PODS, pod())
        assert (said.status, said.body["reason"]) == (500, "InternalError")
        one.respond = lambda _: patch({"op": "replace", "path": "/spec/containers/0/image", "value": ""})
        said = await cluster.request("POST", PODS, pod())
        assert said.status == 422
        assert "spec.containers[0].image: Required value" in said.body["message"]


async def test_each_sees_what_those_before_it_have_changed(cluster: Cluster) -> None:
    async with hook(cluster, "adds") as adds, hook(cluster, "looks") as looks:
        cluster.objects.create(MUTATING, configuration("b-adds", adds.webhook()))
        cluster.objects.create(MUTATING, configuration("a-looks", looks.webhook(reinvocationPolicy="IfNeeded")))
        adds.respond = lambda _: patch({"op": "add", "path": "/metadata/labels", "value": {"added": "yes"}})
        assert (await cluster.request("POST", PODS, pod())).status == 201
        # Once before the other has changed it, once after; the other is not asked again.
        assert [one["object"]["metadata"].get("labels") for one in looks.seen] == [None, {"added": "yes"}]
        assert len(adds.seen) == 1


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({"rules": [{**POD_RULE, "resources": ["pods/status"]}]}, False),
        ({"rules": [{**POD_RULE, "resources": ["*"]}]}, True),
        ({"rules": [{**POD_RULE, "resources": ["pods/*"]}]}, True),
        ({"rules": [{**POD_RULE, "apiVersions": ["v2"]}]}, False),
        ({"rules": [{**POD_RULE, "scope": "Cluster"}]}, False),
        ({"rules": [{**POD_RULE, "operations": ["UPDATE"]}]}, False),
        ({"namespaceSelector": {"matchLabels": {"team": "a"}}}, True),
        ({"namespaceSelector": {"matchLabels": {"team": "b"}}}, False),
        ({"objectSelector": {"matchLabels": {"app": "web"}}}, True),
        ({"objectSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}}, False),
        ({"matchConditions": [{"name": "a", "expression": "object.metadata.name == 'web'"}]}, True),
        ({"matchConditions": [{"name": "a", "expression": "request.userInfo.username == 'jane'"}]}, False),
        (
            {"matchConditions": [{"name": "a", "expression": "object.spec.nowhere > 1"}], "failurePolicy": "Ignore"},
            False,
        ),
        (
            {
                "matchConditions": [
                    {"name": "a", "expression": "object.spec.nowhere > 1"},
                    {"name": "b", "expression": "oldObject != null"},
                ]
            },
            False,
        ),
    ],
)
async def test_who_is_asked(cluster: Cluster, fields: dict[str, Any], asked: bool) -> None:
    cluster.objects.patch("namespaces", "default", {"metadata": {"labels": {"team": "a"}}})
    async with hook(cluster) as one:
        cluster.objects.create(VALIDATING, configuration("mine", one.webhook(**fields)))
        body = pod()
        body["metadata"]["labels"] = {"app": "web"}
        assert (await cluster.request("POST", PODS, body)).status == 201
        assert len(one.seen) == asked


async def test_a_condition_without_a_value_refuses(cluster: Cluster) -> None:
    async with hook(cluster) as one:
        conditions = [{"name": "a", "expression": "object.spec.nowhere > 1"}]
        cluster.objects.create(VALIDATING, configuration("mine", one.webhook(matchConditions=conditions)))
        said = await cluster.request("POST", PODS, pod())
        assert said.status == 403
        why = "expression 'object.spec.nowhere > 1' resulted in error: no such key: nowhere"
        assert said.body["message"] == f'pods "web" is forbidden: {why}'


async def test_updates_and_deletes_show_what_was_there(cluster: Cluster) -> None:
    async with hook(cluster) as one:
        cluster.objects.create("configmaps", config_map(a="1"), "default")
        cluster.objects.create(VALIDATING, configuration("mine", one.webhook(rules=[MAP_RULE])))
        headers = {"Content-Type": "application/merge-patch+json"}
        place = f"{MAPS}/settings"
        assert (await cluster.request("PATCH", place, {"data": {"a": "2"}}, headers=headers)).status == 200
        assert (await cluster.request("DELETE", place)).status == 200
        update, delete = one.seen
        assert (update["oldObject"]["data"], update["object"]["data"]) == ({"a": "1"}, {"a": "2"})
        assert (delete["operation"], delete["object"], delete["oldObject"]["data"]) == ("DELETE", None, {"a": "2"})
        cluster.objects.create("configmaps", config_map(a="1"), "default")
        one.respond = lambda _: {"allowed": False}
        assert (await cluster.request("DELETE", place)).status == 400
        assert (await cluster.request("DELETE", MAPS)).status == 400
        assert cluster.objects.get("configmaps", "settings", "default")["data"] == {"a": "1"}


async def test_a_dry_run_needs_a_webhook_without_side_effects(cluster: Cluster) -> None:
    async with hook(cluster) as one:
        cluster.objects.create(VALIDATING, configuration("mine", one.webhook(sideEffects="NoneOnDryRun")))
        assert (await cluster.request("POST", f"{PODS}?dryRun=All", pod())).status == 201
        assert (one.seen[0]["dryRun"], one.seen[0]["options"]["dryRun"]) == (True, ["All"])
        cluster.objects.delete(VALIDATING, "mine")
        cluster.objects.create(VALIDATING, configuration("mine", one.webhook()))
        stored = cluster.objects.get(VALIDATING, "mine")
        stored["webhooks"][0]["sideEffects"] = "Some"
        cluster.objects.update(VALIDATING, stored)
        said = await cluster.request("POST", f"{PODS}?dryRun=All", pod())
        assert said.status == 400
        assert said.body["message"] == 'admission webhook "hook.example.com" does not support dry run'


async def _failed(cluster: Cluster, webhook: dict[str, Any]) -> str:
    cluster.objects.create(VALIDATING, configuration("mine", webhook))
    said = await cluster.request("POST", PODS, pod())
    assert (said.status, said.body["reason"]) == (500, "InternalError")
    cluster.objects.delete(VALIDATING, "mine")
    cluster.objects.create(VALIDATING, configuration("mine", {**webhook, "failurePolicy": "Ignore"}))
    assert (await cluster.request("POST", PODS, pod())).status == 201
    head = f'Internal error occurred: failed calling webhook "{webhook["name"]}": '
    assert said.body["message"].startswith(head)
    return str(said.body["message"].removeprefix(head))


CALL = 'failed to call webhook: Post "https://hook.default.svc:443/ask?timeout=10s": '


async def test_a_service_that_is_not_there(cluster: Cluster) -> None:
    async with hook(cluster) as one:
        cluster.objects.delete("services", "hook", "default")
        assert await _failed(cluster, one.webhook()) == CALL + 'service "hook" not found'


async def test_a_service_with_nobody_behind_it(cluster: Cluster) -> None:
    async with hook(cluster) as one:
        cluster.objects.delete("endpoints", "hook", "default")
        assert await _failed(cluster, one.webhook()) == CALL + 'no endpoints available for service "hook"'


async def test_a_service_that_leads_away_from_this_machine(cluster: Cluster) -> None:
    async with hook(cluster) as one:
        found = cluster.objects.get("endpoints", "hook", "default")
        found["subsets"][0]["addresses"] = [{"ip": "192.0.2.1"}]
        cluster.objects.update("endpoints", found)
        said = await _failed(cluster, one.webhook())
    assert said == CALL + "the sandbox calls nobody but this machine, and 192.0.2.1 is behind that Service"


async def test_nobody_listens(cluster: Cluster) -> None:
    async with hook(cluster) as one:
        pass
    where = f"{cluster.settings.plan.node}:{one.port}"
    assert await _failed(cluster, one.webhook()) == CALL + f"dial tcp {where}: connect: connection refused"


async def test_a_certificate_of_a_stranger(cluster: Cluster) -> None:
    async with hook(cluster) as one, hook(cluster, "other") as other:
        one.bundle = other.bundle
        why = "tls: failed to verify certificate: x509: certificate signed by unknown authority"
        assert await _failed(cluster, one.webhook()) == CALL + why
        assert one.seen == []


async def test_a_certificate_for_another_name(cluster: Cluster) -> None:
    async with hook(cluster, served_as="elsewhere.default.svc") as one:
        said = await _failed(cluster, one.webhook())
        assert said.startswith(CALL + "tls: failed to verify certificate: x509: certificate is not valid for any names")


async def test_one_that_does_not_answer_in_time_blocks_nobody_else(cluster: Cluster) -> None:
    async with hook(cluster) as one:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def slow(_: dict[str, Any]) -> dict[str, Any]:
            entered.set()
            await leave.wait()
            return {"allowed": True}

        one.respond = slow
        cluster.objects.create(VALIDATING, configuration("mine", one.webhook(timeoutSeconds=30)))
        waiting = asyncio.create_task(cluster.request("POST", PODS, pod()))
        await entered.wait()
        # Nobody else waits, nor is anything kept until it has answered.
        assert (await cluster.request("POST", MAPS, config_map())).status == 201
        assert cluster.objects.list("pods") == []
        leave.set()
        assert (await waiting).status == 201
        leave.clear()
        cluster.objects.delete(VALIDATING, "mine")
        cluster.objects.create(VALIDATING, configuration("mine", one.webhook(timeoutSeconds=1)))
        said = await cluster.request("POST", PODS, pod("other"))
        leave.set()
        end = CALL.replace("timeout=10s", "timeout=1s") + "context deadline exceeded"
        assert said.body["message"].endswith(end)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (web.Response(status=404), "failed to call webhook: the server could not find the requested resource"),
        (
            web.Response(status=500, text="broken"),
            'failed to call webhook: an error on the server ("broken") has prevented the request from succeeding',
        ),
        (
            web.json_response({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}),
            "received invalid webhook response: webhook response was absent",
        ),
        (
            web.json_response({"kind": "Pod", "apiVersion": "v1"}),
            "received invalid webhook response: expected webhook response of admission.k8s.io/v1, "
            "Kind=AdmissionReview, got v1, Kind=Pod",
        ),
        (
            web.Response(text="hello"),
            "failed to call webhook: couldn't get version/kind; json parse error: the answer is no JSON",
        ),
    ],
)
async def test_an_answer_that_is_none(cluster: Cluster, answer: web.Response, said: str) -> None:
    async with hook(cluster) as one:
        one.raw = lambda _: web.Response(body=answer.body, status=answer.status, content_type=answer.content_type)
        assert await _failed(cluster, one.webhook()) == said


async def test_an_answer_to_somebody_elses_question(cluster: Cluster) -> None:
    async with hook(cluster) as one:
        one.respond = lambda _: {"uid": "mine", "allowed": True}
        assert (await _failed(cluster, one.webhook())).endswith('", got "mine"')


async def test_a_url_of_this_machine_is_called_and_no_other(cluster: Cluster) -> None:
    async with hook(cluster, served_as="localhost") as one:
        node = cluster.settings.plan.node
        other = one.webhook(clientConfig={"url": "https://hooks.example.com/ask", "caBundle": one.bundle})
        told = await cluster.request(
            "POST", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", configuration("far", other)
        )
        said = "the sandbox calls webhooks of this machine only: each call will fail"
        assert told.headers["Warning"] == f'299 - "webhook hook.example.com: {said}"'
        answer = await cluster.request("POST", PODS, pod())
        assert "the sandbox calls nobody but this machine" in answer.body["message"]
        cluster.objects.delete(VALIDATING, "far")
        # Its certificate is for a name; by address it is not trusted.
        near = one.webhook(clientConfig={"url": f"https://{node}:{one.port}/ask", "caBundle": one.bundle})
        cluster.objects.create(VALIDATING, configuration("near", near))
        answer = await cluster.request("POST", PODS, pod())
        assert "x509" in answer.body["message"]


async def test_who_writes_while_a_webhook_thinks_is_not_undone(cluster: Cluster) -> None:
    async with hook(cluster) as one:
        cluster.objects.create("configmaps", config_map(a="1"), "default")
        cluster.objects.create(VALIDATING, configuration("mine", one.webhook(rules=[MAP_RULE])))

        def change(request: dict[str, Any]) -> dict[str, Any]:
            if len(one.seen) == 1:
                cluster.objects.patch("configmaps", "settings", {"data": {"b": "2"}}, "default")
            return {"allowed": True}

        one.respond = change
        headers = {"Content-Type": "application/merge-patch+json"}
        assert (await cluster.request("PATCH", f"{MAPS}/settings", {"data": {"c": "3"}}, headers=headers)).status == 200
        assert [seen["oldObject"]["data"] for seen in one.seen] == [{"a": "1"}, {"a": "1", "b": "2"}]
        kept = cluster.objects.get("configmaps", "settings", "default")
        assert kept["data"] == {"a": "1", "b": "2", "c": "3"}


async def test_configurations_can_always_be_mended(cluster: Cluster) -> None:
    async with hook(cluster) as one:
        everything = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}
        cluster.objects.create(VALIDATING, configuration("mine", one.webhook(rules=[everything])))
        one.respond = lambda _: {"allowed": False}
        place = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/mine"
        assert (await cluster.request("POST", MAPS, config_map())).status == 400
        assert (await cluster.request("DELETE", place)).status == 200
        assert (await cluster.request("POST", MAPS, config_map())).status == 201


@pytest.mark.parametrize("release", ["1.2.2"])
async def test_old_reviews_and_words(cluster: Cluster) -> None:
    async with hook(cluster) as one:
        fields: dict[str, Any] = {"admissionReviewVersions": ["v1beta1"], "timeoutSeconds": 30, "failurePolicy": "Fail"}
        webhook = one.webhook(rules=[MAP_RULE], **fields)
        cluster.objects.create(VALIDATING, configuration("mine", webhook))
        one.respond = lambda _: {"allowed": False, "status": {"message": "no"}}
        said = await cluster.request("POST", MAPS, config_map())
        assert said.body["message"] == 'admission webhook "hook.example.com" denied the request: no'
        cluster.objects.delete("endpoints", "hook", "default")
        said = await cluster.request("POST", MAPS, config_map())
        call = "Post https://hook.default.svc:443/ask?timeout=30s"
        why = f'failed calling webhook "hook.example.com": {call}: no endpoints available for service "hook"'
        assert said.body["message"] == f"Internal error occurred: {why}"
