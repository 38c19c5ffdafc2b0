# SPDX-License-Identifier: Apache-2.0
"""Two users on one machine: what the second tries at the first one's ports, files, sockets, locks and processes."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from meshbox.addresses import AddressPlan
from tests.conftest import processes_of
from tests.shops import Shop
from tests.stranger import as_stranger, http, say

TLS_PORTS = (6443, 10250)
SPAN = [{"traceId": "1" * 32, "id": "2" * 16, "name": "forged", "localEndpoint": {"serviceName": "stranger"}}]


@dataclass
class Attempt:
    """Something said to a port.

    Args:
        what: What it is after.
        address: Where.
        words: What is said.
        stay: Whether an answer is waited for; leaving at once hides whose the connection was.
    """

    what: str
    address: tuple[str, int]
    words: bytes
    stay: bool = True

    def make(self) -> bytes:
        return say(self.address, self.words, tls=self.address[1] in TLS_PORTS, stay=self.stay)


@dataclass
class Machine:
    """What another user sees of the sandbox: its addresses and processes."""

    shop: Shop
    listeners: list[tuple[str, int]] = field(default_factory=list)

    @classmethod
    def of(cls, shop: Shop) -> Machine:
        block = shop.sandbox.node.removesuffix("0.1")
        seen = {
            (one.laddr.ip, one.laddr.port)
            for one in psutil.net_connections("tcp")
            if one.status == psutil.CONN_LISTEN and one.laddr.ip.startswith(block) and one.pid != os.getpid()
        }
        return cls(shop, sorted(seen))

    @property
    def plan(self) -> AddressPlan:
        return AddressPlan.of(int(self.shop.sandbox.node.split(".")[1]))

    @property
    def legacy(self) -> bool:
        return self.shop.sandbox.release == "1.2.2"

    def service(self, name: str, port: int, namespace: str = "istio-system") -> tuple[str, int]:
        said = self.shop.sandbox.kubectl("get", "service", name, "-n", namespace, "-o", "jsonpath={.spec.clusterIP}")
        return said.stdout, self.plan.port(port)

    def restarts(self) -> int:
        """How often any container was started again."""
        listed = json.loads(self.shop.sandbox.kubectl("get", "pods", "-A", "-o", "json").stdout)["items"]
        return sum(one["restartCount"] for pod in listed for one in pod["status"]["containerStatuses"])

    def local(self, app: str) -> str:
        return self.plan.local(self.shop.pod(app)["status"]["podIP"])


@pytest.fixture
def machine(shop: Shop) -> Machine:
    if os.geteuid() != 0:
        pytest.skip("only root can be two users; tests/test_peers.py holds who is let in")
    return Machine.of(shop)


def at_every_port(machine: Machine) -> Iterator[Attempt]:
    for address in machine.listeners:
        host = f"{address[0]}:{address[1]}"
        yield Attempt(f"read what {host} serves", address, http("GET", "/", host))


def looks(machine: Machine) -> Iterator[Attempt]:
    """Each is answered if the sandbox's own user asks."""
    jaeger = machine.service("jaeger-query", 16686) if machine.legacy else machine.service("tracing", 80)
    kiali, prometheus = machine.service("kiali", 20001), machine.service("prometheus", 9090)
    page, ratings, reviews = (machine.local(app) for app in ("productpage", "ratings", "reviews"))
    by_proxy = http("GET", "http://ratings.bookinfo:9080/ratings/0", "ratings.bookinfo:9080")
    yield Attempt("the mesh, from Kiali", kiali, http("GET", "/kiali/api/namespaces", "kiali"))
    yield Attempt("metrics", prometheus, http("GET", "/api/v1/query?query=up", "prometheus"))
    yield Attempt("dashboards", machine.service("grafana", 3000), http("GET", "/api/search", "grafana"))
    yield Attempt("traces", jaeger, http("GET", "/jaeger/api/services", "tracing"))
    yield Attempt("past mTLS by the second address", (reviews, 9080), http("GET", "/reviews/0", "reviews"))
    yield Attempt("the identity of productpage, by its proxy", (page, 15001), by_proxy)
    yield Attempt("a sidecar's configuration", (ratings, 15000), http("GET", "/config_dump", "localhost:15000"))
    yield Attempt("a sidecar's metrics", (ratings, 15090), http("GET", "/stats/prometheus", "ratings"))
    yield Attempt("the API without a token", (machine.plan.node, 6443), http("GET", "/version", "kubernetes"))
    yield Attempt("the kubelet without a token", (machine.plan.node, 10250), http("GET", "/metrics", "node"))


