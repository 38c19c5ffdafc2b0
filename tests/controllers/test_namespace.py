# SPDX-License-Identifier: Apache-2.0
"""Namespaces, ServiceAccounts, and what there is from the start."""

from __future__ import annotations

import base64

from meshbox.contracts import Obj
from meshbox.controllers.meta import condition, time_text
from meshbox.tokens import Tokens
from tests.conftest import TOKEN

from .conftest import DEPLOYMENTS, Cluster, deployment


def make(cluster: Cluster, name: str = "team") -> Obj:
    return cluster.objects.create("namespaces", {"metadata": {"name": name}})


def gone(cluster: Cluster, name: str = "team") -> bool:
    return cluster.objects.find("namespaces", name) is None


async def test_what_there_is_from_the_start(cluster: Cluster) -> None:
    await cluster.settled()
    names = [item["metadata"]["name"] for item in cluster.objects.list("namespaces")]
    assert names == ["default", "kube-node-lease", "kube-public", "kube-system"]
    service = cluster.objects.get("services", "kubernetes", "default")
    assert service["spec"]["clusterIP"] == "127.77.16.1"
    values = {
        item["metadata"]["name"]: item["value"] for item in cluster.objects.list("priorityclasses.scheduling.k8s.io")
    }
    assert values == {"system-cluster-critical": 2000000000, "system-node-critical": 2000001000}


async def test_each_namespace_is_furnished(cluster: Cluster) -> None:
    make(cluster)
    await cluster.settled()
    for name in ("default", "kube-system", "team"):
        assert cluster.objects.find("serviceaccounts", "default", name) is not None
        authority = cluster.objects.get("configmaps", "kube-root-ca.crt", name)
        assert authority["data"] == {"ca.crt": "CERTIFICATE"}
        assert authority["metadata"]["annotations"]["kubernetes.io/description"].endswith("of Kubernetes clusters.")
    cluster.objects.delete("serviceaccounts", "default", "team")
    cluster.objects.delete("configmaps", "kube-root-ca.crt", "team")
    await cluster.until(lambda: cluster.objects.find("serviceaccounts", "default", "team"))
    await cluster.until(lambda: cluster.objects.find("configmaps", "kube-root-ca.crt", "team"))
    assert cluster.objects.list("secrets") == []


async def test_service_accounts_of_kubernetes_1_14_have_a_token(legacy: Cluster) -> None:
    make(legacy)
    await legacy.settled()
    assert legacy.objects.find("configmaps", "kube-root-ca.crt", "team") is None
    (secret,) = legacy.objects.list("secrets", "team")
    account = legacy.objects.get("serviceaccounts", "default", "team")
    name = secret["metadata"]["name"]
    assert name.startswith("default-token-")
    assert len(name) == len("default-token-") + 5
    assert account["secrets"] == [{"name": name}]
    assert secret["type"] == "kubernetes.io/service-account-token"
    assert secret["metadata"]["annotations"] == {
        "kubernetes.io/service-account.name": "default",
        "kubernetes.io/service-account.uid": account["metadata"]["uid"],
    }
    assert {key: base64.b64decode(value).decode() for key, value in secret["data"].items()} == {
        "ca.crt": "CERTIFICATE",
        "namespace": "team",
        "token": Tokens(TOKEN).of_account("team", "default", account["metadata"]["uid"]),
    }
    legacy.objects.delete("serviceaccounts", "default", "team")
    await legacy.until(lambda: legacy.objects.find("secrets", name, "team") is None)
    await legacy.until(lambda: len(legacy.objects.list("secrets", "team")) == 1)


async def test_a_token_asked_for_is_filled_in(cluster: Cluster) -> None:
    await cluster.settled()
    annotations = {"kubernetes.io/service-account.name": "default"}
    asked = {"metadata": {"name": "t", "annotations": annotations}, "type": "kubernetes.io/service-account-token"}
    cluster.objects.create("secrets", asked, "default")
    await cluster.until(lambda: cluster.objects.get("secrets", "t", "default").get("data"))
    filled = cluster.objects.get("secrets", "t", "default")
    assert set(filled["data"]) == {"ca.crt", "namespace", "token"}
    uid = cluster.objects.get("serviceaccounts", "default", "default")["metadata"]["uid"]
    assert filled["metadata"]["annotations"]["kubernetes.io/service-account.uid"] == uid


