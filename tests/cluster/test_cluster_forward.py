"""Port-forwards: a port that is certainly ours, healing, and nothing left behind."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from labkit import cluster
from labkit.cluster import forward as forwards
from labkit.cluster import target
from labkit.cluster.backends import Backend, find
from labkit.cluster.tunnel import TunnelError
from labkit.ground.errors import ClusterError
from tests.cluster.fake_kubectl import UID, FakeKubectl
from tests.stranger import by_another_user, http, say

# `kubectl proxy` before a cluster with one pod behind every Service, whose port 8080 serves kubectl's process id.
# With a file "refuse" there is no Service, with a file "hang" kubectl says nothing.
_FORWARDER = """#!{python} -E
import os, sys, time
home = {home!r}
if sys.argv[1] == "config":
    print('{{"contexts": [{{"context": {{"namespace": "mine"}}}}]}}')
    sys.exit()
open(home + "/starts", "a").write(" ".join(sys.argv[1:]) + "\\n")
if os.path.exists(home + "/hang"):
    time.sleep(60)
from aiohttp import web

POD = {{
    "metadata": {{"name": "one", "creationTimestamp": "2026-01-01T00:00:00Z"}},
    "spec": {{"containers": [{{"ports": [{{"name": "http", "containerPort": 8080}}]}}]}},
    "status": {{"phase": "Running"}},
}}

async def service(request):
    name = request.match_info["name"]
    if os.path.exists(home + "/refuse"):
        said = {{"kind": "Status", "reason": "NotFound", "message": f'services "{{name}}" not found'}}
        return web.json_response(said, status=404)
    ports = [{{"port": port, "targetPort": "http"}} for port in (80, 3000, 9090, 20001)]
    return web.json_response({{"metadata": {{"name": name}}, "spec": {{"selector": {{"app": name}}, "ports": ports}}}})

async def pods(request):
    return web.json_response({{"items": [POD]}})

async def pod(request):
    return web.json_response(POD)

