# SPDX-License-Identifier: Apache-2.0
"""Istio's echo application: what it says over HTTP, gRPC and TCP, and what it calls for others."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from labkit.ground.web import Request, listen
from meshbox.images import find
from meshbox.images.echoapp import caller
from meshbox.images.echoapp.answers import ECHO, HEALTH, Settings, echo_method, health_method, http_app
from meshbox.images.echoapp.forward import FORWARD, forward
from meshbox.images.echoapp.server import _arguments, _numbers, _raw
from meshbox.images.grpc import client, wire
from meshbox.images.grpc import server as grpc

SETTINGS = Settings("v1", "", "")


def silent(_: str) -> None:
    """No log."""


def facts(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


@pytest.fixture
def where() -> Iterator[str]:
    methods = {ECHO: echo_method(SETTINGS, silent), HEALTH: health_method, FORWARD: forward}
    server = grpc.listen(0, methods, "127.0.0.1")
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def asked(url: str, **more: object) -> bytes:
    message = wire.text(4, url) + wire.text(6, str(more.get("message", "")))
    return message + (wire.number(1, int(str(more["count"]))) if "count" in more else b"")


def outputs(message: bytes) -> list[str]:
    return [value.decode() for number, value in wire.fields(message) if number == 1 and isinstance(value, bytes)]


def test_a_request_over_http_is_told_back() -> None:
    sent = [("Host", "echo:80"), ("x-b", "2"), ("X-A", "1")]
    request = Request("GET", "/path?codes=418", {"host": "echo:80"}, client="127.9.9.9", items=sent)
    reply = http_app(SETTINGS, 18080, silent)(request)
    assert reply.status == 418
    assert isinstance(reply.body, str)
    found = facts(reply.body)
    assert (found["ServiceVersion"], found["ServicePort"], found["URL"]) == ("v1", "18080", "/path?codes=418")
    assert (found["Host"], found["IP"], found["Proto"], found["Method"]) == ("echo:80", "127.9.9.9", "HTTP/1.1", "GET")
    headers = [line for line in reply.body.splitlines() if line.startswith("RequestHeader=")]
    assert headers == ["RequestHeader=X-A:1", "RequestHeader=X-B:2"]


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("codes=nine", 400, 'codes error: invalid "nine" (want code or code:count)'),
        ("codes=99", 400, "codes error: invalid HTTP response code 99"),
        ("codes=200:0", 400, "codes error: no code has a chance"),
        ("headers=a", 200, 'response headers error: invalid "a" (want name:value)'),
        ("delay=soon", 200, 'error delaying response error: time: invalid duration "soon"'),
    ],
)
def test_what_cannot_be_done_is_said(query: str, status: int, words: str) -> None:
    reply = http_app(SETTINGS, 80, silent)(Request("GET", f"/?{query}", {}))
    assert reply.status == status
    assert isinstance(reply.body, str)
    assert reply.body.splitlines()[0] == words


def test_headers_are_sent_that_are_asked_for() -> None:
    reply = http_app(SETTINGS, 80, silent)(Request("GET", "/?headers=a:b,c:d", {}))
    assert reply.headers == [("a", "b"), ("c", "d")]


def test_a_call_is_told_back_and_health_is_serving(where: str) -> None:
    answer = client.call(where, ECHO, wire.text(1, "hello"), headers=[("x-a", "1")])
    (said,) = outputs(answer)
    found = facts(said)
    assert (found["Echo"], found["ServiceVersion"], found["StatusCode"], found["Proto"]) == (
        "hello",
        "v1",
        "200",
        "GRPC",
    )
    assert (found["Host"], found["ServicePort"]) == (where, where.partition(":")[2])
    assert "RequestHeader=x-a:1" in said.splitlines()
    assert list(wire.fields(client.call(where, HEALTH, b""))) == [(1, 1)]


def test_calls_are_made_for_others(where: str) -> None:
    (web,) = listen({0: http_app(SETTINGS, 8080, silent)}, "127.0.0.1")
    raw = _raw(SETTINGS, 0, first=False)
    threading.Thread(target=raw.serve_forever, daemon=True).start()
    try:
        twice = outputs(client.call(where, FORWARD, asked(f"grpc://{where}", message="hi", count=2)))
        assert [one.splitlines()[0] for one in twice] == ["[0] grpcecho.Echo(hi)", "[1] grpcecho.Echo(hi)"]
        assert "[1 body] Echo=hi" in twice[1].splitlines()
        (by_http,) = outputs(client.call(where, FORWARD, asked(f"http://127.0.0.1:{web.server_address[1]}/a")))
        assert {"[0] StatusCode=200", "[0 body] URL=/a"} <= set(by_http.splitlines())
        (by_tcp,) = outputs(client.call(where, FORWARD, asked(f"tcp://127.0.0.1:{raw.server_address[1]}", message="m")))
        assert by_tcp.splitlines()[-1] == "[0 body] m"
        assert "[0 body] ServicePort=0" in by_tcp.splitlines()
    finally:
        web.server_close()
        raw.shutdown()
        raw.server_close()


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        (asked("xds:///echo:7070"), 12, "proxyless gRPC (xds:///) is not played by the sandbox: use grpc://"),
        (asked("udp://a:1"), 12, "scheme 'udp' is not played by the sandbox: http, grpc, tcp"),
        (asked("http://a") + wire.number(7, 1), 12, "http2 is not played by the sandbox"),
        (asked("http://a", count=20_000), 3, "count 20000 is more than 10000"),
    ],
)
def test_what_it_does_not_call_it_refuses(where: str, message: bytes, code: int, words: str) -> None:
    with pytest.raises(grpc.CallError) as refused:
        client.call(where, FORWARD, message)
    assert (refused.value.code, refused.value.words) == (code, words)


def test_a_call_that_fails_is_told_with_its_number(where: str) -> None:
    # A port that nobody listens at, and that nobody else is given meanwhile.
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(grpc.CallError, match="0/1 requests had errors; first error: "):
            client.call(where, FORWARD, asked(f"grpc://127.0.0.1:{closed.getsockname()[1]}"))


def test_the_samples_own_command_line_is_read() -> None:
    line = "--metrics=15014 --port 18080 --tcp 19090 --xds-grpc-server=17070 --grpc 17070 --grpc 17171 --port 3333 "
    found = vars(_arguments((line + "--port 8080 --version v1 --crt=/cert.crt --key=/cert.key").split()))
    assert (_numbers(found["port"]), _numbers(found["grpc"])) == ([18080, 3333, 8080], [17070, 17171])
    assert (found["version"], found["metrics"], found["xds_grpc_server"]) == ("v1", "15014", ["17070"])


@pytest.mark.parametrize("reference", ["gcr.io/istio-testing/app:latest", "docker.io/istio/app:1.30.3"])
def test_the_image_is_known(reference: str) -> None:
    image = find(reference)
    assert image is not None
    assert image.stands_in


def called(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """What the image's client prints."""
    monkeypatch.setattr("sys.argv", ["client", *words])
    caller.main()
    return capsys.readouterr().out


def test_the_client_calls_from_where_it_runs(
    where: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = called(capsys, monkeypatch, "--count", "2", "-H", "x-who: jason", "--msg", "good day", f"grpc://{where}")
    assert "[0] grpcecho.Echo(good day)" in said
    assert "[1 body] RequestHeader=x-who:jason" in said


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--http2", "http://a"), "--http2 is not played by the sandbox"),
        (("-H", "x", "http://a"), 'invalid header format: "x" (want name:value)'),
        (("--timeout", "soon", "http://a"), "argument --timeout: invalid from_go value: 'soon'"),
        (("grpc://127.0.0.1:1",), "Error 0/1 requests had errors; first error: "),
    ],
)
def test_what_the_client_cannot_do_it_says(
    words: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as ended:
        called(capsys, monkeypatch, *words)
    assert why in f"{capsys.readouterr().err}{ended.value.code}"
