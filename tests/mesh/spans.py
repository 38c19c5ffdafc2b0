# SPDX-License-Identifier: Apache-2.0
"""Somebody who takes spans, as Zipkin does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from .world import World

Obj = dict[str, Any]


async def body(reader: asyncio.StreamReader, head: str) -> bytes:
    """What comes after a request's head."""
    if "transfer-encoding: chunked" not in head:
        return await reader.readexactly(int(head.split("content-length:")[1].split()[0]))
    found = b""
    while size := int(await reader.readline(), 16):
        found += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return found


@contextlib.asynccontextmanager
async def collected(world: World) -> AsyncIterator[list[Obj]]:
    """The spans that come to zipkin.istio-system:9411, which is there for as long."""
    spans: list[Obj] = []

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode().lower():
                spans.extend(json.loads(await body(reader, head)))
                writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")

    pod = await world.pod("jaeger", {"app": "jaeger"}, namespace="istio-system", ports=(9411,), role="")
    async with await asyncio.start_server(collect, pod.ip, 9411):
        # Whoever is told of it before it listens loses its spans.
        world.service("zipkin", [{"name": "http", "port": 9411}], namespace="istio-system", selector={"app": "jaeger"})
        yield spans
