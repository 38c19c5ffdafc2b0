# SPDX-License-Identifier: Apache-2.0
"""The loop behind every controller."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from meshbox.contracts import ApiError, Event
from meshbox.reconcile import Key, Reconciler

from .conftest import Cluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Objects only: nothing else runs."""
    made = Cluster(tmp_path / "home")
    yield made
    made.objects.close()


class Recorder:
    """A reconcile function that notes what it was called with and does what the test says."""

    def __init__(self, act: Callable[[Key], float | None] = lambda _key: None) -> None:
        self.calls: list[Key] = []
        self.act = act
        self.running = 0
        self.overlaps = 0
        self.gate: asyncio.Event | None = None

    async def __call__(self, key: Key) -> float | None:
        self.calls.append(key)
        self.running += 1
        self.overlaps += self.running > 1
        try:
            if self.gate is not None:
                await self.gate.wait()
            return self.act(key)
        finally:
            self.running -= 1


def add(cluster: Cluster, name: str) -> None:
    cluster.objects.create("configmaps", {"metadata": {"name": name}}, "default")


async def test_reconciles_what_is_there_and_what_comes(cluster: Cluster) -> None:
    add(cluster, "a")
    seen = Recorder()
    reconciler = Reconciler("test", cluster.objects, seen).watches("configmaps")
    reconciler.start()
    await cluster.until(lambda: seen.calls == [("default", "a")])
    add(cluster, "b")
    await cluster.until(lambda: seen.calls[1:] == [("default", "b")])
    await reconciler.stop()


async def test_many_changes_meanwhile_are_one_more_reconcile(cluster: Cluster) -> None:
    add(cluster, "a")
    seen = Recorder()
    seen.gate = asyncio.Event()
    reconciler = Reconciler("test", cluster.objects, seen).watches("configmaps")
    reconciler.start()
    await cluster.until(lambda: seen.calls)
    for number in range(10):
        cluster.objects.patch("configmaps", "a", {"data": {"n": str(number)}}, "default")
    await cluster.settled()
    seen.gate.set()
    await cluster.until(lambda: len(seen.calls) == 2)
    await cluster.settled()
    assert len(seen.calls) == 2
    assert seen.overlaps == 0
    await reconciler.stop()


async def test_failures_are_tried_again_and_told(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    failures: list[Exception] = [ApiError(403, "Forbidden", "no"), ApiError(409, "Conflict", "again"), KeyError("x")]

    def act(_key: Key) -> None:
        if failures:
            raise failures.pop(0)

    seen = Recorder(act)
    reconciler = Reconciler("test", cluster.objects, seen).watches("configmaps")
    reconciler.start()
    with caplog.at_level(logging.INFO):
        add(cluster, "a")
        await cluster.until(lambda: len(seen.calls) == 4)
    levels = [(record.levelname, record.exc_info is not None) for record in caplog.records]
    # A refusal is one line, a change meanwhile is normal, and a fault of ours comes with its traceback.
    assert levels == [("WARNING", False), ("ERROR", True)]
    await reconciler.stop()


async def test_a_delay_asked_for_is_kept_and_the_earlier_one_counts(cluster: Cluster) -> None:
    times: list[float] = []
    loop = asyncio.get_running_loop()

    def act(_key: Key) -> float | None:
        times.append(loop.time())
        return 0.1 if len(times) == 1 else None

    reconciler = Reconciler("test", cluster.objects, Recorder(act)).watches("configmaps")
    reconciler.start()
    add(cluster, "a")
    await cluster.until(lambda: times)
    reconciler.enqueue(("default", "a"), after=30)
    await cluster.until(lambda: len(times) == 2)
    assert times[1] - times[0] >= 0.099
    await reconciler.stop()


async def test_an_object_nobody_can_map_does_not_end_the_watch(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Recorder()

    def keys(event: Event) -> list[Key]:
        return [(None, event.object["data"]["for"])]

    reconciler = Reconciler("test", cluster.objects, seen).watches_events("configmaps", keys)
    reconciler.start()
    with caplog.at_level(logging.ERROR):
        add(cluster, "strange")
        cluster.objects.create("configmaps", {"metadata": {"name": "b"}, "data": {"for": "x"}}, "default")
        await cluster.until(lambda: seen.calls == [(None, "x")])
    assert "ConfigMap default/strange: FailedReconcile (" in caplog.text
    await reconciler.stop()


async def test_a_watch_added_while_running_begins_at_once(cluster: Cluster) -> None:
    add(cluster, "a")
    seen = Recorder()
    reconciler = Reconciler("test", cluster.objects, seen)
    reconciler.start()
    reconciler.watches("configmaps")
    await cluster.until(lambda: seen.calls == [("default", "a")])
    await reconciler.stop()


async def test_nothing_happens_after_the_end(cluster: Cluster) -> None:
    def act(_key: Key) -> float:
        return 0.01

    seen = Recorder(act)
    reconciler = Reconciler("test", cluster.objects, seen).watches("configmaps")
    reconciler.start()
    add(cluster, "a")
    await cluster.until(lambda: seen.calls)
    await reconciler.stop()
    count = len(seen.calls)
    reconciler.enqueue(("default", "a"))
    add(cluster, "b")
    others = Recorder()
    other = Reconciler("other", cluster.objects, others).watches("configmaps")
    other.start()
    await cluster.until(lambda: len(others.calls) == 2)
    assert len(seen.calls) == count
    await other.stop()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_ten_tries_fit_into_the_first_three_seconds(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def act(_key: Key) -> None:
        raise ApiError(403, "Forbidden", "no")

    reconciler = Reconciler("test", cluster.objects, Recorder(act))
    enqueue = reconciler.enqueue

    def at_once(key: Key, after: float = 0.0) -> None:
        pauses.append(after)
        if len(pauses) < 14:
            enqueue(key)

    monkeypatch.setattr(reconciler, "enqueue", at_once)
    reconciler.start()
    reconciler.enqueue((None, "a"))
    await cluster.until(lambda: len(pauses) == 14)
    # As the work queues of Kubernetes' controllers; only their longest pause is longer.
    assert pauses == [0.0, *(0.005 * 2**number for number in range(10)), 5.0, 5.0, 5.0]
    await reconciler.stop()
