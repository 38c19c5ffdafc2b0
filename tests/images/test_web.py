# SPDX-License-Identifier: Apache-2.0
"""The stand-ins' HTTP server, as clients and proxies meet it: in a pod's own process."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from labkit.ground.client import send
from tests.node.conftest import Cluster, running

GO = {"image": "docker.io/mccutchen/go-httpbin:v2.15.0"}
PORT = 8080


@pytest.fixture
async def httpbin(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running(tmp_path / "home") as cluster:
        cluster.pod("httpbin", {**GO, "readinessProbe": {"httpGet": {"path": "/status/200", "port": PORT}}})
        await cluster.until(lambda: cluster.ready("httpbin"))
        yield cluster


def address(cluster: Cluster) -> str:
    return str(cluster.status("httpbin")["podIP"])


async def aside(work: Callable[..., Any], *arguments: Any) -> Any:
    """Run blocking `work` beside the node's event loop."""
    return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)


def raw(host: str, data: bytes, *, half: bool = False) -> bytes:
    """What comes back for `data`, until the server closes."""
    with socket.create_connection((host, PORT), timeout=120) as connection:
        connection.sendall(data)
        if half:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


async def test_a_connection_serves_many_requests(httpbin: Cluster) -> None:
    def many() -> list[int]:
        connection = http.client.HTTPConnection(address(httpbin), PORT, timeout=60)
        statuses = []
        for method, path, body in (("GET", "/get", None), ("POST", "/post", b"x" * 70000), ("HEAD", "/get", None)):
            connection.request(method, path, body)
            own = connection.sock
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
            assert connection.sock is own
        connection.close()
        return statuses

    assert await aside(many) == [200, 200, 200]


async def test_chunked_bodies_both_ways(httpbin: Cluster) -> None:
    def chunked() -> tuple[Any, bytes]:
        connection = http.client.HTTPConnection(address(httpbin), PORT, timeout=60)
        connection.request("POST", "/post", iter([b"abc", b"def"]), encode_chunked=True)
        echoed = json.loads(connection.getresponse().read())
        connection.request("GET", "/stream/2")
        streamed = connection.getresponse().read()
        connection.close()
        return echoed, streamed

    echoed, streamed = await aside(chunked)
    assert echoed["data"] == "abcdef"
    assert len(streamed.splitlines()) == 2


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"GET /status/204 HTTP/1.1\r\nConnection: close\r\n\r\n", b"HTTP/1.1 204 No Content"),
        (b"GET /status/200 HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK"),
        (
            b"POST /post HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx",
            b"HTTP/1.1 100 C",
        ),
        (b"nonsense\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
        (b"GET / HTTP/2.0\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
        (b"POST /post HTTP/1.1\r\nContent-Length: many\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
        (b"POST /post HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
        (b"POST /post HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"HTTP/1.1 400 Bad Request"),
        (b"POST /post HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"HTTP/1.1 413 "),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 500 + b"\r\n", b"HTTP/1.1 431 "),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", b"HTTP/1.1 400 Bad Request"),
        (b"", b""),
        (b"GET /get HTTP/1.1\r\nHost", b""),
    ],
)
async def test_whatever_comes_is_answered_or_closed(httpbin: Cluster, request_: bytes, answer: bytes) -> None:
    got = await aside(lambda: raw(address(httpbin), request_, half=True))
    assert got.startswith(answer)
    # And the server lives on.
    answer = await aside(lambda: send(f"http://{address(httpbin)}:{PORT}/status/200", timeout=60.0))
    assert (answer.status, answer.body) == (200, b"")
    assert httpbin.container("httpbin")["restartCount"] == 0
    assert "Traceback" not in await httpbin.log("httpbin")


async def test_sigterm_lets_a_request_in_flight_finish(httpbin: Cluster) -> None:
    host = address(httpbin)
    connection = http.client.HTTPConnection(host, PORT, timeout=60)
    await aside(connection.request, "GET", "/delay/1")
    own = connection.sock.getsockname()[1]
    await httpbin.until(lambda: _taken(host, own))
    httpbin.objects.delete("pods", "httpbin", "default")
    answer = await aside(connection.getresponse)
    assert answer.status == 200
    assert json.loads(await aside(answer.read))["url"].endswith("/delay/1")
    connection.close()
    await httpbin.until(lambda: httpbin.gone("httpbin"))


def _taken(host: str, port: int) -> bool:
    """Whether the server has read what was sent from `port` (in the kernel's own table: both ends, state 01, queues);
    a probe of the kubelet's is connected as well.
    """
    octets = [int(part) for part in host.split(".")]
    local = f"{octets[3]:02X}{octets[2]:02X}{octets[1]:02X}{octets[0]:02X}:{PORT:04X}"
    found = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    waiting = [
        one[4].partition(":")[2] for one in found if (one[1], one[2][-4:], one[3]) == (local, f"{port:04X}", "01")
    ]
    return [int(size, 16) for size in waiting] == [0]


async def test_a_port_in_use_is_told_in_the_log(httpbin: Cluster) -> None:
    bind = address(httpbin)
    blocker = await asyncio.start_server(lambda _r, w: w.close(), bind, 7070)
    httpbin.pod("second", {**GO, "args": ["-port", "7070"]}, restartPolicy="Never")
    await httpbin.until(lambda: httpbin.ready("second"))
    other = httpbin.status("second")["podIP"]
    code, _, err = await httpbin.exec(["sh", "-c", f"LABKIT_BIND={bind} exec python3 -c '{_SERVE}'"], "second")
    assert code == 1
    assert err == f"{bind}: cannot listen on port 7070: Address already in use\n"
    assert other != bind
    blocker.close()


_SERVE = (
    "import sys; "
    f'sys.path.insert(0, "{Path(__file__).resolve().parent.parent.parent}"); '
    "from labkit.ground.web import serve; sys.exit(serve({7070: None}))"
)
