# SPDX-License-Identifier: Apache-2.0
"""Objects as the cluster tells of them by itself: a list of each kind once, then a watch of each.

A watch ends whenever its server likes: at its time, with a connection or a server that goes away, or because the server
remembers no changes as old as those that come next (410). So each is begun again where it stopped, or with a list.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from labkit.cluster import resources
from labkit.cluster import target as targets
from labkit.cluster.client import Obj
from labkit.cluster.objects import connected, items, selection
from labkit.cluster.resources import Resource
from labkit.ground.errors import ClusterError, NoTargetError

__all__ = ["Following"]

LASTS = 30.0
"""Seconds that a watch is to last. One that says nothing for longer has lost its other end without being told."""

_LOST = LASTS + 10.0
_SOON, _LATE = 0.05, 2.0
"""Seconds between a watch that brought nothing and the next one, at first and at most."""

_TOGETHER = 0.05
"""Seconds within which changes count as one."""


class Following:
    """All objects of some kinds, kept as they are on the cluster in use; use it in a `with` block.

    The cluster is asked by threads of its own, so that whoever waits here can give up in time.

    Args:
        kinds: As kubectl takes them, with commas.
        name: Only those of that name; "" for all.
        namespace: "" for the context's own.

    Raises:
        NoTargetError: No cluster was chosen.
    """

    def __init__(self, kinds: str, name: str = "", namespace: str = "") -> None:
        self._target = targets.current()
        self._kinds, self._namespace = kinds, namespace
        self._typed = f"kubectl {' '.join(selection(kinds, name, namespace))}"
        self._query = {"fieldSelector": f"metadata.name={name}"} if name else {}
        self._found: dict[Resource, dict[str, Obj]] = {}
        self._versions: dict[Resource, str] = {}
        self._said = threading.Condition()
        self._changed = self._listed = self._watched = False
        self._failure: Exception | None = None
        self._over = threading.Event()
        self._open: set[Any] = set()
        self.silence = "the cluster has not answered"
        """Why nothing new is heard from the cluster; "" while it is."""

    def __enter__(self) -> Following:
        self._start(self._begin)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with self._said:
            for answer in self._open:
                _unblock(answer)

    def objects(self) -> list[Obj] | None:
        """The objects as they are now; None before they have been listed.

        Raises:
            ClusterError: They cannot be listed.
            NoTargetError: Another cluster answers now, or was chosen.
        """
        with self._said:
            self._changed = False
            if self._failure is not None:
                raise self._failure
            return [one for found in self._found.values() for one in found.values()] if self._listed else None

    def wait(self, timeout: float) -> None:
        """Wait until there is something new since `objects`, `timeout` seconds at most."""
        with self._said:
            if self._listed and not self._watched:
                # Not before: what is so at the first look needs no watch.
                self._watched = True
                for resource in self._found:
                    self._start(self._follow, resource)
            came = self._said.wait_for(lambda: self._changed, timeout)
        if came:
            self._over.wait(min(_TOGETHER, timeout))

    def _start(self, what: Any, *about: Any) -> None:
        threading.Thread(target=self._guarded, args=(what, *about), name=self._typed, daemon=True).start()

    def _guarded(self, what: Any, *about: Any) -> None:
        try:
            what(*about)
        except Exception as error:
            # Whoever waits is told, in the thread that waits.
            with self._said:
                self._failure, self._changed = error, True
                self._said.notify_all()

    def _begin(self) -> None:
        for resource in resources.find(self._connected(), self._kinds, self._typed):
            self._list(resource)
        with self._said:
            self._listed = self._changed = True
            self._said.notify_all()

    def _connected(self) -> Any:
        if targets.current() != self._target:
            raise NoTargetError(
                f"{self._target} is no longer the cluster in use", next_step="Run the cell again that waited."
            )
        return connected()

    def _list(self, resource: Resource) -> None:
        client = self._connected()
        path = resource.path(self._namespace or client.namespace)
        status, answer = client.send(self._typed, path, query=self._query)
        if status == 404:
            # Its CustomResourceDefinition has gone.
            answer = {"kind": "", "apiVersion": "", "items": []}
        elif status >= 400:
            raise client.refusal(self._typed, status, answer)
        with self._said:
            self._found[resource] = {one["metadata"]["name"]: one for one in items(answer)}
            self._versions[resource] = answer.get("metadata", {}).get("resourceVersion", "")
            self.silence, self._changed = "", self._listed
            self._said.notify_all()

    def _follow(self, resource: Resource) -> None:
        pause = _SOON
        while not self._over.is_set():
            begun = time.monotonic()
            try:
                if not self._versions[resource]:
                    self._list(resource)
                fruitful = self._watch(resource)
            except ClusterError as error:
                # It may come back, and whoever waits has a deadline.
                fruitful, self.silence = False, error.message
            if fruitful or time.monotonic() - begun > LASTS / 2:
                pause = _SOON
            else:
                self._versions[resource] = ""
                pause = min(pause * 2, _LATE)
            self._over.wait(pause)

    def _watch(self, resource: Resource) -> bool:
        """Watch one kind until the watch ends; whether it brought anything."""
        from kubernetes.client import ApiException
        from kubernetes.watch import Watch
        from urllib3.exceptions import HTTPError

        client = self._connected()
        path = resource.path(self._namespace or client.namespace)
        about = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": f"{LASTS:.0f}"}
        query = {**self._query, **about, "resourceVersion": self._versions[resource]}
        answer: Any = None

        def opened(**_: object) -> Any:
            nonlocal answer
            answer = client.stream(self._typed, path, query, _LOST)
            with self._said:
                self._open.add(answer)
                self.silence = ""
                if self._over.is_set():
                    _unblock(answer)
            return answer

        fruitful = False
        # The package says its types for its models only.
        begin: Any = Watch
        try:
            # With a limit it neither begins again by itself nor hides that the server has forgotten (410).
            for event in begin().stream(opened, timeout_seconds=LASTS):
                if event is None or self._over.is_set():
                    break
                self._take(resource, event["type"], event["raw_object"])
                fruitful = True
        except (HTTPError, OSError, ApiException, KeyError):
            # A connection that broke, or an ERROR (without a code, maybe): the next list or watch tells more.
            pass
        finally:
            with self._said:
                self._open.discard(answer)
        return fruitful

    def _take(self, resource: Resource, kind: str, one: Obj) -> None:
        about = one["metadata"]
        with self._said:
            self._versions[resource] = about["resourceVersion"]
            if kind == "BOOKMARK":
                return
            if kind == "DELETED":
                self._found[resource].pop(about["name"], None)
            else:
                self._found[resource][about["name"]] = one
            self._changed = True
            self._said.notify_all()


def _unblock(answer: Any) -> None:
    """End the reading of an answer by another thread. (`Watch.stop` does nothing while it is still being asked for.)"""
    # It may have come to its end by itself just now.
    with contextlib.suppress(ValueError, RuntimeError, OSError):
        answer.shutdown()