def changes(machine: Machine) -> Iterator[Attempt]:
    """Each would change something, also where nobody waits for an answer."""
    gateway, ratings = "/kiali/api/namespaces/bookinfo/istio/gateways/bookinfo-gateway", machine.local("ratings")
    spans = json.dumps(SPAN).encode()
    wanted = [
        ("delete a Gateway", machine.service("kiali", 20001), http("DELETE", gateway, "kiali")),
        ("stop Prometheus", machine.service("prometheus", 9090), http("POST", "/-/quit", "prometheus")),
        ("add spans", machine.service("zipkin", 9411), http("POST", "/api/v2/spans", "zipkin", spans)),
        ("drain a sidecar", (ratings, 15000), http("POST", "/drain_listeners?inboundonly", "localhost:15000")),
        ("drain it by its status port", (ratings, 15020), http("POST", "/drain", "localhost")),
        ("fail its health", (ratings, 15000), http("POST", "/healthcheck/fail", "localhost:15000")),
        ("change the application's data", (ratings, 9080), http("POST", "/ratings/0", "ratings", b'{"Reviewer1": 1}')),
    ]
    for what, address, words in wanted:
        yield Attempt(what, address, words)
        yield Attempt(f"{what} and leave at once", address, words, stay=False)


def paths(top: Path) -> list[str]:
    """All below the folders in `top`, relative to it."""
    found = [os.path.join(folder, name) for folder, below, files in os.walk(top) for name in (*below, *files)]
    return [name for path in found if "/" in (name := os.path.relpath(path, top))]


def opened(top: int, names: list[str]) -> list[str]:
    """Which of the files below the open folder `top` this process can read, write, or reach at all (a socket's way)."""
    found = []
    for name in names:
        for how in (os.O_RDONLY, os.O_WRONLY, os.O_PATH):
            try:
                os.close(os.open(name, how | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=top))
            except OSError:
                continue
            found.append(name)
    return found


def test_nothing_at_any_port_is_for_another_user(machine: Machine) -> None:
    own = {attempt.what: attempt.make() for attempt in looks(machine)}
    assert [what for what, answer in own.items() if not answer] == []
    everything = [*at_every_port(machine), *looks(machine), *changes(machine)]
    assert len(everything) >= 60
    restarts = machine.restarts()

    said = as_stranger(lambda: [attempt.make() for attempt in everything])

    heard = [(one.what, answer[:60]) for one, answer in zip(everything, said, strict=True) if answer]
    # Prometheus itself stands behind a password that only its pod knows; its guard does not answer at all.
    assert [one for one in heard if b" 401 " not in one[1]] == []
    assert len(heard) <= 1
    # An answer to us comes after whatever the stranger has begun.
    for attempt in looks(machine):
        assert attempt.make(), attempt.what
    assert b"stranger" not in next(one for one in looks(machine) if one.what == "traces").make()
    machine.shop.sandbox.kubectl("get", "gateways.networking.istio.io", "bookinfo-gateway", "-n", "bookinfo")
    assert machine.restarts() == restarts
    assert say((machine.local("ratings"), 9080), http("GET", "/ratings/0", "ratings")).endswith(
        b'{"id": 0, "ratings": {"Reviewer1": 5, "Reviewer2": 4}}'
    )
    assert machine.shop.status() == 200


def test_no_file_or_socket_or_lock_is_for_another_user(machine: Machine) -> None:
    home = machine.shop.sandbox.labkit_home
    modes = {}
    for name in (".", *paths(home / "sandboxes")):
        # What is written anew has another name for a moment, and a pod's command its files.
        with contextlib.suppress(FileNotFoundError):
            modes[name] = (home / "sandboxes" / name).lstat().st_mode
    names = [*modes]
    assert sum(map(stat.S_ISSOCK, modes.values())) >= 10
    assert "shop/token" in names
    # kubectl gives its own cache the modes that it wants, below folders that are closed.
    loose = [name for name, mode in modes.items() if mode & 0o077 and not stat.S_ISLNK(mode)]
    assert [name for name in loose if "kubectl-cache/" not in name] == []
    # An open folder leads past the folders above it, which are closed as well where tests run.
    top = os.open(home / "sandboxes", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert as_stranger(lambda: opened(top, names)) == []
    finally:
        os.close(top)


def test_no_process_shows_another_user_what_it_knows(machine: Machine) -> None:
    pids = [process.pid for process in processes_of(machine.shop.sandbox.home)]
    secret = (machine.shop.sandbox.home / "token").read_text().strip()
    names = [f"{pid}/{name}" for pid in pids for name in ("environ", "mem", "fd/0", "root", "cwd")]
    told = []
    for pid in pids:
        # A probe's command may have ended.
        with contextlib.suppress(OSError):
            told.append(Path(f"/proc/{pid}/cmdline").read_bytes())
    assert len(told) > 20
    assert not any(secret.encode() in line for line in told)

    def tried() -> list[str]:
        found = []
        for name in names:
            try:
                os.close(os.open(f"/proc/{name}", os.O_RDONLY))
            except OSError:
                continue
            found.append(name)
        for pid in pids:
            try:
                os.kill(pid, 0)
            except OSError:
                continue
            found.append(f"signal to {pid}")
        return found

    assert as_stranger(tried) == []
