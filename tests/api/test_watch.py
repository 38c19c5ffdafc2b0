# SPDX-License-Identifier: Apache-2.0
"""Watches, in this process and over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from meshbox.api import store
from meshbox.api.objects import ObjectStore
from meshbox.contracts import Event, Watch

from .conftest import CRDS, Cluster, crd, eventually, pod


async def take(watch: Watch, count: int) -> list[Event]:
    """The next `count` events."""
    events = []
    async with asyncio.timeout(120):
        async for event in watch:
            events.append(event)
            if len(events) == count:
                break
    return events


def seen(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.type, event.object["metadata"]["name"]) for event in events]


class TestInProcess:
    async def test_everything_there_is_then_every_change(self, objects: ObjectStore) -> None:
        objects.create("pods", pod("a"))
        watch = objects.watch("pods")
        objects.create("pods", pod("b"))
        objects.patch("pods", "a", {"metadata": {"labels": {"x": "y"}}})
        objects.delete("pods", "a")
        events = await take(watch, 4)
        assert seen(events) == [("ADDED", "a"), ("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "a")]
        assert events[3].object["metadata"]["labels"] == {"x": "y"}
        assert int(events[3].object["metadata"]["resourceVersion"]) == objects.store.version
        watch.close()

    async def test_one_namespace(self, objects: ObjectStore) -> None:
        watch = objects.watch("pods", "kube-system")
        objects.create("pods", pod("a"), "default")
        objects.create("pods", pod("b"), "kube-system")
        assert seen(await take(watch, 1)) == [("ADDED", "b")]
        watch.close()

    async def test_a_resource_that_comes_and_goes(self, objects: ObjectStore) -> None:
        watch = objects.watch("widgets.example.com")
        objects.create(CRDS, crd())
        objects.create("widgets.example.com", {"metadata": {"name": "w"}})
        objects.delete(CRDS, "widgets.example.com")
        objects.create(CRDS, crd())
        objects.create("widgets.example.com", {"metadata": {"name": "again"}})
        assert seen(await take(watch, 3)) == [("ADDED", "w"), ("DELETED", "w"), ("ADDED", "again")]
        watch.close()

    async def test_closing_ends_the_iteration(self, objects: ObjectStore) -> None:
        watch = objects.watch("configmaps")
        asyncio.get_running_loop().call_soon(watch.close)
        assert await take(watch, 1) == []
        objects.create("configmaps", {"metadata": {"name": "late"}})

    async def test_a_write_that_changes_nothing_is_no_event(self, objects: ObjectStore) -> None:
        watch = objects.watch("pods")
        objects.create("pods", pod("a"))
        objects.patch("pods", "a", {"metadata": {"labels": {}}})
        objects.create("pods", pod("b"))
        assert seen(await take(watch, 2)) == [("ADDED", "a"), ("ADDED", "b")]
        watch.close()


class Lines:
    """The events of an HTTP watch."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(120):
            line = await self.response.content.readline()
        assert line, "the watch ended"
        return json.loads(line)

    async def names(self, count: int) -> list[tuple[str, str]]:
        events = [await self.next() for _ in range(count)]
        return [(event["type"], event["object"]["metadata"]["name"]) for event in events]

    async def ended(self) -> bool:
        async with asyncio.timeout(120):
            return not await self.response.content.readline()


@asynccontextmanager
async def watching(cluster: Cluster, path: str, accept: str = "application/json", **query: Any) -> AsyncIterator[Lines]:
    headers = {"Authorization": f"Bearer {cluster.settings.token}", "Accept": accept}
    query = {"watch": "true", **{name: str(value) for name, value in query.items()}}
    async with cluster.session.get(cluster.url + path, params=query, headers=headers) as response:
        assert response.status == 200, await response.text()
        yield Lines(response)


PODS = "/api/v1/namespaces/default/pods"
WATCH_LIST = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}


