# SPDX-License-Identifier: Apache-2.0
"""``kubectl logs``: a container's log as chunked text, flushed as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from aiohttp import web

from meshbox import failures
from meshbox.api.options_read import whole_option
from meshbox.api.streams.attach import log_was_read
from meshbox.api.streams.container import chosen_container
from meshbox.api.streams.upgrade import flag
from meshbox.api.streams.wire import TakenConnection
from meshbox.contracts import ApiError, Obj, PodRuntime

__all__ = ["serve_log"]

_FIRST_WORD = 0.1
"""Seconds in which the node may still refuse; then the answer begins, though there may be no log line for long."""


_LEAST = ((0, "tail_lines", "tailLines"), (1, "limit_bytes", "limitBytes"), (1, "since_seconds", "sinceSeconds"))


def _integer(request: web.Request, name: str) -> int | None:
    text = request.query.get(name, "")
    if not text:
        return None
    return whole_option(text)


def _options(request: web.Request, pod: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "follow": flag(request, "follow"),
        "previous": flag(request, "previous"),
        "timestamps": flag(request, "timestamps"),
        "tail_lines": _integer(request, "tailLines"),
        "since_seconds": _integer(request, "sinceSeconds"),
        "since_time": request.query.get("sinceTime", ""),
        "limit_bytes": _integer(request, "limitBytes"),
    }
    for least, field, name in _LEAST:
        if (value := options[field]) is not None and value < least:
            words = "must be greater than 0" if least else "must be greater than or equal to 0"
            raise _invalid(pod, name, f"Invalid value: {value}: {words}", "FieldValueInvalid")
    if options["since_seconds"] is not None and options["since_time"]:
        words = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
        raise _invalid(pod, "", words, "FieldValueForbidden")
    return options


def _invalid(pod: str, field: str, message: str, cause: str) -> ApiError:
    return ApiError(
        422,
        "Invalid",
        f'PodLogOptions "{pod}" is invalid: {field}: {message}',
        {"name": pod, "kind": "PodLogOptions", "causes": [{"reason": cause, "message": message, "field": field}]},
    )


async def serve_log(request: web.Request, runtime: PodRuntime, pod: Obj) -> web.StreamResponse:
    """Answer with the log of a container.

    Raises:
        ApiError: 400 or 422 for the query, and what the node says.
    """
    options = _options(request, pod["metadata"]["name"])
    container = chosen_container(pod, request.query.get("container", ""))
    if not pod["spec"].get("nodeName"):
        return web.Response(text="", content_type="text/plain")
    metadata = pod["metadata"]
    chunks = runtime.logs(metadata["namespace"], metadata["name"], container, **options)
    async with aclosing(_Steps(chunks)) as steps:
        # A refusal must come before the first byte of the answer.
        await steps.begin(_FIRST_WORD)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        if options["follow"]:
            response.force_close()
            await response.prepare(request)
            await _follow(request, response, steps)
        else:
            await response.prepare(request)
            size = await _copy(response, steps)
            if not any(options.values()):
                log_was_read(runtime, pod, container, size)
    return response


async def _copy(response: web.StreamResponse, steps: _Steps) -> int:
    """Send all that comes; how many bytes that was."""
    size = 0
    try:
        while chunk := await steps.next():
            size += len(chunk)
            await response.write(chunk)
    except ConnectionError:
        pass
    except ApiError as error:
        # The status is long sent: as the kubelet does, the log ends with what went wrong.
        await response.write(f"{error.message}\n".encode())
    except Exception as error:
        await response.write(f"{failures.noted(error, 'a log could not be read on')}\n".encode())
    return size


async def _follow(request: web.Request, response: web.StreamResponse, steps: _Steps) -> None:
    try:
        gone = asyncio.ensure_future(TakenConnection(request).until_gone())
    except ConnectionError:
        return
    copy = asyncio.ensure_future(_copy(response, steps))
    try:
        await asyncio.wait({copy, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (copy, gone):
            task.cancel()
        results = await asyncio.gather(copy, gone, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


class _Steps:
    """An iterator whose first step may be waited for without losing it."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._first: asyncio.Future[bytes] | None = None

    async def begin(self, patience: float) -> None:
        self._first = asyncio.ensure_future(self._step())
        await asyncio.wait({self._first}, timeout=patience)
        if self._first.done():
            # Raises what the node refuses with.
            self._first.result()

    async def next(self) -> bytes:
        """The next bytes that are not empty; b"" at the end."""
        if self._first is not None:
            first, self._first = self._first, None
            try:
                return await first
            except asyncio.CancelledError:
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)
                raise
        return await self._step()

    async def _step(self) -> bytes:
        async for chunk in self._chunks:
            if chunk:
                return chunk
        return b""

    async def aclose(self) -> None:
        if self._first is not None:
            self._first.cancel()
            await asyncio.gather(self._first, return_exceptions=True)
        close = getattr(self._chunks, "aclose", None)
        if close is not None:
            await close()
