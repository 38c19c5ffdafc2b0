# SPDX-License-Identifier: Apache-2.0
"""Garbage collection in its three modes, and owners that never were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from meshbox.contracts import Obj

from .conftest import DEPLOYMENTS, REPLICA_SETS, Cluster, deployment

MAPS = "configmaps"


def config_map(name: str, *owners: Obj, **meta: Any) -> Obj:
    references = [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": True,
        }
        for owner in owners
    ]
    return {"metadata": {"name": name, "namespace": "default", "ownerReferences": references, **meta}}


def exists(cluster: Cluster, resource: str, name: str) -> bool:
    return cluster.objects.find(resource, name, "default") is not None


async def running(cluster: Cluster) -> Obj:
    cluster.objects.create(DEPLOYMENTS, deployment("web", 2))
    await cluster.until(
        lambda: cluster.objects.get(DEPLOYMENTS, "web", "default")["status"].get("availableReplicas") == 2
    )
    await cluster.settled()
    return cluster.objects.get(DEPLOYMENTS, "web", "default")


async def test_background_takes_the_whole_tree(cluster: Cluster) -> None:
    await running(cluster)
    cluster.objects.delete(DEPLOYMENTS, "web", "default", propagation="Background")
    assert not exists(cluster, DEPLOYMENTS, "web")
    await cluster.until(lambda: not cluster.objects.list(REPLICA_SETS) and not cluster.pods())


async def test_foreground_keeps_the_owner_until_all_below_it_is_gone(cluster: Cluster) -> None:
    await running(cluster)
    cluster.node.kills = False
    cluster.objects.delete(DEPLOYMENTS, "web", "default", propagation="Foreground")
    await cluster.until(lambda: all("deletionTimestamp" in pod["metadata"] for pod in cluster.pods()))
    await cluster.settled()
    (replica_set,) = cluster.objects.list(REPLICA_SETS)
    assert replica_set["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert cluster.objects.get(DEPLOYMENTS, "web", "default")["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert len(cluster.pods()) == 2
    cluster.node.kills = True
    cluster.node.catch_up()
    await cluster.until(lambda: not exists(cluster, DEPLOYMENTS, "web"))
    assert not cluster.objects.list(REPLICA_SETS)
    assert not cluster.pods()


async def test_orphan_leaves_the_dependents(cluster: Cluster) -> None:
    await running(cluster)
    cluster.objects.delete(DEPLOYMENTS, "web", "default", propagation="Orphan")
    await cluster.until(lambda: not exists(cluster, DEPLOYMENTS, "web"))
    await cluster.settled()
    (replica_set,) = cluster.objects.list(REPLICA_SETS)
    assert "ownerReferences" not in replica_set["metadata"]
    assert len(cluster.pods()) == 2


async def test_a_dependent_with_another_owner_stays_and_forgets(cluster: Cluster) -> None:
    first = cluster.objects.create(MAPS, config_map("first"))
    second = cluster.objects.create(MAPS, config_map("second"))
    cluster.objects.create(MAPS, config_map("child", first, second))
    await cluster.settled()
    cluster.objects.delete(MAPS, "first", "default")
    await cluster.until(lambda: len(cluster.objects.get(MAPS, "child", "default")["metadata"]["ownerReferences"]) == 1)
    cluster.objects.delete(MAPS, "second", "default")
    await cluster.until(lambda: not exists(cluster, MAPS, "child"))


async def test_a_dependent_of_an_owner_that_waits_does_not_hold_it_if_it_has_another(cluster: Cluster) -> None:
    first = cluster.objects.create(MAPS, config_map("first"))
    second = cluster.objects.create(MAPS, config_map("second"))
    cluster.objects.create(MAPS, config_map("child", first, second))
    cluster.objects.delete(MAPS, "first", "default", propagation="Foreground")
    await cluster.until(lambda: not exists(cluster, MAPS, "first"))
    (left,) = cluster.objects.get(MAPS, "child", "default")["metadata"]["ownerReferences"]
    assert left["name"] == "second"


async def test_a_finalizer_below_holds_a_foreground_deletion(cluster: Cluster) -> None:
    owner = cluster.objects.create(MAPS, config_map("owner"))
    cluster.objects.create(MAPS, config_map("child", owner, finalizers=["example.com/hold"]))
    cluster.objects.delete(MAPS, "owner", "default", propagation="Foreground")
    await cluster.settled()
    assert "deletionTimestamp" in cluster.objects.get(MAPS, "child", "default")["metadata"]
    assert exists(cluster, MAPS, "owner")
    cluster.objects.patch(MAPS, "child", {"metadata": {"finalizers": None}}, "default")
    await cluster.until(lambda: not exists(cluster, MAPS, "owner"))


async def test_what_does_not_block_does_not_hold(cluster: Cluster) -> None:
    owner = cluster.objects.create(MAPS, config_map("owner"))
    child = config_map("child", owner, finalizers=["example.com/hold"])
    child["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] = False
    cluster.objects.create(MAPS, child)
    cluster.objects.delete(MAPS, "owner", "default", propagation="Foreground")
    await cluster.until(lambda: not exists(cluster, MAPS, "owner"))
    assert exists(cluster, MAPS, "child")


async def test_an_owner_without_dependents_goes_at_once(cluster: Cluster) -> None:
    for mode in ("Foreground", "Orphan"):
        cluster.objects.create(MAPS, config_map("alone"))
        cluster.objects.delete(MAPS, "alone", "default", propagation=mode)  # type: ignore[arg-type]
        await cluster.until(lambda: not exists(cluster, MAPS, "alone"))


async def test_a_child_born_after_its_owner_died_goes(cluster: Cluster) -> None:
    owner = cluster.objects.create(MAPS, config_map("owner"))
    cluster.objects.delete(MAPS, "owner", "default")
    cluster.objects.create(MAPS, config_map("late", owner))
    await cluster.until(lambda: not exists(cluster, MAPS, "late"))


async def test_an_owner_of_the_same_name_is_not_the_same(cluster: Cluster) -> None:
    owner = cluster.objects.create(MAPS, config_map("owner"))
    cluster.objects.create(MAPS, config_map("child", owner))
    await cluster.settled()
    cluster.objects.delete(MAPS, "owner", "default")
    cluster.objects.create(MAPS, config_map("owner"))
    await cluster.until(lambda: not exists(cluster, MAPS, "child"))
    assert exists(cluster, MAPS, "owner")


async def test_an_owner_of_an_unknown_kind_is_trusted(cluster: Cluster) -> None:
    stranger = {"apiVersion": "example.com/v1", "kind": "Robot", "metadata": {"name": "r", "uid": "1-2-3"}}
    cluster.objects.create(MAPS, config_map("child", stranger))
    await cluster.settled()
    assert exists(cluster, MAPS, "child")


def robots(cluster: Cluster) -> None:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    names = {"plural": "robots", "singular": "robot", "kind": "Robot", "listKind": "RobotList"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    definition = {"metadata": {"name": "robots.example.com"}, "spec": spec}
    cluster.objects.create("customresourcedefinitions.apiextensions.k8s.io", definition)


async def test_custom_resources_own_and_are_owned(cluster: Cluster) -> None:
    robots(cluster)
    await cluster.settled()
    robot = cluster.objects.create("robots.example.com", {"metadata": {"name": "r"}}, "default")
    owned = {"metadata": {"name": "part", "ownerReferences": config_map("x", robot)["metadata"]["ownerReferences"]}}
    cluster.objects.create("robots.example.com", owned, "default")
    cluster.objects.create(MAPS, config_map("child", robot))
    await cluster.settled()
    assert exists(cluster, MAPS, "child")
    cluster.objects.delete("robots.example.com", "r", "default")
    await cluster.until(lambda: not exists(cluster, MAPS, "child"))
    await cluster.until(lambda: not exists(cluster, "robots.example.com", "part"))


async def test_what_lost_its_owner_while_nobody_looked_goes_at_the_next_start(tmp_path: Path) -> None:
    cluster = await Cluster(tmp_path / "home").start()
    await running(cluster)
    await cluster.controllers.stop()
    cluster.objects.delete(DEPLOYMENTS, "web", "default")
    assert len(cluster.objects.list(REPLICA_SETS)) == 1
    await cluster.restart()
    await cluster.until(lambda: not cluster.objects.list(REPLICA_SETS) and not cluster.pods())
    await cluster.stop()


async def test_what_belongs_to_a_custom_object_goes_with_its_definition(cluster: Cluster) -> None:
    names = {"plural": "widgets", "kind": "Widget"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    spec = {"group": "shop.example", "scope": "Namespaced", "names": names, "versions": [version]}
    crds = "customresourcedefinitions.apiextensions.k8s.io"
    cluster.objects.create(crds, {"metadata": {"name": "widgets.shop.example"}, "spec": spec})
    widget = cluster.objects.create("widgets.shop.example", {"metadata": {"name": "w"}}, "default")
    cluster.objects.create(MAPS, config_map("of-widget", widget))
    await cluster.settled()
    cluster.objects.delete(crds, "widgets.shop.example")
    await cluster.until(lambda: not exists(cluster, MAPS, "of-widget"))
