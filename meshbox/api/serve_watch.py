# SPDX-License-Identifier: Apache-2.0
"""The HTTP watch: changes as lines of JSON, until the client or the time says stop."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Mapping

from aiohttp import web

from labkit.ground.numbers import whole
from meshbox.api import refusals
from meshbox.api.objects import ObjectStore, selectable_fields
from meshbox.api.representations import View
from meshbox.api.resources import Resource
from meshbox.api.responses import json_response
from meshbox.api.selectors import Match, field_selector, label_selector
from meshbox.api.store import Change, dumps
from meshbox.api.watch import ChangeStream
from meshbox.contracts import ApiError, Obj

__all__ = ["Watches"]

_BOOKMARK_EVERY = 60.0
"""Seconds between bookmarks."""


class Watches:
    """Serves watches and ends them when the server stops.

    Args:
        objects: What is watched.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._open: set[ChangeStream] = set()

    def __len__(self) -> int:
        return len(self._open)

    def close(self) -> None:
        """End all watches."""
        for stream in list(self._open):
            stream.close()

    async def serve(
        self, request: web.Request, resource: Resource, namespace: str | None, name: str, view: View
    ) -> web.StreamResponse:
        """Answer a watch of a collection (of one object, where `name` is given)."""
        query = request.query
        wanted = _Selection(resource, namespace, name, query)
        begin = _Begin(query, self._objects.store.version)
        backlog: list[Change] | None = []
        if begin.since is not None:
            backlog = self._objects.store.since(resource.name, begin.since)
        stream = ChangeStream(self._objects.store, resource.name, backlog or ())
        self._open.add(stream)
        try:
            first: list[bytes] = []
            if begin.initial:
                entries = self._objects.store.entries(resource.name, namespace if resource.namespaced else None)
                first = [view.event("ADDED", entry) for entry in entries if wanted(entry.obj)]
            if begin.marked:
                first.append(view.bookmark(self._objects.store.version, initial_events_end=True))
            if backlog is None:
                message = f"too old resource version: {begin.since} ({self._objects.store.version})"
                return json_response(_error_line(refusals.expired(message)))
            response = web.StreamResponse(
                headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
            )
            await response.prepare(request)
            await response.write(b"".join(first))
            try:
                await self._follow(response, stream, wanted, view, query)
            except Exception as error:
                if isinstance(error, ConnectionError):
                    raise
                # The answer is long begun: its last line says it, as Kubernetes' own does, and the client lists anew.
                said = refusals.internal(error, f"watch of {resource.name} ended")
                await response.write(_error_line(said))
                await response.write_eof()
        except (ConnectionError, asyncio.CancelledError):
            # The client went away, as every watch ends.
            if stream.closed:
                raise
        finally:
            self._open.discard(stream)
            stream.close()
        return response

    async def _follow(
        self,
        response: web.StreamResponse,
        stream: ChangeStream,
        wanted: _Selection,
        view: View,
        query: Mapping[str, str],
    ) -> None:
        bookmarks = query.get("allowWatchBookmarks") in ("true", "1")
        end = time.monotonic() + _timeout(query)
        while not stream.closed:
            pause = min(_BOOKMARK_EVERY, end - time.monotonic())
            if pause <= 0:
                break
            try:
                await asyncio.wait_for(stream.wait(), pause)
            except TimeoutError:
                if bookmarks:
                    await response.write(view.bookmark(self._objects.store.version, initial_events_end=False))
                continue
            lines = [line for change in stream.take() if (line := wanted.line(change, view))]
            if lines:
                await response.write(b"".join(lines))
        if stream.overflowed:
            await response.write(_error_line(refusals.expired()))
        await response.write_eof()


def _error_line(error: ApiError) -> bytes:
    return b'{"type":"ERROR","object":%s}\n' % dumps(error.status())


def _timeout(query: Mapping[str, str]) -> float:
    text = query.get("timeoutSeconds", "")
    if (seconds := whole(text) or 0) > 0:
        return float(min(seconds, 86400))
    return random.uniform(1800, 3600)


class _Begin:
    """Where a watch begins: with all there is, or after a resourceVersion."""

    def __init__(self, query: Mapping[str, str], current: int) -> None:
        version = query.get("resourceVersion", "")
        if version and (whole(version) is None or version.startswith("-")):
            raise ApiError(
                400, "BadRequest", f'Invalid value: "{version}": resourceVersion must be an unsigned integer'
            )
        asked = query.get("sendInitialEvents")
        match = query.get("resourceVersionMatch", "")
        causes = _forbidden(asked, match)
        if causes:
            said = ", ".join(f"{one['field']}: {one['message']}" for one in causes)
            message = f'ListOptions.meta.k8s.io "" is invalid: {said}'
            details = {"group": "meta.k8s.io", "kind": "ListOptions", "causes": causes}
            raise ApiError(422, "Invalid", message, details)
        exact = version not in ("", "0")
        self.initial = asked in ("true", "1") or (asked is None and not exact)
        self.marked = asked in ("true", "1") and query.get("allowWatchBookmarks") in ("true", "1")
        self.since = int(version) if exact and not self.initial else None
        if exact and int(version) > current:
            # Of another life of this cluster: only a new list can help.
            raise ApiError(
                504,
                "Timeout",
                f"Too large resource version: {version}, current: {current}",
                {
                    "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                    "retryAfterSeconds": 1,
                },
            )


def _forbidden(asked: str | None, match: str) -> list[Obj]:
    if asked is None and match:
        return [
            refusals.cause("resourceVersionMatch", "Forbidden: resourceVersionMatch is forbidden for watch")
            | {"reason": "FieldValueForbidden"}
        ]
    if asked is not None and match != "NotOlderThan":
        words = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        return [refusals.cause("resourceVersionMatch", words)]
    return []


class _Selection:
    """Which objects a watch is about; a change may bring one in or take it out."""

    def __init__(self, resource: Resource, namespace: str | None, name: str, query: Mapping[str, str]) -> None:
        self._namespace = namespace if resource.namespaced else None
        self._name = name
        fields = field_selector(query.get("fieldSelector", ""), resource.name, selectable_fields(resource))
        labels = label_selector(query.get("labelSelector", ""))
        self._matches: Iterable[Match] = [match for match in (labels, fields) if match is not None]

    def __call__(self, obj: Obj | None) -> bool:
        if obj is None:
            return False
        meta = obj["metadata"]
        if self._namespace is not None and meta["namespace"] != self._namespace:
            return False
        if self._name and meta["name"] != self._name:
            return False
        return all(match(obj) for match in self._matches)

    def line(self, change: Change, view: View) -> bytes:
        """The event that this watch's client sees, if any."""
        before = change.previous is not None and self(change.previous)
        after = change.type != "DELETED" and self(change.entry.obj)
        if before and after:
            return view.event("MODIFIED", change.entry)
        if after:
            return view.event("ADDED", change.entry)
        if before:
            return view.event("DELETED", change.entry)
        return b""
