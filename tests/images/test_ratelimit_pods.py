# SPDX-License-Identifier: Apache-2.0
"""The service of global rate limits in pods beside a real redis, and what it reads and says where there is none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labkit.ground.client import Answer, send
from meshbox.images.ratelimit.files import Files
from meshbox.images.ratelimit.log import Log
from meshbox.images.ratelimit.settings import Settings
from meshbox.images.ratelimit.store import Redis, StoreError
from tests.conftest import PATIENCE
from tests.node.conftest import Cluster

from .test_samples import written

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
has_redis = pytest.mark.skipif(shutil.which("redis-server", path=PATH) is None, reason="redis-server is not there")
# No clock crosses the border of a year while a test runs, but once in half a century.
LIMITS = "domain: shop\ndescriptors: [{key: user, rate_limit: {unit: year, requests_per_unit: 3}}]\n"


def limiter(cluster: Cluster, name: str, redis: str) -> None:
    """A pod as in Istio's sample."""
    env = {"REDIS_SOCKET_TYPE": "tcp", "REDIS_URL": redis, "LOG_LEVEL": "debug", "USE_STATSD": "false",
           "RUNTIME_ROOT": "/data", "RUNTIME_SUBDIRECTORY": "ratelimit", "RUNTIME_WATCH_ROOT": "false",
           "RUNTIME_IGNOREDOTFILES": "true", "HOST": "::", "GRPC_HOST": "::"}  # fmt: skip
    container = {
        "image": "docker.io/envoyproxy/ratelimit:30a4ce1a",
        "command": ["/bin/ratelimit"],
        "env": [{"name": key, "value": value} for key, value in env.items()],
        "volumeMounts": [{"name": "config", "mountPath": "/data/ratelimit/config"}],
        "readinessProbe": {"httpGet": {"port": 8080, "path": "/healthcheck"}},
    }
    cluster.pod(name, container, volumes=[{"name": "config", "configMap": {"name": "limits"}}])


async def decided(cluster: Cluster, name: str) -> Answer:
    where = f"http://{cluster.status(name)['podIP']}:8080/json"
    asked = {"domain": "shop", "descriptors": [{"entries": [{"key": "user", "value": "ann"}]}]}
    return await asyncio.to_thread(send, where, method="POST", body=json.dumps(asked).encode(), timeout=PATIENCE)


@has_redis
async def test_pods_share_what_redis_has_counted(cluster: Cluster) -> None:
    cluster.objects.create("configmaps", {"metadata": {"name": "limits"}, "data": {"config.yaml": LIMITS}}, "default")
    cluster.pod("db", {"image": "redis:alpine", "readinessProbe": {"exec": {"command": ["redis-cli", "ping"]}}})
    await cluster.until(lambda: cluster.ready("db"))
    for name in ("one", "two"):
        limiter(cluster, name, f"{cluster.status('db')['podIP']}:6379")
    await cluster.until(lambda: cluster.ready("one") and cluster.ready("two"))
    left = []
    for name in ("one", "two", "one", "two"):
        answer = await decided(cluster, name)
        (status,) = json.loads(answer.body)["statuses"]
        left.append((answer.status, status["code"], status.get("limitRemaining", 0)))
    assert left == [(200, "OK", 2), (200, "OK", 1), (200, "OK", 0), (429, "OVER_LIMIT", 0)]
    code, keys, _ = await cluster.exec(["redis-cli", "keys", "*"], "db")
    assert (code, keys.startswith("shop_user_ann_")) == (0, True)
    told = await cluster.log("one")
    for words in (
        "this is the workshop's stand-in for envoyproxy/ratelimit",
        "loading descriptor: key=shop.user ratelimit={requests_per_unit=3, unit=YEAR, unlimited=false, shadow_mode=",
        "Listening for gRPC on '[::]:8081'",
        "applying limit: 3 requests per YEAR, shadow_mode: false",
    ):
        assert f'msg="{words}' in told

    cluster.objects.delete("pods", "db", "default")
    await cluster.until(lambda: cluster.gone("db"))
    assert (await decided(cluster, "one")).status == 400

    limits = cluster.objects.get("configmaps", "limits", "default")
    cluster.objects.update("configmaps", {**limits, "data": {"config.yaml": LIMITS.replace("year", "eon")}})
    assert await written(cluster, "one", b"Error loading new configuration: config.yaml: invalid rate limit unit 'eon'")


async def test_it_ends_where_there_is_no_redis_at_its_start(cluster: Cluster) -> None:
    cluster.objects.create("configmaps", {"metadata": {"name": "limits"}, "data": {"config.yaml": LIMITS}}, "default")
    limiter(cluster, "alone", "nowhere.test.invalid:6379")
    await cluster.until(lambda: (cluster.container("alone").get("lastState") or {}).get("terminated"))
    assert cluster.container("alone")["lastState"]["terminated"]["exitCode"] == 2
    assert "panic: dial tcp: lookup nowhere.test.invalid: no such host" in await cluster.log("alone", previous=True)


