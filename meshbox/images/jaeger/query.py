# SPDX-License-Identifier: Apache-2.0
"""Jaeger's query API, the one of its own pages: what each path and parameter means."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from urllib.parse import unquote

from meshbox.images.jaeger.parameters import BadQueryError, duration, first, hexadecimal, tags, whole
from meshbox.images.jaeger.spans import Json
from meshbox.images.jaeger.store import Query, TraceStore

__all__ = ["BadQueryError", "answer", "duration"]

_LIMIT, _MAX_LIMIT = 100, 10_000
_LOOKBACK = 48 * 3600 * 1_000_000
"""Microseconds that a search goes back which does not say its start."""
_DAY = 24 * 3600 * 1000


def _named(values: Mapping[str, list[str]], name: str, default: int) -> int:
    """A whole number, in whose message Jaeger names the parameter."""
    text = first(values, name)
    try:
        return whole(text) if text else default
    except BadQueryError as error:
        raise BadQueryError(f"unable to parse param '{name}': {error}") from None


def _lasting(values: Mapping[str, list[str]], name: str) -> int:
    try:
        return duration(first(values, name))
    except BadQueryError as error:
        raise BadQueryError(f"unable to parse param '{name}': {error}") from None


def _query(values: Mapping[str, list[str]]) -> Query:
    now = int(time.time() * 1e6)
    start, end = _named(values, "start", now - _LOOKBACK), _named(values, "end", 0)
    wanted = tags(values)
    limit = whole(first(values, "limit"), bits=32) if first(values, "limit") else _LIMIT
    least, most = _lasting(values, "minDuration"), _lasting(values, "maxDuration")
    service = first(values, "service")
    if not service:
        raise BadQueryError("parameter 'service' is required")
    if least and most and most < least:
        raise BadQueryError("'maxDuration' should be greater than 'minDuration'")
    return Query(
        service=service,
        operation=first(values, "operation"),
        tags=wanted,
        start=start,
        end=end,
        min_duration=least,
        max_duration=most,
        limit=min(limit if limit > 0 else _LIMIT, _MAX_LIMIT),
    )


def _list(data: list[str] | list[Json], total: int | None = None) -> Json:
    return {"data": data, "total": len(data) if total is None else total, "limit": 0, "offset": 0, "errors": None}


def _error(code: int, message: str) -> tuple[int, Json]:
    return code, {"data": None, "total": 0, "limit": 0, "offset": 0, "errors": [{"code": code, "msg": message}]}


def answer(store: TraceStore, path: str, values: Mapping[str, list[str]]) -> tuple[int, Json]:
    """Answer a GET below /api/.

    Args:
        store: Where the traces are.
        path: What follows "/api/", e.g. "traces/4bf92f3577b34da6".
        values: The query parameters, as `urllib.parse.parse_qs` gives them.

    Returns:
        Status code and body, as Jaeger's query service answers.
    """
    try:
        return _answer(store, path, values)
    except BadQueryError as error:
        return _error(400, str(error))


def _answer(store: TraceStore, path: str, values: Mapping[str, list[str]]) -> tuple[int, Json]:
    if path == "services":
        return 200, _list(store.services())
    if match := re.fullmatch(r"services/([^/]+)/operations", path):
        return 200, _list(sorted({name for name, _ in store.operations(unquote(match[1]))}))
    if path == "operations":
        service, kind = first(values, "service"), first(values, "spanKind")
        if not service:
            raise BadQueryError("parameter 'service' is required")
        found = store.operations(service)
        return 200, _list([{"name": name, "spanKind": of} for name, of in found if not kind or of == kind])
    if path == "traces":
        if ids := values.get("traceID"):
            return _several(store, ids)
        return 200, _list(store.find(_query(values)), 0)
    if match := re.fullmatch(r"traces/([^/]+)", path):
        try:
            trace = store.trace(hexadecimal(unquote(match[1])))
        except BadQueryError as error:
            raise BadQueryError(f"unable to parse param 'traceID': {error}") from None
        return (200, _list([trace], 0)) if trace else _error(404, "trace not found")
    if path == "dependencies":
        end = _named(values, "endTs", int(time.time() * 1000))
        start = end - _named(values, "lookback", _DAY)
        return 200, _list(store.dependencies(start * 1000, end * 1000), 0)
    return _error(404, f"no such page: /api/{path}")


def _several(store: TraceStore, ids: list[str]) -> tuple[int, Json]:
    """The traces with these ids; of those that are not there an error each beside them, as in Jaeger."""
    try:
        asked = [hexadecimal(one) for one in ids]
    except BadQueryError as error:
        raise BadQueryError(f"cannot parse traceID param: {error}") from None
    found = {one: store.trace(one) for one in asked}
    lost = [{"msg": "trace not found", "traceID": one} for one, trace in found.items() if trace is None]
    return 200, _list([trace for trace in found.values() if trace], 0) | {"errors": lost or None}
