# SPDX-License-Identifier: Apache-2.0
"""A proxy is brought to what it should have step by step, so that traffic never falls between two versions."""

from __future__ import annotations

import asyncio
import time

import pytest

from meshbox.exposition import exposition
from meshbox.mesh.pilot_metrics import MeshMonitor
from tests.metrics_page import Page

from .telling import NODE, POD, Proxy, config, leads


async def begun(clusters: str = "old", **how: object) -> Proxy:
    """A proxy that has one table, and what that leads to."""
    proxy = Proxy(**how)
    proxy.ask("clusters", "*")
    proxy.state.update(config(clusters, r="old"))
    await proxy.hears("clusters", 1)
    for kind, *names in (("endpoints", *clusters.split()), ("routes", "r")):
        proxy.ask(kind, *names)
        proxy.take(kind)
    proxy.take("clusters")
    return proxy


async def test_a_proxy_is_told_as_soon_as_there_is_something() -> None:
    proxy = Proxy()
    proxy.ask("clusters", "*")
    assert proxy.names("clusters") == []
    proxy.state.update(config("a b"))
    await proxy.hears("clusters", 1)
    assert proxy.names("clusters") == [["a", "b"]]


async def test_a_proxy_is_told_of_its_own_changes_only() -> None:
    proxy = Proxy()
    proxy.ask("routes", "r1", "r2")
    proxy.state.update(config("a", "l", r1="x", r2="x"))
    await proxy.hears("routes", 1)
    proxy.take("routes")
    proxy.state.update(config("a", "l", r1="x", r2="y"))
    await proxy.hears("routes", 2)
    assert proxy.names("routes") == [["r1", "r2"], ["r2"]]
    assert leads(proxy.heard["routes"][1][1]["r2"]) == "y"


@pytest.mark.usefixtures("patient")
async def test_new_clusters_come_before_routes_and_old_ones_leave_after() -> None:
    proxy = await begun()
    proxy.state.update(config("new", r="new"))
    await proxy.hears("clusters", 2)
    assert proxy.names("clusters")[1] == ["new"]
    proxy.ask("endpoints", "new")
    proxy.take("clusters")
    # It has been told where the new one leads, and has not said that it knows.
    assert proxy.names("endpoints") == [["old"], ["new"]]
    for _ in range(5):
        await asyncio.sleep(0)
    assert proxy.names("routes") == [["r"]]
    proxy.take("endpoints")
    await proxy.hears("routes", 2)
    assert leads(proxy.heard["routes"][1][1]["r"]) == "new"
    # The one that leaves has had its endpoints all the while, until nothing leads there.
    assert (len(proxy.names("clusters")), len(proxy.names("endpoints"))) == (2, 2)
    proxy.take("routes")
    await proxy.hears("clusters", 3)
    assert proxy.names("clusters")[2] == ["-old"]
    proxy.state.stop()


async def test_a_cluster_that_is_made_anew_is_told_of_again_before_the_proxy_has_taken_it() -> None:
    proxy = await begun("one other")
    proxy.state.update(config("one other", timeout="2s", r="old"))
    await proxy.hears("clusters", 2)
    assert proxy.names("endpoints") == [["one", "other"], ["one", "other"]]
    proxy.state.stop()


@pytest.mark.usefixtures("patient")
async def test_routes_to_clusters_that_are_refused_do_not_come() -> None:
    proxy = await begun("a")
    proxy.state.update(config("a bad", r="bad"))
    await proxy.hears("clusters", 2)
    proxy.take("clusters", "no such thing")
    body = config("bad").clusters["bad"]
    assert proxy.refusals == [(POD, "clusters bad", body, "no such thing")]
    for _ in range(5):
        await asyncio.sleep(0)
    assert proxy.names("routes") == [["r"]]
    proxy.state.update(config("a good", r="good"))
    await proxy.hears("clusters", 3)
    assert proxy.names("clusters")[2] == ["good", "-bad"]
    proxy.state.stop()


