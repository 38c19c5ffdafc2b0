# SPDX-License-Identifier: Apache-2.0
"""The images of Istio's samples and tasks do what those count on."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from labkit.ground.client import Answer, send
from meshbox.images.fortio.command import parsed
from meshbox.images.fortio.load import Call, report
from tests.conftest import PATIENCE
from tests.node.conftest import Cluster


def probed(image: str, port: int, **more: Any) -> dict[str, Any]:
    return {"image": image, "readinessProbe": {"tcpSocket": {"port": port}}, **more}


async def ask(cluster: Cluster, name: str, port: int, path: str, **options: Any) -> Answer:
    url = f"http://{cluster.status(name)['podIP']}:{cluster.settings.plan.port(port)}{path}"
    return await asyncio.to_thread(send, url, timeout=PATIENCE, **options)


async def written(cluster: Cluster, name: str, words: bytes) -> bool:
    """Whether a container comes to write `words`: what it has answered says nothing of what its node has read of it."""
    told = b""
    async with asyncio.timeout(PATIENCE):
        async for chunk in cluster.node.logs("default", name, "c", follow=True):
            told += chunk
            if words in told:
                return True
    return False


async def test_what_is_there_to_be_probed_answers_at_both_ports(cluster: Cluster) -> None:
    cluster.pod("probed", probed("registry.istio.io/release/health:example", 8002))
    await cluster.until(lambda: cluster.ready("probed"))
    for port in (8001, 8002):
        for page in ("foo", "bar"):
            answer = await ask(cluster, "probed", port, f"/{page}")
            assert (answer.status, answer.text) == (200, f"Listening on {port}: {page} ")
    assert (await ask(cluster, "probed", 8001, "/")).status == 404


async def test_helloworld_says_its_version_and_its_pod(cluster: Cluster) -> None:
    for version in ("v1", "v2"):
        image = f"registry.istio.io/release/examples-helloworld-{version}:1.0"
        cluster.pod(f"hello-{version}", probed(image, 5000))
    for version in ("v1", "v2"):
        name = f"hello-{version}"
        await cluster.until(lambda name=name: cluster.ready(name))
        said = (await ask(cluster, name, 5000, "/hello")).text
        assert said == f"Hello version: {version}, instance: {name}\n"


async def test_ratings_come_from_either_database(cluster: Cluster) -> None:
    release = "registry.istio.io/release/examples-bookinfo"
    secret = {"name": "MYSQL_ROOT_PASSWORD", "value": "password"}
    cluster.pod("mongodb", probed(f"{release}-mongodb:1.20.3", 27017, args=["--ipv6", "--bind_ip_all"]))
    cluster.pod("mysqldb", probed(f"{release}-mysqldb:1.20.3", 3306, env=[secret]))
    await cluster.until(lambda: cluster.ready("mongodb") and cluster.ready("mysqldb"))
    mongo, mysql = (cluster.status(name)["podIP"] for name in ("mongodb", "mysqldb"))
    login = {"DB_TYPE": "mysql", "MYSQL_DB_HOST": mysql, "MYSQL_DB_PORT": "3306", "MYSQL_DB_USER": "root"}
    databases = {
        "of-mongodb": {"MONGO_DB_URL": f"mongodb://{mongo}:27017/test"},
        "of-mysql": {**login, "MYSQL_DB_PASSWORD": "password"},
        "refused": {**login, "MYSQL_DB_PASSWORD": "wrong"},
    }
    for name, variables in databases.items():
        env = [{"name": variable, "value": value} for variable, value in variables.items()]
        cluster.pod(name, probed(f"{release}-ratings-v2:1.20.3", 9080, env=env))
    for name in databases:
        await cluster.until(lambda name=name: cluster.ready(name))
        answer = await ask(cluster, name, 9080, "/ratings/0")
        if name == "refused":
            assert (answer.status, "could not connect" in answer.text) == (500, True)
            assert await written(cluster, "refused", b"Access denied for user 'root'")
        else:
            assert json.loads(answer.text)["ratings"] == {"Reviewer1": 5, "Reviewer2": 4}, name


async def test_fortio_loads_and_prints_what_tasks_read(cluster: Cluster) -> None:
    cluster.pod("web", probed("mccutchen/go-httpbin:v2.15.0", 8080))
    cluster.pod("load", probed("docker.io/fortio/fortio:latest_release", 8080))
    await cluster.until(lambda: cluster.ready("web") and cluster.ready("load"))
    url = f"http://{cluster.status('web')['podIP']}:8080"
    # Its own three seconds for each call are not what this is about.
    patient = ["-timeout", f"{PATIENCE:g}s"]
    line = [
        "/usr/bin/fortio",
        "load",
        "-c",
        "2",
        "-qps",
        "0",
        "-n",
        "20",
        "-loglevel",
        "Warning",
        *patient,
        f"{url}/get",
    ]
    code, said, _ = await cluster.exec(line, "load")
    assert code == 0
    assert "Code 200 : 20 (100.0 %)" in said
    assert "All done 20 calls (plus 0 warmup)" in said
    _, said, _ = await cluster.exec(["fortio", "load", *patient, "-n", "3", "-qps", "0", f"{url}/status/503"], "load")
    assert "Code 503 : 3 (100.0 %)" in said
    code, said, _ = await cluster.exec(["fortio", "curl", *patient, "-quiet", f"{url}/status/418"], "load")
    assert (code, said.splitlines()[0]) == (1, "HTTP/1.1 418 I'm a Teapot")
    code, _, wrong = await cluster.exec(["fortio", "load", "-grpc", "x:1"], "load")
    assert (code, "not played in this sandbox: -grpc" in wrong) == (1, True)
    assert (await ask(cluster, "load", 8080, "/?status=404")).status == 404


def test_fortios_report_counts_by_code() -> None:
    calls = [Call(200, 0.001), Call(200, 0.002), Call(503, 0.004), Call(-1, 3.0)]
    lines = report(calls, 2.0, [50, 99]).splitlines()
    assert lines[0] == "Ended after 2s : 4 calls. qps=2"
    assert [line for line in lines if line.startswith("Code")] == [
        "Code  -1 : 1 (25.0 %)",
        "Code 200 : 2 (50.0 %)",
        "Code 503 : 1 (25.0 %)",
    ]
    assert [line for line in lines if line.startswith("# target")] == ["# target 50% 0.002", "# target 99% 3"]
    # The ranges hold every call once, and end with all of them.
    ranges = [line for line in lines if " <= " in line]
    assert sum(int(line.rpartition(",")[2]) for line in ranges) == 4
    assert ", 100.00, " in ranges[-1]


@pytest.mark.parametrize(
    "words", [["load"], ["load", "a", "b"], ["load", "-c"], ["load", "-c", "x", "a"], ["load", "https://a"], []]
)
def test_what_fortio_cannot_do_is_no_run(words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"expected|missing|needs an argument|invalid|only http"):
        parsed(words)


def test_fortios_flags_are_gos() -> None:
    asked = parsed(["load", "--c=8", "-t", "1m30s", "-H", "Host: a.test", "-quiet", "-payload", "x", "a.test/b"])
    assert (asked.plan.connections, asked.plan.seconds, asked.plan.headers["Host"]) == (8, 90.0, "a.test")
    assert (asked.plan.method, asked.url, asked.quiet) == ("POST", "http://a.test/b", True)


async def test_an_unknown_image_names_what_is_alike_and_the_way_to_ones_own(cluster: Cluster) -> None:
    cluster.pod("x", {"image": "docker.io/istio/examples-helloworld-v3:1.0"})
    [message] = await cluster.until(lambda: cluster.messages("Failed", "x")[:1])
    assert "istio/examples-helloworld-v1, istio/examples-helloworld-v2" in message
    assert "`labkit image list` shows all" in message
    assert "`labkit image add`" in message
    assert len(message) < 450


async def test_a_program_of_ones_own_runs_as_an_image(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meshbox.images import own

    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "own"))
    app = tmp_path / "app.py"
    app.write_text(
        "import http.server as h, sys\n"
        "class A(h.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.end_headers(); self.wfile.write(b'mine ' + sys.argv[1].encode())\n"
        "h.HTTPServer(('', 8000), A).serve_forever()\n"
    )
    own.add("shop/cart", [str(app), "first"])
    cluster.pod("cart", probed("registry.example/shop/cart:2", 8000))
    await cluster.until(lambda: cluster.ready("cart"))
    assert (await ask(cluster, "cart", 8000, "/")).text == "mine first"
    assert own.remove("shop/cart:1") == "shop/cart"
    assert own.all_own() == {}


async def test_what_is_no_program_is_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from labkit.ground.errors import SandboxError
    from meshbox.images import own

    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    for name, command, words in (
        ("UPPER", ["sleep 1"], "invalid reference format"),
        ("a", ["no-such-program"], "there is no program 'no-such-program' here"),
        ("a", [""], "no command was given"),
    ):
        with pytest.raises(SandboxError, match=words):
            own.add(name, command)
    assert own.all_own() == {}
    (tmp_path / "images.json").write_text('{"a": 1}')
    with pytest.raises(SandboxError, match="not a list of command lines"):
        own.all_own()
    assert own.find_own("a") is None


@pytest.mark.parametrize(
    ("image", "port", "path"),
    [("mccutchen/go-httpbin", 8080, "/websocket/echo"), ("hiroakis/tornado-websocket-example", 8888, "/ws")],
)
async def test_a_websocket_sends_back_what_it_is_sent(cluster: Cluster, image: str, port: int, path: str) -> None:
    import websocket

    cluster.pod("web", probed(image, port))
    await cluster.until(lambda: cluster.ready("web"))
    where = f"{cluster.status('web')['podIP']}:{port}"

    def talk() -> list[str | bytes]:
        connection = websocket.create_connection(f"ws://{where}{path}", timeout=60, suppress_origin=True)
        try:
            said: list[str | bytes] = []
            for message in ("short", "ü" * 200, "x" * 70_000):
                connection.send(message)
                said.append(connection.recv())
            connection.send_binary(b"\x00\xff")
            said.append(connection.recv())
            return said
        finally:
            connection.close()

    assert await asyncio.to_thread(talk) == ["short", "ü" * 200, "x" * 70_000, b"\x00\xff"]
    assert (await ask(cluster, "web", port, path)).status == 400


def test_zipkin_gives_back_what_it_was_sent() -> None:
    from labkit.ground.web import Request
    from meshbox.images.jaeger.store import TraceStore
    from meshbox.images.zipkin import Zipkin

    span = {"traceId": "a" * 16, "id": "b" * 16, "name": "get", "timestamp": 5_000_000, "duration": 7}
    span["localEndpoint"] = {"serviceName": "web"}
    span["tags"] = {"http.status_code": "200"}
    zipkin = Zipkin(TraceStore())

    def asked(target: str) -> Any:
        answer = zipkin.answer(Request("GET", target, {}))
        assert isinstance(answer.body, str)
        return json.loads(answer.body) if answer.status == 200 else answer.status

    assert zipkin.answer(Request("POST", "/api/v2/spans", {}, json.dumps([span]).encode())).status == 202
    assert zipkin.answer(Request("POST", "/api/v2/spans", {}, b'[{"traceId": "z"}]')).status == 400
    assert asked("/api/v2/services") == ["web"]
    assert asked("/api/v2/spans?serviceName=web") == ["get"]
    assert asked(f"/api/v2/trace/{'a' * 16}") == [span]
    assert asked("/api/v2/traces?serviceName=web&annotationQuery=http.status_code=200") == [[span]]
    assert asked("/api/v2/traces?annotationQuery=http.status_code=500") == []
    assert asked("/api/v2/trace/ff") == 404
    assert asked("/api/v2/traces?limit=x") == 400