async def test_deleting_a_namespace_takes_everything_along(cluster: Cluster) -> None:
    make(cluster)
    made = deployment("web", 3)
    made["metadata"]["namespace"] = "team"
    cluster.objects.create(DEPLOYMENTS, made)
    cluster.objects.create("services", {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}, "team")
    await cluster.until(lambda: len(cluster.pods(namespace="team")) == 3)
    await cluster.settled()
    cluster.objects.delete("namespaces", "team")
    await cluster.until(lambda: gone(cluster))
    left = {r: cluster.objects.list(r, "team") for r in cluster.objects.resources() if cluster.objects.namespaced(r)}
    assert {resource: items for resource, items in left.items() if items} == {}


async def test_a_finalizer_holds_a_namespace_and_its_conditions_say_so(cluster: Cluster) -> None:
    make(cluster)
    held = {"metadata": {"name": "held", "finalizers": ["example.com/hold"]}}
    cluster.objects.create("configmaps", held, "team")
    await cluster.settled()
    cluster.objects.delete("namespaces", "team")

    def said() -> Obj | None:
        status = cluster.objects.get("namespaces", "team")["status"]
        found = condition(status, "NamespaceFinalizersRemaining")
        return status if found and found["status"] == "True" else None

    status = await cluster.until(said)
    assert status["phase"] == "Terminating"
    words = {item["type"]: (item["status"], item["reason"], item["message"]) for item in status["conditions"]}
    assert words == {
        "NamespaceDeletionDiscoveryFailure": ("False", "ResourcesDiscovered", "All resources successfully discovered"),
        "NamespaceDeletionGroupVersionParsingFailure": (
            "False",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        "NamespaceDeletionContentFailure": (
            "False",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        "NamespaceContentRemaining": (
            "True",
            "SomeResourcesRemain",
            "Some resources are remaining: configmaps. has 1 resource instances",
        ),
        "NamespaceFinalizersRemaining": (
            "True",
            "SomeFinalizersRemain",
            "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
        ),
    }
    assert not gone(cluster)
    cluster.objects.patch("configmaps", "held", {"metadata": {"finalizers": None}}, "team")
    await cluster.until(lambda: gone(cluster))


async def test_pods_end_gracefully_before_their_namespace_goes(legacy: Cluster) -> None:
    make(legacy)
    made = deployment("web", 1)
    made["metadata"]["namespace"] = "team"
    legacy.objects.create(DEPLOYMENTS, made)
    await legacy.until(
        lambda: legacy.pods(namespace="team") and legacy.pods(namespace="team")[0]["status"].get("podIP")
    )
    legacy.node.kills = False
    legacy.objects.delete("namespaces", "team")
    await legacy.until(lambda: legacy.pods(namespace="team")[0]["metadata"].get("deletionTimestamp"))
    await legacy.until(lambda: not legacy.objects.list(DEPLOYMENTS, "team"))
    assert not gone(legacy)
    assert "conditions" not in legacy.objects.get("namespaces", "team")["status"]
    assert len(legacy.pods(namespace="team")) == 1
    legacy.node.kills = True
    legacy.node.catch_up()
    await legacy.until(lambda: gone(legacy))


async def test_events_last_an_hour(cluster: Cluster) -> None:
    await cluster.settled()

    def event(name: str, age: float) -> Obj:
        seen = time_text(cluster.controllers._context.clock() - age)
        involved = {"kind": "Pod", "name": "p", "namespace": "default"}
        return {"metadata": {"name": name}, "involvedObject": involved, "lastTimestamp": seen, "message": name}

    cluster.objects.create("events", event("old", 3700), "default")
    cluster.objects.create("events", event("new", 3500), "default")
    cluster.controllers._events.sweep()
    # An event that was created just now is not old, whatever its times say.
    assert {item["metadata"]["name"] for item in cluster.objects.list("events", "default")} == {"old", "new"}
    cluster.ahead = 200
    cluster.controllers._events.sweep()
    assert cluster.objects.find("events", "new", "default") is not None
    cluster.ahead = 3700
    cluster.controllers._events.sweep()
    assert cluster.objects.list("events", "default") == []
