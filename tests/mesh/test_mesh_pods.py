# SPDX-License-Identifier: Apache-2.0
"""What programs in a pod see of the network: names, localhost, and the way through their sidecar."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import meshbox
from meshbox.addresses import AddressPlan

from .bookshop import Bookshop, opened
from .conftest import RELEASES
from .world import DEADLINE

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHIM = Path(meshbox.__file__).parent / "images" / "shim"


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=RELEASES)
async def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan
) -> AsyncIterator[Bookshop]:
    async with opened(tmp_path_factory.mktemp("mesh"), plan, request.param) as shop:
        yield shop


def pod_env(shop: Bookshop, name: str, *, sidecar: bool = True) -> dict[str, str]:
    pod = shop.pods[name]
    names = shop.settings.home / "names"
    services = {
        f"{obj['metadata']['name']}.{obj['metadata']['namespace']}": {
            "ip": obj["spec"]["clusterIP"],
            "ports": [p["port"] for p in obj["spec"]["ports"]],
        }
        for obj in shop.objects.list("services")
    }
    names.write_text(json.dumps({"services": services, "headless": {"bookinfo/pods": [pod.ip]}, "external": {}}))
    return {
        **os.environ,
        "PYTHONPATH": str(SHIM),
        "PATH": f"{SHIM / 'bin'}:{os.environ['PATH']}",
        "LABKIT_LOCAL_IP": pod.local,
        "LABKIT_POD_IP": pod.ip,
        "LABKIT_BIND": pod.local if sidecar else pod.ip,
        "LABKIT_DNS": str(names),
        "LABKIT_NAMESPACE": "bookinfo",
        "LABKIT_LOW_PORT_SHIFT": "0",
        **({"LABKIT_CAPTURE": f"{pod.local}:15001", "LABKIT_CAPTURE_SOCKET": str(pod.capture)} if sidecar else {}),
    }


async def run(env: dict[str, str], *command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), DEADLINE)
    return output.decode()


REQUEST = "b'GET / HTTP/1.1\\r\\nhost: {0}:9080\\r\\nconnection: close\\r\\n\\r\\n'"
PYTHON = {
    "urllib": """
import urllib.request
print(urllib.request.urlopen('http://{0}:9080/').read().decode())
""",
    "http.client": """
import http.client
connection = http.client.HTTPConnection('{0}', 9080)
connection.request('GET', '/')
print(connection.getresponse().read().decode())
""",
    "asyncio": f"""
import asyncio
async def ask():
    reader, writer = await asyncio.open_connection('{{0}}', 9080)
    writer.write({REQUEST})
    print((await reader.read(2000)).decode())
    print((await reader.read(2000)).decode())
asyncio.run(ask())
""",
    "connect_ex": f"""
