# SPDX-License-Identifier: Apache-2.0
"""Wherever an exception comes up that nobody foresaw: a learner sees it, the rest goes on, and it heals.

Each place is a function of a whole sandbox (API, controllers, node and mesh in this process) that fails for the object
called "bad" for as long as the fault is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from meshbox.mesh.translate import Config
from meshbox.tidy import Tidy
from meshbox.upkeep import Home, Upkeep
from tests.faulty import Fault
from tests.mesh.telling import Proxy

from .faults import BALANCED, HEADLESS, JOB, LABELS, POD, SERVICE, TEMPLATE, WORKLOAD, Obj, World, fault, ready

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Place:
    """Where it fails, and what shows there.

    Args:
        where: The function.
        resource: Of which objects called "bad" and "good" are made.
        spec: What they hold besides their names.
        done: Says of an object that it was worked on.
        reason: Of the Warning event on "bad".
    """

    where: str
    resource: str
    spec: Obj
    done: Callable[[World, Obj], Any]
    reason: str = "FailedReconcile"


def observed(_: World, obj: Obj) -> bool:
    return bool((obj.get("status") or {}).get("observedGeneration"))


def has_status(_: World, obj: Obj) -> bool:
    return bool(obj.get("status"))


def has_account(world: World, obj: Obj) -> bool:
    return world.objects.find("serviceaccounts", "default", obj["metadata"]["name"]) is not None


def has_endpoints(world: World, obj: Obj) -> bool:
    return world.objects.find("endpoints", obj["metadata"]["name"], "default") is not None


def has_name(world: World, obj: Obj) -> bool:
    return f"default/{obj['metadata']['name']}" in world.sandbox.node._names._headless


def is_reachable(world: World, obj: Obj) -> bool:
    return ("default", obj["metadata"]["name"]) not in world.sandbox.node._proxy._reconciler._failures


def scheduled(world: World, obj: Obj) -> bool:
    [cron] = [one for one in world.sandbox.controllers._reconcilers if one.name == "cronjob"]
    return ("default", obj["metadata"]["name"]) not in cron._failures


def followed(world: World, obj: Obj) -> bool:
    return ("default", obj["metadata"]["name"]) in world.sandbox.mesh._cache._known["services"]


def has_address(_: World, obj: Obj) -> bool:
    return bool(((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress"))


STATEFUL = {"spec": {**WORKLOAD["spec"], "serviceName": "x"}}
CRON = {"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": JOB}}}}
SCALER = {"spec": {"maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}}}
C = "meshbox.controllers"

PLACES = {
    "deployment": Place(f"{C}.deployment:write_status", "deployments.apps", WORKLOAD, observed),
    "replicaset": Place(f"{C}.replicaset:write_status", "replicasets.apps", WORKLOAD, observed),
    "statefulset": Place(f"{C}.statefulset:write_status", "statefulsets.apps", STATEFUL, observed),
    "daemonset": Place(
        f"{C}.daemonset:write_status",
        "daemonsets.apps",
        {"spec": {"selector": LABELS, "template": TEMPLATE}},
        observed,
    ),
    "job": Place(f"{C}.job:JobController._advance", "jobs.batch", {"spec": {"template": JOB}}, has_status),
    "cronjob": Place(f"{C}.cronjob:CronJobController._run_due", "cronjobs.batch", CRON, scheduled),
    "autoscaler": Place(
        f"{C}.autoscaler:AutoscalerController._target", "horizontalpodautoscalers.autoscaling", SCALER, has_status
    ),
    "autoscaler's watch": Place(
        f"{C}.autoscaler:object_key", "horizontalpodautoscalers.autoscaling", SCALER, has_status
    ),
    "disruption": Place(
        f"{C}.disruption:write_status",
        "poddisruptionbudgets.policy",
        {"spec": {"selector": LABELS, "minAvailable": 1}},
        observed,
    ),
    "namespace": Place(f"{C}.namespace:NamespaceController._furnish", "namespaces", {}, has_account),
    "endpoints": Place(f"{C}.endpoints:EndpointsController._write", "services", SERVICE, has_endpoints),
    "loadbalancer": Place(f"{C}.loadbalancer:write_status", "services", BALANCED, has_address),
    "scheduler": Place(f"{C}.scheduler:refusal", "pods", {"spec": POD}, ready),
    "names": Place("meshbox.node.names:ready_addresses", "services", HEADLESS, has_name),
    "kube-proxy": Place("meshbox.node.proxy:ServiceProxy._wanted", "services", SERVICE, is_reachable),
    "the node takes a pod on": Place("meshbox.node.node:Node._admit", "pods", {"spec": POD}, ready, "FailedSync"),
    "volumes": Place("meshbox.node.volumes:Volumes._planned", "pods", {"spec": POD}, ready, "FailedMount"),
    "a pod's status": Place("meshbox.node.pod:pod_status", "pods", {"spec": POD}, ready, "FailedStatusUpdate"),
    "the mesh follows": Place("meshbox.mesh.cache:_matters", "services", SERVICE, followed, "ConfigRejected"),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
async def test_a_fault_about_one_object(world: World, place: Place) -> None:
    namespace = "default" if world.objects.namespaced(place.resource) else None
    uids = {}
    try:
        with fault(place.where, "bad") as failed:
            for name in ("bad", "good"):
                made = world.objects.create(place.resource, {"metadata": {"name": name}, **place.spec}, namespace)
                uids[name] = made["metadata"]["uid"]

            def told() -> list[Obj]:
                found = world.events("bad", place.reason)
                return [one for one in found if one["involvedObject"].get("uid") == uids["bad"]]

            def done(name: str) -> bool:
                found = world.objects.find(place.resource, name, namespace)
                return found is not None and bool(place.done(world, found))

            await world.until(told, "a Warning event on the object")
            await world.until(lambda: done("good"), "the other object is worked on")
            await world.until(lambda: failed[0] >= 3, "it is tried again")
            # Counted, not repeated; and ever more seldom.
            [event] = told()
            assert event["message"] == Fault()
            assert event["count"] <= failed[0].bit_length()
        await world.until(lambda: done("bad"), "once the fault is gone, the object is worked on")
    finally:
        for name in uids:
            world.objects.delete(place.resource, name, namespace, grace_period=0)
        await world.until(
            lambda: not any(world.objects.find(place.resource, name, namespace) for name in uids), "all is gone"
        )


async def test_a_callback_that_nobody_minds(world: World) -> None:
    def broken() -> None:
        raise KeyError("unforeseen")

    asyncio.get_running_loop().call_soon(broken)
    node = world.sandbox.settings.node_name
    # Other tests of this module have events there too.
    told = Fault("something was left undone: ")
    await world.until(
        lambda: told in [one["message"] for one in world.events(node, "InternalError")], "the Node has an event"
    )


async def test_a_heartbeat_that_fails(world: World) -> None:
    registration, node = world.sandbox.node._registration, world.sandbox.settings.node_name
    real, failed = registration._renew, [0]

    def broken() -> None:
        failed[0] += 1
        raise KeyError("unforeseen")

    try:
        registration._renew = broken  # type: ignore[method-assign]
        told = Fault("the node's lease and status were not renewed: ")
        beat = asyncio.get_running_loop().create_task(registration.beat())
        await world.until(
            lambda: told in [one["message"] for one in world.events(node, "InternalError")], "the Node has an event"
        )
        assert failed[0]
        assert not beat.done()
        beat.cancel()
    finally:
        registration._renew = real  # type: ignore[method-assign]


async def test_an_object_that_has_no_reconciler_of_its_own_is_told_on_the_node(world: World) -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "0"}
    node = world.sandbox.settings.node_name
    with fault("meshbox.controllers.garbage:GarbageCollector._check", "bad"):
        for name in ("bad", "good"):
            meta = {"name": name, "ownerReferences": [owner]}
            world.objects.create("configmaps", {"metadata": meta}, "default")
        await world.until(lambda: world.objects.find("configmaps", "good", "default") is None, "the other is collected")
        told = Fault("garbage failed for default/configmaps/bad: ")
        await world.until(
            lambda: told in [one["message"] for one in world.events(node, "InternalError")], "the Node has an event"
        )
        assert world.objects.find("configmaps", "bad", "default") is not None
    await world.until(lambda: world.objects.find("configmaps", "bad", "default") is None, "it is collected as well")


async def test_an_event_that_cannot_be_written_hurts_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("unforeseen")

    with monkeypatch.context() as patched:
        patched.setattr(world.objects._recorder, "record", broken)
        with fault("meshbox.controllers.endpoints:EndpointsController._write", "bad"):
            for name in ("bad", "good"):
                world.objects.create("services", {"metadata": {"name": name}, **SERVICE}, "default")
            await world.until(lambda: world.objects.find("endpoints", "good", "default"), "the other has Endpoints")
    await world.until(lambda: world.objects.find("endpoints", "bad", "default"), "it has Endpoints in the end")
    for name in ("bad", "good"):
        world.objects.delete("services", name, "default")


async def test_who_listens_badly_keeps_nobody_from_writing_or_hearing(world: World) -> None:
    heard: list[str] = []

    def broken(_: Any) -> None:
        raise KeyError("unforeseen")

    stops = [
        world.objects.store.listen("configmaps", broken),
        world.objects.store.listen("configmaps", lambda change: heard.append(change.type)),
    ]
    world.objects.create("configmaps", {"metadata": {"name": "heard"}}, "default")
    world.objects.delete("configmaps", "heard", "default")
    assert heard == ["ADDED", "DELETED"]
    for stop in stops:
        stop()


async def test_an_event_of_unknown_age_does_not_keep_the_others_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    controllers = world.sandbox.controllers
    monkeypatch.setattr("meshbox.controllers.events.TTL", -10.0)
    for name in ("a-bad", "good"):
        event = {"metadata": {"name": name}, "involvedObject": {"kind": "Pod", "name": "x", "namespace": "default"}}
        world.objects.create("events", event, "default")
    with fault("meshbox.controllers.events:_last_seen", "a-bad"):
        controllers._events.sweep()
        assert world.objects.find("events", "a-bad", "default") is not None
        assert world.objects.find("events", "good", "default") is None
    controllers._events.sweep()
    assert world.objects.find("events", "a-bad", "default") is None


@pytest.mark.parametrize("part", ["tidy", "upkeep"])
async def test_what_goes_round_goes_on(world: World, tmp_path: Path, part: str) -> None:
    looks: list[int] = []
    told: list[BaseException] = []

    def look(*_: Any) -> int:
        looks.append(1)
        raise KeyError("unforeseen")

    if part == "tidy":
        tidy = Tidy(look, lambda: 0, every=0.01, tell=told.append)
        going = asyncio.get_running_loop().create_task(tidy._run())
    else:
        upkeep, home = Upkeep([], {}, told.append), Home(tmp_path)
        upkeep._right = {tmp_path / name: b"" for name in "ab"}
        upkeep.check = look  # type: ignore[assignment, method-assign]
        going = asyncio.get_running_loop().create_task(upkeep.run(home, lambda: None))
    await world.until(lambda: len(looks) >= 3, "it looks again")
    assert not going.done()
    assert len(told) >= 2
    going.cancel()


async def test_a_proxy_that_cannot_be_told(world: World) -> None:
    """Its task ends with an error, and begins anew with what it is told next."""
    told: list[BaseException] = []
    proxy = Proxy(failed=told.append)
    state, routes = proxy.state, proxy.state.told["routes"]
    for kind in ("clusters", "listeners"):
        proxy.ask(kind)
    real, routes.offer = routes.offer, lambda _: {}["unforeseen"]  # type: ignore[method-assign]
    config = Config()
    state.update(config)
    await world.until(lambda: told, "it is told")
    assert proxy.names("listeners") == []
    routes.offer = real  # type: ignore[method-assign]
    state.update(config)
    await world.until(lambda: proxy.names("listeners"), "it is told of its listeners")
    assert (proxy.names("clusters"), proxy.names("listeners")) == ([[]], [[]])


async def test_a_mesh_that_cannot_be_computed_is_told_on_the_node(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, mesh = world.sandbox.settings.node_name, world.sandbox.mesh
    told = Fault("no change of the mesh reaches any proxy: ")

    def broken() -> None:
        raise KeyError("unforeseen")

    with monkeypatch.context() as patched:
        patched.setattr(mesh, "_take", broken)
        world.objects.create("services", {"metadata": {"name": "late"}, **SERVICE}, "default")
        await world.until(
            lambda: told in [one["message"] for one in world.events(node, "InternalError")], "the Node has an event"
        )
    await world.until(
        lambda: any(one.host.startswith("late.") for one in mesh._snapshot.services), "it is computed without a change"
    )
    world.objects.delete("services", "late", "default")
