# SPDX-License-Identifier: Apache-2.0
"""Controllers whose writes meet users' webhooks and policies."""

from __future__ import annotations

from tests.api.hooks import MUTATING, VALIDATING, configuration, hook, patch
from tests.controllers.conftest import DEPLOYMENTS, Cluster

BINDINGS = "validatingadmissionpolicybindings.admissionregistration.k8s.io"
POLICIES = "validatingadmissionpolicies.admissionregistration.k8s.io"


def _deployment(replicas: int) -> dict[str, object]:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "nginx"}]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": spec}


async def test_pods_of_a_deployment_pass_webhooks(cluster: Cluster) -> None:
    async with hook(cluster, "adds") as adds, hook(cluster, "looks") as looks:
        adds.respond = lambda _: patch({"op": "add", "path": "/metadata/annotations", "value": {"seen": "yes"}})
        cluster.objects.create(MUTATING, configuration("adds", adds.webhook()))
        cluster.objects.create(VALIDATING, configuration("looks", looks.webhook()))
        cluster.objects.create(DEPLOYMENTS, _deployment(3))
        await cluster.until(lambda: len(cluster.objects.list("pods")) == 3, "three pods")
        pods = cluster.objects.list("pods")
        assert [one["metadata"]["annotations"]["seen"] for one in pods] == ["yes"] * 3
        # One question a pod, each of just the pod that is kept.
        assert len(adds.seen) == 3
        seen = {one["object"]["metadata"]["name"]: one["object"]["metadata"]["uid"] for one in looks.seen}
        assert seen == {one["metadata"]["name"]: one["metadata"]["uid"] for one in pods}
        who = {one["userInfo"]["username"] for one in looks.seen}
        assert who == {"system:serviceaccount:kube-system:replicaset-controller"}


async def test_a_denied_pod_is_told_on_its_owner_and_tried_again(cluster: Cluster) -> None:
    async with hook(cluster) as one:
        one.respond = lambda _: {"allowed": False, "status": {"message": "not yet"}}
        cluster.objects.create(VALIDATING, configuration("mine", one.webhook()))
        cluster.objects.create(DEPLOYMENTS, _deployment(1))
        said = 'Error creating: admission webhook "hook.example.com" denied the request: not yet'
        await cluster.until(
            lambda: said in [event["message"] for event in cluster.objects.list("events")], "the denial is told"
        )
        assert cluster.objects.list("pods") == []
        one.respond = lambda _: {"allowed": True}
        await cluster.until(lambda: len(cluster.objects.list("pods")) == 1, "the pod is made")


async def test_policies_bind_controllers_too(cluster: Cluster) -> None:
    rule = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "object.spec.containers.all(c, c.image.contains('@'))", "message": "no digest"}],
    }
    cluster.objects.create(POLICIES, {"metadata": {"name": "digests"}, "spec": spec})
    bound = {"policyName": "digests", "validationActions": ["Deny"]}
    cluster.objects.create(BINDINGS, {"metadata": {"name": "all"}, "spec": bound})
    cluster.objects.create(DEPLOYMENTS, _deployment(1))
    end = "ValidatingAdmissionPolicy 'digests' with binding 'all' denied request: no digest"
    await cluster.until(
        lambda: any(event["message"].endswith(end) for event in cluster.objects.list("events")), "the denial is told"
    )
    assert cluster.objects.list("pods") == []
