# SPDX-License-Identifier: Apache-2.0
"""The mesh under faults: bad objects, no control plane, killed proxies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from meshbox.addresses import AddressPlan
from meshbox.contracts import ApiError
from meshbox.mesh import translate as translation
from tests.faulty import Fault

from .bookshop import Bookshop, opened, to, virtual_service

pytestmark = pytest.mark.asyncio(loop_scope="module")

VIRTUAL_SERVICES = "virtualservices.networking.istio.io"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan) -> AsyncIterator[Bookshop]:
    async with opened(tmp_path_factory.mktemp("mesh"), plan, "1.2.2") as shop:
        yield shop


@pytest.mark.parametrize(
    "spec",
    [
        {"hosts": ["reviews"], "http": [{"route": [to("v1", weight=70), to("v2", weight=20)]}]},
        {"hosts": ["reviews"], "http": "nonsense"},
        {"hosts": ["reviews"], "http": [{"match": [{"uri": {"regex": "("}}], "route": [to("v2")]}]},
        {"hosts": ["reviews"], "http": [{"route": [to("v2")], "timeout": "soon"}]},
        {"hosts": None},
        None,
    ],
)
async def test_an_unusable_object_leaves_the_version_before_in_force(shop: Bookshop, spec: dict | None) -> None:  # type: ignore[type-arg]
    async with shop.rules(virtual_service({"route": [to("v1")]})):
        shop.objects.forget_events()
        with pytest.raises(ApiError, match=r"pilot\.validation\.istio\.io"):
            shop.istio("VirtualService", "under-test", spec)  # type: ignore[arg-type]
        with shop.objects.unvalidated():
            shop.istio("VirtualService", "under-test", spec)  # type: ignore[arg-type]
        await shop.follow()
        assert set(await shop.many(40)) == {"reviews-v1"}
        assert "the version before stays in force" in shop.objects.warnings("under-test")[0]


async def test_a_new_unusable_object_is_left_out_and_others_go_on(shop: Bookshop) -> None:
    shop.objects.forget_events()
    async with shop.rules(virtual_service({"route": [to("v3")]})):
        with shop.objects.unvalidated():
            shop.istio("DestinationRule", "bad", {"host": "ratings", "trafficPolicy": {}})
        await shop.follow()
        assert set(await shop.many(20)) == {"reviews-v3"}
        assert (await shop.get(host="ratings")).status == 200
        assert shop.objects.warnings("bad") == [
            "configuration is invalid, it is left out: traffic policy must have at least one field"
        ]


async def test_a_lua_filter_in_its_old_form(shop: Bookshop) -> None:
    shop.objects.forget_events()
    script = 'function envoy_on_response(handle) handle:headers():add("x-lua", "old") end'
    lua = {
        "listenerMatch": {"portNumber": 9080, "listenerType": "SIDECAR_INBOUND"},
        "insertPosition": {"index": "FIRST"},
        "filterType": "HTTP",
        "filterName": "envoy.lua",
        "filterConfig": {"inlineCode": script},
    }
    network = {"filterName": "envoy.mongo_proxy", "filterType": "NETWORK", "filterConfig": {}}
    spec = {"workloadLabels": {"app": "ratings"}, "filters": [lua, network]}
    async with shop.rules(("EnvoyFilter", "lua", spec)):

        async def seen() -> bool:
            return (await shop.get(host="ratings")).headers.get("x-lua") == "old"

        await shop.until(seen, "ratings' answers carry the script's header")
        assert "x-lua" not in (await shop.get()).headers
        assert shop.objects.warnings("lua") == [
            "filters[1]: NETWORK filter envoy.mongo_proxy has no effect: of this form only HTTP filter envoy.lua is "
            "played in the sandbox"
        ]


async def test_what_nobody_foresaw_is_taken_back(shop: Bookshop, monkeypatch: pytest.MonkeyPatch) -> None:
    real = translation.outbound_tables

    def fails(scope, labels, *, legacy):  # type: ignore[no-untyped-def]
        if any(v.name == "poison" for v in scope.virtual_services):
            raise KeyError("unforeseen")
        return real(scope, labels, legacy=legacy)

    monkeypatch.setattr(translation, "outbound_tables", fails)
    async with shop.rules(virtual_service({"route": [to("v2")]})):
        shop.objects.forget_events()
        shop.istio("VirtualService", "poison", {"hosts": ["ratings"], "http": [{"route": [to(host="ratings")]}]})
        await shop.until(lambda: shop.objects.warnings("poison"), "the object that cannot be translated is named")
        assert shop.objects.warnings("poison")[0] == Fault("cannot be translated for proxies: ")
        await shop.follow()
        assert set(await shop.many(20)) == {"reviews-v2"}
        shop.objects.drop(VIRTUAL_SERVICES, "poison", "bookinfo")


async def test_what_was_taken_back_is_taken_again_once_it_can_be_translated(
    shop: Bookshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = translation.outbound_tables

    def fails(scope, labels, *, legacy):  # type: ignore[no-untyped-def]
        if any(v.name == "under-test" for v in scope.virtual_services):
            raise KeyError("unforeseen")
        return real(scope, labels, legacy=legacy)

    shop.objects.forget_events()
    with monkeypatch.context() as patched:
        patched.setattr(translation, "outbound_tables", fails)
        shop.istio(*virtual_service({"route": [to("v2")]}))
        await shop.until(lambda: shop.objects.warnings("under-test"), "it is named")
    # Nobody touches the object again.
    await shop.until(lambda: not shop.mesh._cache._left_out and shop.mesh._again is None, "it is taken")
    await shop.follow()
    assert set(await shop.many(20)) == {"reviews-v2"}
    assert len(shop.objects.warnings("under-test")) == 1
    shop.objects.drop(VIRTUAL_SERVICES, "under-test", "bookinfo")


async def test_only_what_cannot_be_translated_is_taken_back(shop: Bookshop) -> None:
    """Whatever its kind, and however much came at the same moment: at a start all objects come at once."""
    shop.objects.forget_events()
    meta = {"name": "odd", "namespace": "bookinfo"}
    odd = {"metadata": meta, "spec": {"containers": [{"image": "nameless"}]}, "status": {}}
    with pytest.raises(ApiError, match=r"spec\.containers\[0\]\.name: Required value"):
        shop.objects.put("pods", odd)
    shop.objects.keep("pods", odd)
    for number in range(10):
        shop.objects.put(
            "configmaps", {"metadata": {"name": f"m{number}", "namespace": "bookinfo"}, "data": {"a": "1"}}
        )
    async with shop.rules(virtual_service({"route": [to("v3")]})):
        assert set(await shop.many(20)) == {"reviews-v3"}
        (warning,) = shop.objects.warnings()
        assert "cannot be translated for proxies" in warning
        assert shop.objects.warnings("odd") == [warning]
    shop.objects.drop("pods", "odd", "bookinfo")


async def test_a_control_plane_of_a_revision_is_one(shop: Bookshop) -> None:
    shop.pilot(ready=False)
    await shop.until(lambda: not shop.mesh._pilot_ready(), "the mesh has noticed")
    labels = {"app": "istiod", "istio": "istiod", "istio.io/rev": "canary"}
    meta = {"name": "istiod-canary-0", "namespace": "istio-system", "labels": labels}
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    container = {"name": "discovery", "image": "istio/pilot"}
    shop.objects.put("pods", {"metadata": meta, "spec": {"containers": [container]}, "status": ready})
    await shop.until(shop.mesh._pilot_ready, "the mesh has noticed")
    async with shop.rules(virtual_service({"route": [to("v2")]})):
        assert set(await shop.many(20)) == {"reviews-v2"}
    shop.objects.drop("pods", meta["name"], "istio-system")
    shop.pilot(ready=True)


async def test_traffic_goes_on_without_the_control_plane_and_changes_wait(shop: Bookshop) -> None:
    async with shop.rules(virtual_service({"route": [to("v1")]})):
        shop.pilot(ready=False)
        # Pods are followed apart from rules: the rule might be met first.
        await shop.until(lambda: not shop.mesh._pilot_ready(), "the mesh has noticed")
        shop.istio(*virtual_service({"route": [to("v2")]}))

        def met() -> bool:
            rules = shop.mesh._cache.current()[VIRTUAL_SERVICES]
            (rule,) = (one["spec"]["http"] for one in rules if one["metadata"]["name"] == "under-test")
            return rule == [{"route": [to("v2")]}] and shop.mesh._timer is None

        await shop.until(met, "the mesh has met the rule")
        assert set(await shop.many(40)) == {"reviews-v1"}
        shop.pilot(ready=True)

        async def followed() -> bool:
            return set(await shop.many(5)) == {"reviews-v2"}

        await shop.until(followed, "the rule is followed once pilot is back")


async def test_traffic_goes_on_while_the_xds_server_is_away(shop: Bookshop) -> None:
    async with shop.rules(virtual_service({"route": [to("v1")]})):
        await shop.mesh._streams.stop()
        try:
            assert set(await shop.many(40)) == {"reviews-v1"}
        finally:
            await shop.mesh._streams.start()
        shop.istio(*virtual_service({"route": [to("v3")]}))

        async def followed() -> bool:
            return set(await shop.many(5)) == {"reviews-v3"}

        await shop.until(followed, "changes are followed again")


async def test_a_killed_sidecar_comes_back_as_it_was(shop: Bookshop) -> None:
    pod = shop.pods["client"]
    assert pod.envoy is not None
    async with shop.rules(virtual_service({"route": [to("v2")]})):
        os.kill(pod.envoy.pid, signal.SIGKILL)
        pod.envoy.wait()
        shop._start_envoy(pod, pod.obj["spec"]["containers"][-1])
        await shop.ready("client")
        assert set(await shop.many(20)) == {"reviews-v2"}


async def test_a_pod_that_goes_is_no_longer_called(shop: Bookshop) -> None:
    async with shop.rules(virtual_service({"route": [to()]})):
        gone = shop.pods.pop("reviews-v3")
        shop.slice("reviews")
        try:
            await shop.follow()
            assert set(await shop.many(40)) == {"reviews-v1", "reviews-v2"}
        finally:
            shop.pods["reviews-v3"] = gone
            shop.slice("reviews")
            await shop.follow()


@pytest.mark.usefixtures("patient")
async def test_no_call_is_lost_while_rules_change(shop: Bookshop) -> None:
    seen: set[str] = set()
    stop = asyncio.Event()

    async def calling() -> None:
        while not stop.is_set():
            seen.update(await shop.many(5))

    async with shop.rules(virtual_service({"route": [to("v1")]})):
        caller = asyncio.create_task(calling())
        for round_ in range(6):
            names = [{"name": f"s{round_}{v}", "labels": {"version": v}} for v in ("v1", "v2")]
            shop.istio("DestinationRule", "reviews", {"host": "reviews", "subsets": names})
            shop.istio(*virtual_service({"route": [to(names[0]["name"], weight=50), to(names[1]["name"], weight=50)]}))
            await shop.follow()
        stop.set()
        await caller
    assert seen <= {"reviews-v1", "reviews-v2"}
