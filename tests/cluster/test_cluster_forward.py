# SPDX-License-Identifier: Apache-2.0
"""Port-forwards: a port that is certainly ours, healing, and nothing left behind."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from websocket import ABNF

from labkit import cluster
from labkit.cluster import client as clients
from labkit.cluster import tunnel
from labkit.cluster.backends import Backend, BackendError, find
from labkit.cluster.login import websocket_options
from labkit.ground.errors import ClusterError, NotReadyError
from tests.cluster.api_like import ApiLike, PodSide
from tests.cluster.fake_kubectl import UID, FakeKubectl
from tests.stranger import by_another_user, http, say


@pytest.fixture
def api(kubectl: FakeKubectl) -> ApiLike:
    """A cluster with some Services and one pod behind each of them, whose port 8080 answers each request with 7."""
    api = kubectl.api
    ports = [{"port": port, "targetPort": "http"} for port in (80, 3000, 9090, 20001)]
    api.items = [
        {"kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": ports}}
        for name in ("prometheus", "grafana", "kiali")
    ]
    pod = {"name": "one", "creationTimestamp": "2026-01-01T00:00:00Z", "uid": "u"}
    spec = {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]}
    api.items.append({"kind": "Pod", "metadata": pod, "spec": spec, "status": {"phase": "Running"}})
    api.pod = seven
    return api


def seven(side: PodSide) -> None:
    asked = b""
    while b"\r\n\r\n" not in asked:
        asked += side.receive()
    side.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n7")


def ask(url: str) -> int:
    with urllib.request.urlopen(url, timeout=120) as answer:
        return int(answer.read())


def test_a_free_port_of_ones_own(api: ApiLike, capsys: pytest.CaptureFixture[str]) -> None:
    with cluster.port_forward("svc/prometheus", 9090, namespace="istio-system") as forward:
        assert ask(forward.url) == 7
        assert forward.bound
        shown = f"$ kubectl port-forward -n istio-system --address 127.0.0.1 svc/prometheus {forward.port}:9090"
        assert capsys.readouterr().out.splitlines()[0] == shown
    assert not forward.bound
    assert "GET /api/v1/namespaces/istio-system/pods/one/portforward" in api.requests
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", forward.port))


def test_it_heals_on_the_same_port(api: ApiLike, until: Callable[..., Any]) -> None:
    with cluster.port_forward("svc/grafana", 3000, show=False) as forward:
        port = forward.port
        assert ask(forward.url) == 7
        api.leave()
        forward.doubt()
        assert not forward.bound
        with pytest.raises(NotReadyError, match=r"is not back after 0\.1 s: The connection to the server .* refused"):
            forward.wait_until_bound(0.1)
        api.listen(api.server.server_address[1])
        forward.wait_until_bound()
        assert forward.bound
        assert ask(forward.url) == 7
        assert forward.port == port


def test_a_pod_that_took_anothers_place_is_found(api: ApiLike) -> None:
    with cluster.port_forward("svc/grafana", 3000, show=False) as forward:
        assert ask(forward.url) == 7
        old = api.items.pop()
        api.items.append({**old, "metadata": {**old["metadata"], "name": "two", "uid": "v"}})
        forward.doubt()
        assert ask(forward.url) == 7
    assert api.requests[-1].endswith("/pods/two/portforward")


def test_all_that_is_sent_arrives_on_both_sides(api: ApiLike) -> None:
    """More than any buffer on the way holds, in both directions at once, and after the client has no more to say."""
    sent = os.urandom(3_000_000)

    def echo(side: PodSide) -> None:
        seen = 0
        while seen < len(sent):
            data = side.receive()
            seen += len(data)
            side.send(data)
        side.frame(b"are you there", ABNF.OPCODE_PING)
        side.send(b"the end")

    api.pod = echo
    with (
        cluster.port_forward("svc/grafana", 3000, show=False) as forward,
        socket.create_connection(("127.0.0.1", forward.port), timeout=60) as client,
    ):
        sending = threading.Thread(target=lambda: (client.sendall(sent), client.shutdown(socket.SHUT_WR)))
        sending.start()
        received = b"".join(iter(partial(client.recv, 65536), b""))
        sending.join()
    assert received == sent + b"the end"


def test_many_connections_at_once(api: ApiLike) -> None:
    everybody = threading.Barrier(30, timeout=120)

    def together(side: PodSide) -> None:
        everybody.wait()
        seven(side)

    api.pod = together
    with cluster.port_forward("svc/grafana", 3000, show=False) as forward, ThreadPoolExecutor(30) as pool:
        assert list(pool.map(ask, [forward.url] * 30)) == [7] * 30


def test_what_the_cluster_says_of_a_connection_ends_it(api: ApiLike) -> None:
    def refuse(side: PodSide) -> None:
        side.send(b"an error occurred forwarding 8080", channel=1)
        side.receive()

    api.pod = refuse
    with cluster.port_forward("svc/grafana", 3000, show=False) as forward:
        assert say(("127.0.0.1", forward.port), b"hello") == b""


NOBODY_LISTENS = (
    "error forwarding port 8080 to pod 1f2e, uid : failed to execute portforward in network namespace "
    '"/var/run/netns/cni-1": failed to connect to localhost:8080 inside namespace "1f2e", IPv4: dial tcp4 '
    "127.0.0.1:8080: connect: connection refused"
)


def test_a_connection_that_is_not_passed_on_fails_with_what_the_cluster_says(api: ApiLike) -> None:
    """And not with advice about a gateway, or about a cluster that does not answer."""

    def refuse(side: PodSide) -> None:
        side.send(NOBODY_LISTENS.encode(), channel=1)
        side.receive()

    def leave(side: PodSide) -> None:
        side.receive()

    with cluster.port_forward("svc/grafana", 3000, show=False) as forward:
        api.pod = refuse
        with pytest.raises(ClusterError, match=rf"^{re.escape(NOBODY_LISTENS)}\n.from `kubectl") as caught:
            cluster.fetch(forward.url)
        assert "nothing in it takes a connection at that port" in caught.value.next_step
        kubelet = "error dialing backend: dial tcp 10.0.0.5:10250: connect: connection refused"
        pod = "/api/v1/namespaces/default/pods/one/portforward"
        api.answers[pod] = {"kind": "Status", "code": 500, "message": kubelet}
        with pytest.raises(ClusterError, match=rf"^error upgrading connection \(500\): {kubelet}\n") as caught:
            cluster.fetch(forward.url)
        assert "the node's kubelet" in caught.value.next_step
        del api.answers[pod]
        api.pod = seven
        assert cluster.fetch(forward.url).text == "7"
        # What was said of an earlier connection is no news of one that its pod just ends.
        api.pod = leave
        with pytest.raises(ClusterError, match=r"^no answer from"):
            cluster.fetch(forward.url)


def test_nothing_there_is_one_error(api: ApiLike) -> None:
    with pytest.raises(ClusterError, match='services "nope" not found') as caught:
        cluster.port_forward("svc/nope", 80, namespace="x", show=False)
    assert "kubectl get services -n x" in caught.value.next_step


def test_a_port_that_is_taken_is_told(api: ApiLike) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ClusterError, match="address already in use") as caught:
            cluster.port_forward("svc/kiali", 20001, local_port=port, show=False)
    assert "Leave local_port out" in caught.value.next_step
    assert not any("services" in asked for asked in api.requests)


def test_a_cluster_that_says_nothing_is_not_waited_for_longer_than_told(api: ApiLike) -> None:
    api.silent_about = "/services/"
    api.silent.set()
    with pytest.raises(ClusterError, match=r"said nothing within 0\.\d+ s"):
        cluster.port_forward("svc/kiali", 80, timeout=0.2, show=False)
    api.silent.clear()


def test_it_ends_with_a_notebook_that_is_killed(api: ApiLike, tmp_path: Path) -> None:
    ended = threading.Event()

    def pod(side: PodSide) -> None:
        side.receive()
        side.send(b"here")
        try:
            side.receive()
        finally:
            ended.set()

    api.pod = pod
    code = (
        "import sys; from pathlib import Path; from labkit import cluster\n"
        "from labkit.cluster import target\n"
        f"file = Path({str(tmp_path / 'kubeconfig')!r})\n"
        f"target._state = cluster.Chosen(cluster.Target(str(file)), 'here', {api.url!r}, {UID!r}, file)\n"
        "forward = cluster.port_forward('svc/kiali', 80, show=False)\n"
        "print(forward.port, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as notebook:
        assert notebook.stdout is not None
        port = int(notebook.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=120) as client:
            client.sendall(b"hello")
            assert client.recv(4) == b"here"
            notebook.kill()
            assert ended.wait(120)
    with socket.socket() as nobody:
        assert nobody.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_another_user_is_not_let_in(api: ApiLike, monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster.port_forward("svc/grafana", 3000, show=False) as forward:
        words = http("GET", "/", f"127.0.0.1:{forward.port}")
        assert b" 200 " in say(("127.0.0.1", forward.port), words)
        assert by_another_user(lambda: say(("127.0.0.1", forward.port), words), monkeypatch) == b""


def test_what_was_read_ahead_is_passed_on_though_no_more_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS reads whole records: what is left of one while the client is slow makes no socket readable."""
    parts = [b"a" * 20_000, b"b" * 10, b""]
    monkeypatch.setattr(tunnel, "_MOST", 10_000)

    class Ahead(tunnel.Stream):
        def __init__(self, way: socket.socket) -> None:
            self.way, self.waiting = way, bytearray()

        def flush(self) -> None:
            self.waiting.clear()

        def come(self) -> Iterator[bytes]:
            while parts:
                yield parts.pop(0)

    class Slow(socket.socket):
        sent = 0

        def send(self, *about: Any) -> int:
            self.sent += 1
            if self.sent == 1:
                raise BlockingIOError
            return super().send(*about)

    client, accepted = socket.socketpair()
    way, other = socket.socketpair()
    with client, Slow(fileno=accepted.detach()) as ours, way, other:
        relaying = threading.Thread(target=tunnel.relay, args=(ours, Ahead(way), lambda: True), daemon=True)
        relaying.start()
        client.sendall(b"go")
        client.settimeout(120)
        received = b""
        while len(received) < 20_010:
            received += client.recv(4096)
        relaying.join(120)
    assert received[-11:] == b"a" + b"b" * 10


