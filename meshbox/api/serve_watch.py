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
from meshbox.api.lists import no_version, too_new
from meshbox.api.objects import ObjectStore, selectable_fields
from meshbox.api.options_read import invalid_options
from meshbox.api.representations import View
from meshbox.api.resources import Resource
from meshbox.api.responses import json_response
from meshbox.api.selectors import Match, field_selector, label_selector
from meshbox.api.store import Change
from meshbox.api.watch import ChangeStream
from meshbox.contracts import ApiError, Obj
from meshbox.values import dumps

__all__ = ["Watches"]

_BOOKMARK_EVERY = 60.0
"""Seconds between bookmarks."""

_LAST_BOOKMARK = 2.0
"""Seconds before the end of a watch that is told of: what it has not seen by then it sees in its next."""


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
        begin = _Begin(resource, query, self._objects.store.version)
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
        begun = time.monotonic()
        end = begun + _timeout(query)
        last = end - _LAST_BOOKMARK
        mark = min(begun + _BOOKMARK_EVERY, last) if bookmarks and last > begun else end
        while not stream.closed and (now := time.monotonic()) < end:
            if now >= mark:
                await response.write(view.bookmark(self._objects.store.version, initial_events_end=False))
                mark = min(mark + _BOOKMARK_EVERY, last) if mark < last else end
            try:
                await asyncio.wait_for(stream.wait(), max(0.0, mark - now))
            except TimeoutError:
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

    def __init__(self, resource: Resource, query: Mapping[str, str], current: int) -> None:
        version = query.get("resourceVersion", "")
        if version and (words := no_version(version)):
            raise refusals.invalid(resource, "", [refusals.cause("resourceVersion", words)])
        asked = query.get("sendInitialEvents")
        if wrong := _forbidden(asked, query.get("resourceVersionMatch", ""), query.get("continue", "")):
            raise invalid_options(wrong, "ListOptions")
        exact = version not in ("", "0")
        self.initial = asked in ("true", "1") or (asked is None and not exact)
        self.marked = asked in ("true", "1") and query.get("allowWatchBookmarks") in ("true", "1")
        self.since = int(version) if exact and not self.initial else None
        if exact and int(version) > current:
            raise too_new(int(version), current)


def _forbidden(asked: str | None, match: str, token: str) -> list[tuple[str, str]]:
    field, wanted, wrong = "resourceVersionMatch", "NotOlderThan", []
    if asked is not None and match != wanted:
        wrong.append(f"Forbidden: sendInitialEvents requires setting {field} to {wanted}")
    if match and asked is None:
        wrong.append(f"Forbidden: {field} is forbidden for watch unless sendInitialEvents is provided")
    if match and match != wanted:
        wrong.append(f'Unsupported value: {refusals.quoted(match)}: supported values: "{wanted}"')
    if (match or asked is not None) and token:
        wrong.append(f"Forbidden: {field} is forbidden when continue is provided")
    return [(field, words) for words in wrong]


class _Selection:
    """Which objects a watch is about; a change may bring one in or take it out."""

    def __init__(self, resource: Resource, namespace: str | None, name: str, query: Mapping[str, str]) -> None:
        self._namespace = namespace if resource.namespaced else None
        self._name = name
        fields = field_selector(
            query.get("fieldSelector", ""), resource.selected or resource.name, selectable_fields(resource)
        )
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