async def forward(request):
    assert request.query["ports"] == "8080"
    socket = web.WebSocketResponse(protocols=["v4.channel.k8s.io"])
    await socket.prepare(request)
    for channel in (0, 1):
        await socket.send_bytes(bytes([channel]) + (8080).to_bytes(2, "little"))
    asked = b""
    while b"\\r\\n\\r\\n" not in asked:
        message = await socket.receive_bytes()
        assert message[0] == 0
        asked += message[1:]
    body = str(os.getpid()).encode()
    await socket.send_bytes(b"\\0HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
    await socket.close()
    return socket

app = web.Application()
root = "/api/v1/namespaces/{{namespace}}"
app.router.add_get(root + "/services/{{name}}", service)
app.router.add_get(root + "/pods", pods)
app.router.add_get(root + "/pods/{{name}}", pod)
app.router.add_get(root + "/pods/{{name}}/portforward", forward)
place = sys.argv[-1]
web.run_app(app, path=place, print=lambda *_: print(f"Starting to serve on {{place}}", flush=True), access_log=None)
"""


@pytest.fixture
def forwarder(kubectl: FakeKubectl, tmp_path: Path) -> Path:
    script = _FORWARDER.format(python=sys.executable, home=str(tmp_path))
    kubectl.path.write_text(script)
    return tmp_path


def ask(url: str) -> int:
    with urllib.request.urlopen(url, timeout=120) as answer:
        return int(answer.read())


def starts(home: Path) -> list[str]:
    return (home / "starts").read_text().splitlines()


def test_a_free_port_behind_kubectls_own_way_in(forwarder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with cluster.port_forward("svc/prometheus", 9090, namespace="istio-system") as forward:
        pid = ask(forward.url)
        assert psutil.Process(pid).ppid() == os.getpid()
        assert forward.bound
        shown = f"$ kubectl port-forward -n istio-system --address 127.0.0.1 svc/prometheus {forward.port}:9090"
        assert capsys.readouterr().out.splitlines()[0] == shown
    (started,) = starts(forwarder)
    assert started.startswith("proxy --unix-socket ")
    assert not Path(started.split()[-1]).parent.exists()
    assert not psutil.pid_exists(pid)
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", forward.port))


def test_it_heals_on_the_same_port(forwarder: Path, until: Callable[..., Any]) -> None:
    with cluster.port_forward("svc/grafana", 3000, show=False) as forward:
        first, port = ask(forward.url), forward.port
        os.kill(first, signal.SIGKILL)
        until(lambda: len(starts(forwarder)) == 2, 10, "a second kubectl")
        until(lambda: forward.bound, 10, "the port to be bound again")
        assert ask(forward.url) != first
        assert forward.port == port


def test_nothing_there_is_one_error(forwarder: Path) -> None:
    (forwarder / "refuse").touch()
    with pytest.raises(ClusterError, match='services "nope" not found') as caught:
        cluster.port_forward("svc/nope", 80, namespace="x", show=False)
    assert "kubectl get services -n x" in caught.value.next_step
    assert len(starts(forwarder)) == 1


def test_a_port_that_is_taken_is_told(forwarder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ClusterError, match="address already in use") as caught:
            cluster.port_forward("svc/kiali", 20001, local_port=port, show=False)
    assert "Leave local_port out" in caught.value.next_step
    assert not (forwarder / "starts").exists()


def test_a_kubectl_that_says_nothing_is_not_waited_for_longer_than_told(forwarder: Path) -> None:
    (forwarder / "hang").touch()
    with pytest.raises(ClusterError, match=r"no port was bound within 0\.2 s"):
        cluster.port_forward("svc/slow", 80, timeout=0.2, show=False)
    assert [child for child in psutil.Process().children() if str(forwarder) in " ".join(child.cmdline())] == []


def test_it_ends_with_a_notebook_that_is_killed(forwarder: Path, tmp_path: Path, until: Callable[..., Any]) -> None:
    code = (
        "import sys; from pathlib import Path; from labkit import cluster; from labkit.ground import config\n"
        "from labkit.cluster import target\n"
        f"server = {target.current().server!r}\n"
        f"file = Path({str(tmp_path / 'kubeconfig')!r})\n"
        f"target._state = cluster.Chosen(cluster.Target(str(file)), 'here', server, {UID!r}, file)\n"
        f"config.tool = lambda name: Path({str(tmp_path / 'fake' / 'kubectl')!r})\n"
        "forward = cluster.port_forward('svc/a', 80, show=False)\n"
        "print(forward.url, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as notebook:
        assert notebook.stdout is not None
        pid = ask(notebook.stdout.readline().strip())
        notebook.kill()
    until(lambda: not psutil.pid_exists(pid), 5, "kubectl to end")


def test_another_user_is_not_let_in(forwarder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster.port_forward("svc/grafana", 3000, show=False) as forward:
        words = http("GET", "/", f"127.0.0.1:{forward.port}")
        assert b" 200 " in say(("127.0.0.1", forward.port), words)
        assert by_another_user(lambda: say(("127.0.0.1", forward.port), words), monkeypatch) == b""


def test_a_client_that_goes_away_ends_its_connection_to_the_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """When its last byte is read its socket may still have an owner, as that of a client that only listens now has."""

    class Pod:
        closed = False

        def close(self) -> None:
            self.closed = True

    there = iter([True, True, False])
    monkeypatch.setattr(forwards.peers, "ours", lambda _: next(there))
    monkeypatch.setattr(forwards, "_GONE", 0.01)
    client, ours = socket.socketpair()
    with ours:
        connection = forwards._Connection.__new__(forwards._Connection)
        connection.request = ours
        connection.setup()
        client.close()
        connection._send(pod := Pod())
    assert pod.closed
    assert list(there) == []


def test_what_keeps_kubectl_from_starting_is_told(forwarder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("labkit.cluster.scratch.make", full)
    with pytest.raises(ClusterError, match=r"kubectl proxy cannot be started: .*No space left"):
        cluster.port_forward("svc/grafana", 3000, show=False)


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
        with pytest.raises(TunnelError, match=said):
            find(get, "x", resource, port)
