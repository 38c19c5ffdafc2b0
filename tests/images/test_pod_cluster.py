# SPDX-License-Identifier: Apache-2.0
"""What a pod's process knows of the cluster, and how it tells that something has changed."""

from __future__ import annotations

import contextlib
import json
import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.ground.client import Answer
from meshbox.images import cluster as module
from meshbox.images.cluster import Cluster
from tests.conftest import wait_until


def pod(uid: str, version: int) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "name": uid, "resourceVersion": str(version)}}


class Api:
    """Lists `items`, and watches with `lines`: an empty one ends a watch, and the next begins with a list."""

    def __init__(self, *_: object, **__: object) -> None:
        self.items: list[dict[str, Any]] = [pod("a", 1)]
        self.lines: queue.Queue[bytes] = queue.Queue()
        self.lists = 0

    def request(self, *_: object) -> Answer:
        self.lists += 1
        return Answer(200, [], json.dumps({"items": self.items, "metadata": {"resourceVersion": "1"}}).encode())

    @contextlib.contextmanager
    def stream(self, *_: object) -> Iterator[tuple[int, Callable[[], bytes]]]:
        yield 200, self.lines.get

    def tell(self, kind: str, item: dict[str, Any]) -> None:
        self.lines.put(json.dumps({"type": kind, "object": item}).encode())


def test_a_watch_that_is_begun_anew_is_no_change(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = Api()
    monkeypatch.setattr(module, "Connections", lambda *_, **__: api)
    (tmp_path / "token").write_text("t")
    cluster = Cluster("127.0.0.1", 1, tmp_path / "token", "", {"pod": "/api/v1/pods"})
    wait_until(lambda: api.lists and cluster.objects()["pod"], what="the first list")
    assert cluster.objects() == {"pod": [pod("a", 1)]}
    heard = cluster.heard()

    def again() -> None:
        lists = api.lists
        api.lines.put(b"")
        # The second list after it: by then the first one has been taken in.
        wait_until(lambda: api.lists > lists, 60, "another list")
        api.lines.put(b"")
        wait_until(lambda: api.lists > lists + 1, 60, "one more list")

    again()
    api.tell("BOOKMARK", pod("", 3))
    again()
    assert cluster.heard() == heard

    api.items = [pod("a", 1), pod("b", 4)]
    again()
    assert cluster.heard() != heard
    heard = cluster.heard()
    for kind, item, left in (("MODIFIED", pod("b", 5), ["a", "b"]), ("DELETED", pod("b", 5), ["a"])):
        api.tell(kind, item)
        wait_until(lambda heard=heard: cluster.heard() != heard, 60, "a change")
        heard = cluster.heard()
        assert [one["metadata"]["uid"] for one in cluster.objects()["pod"]] == left
