# SPDX-License-Identifier: Apache-2.0
"""Endpoints on their way to proxies: only what is new, one message at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from meshbox.addresses import AddressPlan
from meshbox.mesh.ads import assignment
from meshbox.mesh.assignments import Assignments
from meshbox.mesh.translate import Config, translate
from meshbox.mesh.xds import ProxyState
from tests.conftest import PATIENCE

from .bookshop import Bookshop, opened
from .objects import SLICES, bookinfo, endpoints, snapshot, workload

POD = ("bookinfo", "details-v1")
REVIEWS = "outbound|9080||reviews.bookinfo.svc.cluster.local"


class Listener:
    """What a proxy has heard: the number of each message, the clusters told of in it, and those that are not there."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, dict[str, bytes], list[str]]] = []

    def say(self, version: int, found: Mapping[str, bytes], gone: Collection[str]) -> int:
        self.heard.append((version, dict(found), list(gone)))
        return 100


@pytest.fixture
def refusals() -> list[tuple[str, tuple[bytes, ...]]]:
    return []


@pytest.fixture
def told(refusals: list[tuple[str, tuple[bytes, ...]]]) -> tuple[Assignments, Listener]:
    made, proxy = Assignments(lambda *refused: refusals.append(refused)), Listener()
    made.opened(proxy)
    return made, proxy


async def test_only_what_was_asked_for_is_told_and_only_what_is_new_of_it(told: tuple[Assignments, Listener]) -> None:
    made, proxy = told
    made.ask(["a", "b", "none"], [])
    assert proxy.heard == []
    made.offer({"a": b"1", "b": b"1", "c": b"1"})
    assert proxy.heard == [(1, {"a": b"1", "b": b"1"}, ["none"])]
    made.settle(1, refused=False)
    made.offer({"a": b"1", "b": b"2", "c": b"2"})
    assert proxy.heard[1:] == [(2, {"b": b"2"}, [])]
    made.settle(2, refused=False)
    made.ask([], ["b"])
    made.offer({"a": b"1", "b": b"3"})
    assert len(proxy.heard) == 2
    assert (made.version, made.sent, made.acknowledged) == (2, 2, 2)


async def test_a_wave_is_one_message_however_slow_the_proxy(told: tuple[Assignments, Listener]) -> None:
    made, proxy = told
    made.ask(["a", "b"], [])
    for number in range(9):
        made.offer({"a": b"%d" % number, "b": b"0"})
    assert proxy.heard == [(1, {"a": b"0", "b": b"0"}, [])]
    made.settle(1, refused=False)
    assert proxy.heard[1:] == [(2, {"a": b"8"}, [])]


async def test_of_what_is_refused_together_only_what_is_at_fault_is_lost(
    told: tuple[Assignments, Listener], refusals: list[tuple[str, tuple[bytes, ...]]]
) -> None:
    made, proxy = told
    made.ask(["bad", "good"], [])
    made.offer({"bad": b"x", "good": b"1"})
    made.settle(1, refused=True)
    assert refusals == []
    while len(proxy.heard) - 1 > made.refused and made.version > max(made.acknowledged, made.refused):
        number, found, _ = proxy.heard[-1]
        assert len(found) == 1
        made.settle(number, refused="bad" in found)
    assert [sorted(found) for _, found, _ in proxy.heard] == [["bad", "good"], ["good"], ["bad"]]
    assert refusals == [("bad", (b"x",))]
    # It is not told of again until it is another one.
    made.offer({"bad": b"y", "good": b"1"})
    assert proxy.heard[3:] == [(4, {"bad": b"y"}, [])]


async def test_another_envoy_is_told_of_all(told: tuple[Assignments, Listener]) -> None:
    made, before = told
    made.ask(["a"], [])
    made.offer({"a": b"1"})
    after = Listener()
    made.opened(after)
    made.closed(before)
    made.ask(["a"], [])
    assert after.heard == [(2, {"a": b"1"}, [])]
    made.closed(after)
    assert made.sent == -1


def config(clusters: dict[str, str], route: str) -> Config:
    """Clusters with their endpoints, and a table that leads to one of them."""
    made = {name: json.dumps({"name": name, "timeout": timeout}).encode() for name, timeout in clusters.items()}
    ends = {name: json.dumps({"cluster_name": name}).encode() for name in clusters}
    return Config(made, {}, {"r": route.encode()}, ends)


