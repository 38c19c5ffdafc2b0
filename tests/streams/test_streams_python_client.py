# SPDX-License-Identifier: Apache-2.0
"""The official Python client's stream and portforward, and what other clients of the WebSocket protocols do."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import ssl
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import websocket

from tests.streams.streams_server import Server, eventually
from tests.streams.test_streams_portforward import BODY, echo, pages

__all__ = ["echo", "pages"]


@pytest.fixture
def client(server: Server) -> Callable[[str], str]:
    """Runs a script with the client's `api`; apart, for the client leaves its WebSockets open until it exits."""

    def run(script: str) -> str:
        opening = f"""
import contextlib, hashlib, kubernetes
from kubernetes.stream import portforward, stream
kubernetes.config.load_kube_config({str(server.kubeconfig)!r})
api = kubernetes.client.CoreV1Api()
"""
        command = [sys.executable, "-W", "ignore", "-c", opening + textwrap.dedent(script)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_exec_returns_the_output(client: Any) -> None:
    said = client("""
        command = ["sh", "-c", "echo out; echo err >&2"]
        print(stream(api.connect_get_namespaced_pod_exec, "one", "default", command=command,
                     stdout=True, stderr=True, stdin=False))
    """)
    assert sorted(said.split()) == ["err", "out"]


def test_exec_with_stdin_and_exit_code(client: Any) -> None:
    said = client("""
        talk = stream(api.connect_get_namespaced_pod_exec, "one", "default",
                      command=["sh", "-c", "read line; echo got:$line; exit 4"],
                      stdin=True, stdout=True, stderr=True, _preload_content=False)
        talk.write_stdin("hello\\n")
        talk.run_forever(timeout=120)
        print(talk.read_stdout().strip(), talk.returncode)
    """)
    assert said == "got:hello 4\n"


def test_port_forward(client: Any, pages: int) -> None:
    said = client(f"""
        forward = portforward(api.connect_get_namespaced_pod_portforward, "one", "default", ports="{pages}")
        with contextlib.closing(forward.socket({pages})) as socket:
            socket.settimeout(120)
            socket.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
            answer = b""
            while data := socket.recv(65536):
                answer += data
        body = answer.partition(b"\\r\\n\\r\\n")[2]
        print(hashlib.sha256(body).hexdigest(), forward.error({pages}))
    """)
    assert said == f"{hashlib.sha256(BODY).hexdigest()} None\n"


def test_port_forward_to_nothing(client: Any) -> None:
    said = client("""
        forward = portforward(api.connect_get_namespaced_pod_portforward, "one", "default", ports="1")
        with contextlib.closing(forward.socket(1)) as socket:
            socket.settimeout(120)
            print(socket.recv(1), forward.error(1))
    """)
    assert said.startswith("b'' error forwarding port 1 to pod one, uid uid-of-one: dial tcp4 127.0.0.1:1:")


def test_follow_a_log(server: Server, client: Any) -> None:
    server.runtime.log_lines = [b"hello\n"]
    said = client("""
        answer = api.read_namespaced_pod_log("one", "default", follow=True, _preload_content=False)
        print(answer.readline())
    """)
    assert said == "b'hello\\n'\n"
    assert eventually(lambda: server.runtime.followers == 0)


EXEC = "/api/v1/namespaces/default/pods/one/exec?command=cat&stdin=true&stdout=true"


@contextlib.contextmanager
def _connect(server: Server, protocol: str) -> Iterator[Any]:
    url = server.url.replace("https", "wss") + EXEC
    options = {"cert_reqs": ssl.CERT_NONE, "check_hostname": False}
    socket = websocket.create_connection(url, subprotocols=[protocol], sslopt=options, timeout=120)
    try:
        yield socket
    finally:
        # `close` does nothing once the other side has said that it closes.
        socket.shutdown()


def test_base64_channels(server: Server) -> None:
    with _connect(server, "v4.base64.channel.k8s.io") as socket:
        assert socket.subprotocol == "v4.base64.channel.k8s.io"
        assert socket.recv() == "1"
        socket.send("0" + base64.b64encode(b"hello").decode())
        assert socket.recv() == "1" + base64.b64encode(b"hello").decode()


def test_half_close_in_version_5(server: Server) -> None:
    with _connect(server, "v5.channel.k8s.io") as socket:
        assert socket.recv() == b"\x01"
        socket.send_binary(b"\x00hello")
        socket.send_binary(b"\xff\x00")
        assert socket.recv() == b"\x01hello"
        status = socket.recv()
        assert status[0] == 3
        assert json.loads(status[1:]) == {"metadata": {}, "status": "Success"}
        assert socket.recv_data_frame(control_frame=True)[0] == websocket.ABNF.OPCODE_CLOSE


@pytest.mark.parametrize(
    ("path", "headers", "code", "message"),
    [
        (EXEC, {}, 400, "Upgrade request required"),
        ("/api/v1/namespaces/default/pods/one/portforward", {}, 400, "Upgrade request required"),
        (
            EXEC.replace("&stdin=true&stdout=true", ""),
            {"Connection": "Upgrade", "Upgrade": "websocket"},
            400,
            "you must specify at least 1 of stdin, stdout, stderr",
        ),
        (
            EXEC,
            {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v9.channel.k8s.io"},
            403,
            "unable to negotiate protocol: client supports [v9.channel.k8s.io]",
        ),
        (
            EXEC,
            {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Protocol": "graphql"},
            403,
            "requested protocol(s) are not supported: [graphql]",
        ),
        (
            "/api/v1/namespaces/default/pods/one/portforward?ports=0",
            {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Protocol": "v4.channel.k8s.io"},
            400,
            'port "0" must be > 0',
        ),
    ],
)
def test_what_cannot_be_upgraded_is_a_status(
    server: Server, path: str, headers: dict[str, str], code: int, message: str
) -> None:
    host, port = server.url.removeprefix("https://").split(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.closing(http.client.HTTPSConnection(host, int(port), context=context, timeout=120)) as connection:
        connection.request("GET", path, headers=headers)
        with connection.getresponse() as answer:
            status = json.loads(answer.read())
    assert (answer.status, status["kind"], status["code"]) == (code, "Status", code)
    assert message in status["message"]
    assert server.runtime.processes == []
