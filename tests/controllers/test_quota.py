# SPDX-License-Identifier: Apache-2.0
"""ResourceQuotas: what is refused, in which words, and what their status counts."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.contracts import ApiError, Obj
from meshbox.controllers.quota import usage_of

from .conftest import Cluster, deployment, pod_spec


def quota(cluster: Cluster, name: str = "q", **hard: str) -> None:
    given = {key.replace("__", "/").replace("_", "."): value for key, value in hard.items()}
    body = {"metadata": {"name": name, "namespace": "default"}, "spec": {"hard": given}}
    cluster.objects.create("resourcequotas", body)


def used(cluster: Cluster, name: str = "q") -> Any:
    return (cluster.objects.get("resourcequotas", name, "default").get("status") or {}).get("used")


def pod(name: str, **resources: Obj) -> Obj:
    spec = pod_spec()
    spec["containers"][0]["resources"] = resources
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


def refused(cluster: Cluster, resource: str, obj: Obj) -> ApiError:
    with pytest.raises(ApiError) as caught:
        cluster.objects.create(resource, obj)
    assert (caught.value.code, caught.value.reason) == (403, "Forbidden")
    return caught.value


async def test_a_count_is_kept(cluster: Cluster) -> None:
    quota(cluster, pods="1", services="2", configmaps="2")
    cluster.objects.create("pods", pod("one"))
    error = refused(cluster, "pods", pod("two"))
    words = 'pods "two" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1'
    assert error.message == words
    assert error.details == {"name": "two", "kind": "pods"}
    await cluster.until(lambda: used(cluster) and used(cluster)["pods"] == "1")
    await cluster.settled()
    maps = len(cluster.objects.list("configmaps", "default"))
    assert used(cluster)["configmaps"] == str(maps)


async def test_what_one_object_may_be_is_looked_at_before_how_many_there_are(cluster: Cluster) -> None:
    quota(cluster, pods="0")
    spec = {"limits": [{"type": "Pod", "max": {"memory": "1Gi"}}]}
    cluster.objects.create("limitranges", {"metadata": {"name": "l", "namespace": "default"}, "spec": spec})
    words = 'pods "p" is forbidden: maximum memory usage per Pod is 1Gi.  No limit is specified'
    assert refused(cluster, "pods", pod("p")).message == words
    await cluster.until(lambda: used(cluster))
    (entry,) = cluster.objects.get("resourcequotas", "q", "default")["metadata"]["managedFields"]
    assert (entry["manager"], entry["subresource"]) == ("kube-controller-manager", "status")


async def test_what_ended_or_is_gone_counts_no_more(cluster: Cluster) -> None:
    quota(cluster, pods="1")
    cluster.objects.create("pods", pod("one"))
    await cluster.until(lambda: cluster.objects.get("pods", "one", "default")["status"].get("podIP"))
    cluster.set_pod("one", "default", "Succeeded", False)
    await cluster.until(lambda: used(cluster) == {"pods": "0"})
    cluster.objects.create("pods", pod("two"))
    cluster.objects.delete("pods", "two", "default", grace_period=0)
    cluster.objects.create("pods", pod("three"))


async def test_requests_and_limits_are_summed(cluster: Cluster) -> None:
    quota(cluster, requests_cpu="1", limits_memory="1Gi")
    said = {"requests": {"cpu": "600m"}, "limits": {"memory": "256Mi"}}
    cluster.objects.create("pods", pod("one", **said))
    await cluster.until(lambda: used(cluster) == {"requests.cpu": "600m", "limits.memory": "256Mi"})
    error = refused(cluster, "pods", pod("two", **said))
    assert error.message.endswith("requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1")
    error = refused(cluster, "pods", pod("three", requests={"cpu": "1"}, limits={"memory": "2Gi"}))
    assert "requested: limits.memory=2Gi,requests.cpu=1, used: limits.memory=256Mi,requests.cpu=600m" in error.message
    error = refused(cluster, "pods", pod("four", requests={"cpu": "1m"}))
    assert error.message == 'pods "four" is forbidden: failed quota: q: must specify limits.memory for: main'


async def test_the_older_kubernetes_words(legacy: Cluster) -> None:
    quota(legacy, limits_memory="1Gi", cpu="1")
    await legacy.until(lambda: (legacy.objects.find("serviceaccounts", "default", "default") or {}).get("secrets"))
    error = refused(legacy, "pods", pod("four"))
    assert error.message == 'pods "four" is forbidden: failed quota: q: must specify cpu,limits.memory'


async def test_any_resource_can_be_counted(cluster: Cluster) -> None:
    quota(cluster, count__deployments_apps="1", services_nodeports="1")
    cluster.objects.create("deployments.apps", deployment("one", 0))
    error = refused(cluster, "deployments.apps", deployment("two", 0))
    assert error.message.startswith('deployments.apps "two" is forbidden: exceeded quota: q')
    ports = [{"name": f"p{number}", "port": number} for number in (80, 81)]
    service = {"metadata": {"name": "web", "namespace": "default"}, "spec": {"type": "NodePort", "ports": ports}}
    assert "services.nodeports=2" in refused(cluster, "services", service).message


async def test_a_deployment_stops_at_the_quota_and_says_why(cluster: Cluster) -> None:
    quota(cluster, pods="2")
    cluster.objects.create("deployments.apps", deployment(replicas=3))
    await cluster.until(lambda: cluster.events("FailedCreate"))
    assert "exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2" in cluster.events("FailedCreate")[0]
    assert len(cluster.pods()) == 2


async def test_other_namespaces_and_scoped_quotas_refuse_nothing(cluster: Cluster) -> None:
    cluster.objects.create("namespaces", {"metadata": {"name": "other"}})
    quota(cluster, pods="0")
    cluster.objects.create("pods", {**pod("one"), "metadata": {"name": "one", "namespace": "other"}})
    scoped = {"hard": {"configmaps": "0"}, "scopes": ["BestEffort"]}
    cluster.objects.create("resourcequotas", {"metadata": {"name": "s", "namespace": "other"}, "spec": scoped})
    cluster.objects.create("configmaps", {"metadata": {"name": "m", "namespace": "other"}})


def only(name: str, operator: str = "Exists", *values: str) -> Obj:
    return {"matchExpressions": [{"scopeName": name, "operator": operator, "values": list(values)}]}


def asking(name: str, requests: Obj | None = None, spec: Obj | None = None) -> Obj:
    made = pod(name, requests=requests) if requests else pod(name)
    made["spec"] |= spec or {}
    return made


CRITICAL = {"spec": {"priorityClassName": "system-node-critical"}}
FAR = {"topologyKey": "zone", "labelSelector": {}, "namespaceSelector": {}}
_PREFERRED = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": FAR}]}
AFFINE = {"affinity": {"podAntiAffinity": _PREFERRED}}


@pytest.mark.parametrize(
    ("chosen", "within", "beyond"),
    [
        ({"scopes": ["BestEffort"]}, {}, {"requests": {"cpu": "1m"}}),
        ({"scopes": ["NotBestEffort"]}, {"requests": {"memory": "1Mi"}}, {}),
        ({"scopes": ["Terminating"]}, {"spec": {"activeDeadlineSeconds": 5}}, {}),
        ({"scopes": ["NotTerminating"]}, {}, {"spec": {"activeDeadlineSeconds": 5}}),
        ({"scopes": ["BestEffort", "Terminating"]}, {"spec": {"activeDeadlineSeconds": 5}}, {}),
        ({"scopeSelector": only("PriorityClass", "In", "system-node-critical")}, CRITICAL, {}),
        ({"scopeSelector": only("PriorityClass", "NotIn", "system-node-critical")}, {}, CRITICAL),
        ({"scopes": ["PriorityClass"]}, CRITICAL, {}),
        ({"scopeSelector": only("CrossNamespacePodAffinity")}, {"spec": AFFINE}, {}),
    ],
)
async def test_a_quota_counts_the_pods_in_its_scopes(cluster: Cluster, chosen: Obj, within: Any, beyond: Any) -> None:
    spec = {"hard": {"pods": "1"}, **chosen}
    cluster.objects.create("resourcequotas", {"metadata": {"name": "q", "namespace": "default"}, "spec": spec})
    for number in range(2):
        cluster.objects.create("pods", asking(f"beyond{number}", **beyond))
    cluster.objects.create("pods", asking("one", **within))
    said = "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"
    assert refused(cluster, "pods", asking("two", **within)).message == f'pods "two" is forbidden: {said}'
    await cluster.until(lambda: used(cluster) == {"pods": "1"})


async def test_what_is_used_is_written_in_the_form_that_pods_ask_in(cluster: Cluster) -> None:
    quota(cluster, requests_memory="10Gi", requests_cpu="4", pods="2k")
    cluster.objects.create("pods", pod("a", requests={"memory": "64M", "cpu": "0.5"}))
    cluster.objects.create("pods", pod("b", requests={"memory": "64000k", "cpu": "1250m"}))
    await cluster.until(lambda: used(cluster) == {"requests.memory": "128M", "requests.cpu": "1750m", "pods": "2"})


def test_the_largest_container_before_the_others_counts() -> None:
    spec = {
        "containers": [{"resources": {"requests": {"cpu": "1"}}}, {"resources": {"requests": {"cpu": "500m"}}}],
        "initContainers": [
            {"resources": {"requests": {"cpu": "4"}}},
            {"restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
        ],
    }
    found = usage_of("pods", {"spec": spec})
    assert (found["requests.cpu"], found["cpu"], found["pods"], found["count/pods"]) == (4, 4, 1, 1)