class TestHTTP:
    async def test_from_a_version(self, cluster: Cluster) -> None:
        first = cluster.objects.create("pods", pod("a"))
        cluster.objects.create("pods", pod("b"))
        async with watching(cluster, PODS, resourceVersion=first["metadata"]["resourceVersion"]) as lines:
            assert await lines.names(1) == [("ADDED", "b")]
            cluster.objects.delete("pods", "a")
            assert await lines.names(1) == [("DELETED", "a")]

    @pytest.mark.parametrize("version", ["", "0"])
    async def test_from_now_begins_with_what_there_is(self, cluster: Cluster, version: str) -> None:
        cluster.objects.create("pods", pod("a"))
        async with watching(cluster, PODS, resourceVersion=version) as lines:
            assert await lines.names(1) == [("ADDED", "a")]

    async def test_a_selector_makes_edges_of_changes(self, cluster: Cluster) -> None:
        cluster.objects.create("pods", pod("a"))
        version = cluster.objects.store.version
        async with watching(cluster, PODS, resourceVersion=version, labelSelector="app=x") as lines:
            for labels in ({"app": "x"}, {"app": "x", "n": "1"}, {"app": "y"}):
                cluster.objects.patch("pods", "a", {"metadata": {"labels": labels}})
            assert await lines.names(3) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]

    async def test_one_object_by_name(self, cluster: Cluster) -> None:
        for name in ("a", "b"):
            cluster.objects.create("pods", pod(name))
        async with watching(cluster, PODS, fieldSelector="metadata.name=b") as lines:
            assert await lines.names(1) == [("ADDED", "b")]
        async with watching(cluster, f"{PODS}/b") as lines:
            assert await lines.names(1) == [("ADDED", "b")]

    async def test_a_watch_list_says_when_its_beginning_is_over(self, cluster: Cluster) -> None:
        cluster.objects.create("pods", pod("a"))
        async with watching(cluster, PODS, **WATCH_LIST) as lines:
            assert await lines.names(1) == [("ADDED", "a")]
            mark = await lines.next()
            assert mark["type"] == "BOOKMARK"
            assert mark["object"]["kind"] == "Pod"
            assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
            assert mark["object"]["metadata"]["resourceVersion"] == str(cluster.objects.store.version)
            cluster.objects.create("pods", pod("b"))
            assert await lines.names(1) == [("ADDED", "b")]

    async def test_a_watch_list_without_its_match_is_refused(self, cluster: Cluster) -> None:
        reply = await cluster.request("GET", f"{PODS}?watch=true&sendInitialEvents=true")
        assert reply.status == 422
        assert "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan" in reply.body["message"]

    async def test_a_version_that_is_forgotten_is_gone(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        cluster.objects.create("pods", pod("a"))
        for index in range(store.HISTORY + 1):
            cluster.objects.patch("pods", "a", {"metadata": {"labels": {"n": str(index)}}})
        async with watching(cluster, PODS, resourceVersion=1) as lines:
            event = await lines.next()
            assert event["type"] == "ERROR"
            assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
            assert await lines.ended()

    async def test_a_version_of_another_life_must_list_again(self, cluster: Cluster) -> None:
        reply = await cluster.request("GET", f"{PODS}?watch=true&resourceVersion=999999")
        assert reply.status == 504
        assert reply.body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
        reply = await cluster.request("GET", f"{PODS}?watch=true&resourceVersion=abc")
        words = 'Pod "" is invalid: resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid'
        assert (reply.status, words in reply.body["message"]) == (422, True)

    async def test_it_ends_when_asked_to(self, cluster: Cluster) -> None:
        async with watching(cluster, PODS, timeoutSeconds=1) as lines:
            assert await lines.ended()

    async def test_bookmarks_come_on_time(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("meshbox.api.serve_watch._BOOKMARK_EVERY", 0.05)
        async with watching(cluster, PODS, allowWatchBookmarks="true") as lines:
            event = await lines.next()
            assert event["type"] == "BOOKMARK"
            assert "annotations" not in event["object"]["metadata"]

    async def test_tables(self, cluster: Cluster) -> None:
        cluster.objects.create("pods", pod("a"))
        accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
        async with watching(cluster, PODS, accept) as lines:
            cluster.objects.create("pods", pod("b"))
            first, second = await lines.next(), await lines.next()
        assert first["object"]["kind"] == "Table"
        assert first["object"]["columnDefinitions"][0]["name"] == "Name"
        assert second["object"]["columnDefinitions"] == []
        assert [event["object"]["rows"][0]["cells"][0] for event in (first, second)] == ["a", "b"]

    async def test_a_reader_that_does_not_read_is_told_to_list_again(
        self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("meshbox.api.watch.BACKLOG", 10)
        version = cluster.objects.store.version
        async with watching(cluster, PODS, resourceVersion=version) as lines:
            # The server's side of the watch does not run before this test waits.
            for index in range(20):
                cluster.objects.create("pods", pod(f"p{index}"))
            event = await lines.next()
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)

    async def test_the_server_ends_watches_as_it_stops(self, cluster: Cluster) -> None:
        async with watching(cluster, PODS) as lines:
            async with asyncio.timeout(120):
                await cluster.server.stop()
            assert await lines.ended()

    async def test_a_client_that_goes_leaves_nothing_behind(self, cluster: Cluster) -> None:
        async with watching(cluster, PODS):
            assert len(cluster.server.watches) == 1
        await eventually(
            lambda: not len(cluster.server.watches) and cluster.objects.store.listeners("pods") == 0,
            "the watch is over, and nobody listens for it",
        )


async def test_big_changes_are_remembered_for_as_many_bytes_as_they_may_hold(tmp_path: Path) -> None:
    kept = store.Store(tmp_path / "journal")
    half = {"x": "y" * (store.HISTORY_BYTES // 2 - 1000)}
    versions = []
    for number in range(4):
        versions.append(kept.put("configmaps", ("default", f"{number}"), {"metadata": {}, "data": half}).version)
    assert kept.since("configmaps", versions[0]) is None
    assert kept.since("configmaps", versions[1] - 1) is None
    assert [change.version for change in kept.since("configmaps", versions[1]) or []] == versions[2:]
    # One that is bigger than all that is one may be behind is told to who listens, and to nobody later.
    big = kept.put("configmaps", ("default", "big"), {"metadata": {}, "data": {"x": "y" * store.HISTORY_BYTES}})
    assert kept.since("configmaps", versions[-1]) is not None
    assert kept.since("configmaps", versions[-1] - 1) is None
    assert kept.since("configmaps", big.version) == []
    kept.close()


def test_after_a_storm_only_the_last_changes_are_remembered(tmp_path: Path) -> None:
    kept = store.Store(tmp_path / "journal.jsonl")
    versions = [
        kept.put("configmaps", ("default", f"c{index}"), {"metadata": {}}).version
        for index in range(store.AT_REST[0] + 5)
    ]
    kept.forget_most()
    assert kept.since("configmaps", versions[3]) is None, "told to list anew"
    behind = kept.since("configmaps", versions[4])
    assert behind is not None
    assert [change.version for change in behind] == versions[5:]
    big = [
        kept.put("configmaps", ("default", "big"), {"metadata": {}, "data": {"x": "y" * store.AT_REST[1]}}).version
        for _ in range(3)
    ]
    kept.forget_most()
    assert kept.since("configmaps", big[1] - 1) is None
    assert [change.version for change in kept.since("configmaps", big[1]) or []] == big[2:]
    kept.close()