def test_a_client_that_goes_away_ends_its_connection_to_the_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """When its last byte is read its socket may still have an owner, as that of a client that only listens now has."""

    class Silent(tunnel.Stream):
        def __init__(self, way: socket.socket) -> None:
            self.way, self.waiting = way, bytearray()

        def come(self) -> Iterator[bytes]:
            return iter(())

    there = iter([True, True, False])
    monkeypatch.setattr(tunnel, "_GONE", 0.01)
    client, ours = socket.socketpair()
    way, other = socket.socketpair()
    client.close()
    with ours, way, other:
        tunnel.relay(ours, Silent(way), lambda: next(there))
    assert list(there) == []


def test_a_connection_goes_the_way_that_questions_go() -> None:
    direct = {"verify_ssl": True, "ssl_ca_cert": "ca", "cert_file": "crt", "key_file": "key", "tls_server_name": None}
    settings = SimpleNamespace(**direct, host="https://api.example:6443", proxy=None, no_proxy=None)
    tls = {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": "ca", "certfile": "crt", "keyfile": "key"}
    assert websocket_options(settings) == {"sslopt": tls, "http_no_proxy": ["*"]}
    settings.proxy, settings.tls_server_name = "http://me:p%40ss@proxy.example:3128", "other.example"
    assert websocket_options(settings) == {
        "sslopt": {**tls, "server_hostname": "other.example"},
        "http_proxy_host": "proxy.example",
        "http_proxy_port": 3128,
        "http_proxy_auth": ("me", "p@ss"),
        "proxy_type": "http",
        "http_no_proxy": ["-"],
    }
    settings.no_proxy = ".example"
    assert websocket_options(settings)["http_no_proxy"] == ["*"]


def test_a_connection_takes_a_token_that_was_renewed(api: ApiLike, tmp_path: Path) -> None:
    token, file = tmp_path / "token", tmp_path / "kubeconfig"
    token.write_text("the-first")
    content = json.loads(file.read_text())
    content["users"][0]["user"] = {"tokenFile": str(token)}
    file.write_text(json.dumps(content))
    way = clients.of(file, "here")
    token.write_text("the-second")
    api.accepted = "Bearer the-second"
    tunnel.Stream(way, "x", "one", 8080).close()
    assert api.logins == ["Bearer the-first", "Bearer the-second"]
    api.accepted = "Bearer a-third"
    with pytest.raises(OSError, match="401"):
        tunnel.Stream(way, "x", "one", 8080)


def test_a_pods_port_is_found_by_kubectls_rules() -> None:
    def pod(name: str, phase: str, made: str, **more: Any) -> dict[str, Any]:
        meta = {"name": name, "creationTimestamp": made, **more}
        ports = [{"name": "http", "containerPort": 8080}]
        return {"metadata": meta, "spec": {"containers": [{"ports": ports}]}, "status": {"phase": phase}}

    pods = [
        pod("waits", "Pending", "2026-01-03T00:00:00Z"),
        pod("goes", "Running", "2026-01-04T00:00:00Z", deletionTimestamp="2026-01-05T00:00:00Z"),
        pod("old", "Running", "2026-01-01T00:00:00Z"),
        pod("new", "Running", "2026-01-02T00:00:00Z"),
    ]
    ports = [{"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 9}, {"port": 82, "targetPort": "none"}]
    service = {"metadata": {"name": "web"}, "spec": {"selector": {"a": "b", "c": "d"}, "ports": ports}}
    objects: dict[tuple[str, ...], Any] = {
        ("api", "v1", "namespaces", "x", "services", "web"): service,
        ("api", "v1", "namespaces", "x", "services", "bare"): {"metadata": {"name": "bare"}, "spec": {}},
        ("api", "v1", "namespaces", "x", "pods"): {"items": pods},
        ("api", "v1", "namespaces", "x", "pods", "waits"): pods[0],
        ("api", "v1", "namespaces", "x", "pods", "old"): pods[2],
        ("apis", "apps", "v1", "namespaces", "x", "deployments", "web"): {
            "spec": {"selector": {"matchLabels": {"a": "b", "c": "d"}}}
        },
    }

    def get(*path: str, **query: str) -> Any:
        assert query in ({}, {"labelSelector": "a=b,c=d"})
        return objects[path]

    assert find(get, "x", "svc/web", 80) == Backend("x", "new", 8080)
    assert find(get, "x", "service/web", 81) == Backend("x", "new", 9)
    assert find(get, "x", "deploy/web", 7) == Backend("x", "new", 7)
    assert find(get, "x", "pod/old", 7) == find(get, "x", "old", 7) == Backend("x", "old", 7)
    for resource, port, said in (
        ("svc/web", 83, "Service web does not have a service port 83"),
        ("svc/web", 82, 'pod new has no port named "none"'),
        ("svc/bare", 80, "is defined without a selector"),
        ("pod/waits", 80, "Current status=Pending"),
        ("job/web", 80, 'resource type "job"'),
    ):
        with pytest.raises(BackendError, match=said):
            find(get, "x", resource, port)
