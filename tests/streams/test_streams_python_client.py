"""The official Python client's stream and portforward, and what other clients of the WebSocket protocols do."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from streams_server import Server, eventually
from test_streams_portforward import BODY, echo, pages

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
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
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
        talk.run_forever(timeout=20)
        print(talk.read_stdout().strip(), talk.returncode)
    """)
    assert said == "got:hello 4\n"


def test_port_forward(client: Any, pages: int) -> None:
    said = client(f"""
        forward = portforward(api.connect_get_namespaced_pod_portforward, "one", "default", ports="{pages}")
        with contextlib.closing(forward.socket({pages})) as socket:
            socket.settimeout(30)
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
            socket.settimeout(20)
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


def _without_checks() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def test_base64_channels(server: Server) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(server.url + EXEC, protocols=["v4.base64.channel.k8s.io"], ssl=_without_checks()) as socket,
    ):
        assert socket.protocol == "v4.base64.channel.k8s.io"
        assert await socket.receive_str() == "1"
        await socket.send_str("0" + base64.b64encode(b"hello").decode())
        assert await socket.receive_str() == "1" + base64.b64encode(b"hello").decode()


async def test_half_close_in_version_5(server: Server) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(server.url + EXEC, protocols=["v5.channel.k8s.io"], ssl=_without_checks()) as socket,
    ):
        assert await socket.receive_bytes() == b"\x01"
        await socket.send_bytes(b"\x00hello")
        await socket.send_bytes(b"\xff\x00")
        assert await socket.receive_bytes() == b"\x01hello"
        status = await socket.receive_bytes()
        assert status[0] == 3
        assert json.loads(status[1:]) == {"metadata": {}, "status": "Success"}
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


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
async def test_what_cannot_be_upgraded_is_a_status(
    server: Server, path: str, headers: dict[str, str], code: int, message: str
) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(server.url + path, headers=headers, ssl=_without_checks()) as answer,
    ):
        status = await answer.json()
    assert (answer.status, status["kind"], status["code"]) == (code, "Status", code)
    assert message in status["message"]
    assert server.runtime.processes == []