import socket
plain = socket.socket()
plain.setblocking(False)
assert plain.connect_ex(('{{0}}', 9080)) == 0
plain.setblocking(True)
plain.sendall({REQUEST})
print(plain.makefile().read())
""",
}


@pytest.mark.parametrize("client", PYTHON)
@pytest.mark.parametrize("host", ["ratings", "ratings.bookinfo", "ratings.bookinfo.svc.cluster.local"])
async def test_python_programs_in_a_pod_are_captured(shop: Bookshop, client: str, host: str) -> None:
    before = len(shop.apps["ratings-v1"].seen)
    output = await run(pod_env(shop, "client"), sys.executable, "-c", PYTHON[client].format(host))
    assert '"app": "ratings-v1"' in output, output
    headers = shop.apps["ratings-v1"].seen[before][2]
    assert "x-envoy-attempt-count" in headers


@pytest.mark.parametrize("command", [("curl", "-sS"), ("curl", "-q", "-sS"), (sys.executable, "-c")])
async def test_localhost_is_the_pods_own(shop: Bookshop, command: tuple[str, ...]) -> None:
    target = PYTHON["urllib"].format("localhost") if command[-1] == "-c" else "http://localhost:9080/"
    assert '"app": "client"' in await run(pod_env(shop, "client"), *command, target)


async def test_curl_finds_services_with_and_without_a_sidecar(shop: Bookshop) -> None:
    behind = await run(pod_env(shop, "client"), "curl", "-sS", "ratings:9080/x")
    assert "x-envoy-attempt-count" in json.loads(behind)["headers"]
    bare = pod_env(shop, "client", sidecar=False)
    # Where no sidecar is, a Service's address is the node's to serve; here its pod stands for it.
    names = json.loads(Path(bare["LABKIT_DNS"]).read_text())
    names["services"]["ratings.bookinfo"]["ip"] = shop.pods["ratings-v1"].ip
    Path(bare["LABKIT_DNS"]).write_text(json.dumps(names))
    for host in ("ratings", "ratings.bookinfo.svc.cluster.local"):
        answer = await run(bare, "curl", "-sS", f"http://{host}:9080/x")
        assert "x-envoy-attempt-count" not in json.loads(answer)["headers"]
    assert "Could not resolve host" in await run(bare, "curl", "-sS", "http://no-such-service:9080/")


async def test_pods_and_other_names_of_services_are_found_without_a_sidecar(shop: Bookshop) -> None:
    bare, pod = pod_env(shop, "client", sidecar=False), shop.pods["ratings-v1"]
    names = json.loads(Path(bare["LABKIT_DNS"]).read_text())
    names["services"]["ratings.bookinfo"]["ip"] = pod.ip
    names["pods"] = {"db-0.db.bookinfo": pod.ip}
    names["external"] = {
        "bookinfo/stars": "ratings.bookinfo.svc.cluster.local",
        "bookinfo/again": "stars.bookinfo.svc.cluster.local.",
        "bookinfo/circle": "circle.bookinfo.svc.cluster.local",
    }
    Path(bare["LABKIT_DNS"]).write_text(json.dumps(names))
    code = "import socket, sys\nprint(*(socket.gethostbyname(name) for name in sys.argv[1:]))"
    known = (
        "db-0.db",
        "db-0.db.bookinfo",
        "db-0.db.bookinfo.svc",
        "db-0.db.bookinfo.svc.cluster.local",
        "stars",
        "again",
    )
    assert (await run(bare, sys.executable, "-c", code, *known)).split() == [pod.ip] * len(known)
    assert "gaierror" in await run(bare, sys.executable, "-c", code, "circle")
    for host in ("db-0.db", "db-0.db.bookinfo.svc.cluster.local", "stars"):
        answer = await run(bare, "curl", "-sS", f"http://{host}:9080/x")
        assert json.loads(answer)["app"] == "ratings-v1"


async def test_curl_hears_why_what_nobody_knows_is_not_let_out(shop: Bookshop) -> None:
    only = {"egress": [{"hosts": ["./*"]}], "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}
    async with shop.rules(("Sidecar", "default", only)):
        plain = await run(pod_env(shop, "client"), "curl", "-sS", "-w", "%{http_code}", "http://www.books.test/")
        process = await asyncio.create_subprocess_exec(
            *("curl", "-sSI", "https://www.books.test/"),
            env=pod_env(shop, "client"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), DEADLINE)
    assert plain == "502"
    assert process.returncode == 35
    assert output.startswith(b"curl: (35) ")
    assert b"HTTP/1.1" not in output


async def test_curl_of_old_http_is_asked_to_upgrade(shop: Bookshop) -> None:
    answer = await run(pod_env(shop, "client"), "curl", "-sS", "--http1.0", "-w", "%{http_code}", "ratings:9080/x")
    assert answer.endswith("426")


async def test_a_server_that_binds_everything_binds_its_pods_address(shop: Bookshop) -> None:
    code = (
        "import socket, http.server as h, sys\n"
        "s = socket.socket(); s.bind(('', 8123)); print(s.getsockname()); s.close()\n"
        "s = socket.create_server(('localhost', 8123)); print(s.getsockname()); s.close()\n"
        "print(socket.getaddrinfo('pods', 80)[0][4], socket.getaddrinfo(None, 8080, flags=socket.AI_PASSIVE)[0][4])\n"
    )
    pod = shop.pods["client"]
    lines = (await run(pod_env(shop, "client"), sys.executable, "-c", code)).splitlines()
    assert lines == [f"('{pod.local}', 8123)", f"('{pod.local}', 8123)", f"('{pod.ip}', 80) ('{pod.local}', 8080)"]