Script = Callable[[socket.socket], None]


@pytest.fixture
def scripted() -> Iterator[Callable[[Script], str]]:
    """Makes a server whose connections are each handled by a function."""
    listeners: list[socket.socket] = []

    def made(script: Script) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    script(connection)

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield made
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_several_commands_are_sent_at_once_and_each_answered(scripted: Callable[[Script], str]) -> None:
    seen: list[bytes] = []

    def answers(connection: socket.socket) -> None:
        seen.append(connection.recv(4096))
        connection.sendall(b"+OK\r\n")
        seen.append(connection.recv(4096))
        connection.sendall(b":7\r\n$5\r\nhello\r\n$-1\r\n")

    redis = Redis(f"redis://ann:b%20c@{scripted(answers)}")
    with contextlib.closing(redis):
        assert redis.ask([["INCRBY", "k", 2], ["GET", "a"], ["GET", "b"]]) == [7, "hello", None]
    assert seen[0] == b"*3\r\n$4\r\nAUTH\r\n$3\r\nann\r\n$3\r\nb c\r\n"
    assert seen[1].startswith(b"*3\r\n$6\r\nINCRBY\r\n$1\r\nk\r\n$1\r\n2\r\n*2\r\n$3\r\nGET")


def test_a_connection_that_was_closed_is_not_used_again(scripted: Callable[[Script], str]) -> None:
    def once(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b":1\r\n")

    with contextlib.closing(Redis(scripted(once))) as redis:
        first = redis.ask([["PING"]])
        (kept,) = redis._kept
        # That the other side has closed it arrives some time.
        kept.socket.settimeout(PATIENCE)
        assert kept.socket.recv(1, socket.MSG_PEEK) == b""
        assert [first, redis.ask([["PING"]])] == [[1], [1]]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "EOF"),
        (b"-ERR no\r\n", "ERR no"),
        (b"$9\r\nab", "EOF"),
        (b":x\r\n", 'strconv.ParseInt: parsing "x": invalid syntax'),
        (b"!\r\n", "'!'"),
    ],
)
def test_what_redis_says_badly_is_an_error(answer: bytes, words: str, scripted: Callable[[Script], str]) -> None:
    def bad(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)

    with contextlib.closing(Redis(scripted(bad))) as redis, pytest.raises(StoreError) as refused:
        redis.ask([["PING"]])
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("network", "url", "words"),
    [
        ("tcp", "redis", "dial tcp: address redis: missing port in address"),
        ("tcp", "redis:http", "dial tcp: lookup tcp/http: unknown port"),
        ("unix", "/nowhere.sock", "dial unix /nowhere.sock: connect: no such file or directory"),
    ],
)
def test_who_is_not_there_is_named(network: str, url: str, words: str) -> None:
    with pytest.raises(StoreError) as refused:
        Redis(url, network).ask([["PING"]])
    assert str(refused.value) == words


def test_a_port_where_nobody_listens_is_named() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(StoreError) as refused:
            Redis(where).ask([["PING"]])
    assert str(refused.value) == f"dial tcp {where}: connect: connection refused"


@pytest.mark.parametrize(
    ("whole", "expected"),
    [(False, ["a.yaml", "more.b.yaml"]), (True, ["config.a.yaml", "config.more.b.yaml"])],
)
def test_the_files_of_a_folder_are_read_and_watched(whole: bool, expected: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "data" / "limits" / "config"
    (folder / "more").mkdir(parents=True)
    (folder.parent / "other.yaml").write_text("no")
    for name in ("a.yaml", "more/b.yaml", ".hidden"):
        (folder / name).write_text(name)
    env = {"RUNTIME_ROOT": "/data", "RUNTIME_SUBDIRECTORY": "limits", "RUNTIME_WATCH_ROOT": str(whole)}
    files = Files(Settings({**env, "RUNTIME_IGNOREDOTFILES": "true"}), tmp_path, Log("panic"))
    assert [name for name, _ in files.read()] == expected
    before = files.state()
    (folder / "a.yaml").write_text("longer than before")
    # A whole tree counts as changed when its link leads elsewhere.
    assert (files.state() != before) is not whole
    assert ("a.yaml" in dict(files.read())) is not whole
    assert "longer than before" in dict(files.read()).values()


def test_without_a_folder_of_its_own_nothing_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "a.yaml").write_text("no")
    files = Files(Settings({"RUNTIME_ROOT": "/"}), tmp_path, Log("warning"))
    assert (files.watched, files.read()) == (tmp_path, [])
    assert 'msg="no runtime configuration. using nil loader."' in capsys.readouterr().err
