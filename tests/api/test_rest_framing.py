# SPDX-License-Identifier: Apache-2.0
"""The API server and who only pretends to speak HTTP: bounded time, one line in the log, no body before the token."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import ssl

import pytest

from meshbox.api import bodies
from tests.conftest import PATIENCE

from .conftest import MAPS, Cluster, config_map


async def raw(cluster: Cluster, *sent: bytes, seconds: float = PATIENCE) -> bytes:
    """What the server says before it closes."""
    context = ssl.create_default_context(cafile=str(cluster.settings.home / "ca.crt"))
    reader, writer = await asyncio.open_connection(cluster.settings.plan.node, cluster.server.port, ssl=context)
    async with asyncio.timeout(seconds):
        with contextlib.suppress(ConnectionError):
            for data in sent:
                writer.write(data)
                await writer.drain()
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


def head(cluster: Cluster, *lines: str, token: str | None = None, method: str = "POST") -> bytes:
    host = f"{cluster.settings.plan.node}:{cluster.server.port}"
    told = token if token is not None else cluster.settings.token
    common = [
        f"{method} {MAPS} HTTP/1.1",
        f"Host: {host}",
        f"Authorization: Bearer {told}",
        "Content-Type: application/json",
    ]
    return "\r\n".join([*common, *lines, "", ""]).encode()


NONSENSE = [
    b"nonsense\r\n\r\n",
    b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000 + b"\r\n",
    b"GET / HTTP/1.1\r\na: " + b"b" * 1_000_000 + b"\r\n\r\n",
    b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("sent", NONSENSE, ids=lambda sent: repr(sent[:60]))
async def test_what_is_no_http_costs_a_line_in_the_log(
    cluster: Cluster, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "aiohttp.server"):
        answer = await raw(cluster, sent)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert b"400 Bad Request" in answer or answer == b""
    assert len([one for one in caplog.records if one.levelno >= logging.WARNING]) <= 1
    assert all(one.exc_info is None for one in caplog.records)
    assert all(len(one.getMessage()) < 300 for one in caplog.records)


@pytest.mark.long
async def test_without_a_token_no_body_is_taken(cluster: Cluster) -> None:
    answer = await raw(cluster, head(cluster, "Content-Length: 3000000", token="wrong"), b"x" * 100_000)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"Connection: close" in answer
    # Who waits to be asked for his body is asked only if he may send it.
    answer = await raw(cluster, head(cluster, "Content-Length: 3", "Expect: 100-continue", token="wrong"))
    assert answer.startswith(b"HTTP/1.1 401 ")
    body = json.dumps(config_map()).encode()
    lines = (f"Content-Length: {len(body)}", "Expect: 100-continue", "Connection: close")
    answer = await raw(cluster, head(cluster, *lines), body)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created")


@pytest.mark.long
async def test_a_body_that_drips_is_not_waited_for(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)
    answer = await raw(cluster, head(cluster, "Content-Length: 1000", "Connection: close"), b'{"a":')
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"reason":"Timeout"' in answer


@pytest.mark.parametrize("chunk", [b"zz\r\n", b"-5\r\nxxxxx\r\n", b"5\r\nxx\r\n0\r\n\r\n", b"ffffffffffffffffff\r\nx"])
async def test_bad_chunks_are_a_bad_request(cluster: Cluster, chunk: bytes, caplog: pytest.LogCaptureFixture) -> None:
    answer = await raw(cluster, head(cluster, "Transfer-Encoding: chunked", "Connection: close"), chunk)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert "Traceback" not in caplog.text


@pytest.mark.long
async def test_compressed_bodies_are_not_unfolded(cluster: Cluster) -> None:
    bomb = gzip.compress(b" " * 500_000_000, 1)
    assert len(bomb) < bodies.BODY_LIMIT
    reply = await cluster.request("POST", MAPS, bomb, headers={"Content-Encoding": "gzip"})
    assert reply.status == 400
    assert "not UTF-8" in reply.body["message"]


async def test_warnings_are_bounded_and_printable(cluster: Cluster) -> None:
    obj = {**config_map(), **{f"odd\x1b[2J{number}" + "x" * 500: 1 for number in range(100)}}
    reply = await cluster.request("POST", MAPS, obj)
    assert reply.status == 201
    told = reply.headers.getall("Warning")
    assert 10 < len(told) < 20
    assert all(len(one) < 300 and one.isprintable() for one in told)


@pytest.mark.parametrize("protocol", ["websocket", "SPDY/3.1", "h2c"])
async def test_an_upgrade_that_nobody_wants_ends_the_connection(cluster: Cluster, protocol: str) -> None:
    body = json.dumps(config_map()).encode()
    upgrade = ("Connection: Upgrade", f"Upgrade: {protocol}", f"Content-Length: {len(body)}")
    answer = await raw(cluster, head(cluster, *upgrade), body, head(cluster, method="GET"))
    assert answer.startswith(b"HTTP/1.1 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert (await cluster.request("GET", MAPS)).status == 200