async def settled(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.usefixtures("patient")
async def test_routes_wait_for_a_new_clusters_endpoints() -> None:
    state, proxy = ProxyState(POD, lambda *_: None), Listener()
    state.endpoints.opened(proxy)
    state.endpoints.ask(["old"], [])
    state.update(config({"old": "1s"}, "old"))
    clusters, table = state.channel("clusters"), state.channel("routes", "r")
    await settled(lambda: table.version == 1)
    for channel in (clusters, table):
        channel.sent = 1
        channel.settle(1, refused=False)
    state.endpoints.settle(1, refused=False)
    state.update(config({"new": "1s"}, "new"))
    await settled(lambda: clusters.version == 2)
    clusters.sent = 2
    state.sends_clusters()
    state.made_clusters(all_of_them=True)
    clusters.settle(2, refused=False)
    state.endpoints.ask(["new"], [])
    # It has been told where the new one leads, and has not said that it knows.
    assert [sorted(found) for _, found, _ in proxy.heard] == [["old"], ["new"]]
    await asyncio.sleep(0)
    assert table.body == b"old"
    state.endpoints.settle(2, refused=False)
    await settled(lambda: table.body == b"new")
    # The one that leaves has had its endpoints all the while.
    assert len(proxy.heard) == 2
    state.stop()


async def begun() -> tuple[ProxyState, Listener]:
    """A proxy that was sent two clusters and their endpoints, and has not said yet what it made of the clusters."""
    state, proxy = ProxyState(POD, lambda *_: None), Listener()
    state.endpoints.opened(proxy)
    state.endpoints.ask(["one", "other"], [])
    state.update(config({"one": "1s", "other": "1s"}, "x"))
    await settled(lambda: state.channel("clusters").version == 1)
    state.sends_clusters()
    return state, proxy


async def test_a_cluster_that_is_made_anew_is_told_of_again() -> None:
    state, proxy = await begun()
    state.made_clusters(all_of_them=True)
    state.endpoints.settle(1, refused=False)
    state.update(config({"one": "2s", "other": "1s"}, "x"))
    await settled(lambda: state.channel("clusters").version == 2)
    assert len(proxy.heard) == 1
    state.sends_clusters()
    assert len(proxy.heard) == 1
    state.made_clusters(all_of_them=True)
    assert [sorted(found) for _, found, _ in proxy.heard[1:]] == [["one"]]
    state.stop()


async def test_clusters_that_change_before_the_proxy_has_said_that_it_has_them() -> None:
    state, proxy = await begun()
    state.endpoints.settle(1, refused=False)
    state.update(config({"one": "2s", "other": "1s"}, "x"))
    await settled(lambda: state.channel("clusters").version == 2)
    # It has the first, while there is a second already: which it is sent now.
    state.made_clusters(all_of_them=False)
    state.sends_clusters()
    assert len(proxy.heard) == 1
    state.made_clusters(all_of_them=False)
    state.endpoints.settle(2, refused=False)
    # As the answer may have been lost, it is told when it says that it has made them, too.
    state.made_clusters(all_of_them=True)
    assert [sorted(found) for _, found, _ in proxy.heard[1:]] == [["one"], ["one"]]
    state.endpoints.settle(3, refused=False)
    state.made_clusters(all_of_them=True)
    assert len(proxy.heard) == 3
    state.stop()


def test_a_pod_that_becomes_ready_changes_endpoints_and_nothing_else() -> None:
    services, pods = bookinfo()
    kept = endpoints(services, pods)

    def made(*, ready: bool) -> Config:
        (held,) = (one for one in kept[SLICES] if one["metadata"]["name"].startswith("reviews"))
        held["endpoints"][1]["conditions"] = {"ready": ready}
        snap = snapshot(kept=kept)
        return translate(snap, workload(snap, "productpage-v1"))

    before, after = made(ready=False), made(ready=True)
    assert (before.clusters, before.listeners, before.routes) == (after.clusters, after.listeners, after.routes)
    changed = {name for name, body in after.endpoints.items() if before.endpoints[name] != body}
    assert changed == {REVIEWS}
    # Three pods, and not the 30 clusters.
    assert len(assignment(after.endpoints[REVIEWS])) < 3 * 400
    assert sum(map(len, after.clusters.values())) > 10_000


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["1.30.3", "1.2.2"])
async def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan
) -> AsyncIterator[Bookshop]:
    home: Path = tmp_path_factory.mktemp("mesh")
    async with opened(home, plan, request.param) as made:
        yield made


@pytest.mark.long
@pytest.mark.asyncio(loop_scope="module")
async def test_an_endpoint_that_goes_and_comes_sends_no_clusters(shop: Bookshop) -> None:
    async with shop.rules():
        # One of three is never chosen in 60 times with a probability of 3 x (2/3)^60 = 8e-11.
        assert set(await shop.many(60)) == {"reviews-v1", "reviews-v2", "reviews-v3"}
    states = list(shop.mesh._proxies.values())
    versions = [state.channel("clusters").version for state in states]
    pushes = [state.endpoints.version for state in states]
    gone = shop.pods.pop("reviews-v2")
    try:
        shop.slice("reviews")
        await shop.until(lambda: all(s.endpoints.version > p for s, p in zip(states, pushes, strict=True)), "told")
        await shop.until(shop._settled, "every proxy has taken it")
        assert set(await shop.many(40)) == {"reviews-v1", "reviews-v3"}
    finally:
        shop.pods["reviews-v2"] = gone
        shop.slice("reviews")

    async def all_answer() -> bool:
        return set(await shop.many(40)) == {"reviews-v1", "reviews-v2", "reviews-v3"}

    await shop.until(all_answer, "it is called again")
    assert [state.channel("clusters").version for state in states] == versions
    # Once when it went, once when it came.
    assert [state.endpoints.version - before for state, before in zip(states, pushes, strict=True)] == [2] * len(states)
