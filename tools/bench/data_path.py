# SPDX-License-Identifier: Apache-2.0
"""What a request costs on its way: through two sidecars, and from the gateway to the second application."""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tools.bench.bare import bare_envoy, bare_server, ending
from tools.bench.figures import Figure
from tools.bench.world import World, spent, status_of, wait_for

CLIENT = """
import http.client, json, sys, time
host, port, path, header, rounds = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])
connection = http.client.HTTPConnection(host, port)
times = []
for index in range(rounds + 200):
    began = time.perf_counter()
    connection.request("GET", path, headers={"Host": header})
    answer = connection.getresponse(); answer.read()
    assert answer.status == 200, answer.status
    if index >= 200: times.append(time.perf_counter() - began)
print(json.dumps(times))
"""

THREE_PROXIES = "/api/v1/products/0"
"""A page of productpage's for which it asks details: the gateway's proxy and two sidecars pass it on."""


def _latency(host: str, port: int, path: str, header: str, rounds: int) -> list[float]:
    command = [sys.executable, "-c", CLIENT, host, str(port), path, header, str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    times: list[float] = json.loads(done.stdout)
    return times


def hop(here: World, rounds: int = 1500) -> list[Figure]:
    """One call through two sidecars, against two bare Envoys in front of the same app, and against the app alone."""
    pods = json.loads(here.kubectl("get", "pods", "-n", "bookinfo", "-o", "json"))["items"]
    by_app = {pod["metadata"]["labels"]["app"]: pod["status"]["podIP"] for pod in pods}

    def local(address: str) -> str:
        a, b, c, d = address.split(".")
        return f"{a}.{b}.{int(c) + 64}.{d}"

    app = (local(by_app["details"]), 9080)
    path, host = "/details/0", "details.bookinfo:9080"
    times: dict[str, list[float]] = {"direct": [], "bare": [], "mesh": []}
    used = {"bare": 0.0, "mesh": 0.0}
    with tempfile.TemporaryDirectory() as name:
        second, second_port = bare_envoy(Path(name), app)
        first, first_port = bare_envoy(Path(name), ("127.0.0.1", second_port))
        with ending([first, second]):
            wait_for(lambda: status_of("127.0.0.1", first_port, "/details/0") == 200)
            bare = [psutil.Process(process.pid) for process in (first, second)]
            sidecars = [one for one in here.processes() if "envoy" in one.name()]
            # Taken in turns, so that a noisy moment hits all three.
            for _ in range(3):
                times["direct"] += _latency(*app, path, host, rounds // 3)
                for what, proxies, address in (
                    ("bare", bare, ("127.0.0.1", first_port)),
                    ("mesh", sidecars, (local(by_app["productpage"]), 15001)),
                ):
                    before = spent(proxies)
                    times[what] += _latency(*address, path, host, rounds // 3)
                    used[what] += spent(proxies) - before
    p50 = {name: statistics.median(taken) * 1000 for name, taken in times.items()}
    p99 = {name: statistics.quantiles(taken, n=100)[98] * 1000 for name, taken in times.items()}
    return [
        Figure("two-sidecar hop, p50", p50["mesh"], "ms", p50["bare"], "two bare Envoys"),
        Figure("two-sidecar hop, p99", p99["mesh"], "ms", p99["bare"], "two bare Envoys"),
        Figure("the app alone, p50", p50["direct"], "ms", None, ""),
        Figure("two-sidecar hop / two bare Envoys, p50", p50["mesh"] / p50["bare"], "×", None, "", 1.2),
        Figure("two-sidecar hop / two bare Envoys, CPU", used["mesh"] / used["bare"], "×", None, "", 1.2),
    ]


CLIENTS, EACH = 8, 400


def throughput(here: World) -> list[Figure]:
    """As many requests as go through from the gateway to details and back, eight at a time, and the daemon's share."""
    daemon = [one for one in here.processes() if "meshbox.daemon" in one.cmdline()]
    _load(*here.gateway(), THREE_PROXIES, EACH // 4)
    # What it does anyhow, asked and unasked, is not a request's.
    before, began = spent(daemon), time.monotonic()
    time.sleep(3)
    idle = (spent(daemon) - before) / (time.monotonic() - began)
    before = spent(daemon)
    took = _load(*here.gateway(), THREE_PROXIES, EACH)
    share = max(0.0, spent(daemon) - before - idle * took) / (CLIENTS * EACH)
    server, port = bare_server()
    with tempfile.TemporaryDirectory() as name:
        envoy, envoy_port = bare_envoy(Path(name), ("127.0.0.1", port))
        with ending([server, envoy]):
            wait_for(lambda: status_of("127.0.0.1", envoy_port, "/") == 200)
            floor = _load("127.0.0.1", envoy_port, "/", EACH)
    many = CLIENTS * EACH
    return [
        Figure(
            f"gateway → productpage → details, {many / took:.0f} a second",
            took / many * 1000,
            "ms",
            floor / many * 1000,
            "one bare Envoy, one Python",
            1000 / 700,
        ),
        Figure("the daemon's share of such a request, CPU", share * 1e6, "µs", None, "", 10.0),
    ]


class _Client(asyncio.Protocol):
    """A connection that asks again as soon as it has an answer; as little work of its own as can be."""

    def __init__(self, request: bytes, count: int) -> None:
        self.request, self.left = request, count
        self.done = asyncio.get_running_loop().create_future()
        self.seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.seen += data
        head, end, body = self.seen.partition(b"\r\n\r\n")
        if not end:
            return
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if len(body) < int(length[1]) if length else not body.endswith(b"0\r\n\r\n"):
            return
        if head.split(b" ", 2)[1] != b"200":
            self.done.set_exception(SystemExit(f"a request was answered with {head!r}"))
            return
        self.seen, self.left = b"", self.left - 1
        if self.left:
            self.transport.write(self.request)
        else:
            self.transport.close()
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(SystemExit(f"a connection was closed with {self.left} requests to go: {exc}"))


def _load(host: str, port: int, path: str, each: int) -> float:
    """Seconds until each of eight connections has had `each` answers of 200."""

    async def clients() -> float:
        loop = asyncio.get_running_loop()
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        began = time.perf_counter()
        made = [await loop.create_connection(lambda: _Client(request, each), host, port) for _ in range(CLIENTS)]
        await asyncio.gather(*(client.done for _, client in made))
        return time.perf_counter() - began

    return asyncio.run(clients())
