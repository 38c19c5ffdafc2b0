"""Port-forwards: a port that is certainly ours, healing, and nothing left behind."""

from __future__ import annotations

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
from labkit.cluster.identity import QUESTION
from labkit.errors import ClusterError
from tests.cluster.fake_kubectl import UID, FakeKubectl

# Serves its own process id on the port asked for, and says so as kubectl does.
# With a file "refuse" it fails, with a file "hang" it says nothing.
_FORWARDER = """#!{python} -SE
import http.server, os, sys, time
home = {home!r}
if sys.argv[1:] == {question!r}.split():
    sys.exit(sys.stdout.write({uid!r}) and 0)
open(home + "/starts", "a").write(" ".join(sys.argv[1:]) + "\\n")
if os.path.exists(home + "/refuse"):
    sys.stderr.write('Error from server (NotFound): services "nope" not found\\n')
    sys.exit(1)
if os.path.exists(home + "/hang"):
    time.sleep(60)
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(os.getpid()).encode())
    def log_message(self, *args):
        pass
local, remote = sys.argv[-1].split(":")
try:
    server = http.server.HTTPServer(("127.0.0.1", int(local or 0)), Answer)
except OSError:
    sys.stderr.write("Unable to listen on port: listen tcp4 127.0.0.1:" + local + ": bind: address already in use\\n")
    sys.exit(1)
print(f"Forwarding from 127.0.0.1:{{server.server_port}} -> {{remote}}", flush=True)
server.serve_forever()
"""


@pytest.fixture
def forwarder(kubectl: FakeKubectl, tmp_path: Path) -> Path:
    script = _FORWARDER.format(python=sys.executable, home=str(tmp_path), question=QUESTION, uid=UID)
    kubectl.path.write_text(script)
    return tmp_path


def ask(url: str) -> int:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return int(answer.read())


def starts(home: Path) -> list[str]:
    return (home / "starts").read_text().splitlines()


def test_a_free_port_that_kubectl_itself_bound(forwarder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with cluster.port_forward("svc/prometheus", 9090, namespace="istio-system") as forward:
        pid = ask(forward.url)
        assert psutil.Process(pid).ppid() == os.getpid()
        assert forward.bound
        shown = f"$ kubectl port-forward -n istio-system --address 127.0.0.1 svc/prometheus {forward.port}:9090"
        assert capsys.readouterr().out.splitlines()[0] == shown
    assert starts(forwarder) == ["port-forward -n istio-system --address 127.0.0.1 svc/prometheus :9090"]
    assert not psutil.pid_exists(pid)
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", forward.port))


def test_it_heals_on_the_same_port(forwarder: Path, until: Callable[..., Any]) -> None:
    with cluster.port_forward("svc/grafana", 3000, show=False) as forward:
        first = ask(forward.url)
        os.kill(first, signal.SIGKILL)
        until(lambda: len(starts(forwarder)) == 2, 10, "a second kubectl")
        until(lambda: forward.bound, 10, "the port to be bound again")
        assert ask(forward.url) != first
        assert starts(forwarder)[1].endswith(f"svc/grafana {forward.port}:3000")


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
    assert len(starts(forwarder)) == 1


def test_a_kubectl_that_says_nothing_is_not_waited_for_longer_than_told(forwarder: Path) -> None:
    (forwarder / "hang").touch()
    with pytest.raises(ClusterError, match=r"no port was bound within 0\.2 s"):
        cluster.port_forward("svc/slow", 80, timeout=0.2, show=False)
    assert [child for child in psutil.Process().children() if str(forwarder) in " ".join(child.cmdline())] == []


def test_it_ends_with_a_notebook_that_is_killed(forwarder: Path, tmp_path: Path, until: Callable[..., Any]) -> None:
    code = (
        "import sys; from pathlib import Path; from labkit import cluster, config\n"
        "from labkit.cluster import target\n"
        "server = 'https://127.255.255.254:6443'\n"
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
