# SPDX-License-Identifier: Apache-2.0
"""logs, as real kubectl asks for them, and over plain HTTP."""

from __future__ import annotations

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.streams.streams_server import Server, eventually


@pytest.fixture
def transport() -> dict[str, str]:
    return {}


@pytest.fixture
def get(server: Server) -> Any:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def get(pod: str, query: str = "") -> tuple[int, bytes]:
        url = f"{server.url}/api/v1/namespaces/default/pods/{pod}/log?{query}"
        try:
            with urllib.request.urlopen(url, context=context, timeout=120) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    return get


def test_a_log_is_printed(server: Server, kubectl: Any) -> None:
    server.runtime.log_lines = [b"first\n", b"second\n"]
    done = kubectl("logs", "one")
    assert (done.returncode, done.stdout) == (0, b"first\nsecond\n")


def test_options_reach_the_node(server: Server, kubectl: Any) -> None:
    kubectl("logs", "two", "-c", "app", "--tail=5", "--since=10s", "--timestamps", "--limit-bytes=99")
    assert server.runtime.log_requests == [
        {
            "container": "app",
            "follow": False,
            "tail_lines": 5,
            "since_seconds": 10,
            "since_time": "",
            "timestamps": True,
            "limit_bytes": 99,
        }
    ]


def test_the_annotated_container_is_the_default(server: Server, get: Any) -> None:
    assert get("chosen")[0] == 200
    assert server.runtime.log_requests[0]["container"] == "app"


def test_an_open_choice_of_containers_is_refused(get: Any) -> None:
    code, body = get("two")
    status = json.loads(body)
    assert (code, status["reason"]) == (400, "BadRequest")
    assert status["message"] == (
        "a container name must be specified for pod two, choose one of: [app istio-proxy] "
        "or one of the init containers: [istio-init]"
    )


def test_what_the_node_refuses_is_a_status(kubectl: Any) -> None:
    done = kubectl("logs", "one", "--previous")
    assert done.returncode == 1
    assert b'previous terminated container "app" in pod "one" not found' in done.stderr


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        ("tailLines=-1", 422, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ("limitBytes=0", 422, "limitBytes: Invalid value: 0: must be greater than 0"),
        ("sinceSeconds=0", 422, "sinceSeconds: Invalid value: 0: must be greater than 0"),
        ("sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", 422, "at most one of `sinceTime` or `sinceSeconds`"),
        ("tailLines=many", 400, 'strconv.ParseInt: parsing "many": invalid syntax'),
        ("container=nope", 400, "container nope is not valid for pod one"),
    ],
)
def test_a_wrong_query_is_refused(get: Any, query: str, code: int, message: str) -> None:
    answered, body = get("one", query)
    assert answered == code
    assert message in json.loads(body)["message"]


def test_a_pod_without_a_node_has_an_empty_log(get: Any) -> None:
    assert get("pending") == (200, b"")


def test_a_followed_log_comes_line_by_line_until_the_client_goes(
    server: Server, kubectl_path: str, environment: dict[str, str]
) -> None:
    client = subprocess.Popen([kubectl_path, "logs", "-f", "one"], env=environment, stdout=subprocess.PIPE)
    with client:
        assert eventually(lambda: server.runtime.followers == 1)
        assert client.stdout is not None
        for number in range(3):
            server.call(server.runtime.say, b"line %d\n" % number)
            assert client.stdout.readline() == b"line %d\n" % number
        client.kill()
    # Nothing is said any more: that the client has gone must be noticed all the same.
    assert eventually(lambda: server.runtime.followers == 0)
    assert eventually(lambda: server.open_requests == 0)


def test_a_slow_reader_does_not_fill_the_memory(server: Server, kubectl_path: str, environment: dict[str, str]) -> None:
    sent = 0

    async def endless(*_: Any, **__: Any) -> Any:
        nonlocal sent
        while True:
            sent += 65536
            yield b"x" * 65535 + b"\n"

    server.runtime.logs = endless  # type: ignore[method-assign]
    client = subprocess.Popen([kubectl_path, "logs", "-f", "one"], env=environment, stdout=subprocess.PIPE)
    with client:
        # Nobody reads the pipe: it, kubectl and two sockets' buffers fill, and then the server waits.
        seen = -1

        def stalled() -> bool:
            nonlocal seen
            before, seen = seen, sent
            return sent > 0 and before == seen and server.call(lambda: sent) == seen

        assert eventually(stalled)
        assert sent < 32_000_000
        client.kill()
    assert eventually(lambda: server.open_requests == 0)
