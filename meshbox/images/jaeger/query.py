# SPDX-License-Identifier: Apache-2.0
"""Jaeger's query API: what each path and parameter means."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from urllib.parse import unquote

from labkit.ground import duration as durations
from labkit.ground import reading
from meshbox.images.jaeger.spans import Json
from meshbox.images.jaeger.store import Query, TraceStore

__all__ = ["BadQueryError", "answer", "duration"]

_MAX_LIMIT = 10_000


class BadQueryError(ValueError):
    """A parameter that cannot be understood."""


def duration(text: str) -> int:
    """Microseconds of a Go duration such as "1.5s", "100ms" or "1m30s"; 0 for an empty text.

    Raises:
        BadQueryError: `text` is none.
    """
    try:
        return durations.from_go(text) // 1000 if text else 0
    except ValueError:
        raise BadQueryError(f"{text!r} is not a duration such as 100ms or 1.2s") from None


def _integer(values: Mapping[str, list[str]], name: str, default: int) -> int:
    text = values.get(name, [""])[0]
    try:
        return int(text) if text else default
    except ValueError:
        raise BadQueryError(f"parameter {name!r} must be a whole number, not {text!r}") from None


def _tags(values: Mapping[str, list[str]]) -> tuple[tuple[str, str], ...]:
    pairs = dict(text.split(":", 1) for text in values.get("tag", []) if ":" in text)
    for text in values.get("tags", []):
        try:
            given = reading.json_value(text)
        except reading.ReadingError:
            given = None
        if not isinstance(given, dict):
            raise BadQueryError(f'parameter \'tags\' must be a JSON object such as {{"error":"true"}}, not {text!r}')
        pairs |= {str(key): value if isinstance(value, str) else json.dumps(value) for key, value in given.items()}
    return tuple(sorted(pairs.items()))


def _query(values: Mapping[str, list[str]]) -> Query:
    service = values.get("service", [""])[0]
    if not service:
        raise BadQueryError("parameter 'service' is required")
    now = int(time.time() * 1e6)
    lookback = values.get("lookback", [""])[0]
    start = _integer(values, "start", 0)
    if not start and lookback and lookback != "custom":
        start = now - duration(lookback)
    limit = _integer(values, "limit", 100)
    if not 1 <= limit <= _MAX_LIMIT:
        raise BadQueryError(f"parameter 'limit' must be from 1 to {_MAX_LIMIT}, not {limit}")
    return Query(
        service=service,
        operation=values.get("operation", [""])[0],
        tags=_tags(values),
        start=start,
        end=_integer(values, "end", 0),
        min_duration=duration(values.get("minDuration", [""])[0]),
        max_duration=duration(values.get("maxDuration", [""])[0]),
        limit=limit,
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
        return _error(400, f"unable to parse param: {error}")


def _answer(store: TraceStore, path: str, values: Mapping[str, list[str]]) -> tuple[int, Json]:
    if path == "services":
        return 200, _list(store.services())
    if match := re.fullmatch(r"services/([^/]+)/operations", path):
        return 200, _list(sorted({name for name, _ in store.operations(unquote(match[1]))}))
    if path == "operations":
        service, kind = values.get("service", [""])[0], values.get("spanKind", [""])[0]
        if not service:
            raise BadQueryError("parameter 'service' is required")
        found = store.operations(service)
        return 200, _list([{"name": name, "spanKind": of} for name, of in found if not kind or of == kind])
    if path == "traces":
        if ids := values.get("traceID"):
            return 200, _list([trace for one in ids if (trace := store.trace(one.lower()))], 0)
        return 200, _list(store.find(_query(values)), 0)
    if match := re.fullmatch(r"traces/([0-9a-fA-F]{1,32})", path):
        trace = store.trace(match[1].lower())
        return (200, _list([trace], 0)) if trace else _error(404, "trace not found")
    if path == "dependencies":
        end = _integer(values, "endTs", int(time.time() * 1000))
        start = end - _integer(values, "lookback", 24 * 3600 * 1000)
        return 200, _list(store.dependencies(start * 1000, end * 1000), 0)
    return _error(404, f"no such page: /api/{path}")