@pytest.mark.usefixtures("patient")
async def test_what_comes_in_the_moment_of_a_refusal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = await begun("a")
    proxy.state.update(config("a bad", r="old"))
    await proxy.hears("clusters", 2)
    # Before the one that waits for what became of it has heard of that.
    monkeypatch.setattr(proxy.state, "refused", lambda *_: proxy.state.update(config("a good", r="old")))
    proxy.take("clusters", "no such thing")
    await proxy.hears("clusters", 3)
    assert proxy.names("clusters")[2] == ["good", "-bad"]
    proxy.state.stop()


async def test_another_envoy_of_the_same_pod_starts_from_nothing() -> None:
    proxy = await begun("a")
    before = proxy.state
    other = Proxy()
    before.opened(other, NODE, {"INSTANCE": "two"})
    # The one before is heard to end after the next one has come.
    before.closed(proxy)
    assert before.connected
    before.ask("clusters", ["*"], [])
    assert other.names("clusters") == [["a"]]
    assert before.metadata == {"INSTANCE": "two"}
    before.closed(other)
    assert not before.connected


async def test_secrets_are_asked_for_by_name() -> None:
    there = {"default": b'{"@type": "x", "name": "default"}'}
    proxy = Proxy(there)
    proxy.ask("secrets", "default", "kubernetes://missing")
    assert proxy.names("secrets") == [["default"]]
    proxy.take("secrets")
    proxy.state.refresh_secrets()
    assert len(proxy.names("secrets")) == 1
    # What is gone stays with who has it; what comes, or is another one, is told.
    there |= {"kubernetes://missing": b'{"name": "kubernetes://missing"}'}
    there.pop("default")
    proxy.state.refresh_secrets()
    assert proxy.names("secrets")[1:] == [["kubernetes://missing"]]


class Monitored:
    """A proxy, and what is counted of it."""

    def __init__(self) -> None:
        self.monitor = MeshMonitor()

    @property
    def page(self) -> Page:
        return Page(exposition(self.monitor.xds()).strip())


async def test_what_goes_to_a_proxy_is_counted_by_type_and_size() -> None:
    seen = Monitored()
    proxy = Proxy({"default": b'{"name": "default"}'}, monitor=seen.monitor)
    for kind, *names in (("clusters",), ("listeners",), ("routes", "r1"), ("secrets", "default")):
        proxy.ask(kind, *names)
    proxy.state.update(config("a b", "l", r1="x"))
    await proxy.hears("listeners", 1)
    found = seen.page
    assert [found.all("pilot_xds_pushes", type=kind) for kind in ("cds", "lds", "rds", "sds")] == [[1], [1], [1], []]
    assert found.one("pilot_xds_config_size_bytes_sum", type="cds") == 100
    assert found.one("pilot_xds_push_time_count", type="lds") == 1


@pytest.mark.usefixtures("patient")
async def test_a_change_is_timed_until_the_proxy_has_it() -> None:
    seen = Monitored()
    proxy = await begun("a", monitor=seen.monitor)
    # A proxy that had nothing was not behind.
    assert "pilot_proxy_convergence_time_count" not in seen.page.names
    now = time.monotonic()
    # As if the change had been made an hour ago.
    proxy.state.update(config("a b", r="old"), now, now - 3600)
    await proxy.hears("clusters", 2)
    proxy.ask("endpoints", "b")
    proxy.take("endpoints")
    assert "pilot_proxy_convergence_time_count" not in seen.page.names
    proxy.take("clusters")
    while proxy.state.rolling:
        await asyncio.sleep(0)
    assert seen.page.one("pilot_proxy_convergence_time_count") == 1
    assert 3600 <= seen.page.one("pilot_proxy_convergence_time_sum") < 7200


async def test_a_refusal_is_counted_with_the_proxy_that_refused() -> None:
    seen = Monitored()
    proxy = await begun("a", monitor=seen.monitor)
    assert "pilot_total_xds_rejects" not in seen.page.names
    proxy.state.update(config("a bad", r="old"))
    await proxy.hears("clusters", 2)
    proxy.take("clusters", "no such thing")
    assert seen.page.one("pilot_total_xds_rejects", type="cds") == 1
    assert seen.page.one("pilot_xds_cds_reject", node=NODE) == 1
    assert "pilot_xds_lds_reject" not in seen.page.names
    proxy.state.stop()
