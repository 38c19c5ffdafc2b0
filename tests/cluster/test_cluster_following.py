# SPDX-License-Identifier: Apache-2.0
"""Waits that the cluster ends: watches that bring the end, that break, that are refused, and none that is left."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from labkit import cluster
from labkit.cluster import waits
from labkit.cluster.following import Following
from labkit.ground.errors import ClusterError, NoTargetError, NotReadyError
from tests.cluster.api_like import ApiLike
from tests.cluster.fake_kubectl import FakeKubectl
from tests.cluster.test_cluster_readiness import deployment, pod, replica_set
from tests.conftest import PATIENCE

LISTS = "GET /apis/apps/v1/namespaces/ns/deployments"


@pytest.fixture
def api(kubectl: FakeKubectl) -> Iterator[ApiLike]:
    """A cluster with a Deployment whose pod is not ready yet; afterwards nobody follows it any more."""
    before = set(threading.enumerate())
    kubectl.api.items = [deployment(), replica_set(), pod()]
    yield kubectl.api
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("kubectl get"):
            thread.join(120)
            assert not thread.is_alive()


@pytest.fixture
def until_watched(api: ApiLike, until: Callable[..., Any]) -> Callable[[int], None]:
    """Waits until each kind that was listed has been watched so many times.

    Each: whoever still connects while the server leaves is reset before TLS begins, and Python 3.11's ssl then leaves
    that socket to the garbage collector, which tells of it wherever it happens to run.
    """

    def times(wanted: int) -> None:
        def enough() -> bool:
            asked = [path.partition("?") for path, _ in list(api.asked) if "/namespaces/ns/" in path]
            watched = Counter(place for place, _, query in asked if "watch=true" in query)
            return bool(watched) and all(watched[place] >= wanted for place, _, _ in asked)

        until(enough, 20, f"{wanted} watches")

    return times


def ready_after(*steps: Callable[[], None]) -> list[cluster.Readiness]:
    """What a wait for the Deployment saw, while something happens beside it."""
    seen: list[cluster.Readiness] = []
    failed: list[BaseException] = []

    def wait() -> None:
        try:
            cluster.wait_for(cluster.Ready("ns", ["web"], seen.append), timeout=PATIENCE)
        except BaseException as error:
            failed.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    for step in steps:
        step()
    waiting.join()
    if failed:
        raise failed[0]
    return seen


def test_it_ends_when_the_cluster_says_so(api: ApiLike, until_watched: Callable[[int], None]) -> None:
    seen = ready_after(lambda: until_watched(1), lambda: api.change(deployment(ready=1)))
    assert not seen[0].ready
    assert seen[-1].ready
    assert api.requests.count(LISTS) == 2, "one list and one watch"


def test_what_is_so_at_the_first_look_is_not_watched(api: ApiLike) -> None:
    api.items = [deployment(ready=1)]
    cluster.wait_for(cluster.Ready("ns"), timeout=0)
    assert not any("watch=true" in path for path, _ in api.asked)


@pytest.mark.parametrize("forgotten", [False, True], ids=["broken", "expired"])
def test_a_watch_that_ends_is_begun_again(api: ApiLike, until_watched: Callable[[int], None], forgotten: bool) -> None:
    def lost() -> None:
        api.forgotten = forgotten
        with api.news:
            # Told to nobody: the connections go at the same time.
            api.drop()
            api.change(deployment(ready=1))

    assert ready_after(lambda: until_watched(1), lost)[-1].ready


def test_changes_are_followed_from_one_watch_to_the_next(api: ApiLike, until_watched: Callable[[int], None]) -> None:
    with Following("deployments", namespace="ns") as following:
        following.wait(120)
        assert [one["metadata"]["name"] for one in following.objects() or ()] == ["web"]
        following.wait(0)
        until_watched(1)
        api.change(deployment("other"), "ADDED")
        following.wait(120)
        assert [one["metadata"]["name"] for one in following.objects() or ()] == ["web", "other"]
        api.drop()
        until_watched(2)
        api.change(deployment("web"), "DELETED")
        following.wait(120)
        assert [one["metadata"]["name"] for one in following.objects() or ()] == ["other"]
    assert api.requests.count(LISTS) == 3, "the second watch begins where the first one ended"


def test_a_server_that_starts_again_is_waited_for(
    api: ApiLike, until_watched: Callable[[int], None], until: Callable[..., Any]
) -> None:
    with Following("deployments", namespace="ns") as following:
        following.wait(120)
        following.wait(0)
        until_watched(1)
        api.leave()
        until(lambda: "was refused" in following.silence, 20, "the silence to be noticed")
        api.changes.clear()
        api.items = [deployment("new")]
        following.objects()
        api.listen(api.server.server_address[1])
        following.wait(120)
        assert [one["metadata"]["name"] for one in following.objects() or ()] == ["new"]
        assert following.silence == ""


def test_a_server_that_stays_away_is_told_at_the_deadline(
    api: ApiLike, until_watched: Callable[[int], None], until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Following] = []
    late = SimpleNamespace(monotonic=time.monotonic)

    class Kept(Following):
        def __enter__(self) -> Kept:
            made.append(self)
            super().__enter__()
            return self

    def leave() -> None:
        api.leave()
        until(lambda: "was refused" in made[0].silence, 20, "the silence to be noticed")
        late.monotonic = lambda: time.monotonic() + 2 * PATIENCE

    monkeypatch.setattr(waits, "Following", Kept)
    monkeypatch.setattr(waits, "time", late)
    with pytest.raises(NotReadyError, match=rf"waited {PATIENCE:g} s .*; seen last: web \(Progressing.*was refused"):
        ready_after(lambda: until_watched(1), leave)
    api.listen(api.server.server_address[1])


def test_another_cluster_at_its_address_ends_the_wait(api: ApiLike, until_watched: Callable[[int], None]) -> None:
    def replaced() -> None:
        api.uid = "another"
        api.drop()

    with pytest.raises(NoTargetError, match="another cluster than the one that was chosen"):
        ready_after(lambda: until_watched(1), replaced)


def test_who_may_not_watch_lists(api: ApiLike, until: Callable[..., Any]) -> None:
    api.may_watch = False

    def change() -> None:
        until(lambda: any("watch=true" in path for path, _ in api.asked), 20, "a watch")
        api.change(deployment(ready=1))

    assert ready_after(change)[-1].ready


def test_the_deadline_holds_though_nobody_answers(api: ApiLike, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "_FIRST", 0.1)
    api.silent.set()
    try:
        with pytest.raises(NotReadyError, match=r"waited 0\.1 s .*; seen last: the cluster has not answered"):
            cluster.wait_for(cluster.Ready("ns"), timeout=0.1)
    finally:
        api.silent.clear()


def test_what_cannot_be_listed_is_told_at_once(api: ApiLike) -> None:
    with pytest.raises(ClusterError, match='resource type "bananas"') as caught:
        cluster.wait_for(cluster.Gone("bananas", "a"), timeout=30)
    assert "kubectl api-resources" in caught.value.next_step
