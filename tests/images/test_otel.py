# SPDX-License-Identifier: Apache-2.0
"""The OpenTelemetry collector: its configuration, what it takes, what it passes on and what it prints."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from labkit.ground.web import App, listen
from meshbox.images import find
from meshbox.images.grpc import client
from meshbox.images.grpc import server as grpc
from meshbox.images.jaeger.server import taking
from meshbox.images.jaeger.spans import span_of
from meshbox.images.jaeger.store import TraceStore
from meshbox.images.otel.collector import Collector
from meshbox.images.otel.configuration import ConfigurationError, address, plan
from meshbox.images.otel.printed import summary, whole
from meshbox.images.otel.zipkin_receiver import zipkin_http
from meshbox.images.otlp.receiving import EXPORT, RefusedError, otlp_http, otlp_methods
from meshbox.images.otlp.spans import Event, Span, from_request, from_zipkin, to_request, to_zipkin

Obj = dict[str, Any]

SPAN = Span(
    trace="0af7651916cd43dd8448eb211c80319c",
    id="b7ad6b7169203331",
    parent="00f067aa0ba902b7",
    name="reviews:9080/*",
    kind="SERVER",
    start=1_700_000_000_123_456_000,
    end=1_700_000_000_125_456_000,
    attributes={
        "http.status_code": "200", "n": -5, "half": 0.5, "yes": True, "raw": b"\1", "list": ["a", 1], "map": {"k": "v"},
    },
    events=(Event(1_700_000_000_124_000_000, "sent", {"bytes": 3}),),
    status=2,
    message="broken",
    resource={"service.name": "reviews.bookinfo"},
    scope=("envoy", "1.40"),
    state="a=b",
)  # fmt: skip
OTHER = Span("0af7651916cd43dd8448eb211c80319c", "00f067aa0ba902b7", name="page", resource={"service.name": "page"})


def config(**more: Any) -> Obj:
    return {
        "receivers": {"otlp": {"protocols": {"grpc": {}}}},
        "exporters": {"debug": None},
        "service": {"pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["debug"]}}},
        **more,
    }


def test_spans_survive_otlp() -> None:
    assert from_request(to_request([SPAN, OTHER])) == [SPAN, OTHER]
    assert from_request(b"") == []


def test_a_span_in_zipkins_form() -> None:
    found = to_zipkin(SPAN)
    assert (found["traceId"], found["id"], found["parentId"], found["kind"]) == (
        SPAN.trace,
        SPAN.id,
        SPAN.parent,
        "SERVER",
    )
    assert (found["timestamp"], found["duration"]) == (1_700_000_000_123_456, 2000)
    assert found["localEndpoint"] == {"serviceName": "reviews.bookinfo"}
    assert found["annotations"] == [{"timestamp": 1_700_000_000_124_000, "value": "sent"}]
    assert found["tags"] == {
        "http.status_code": "200", "n": "-5", "half": "0.5", "yes": "true", "raw": "01", "list": '["a", 1]',
        "map": '{"k": "v"}', "error": "broken", "otel.scope.name": "envoy",
    }  # fmt: skip
    assert span_of(found, "p1")["operationName"] == "reviews:9080/*"
    back = from_zipkin(found)
    assert (back.trace, back.id, back.parent, back.start, back.end) == (
        SPAN.trace,
        SPAN.id,
        SPAN.parent,
        SPAN.start,
        SPAN.end,
    )
    assert (back.service, back.kind, back.status) == ("reviews.bookinfo", "SERVER", 2)


@pytest.mark.parametrize(
    ("given", "tag", "words"),
    [
        (config(exporters={"jaeger": {}}), "0.130.0", '\'exporters\' unknown type: "jaeger" for id: "jaeger"'),
        (
            config(exporters={"logging": {}}),
            "0.130.0",
            "'exporters' the logging exporter has been deprecated, use the debug",
        ),
        (config(receivers={"otlp/": {}}), "", "'receivers' invalid type or name in \"otlp/\""),
        (config(exporter={}), "", "'' has invalid keys: exporter"),
        ([], "", "'' expected a map or struct"),
        (config(receivers={}), "", "no receiver configuration specified in config"),
        (config(service={}), "", "service::pipelines: service must have at least one pipeline"),
        (
            config(service={"pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["otlp/jaeger"]}}}),
            "",
            'service::pipelines::traces: references exporter "otlp/jaeger" which is not configured',
        ),
        (
            config(service={"pipelines": {"traces": {"receivers": ["otlp"]}}}),
            "",
            "service::pipelines::traces: must have at least one exporter",
        ),
        (
            config(service={"pipelines": {"spans": {"receivers": ["otlp"], "exporters": ["debug"]}}}),
            "",
            'service::pipelines::spans: unknown signal "spans"',
        ),
        (config(processors={"memory_limiter": {}}), "", "'check_interval' must be greater than zero"),
        (
            config(processors={"memory_limiter": {"check_interval": "1s"}}),
            "",
            "'limit_mib' or 'limit_percentage' must be greater than zero",
        ),
        (config(exporters={"debug": None, "otlp": {}}), "", 'exporters::otlp: requires a non-empty "endpoint"'),
        (config(receivers={"otlp": {}}), "", "must specify at least one protocol when using the OTLP receiver"),
    ],
)
def test_a_configuration_that_no_collector_starts_with(given: Any, tag: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        plan(given, tag)
    assert words in str(refused.value)


def test_what_is_not_played_is_said() -> None:
    given = config(
        processors={"resource": {}, "batch": None},
        exporters={"debug": None, "prometheus": {"endpoint": "0.0.0.0:9464"}},
        service={
            "pipelines": {
                "traces": {"receivers": ["otlp"], "processors": ["batch", "resource"], "exporters": ["debug"]},
                "metrics": {"receivers": ["otlp"], "exporters": ["prometheus"]},
            }
        },
    )
    assert plan(given, "0.130.0").notes == [
        "pipeline 'metrics' is not played by the sandbox: only spans are taken",
        "processor 'resource' is not played by the sandbox: spans pass it as they are",
    ]
    assert plan(config(exporters={"debug": None, "logging": None}), "0.54.0").notes == []


def test_who_authenticates_for_an_exporter_is_said() -> None:
    sender = {"endpoint": "a:4317", "auth": {"authenticator": "oauth2client"}}
    service = {"pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["otlp"]}}, "extensions": ["oauth2client"]}
    given = config(exporters={"otlp": sender}, extensions={"oauth2client": {}}, service=service)
    assert plan(given, "").notes == [
        "extension 'oauth2client' is not played by the sandbox: it is left out",
        "exporter 'otlp': its 'auth' is not played by the sandbox: it is left out",
    ]


def test_variables_and_addresses_are_the_pods() -> None:
    here = {
        "LABKIT_BIND": "127.1.0.1",
        "LABKIT_LOCAL_IP": "127.2.0.1",
        "LABKIT_POD_IP": "127.3.0.1",
        "MY_POD_IP": "127.3.0.1",
    }
    given = config(receivers={"otlp": {"protocols": {"grpc": {"endpoint": "${env:MY_POD_IP}:4317"}}}})
    endpoint = plan(given, "", here).parts["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
    assert address(endpoint, "", here) == ("127.1.0.1", 4317)
    assert address(None, "localhost:4318", here) == ("127.2.0.1", 4318)
    with pytest.raises(ConfigurationError, match="cannot assign requested address"):
        address("10.0.0.1:4317", "", here)
    # Since 0.104 receivers listen at localhost unless told otherwise.
    assert [plan(config(), tag).everywhere for tag in ("0.103.1", "0.104.0", "latest")] == [True, False, False]


def test_spans_are_printed_as_the_debug_exporter_does() -> None:
    lines = whole([SPAN, OTHER]).splitlines()
    assert lines[:4] == [
        "ResourceSpans #0",
        "Resource SchemaURL: ",
        "Resource attributes:",
        "     -> service.name: Str(reviews.bookinfo)",
    ]
    assert "InstrumentationScope envoy 1.40" in lines
    assert "    Trace ID       : 0af7651916cd43dd8448eb211c80319c" in lines
    assert "    Start time     : 2023-11-14 22:13:20.123456000 +0000 UTC" in lines
    assert "     -> n: Int(-5)" in lines
    assert "ResourceSpans #1" in lines
    assert summary([OTHER]) == f"page {OTHER.trace} {OTHER.id}"


def refuse(_spans: list[Span], _transport: str, _size: int) -> None:
    raise RefusedError("data refused due to high memory usage")


def post(app: App, path: str, body: bytes, kind: str) -> int:
    (server,) = listen({0: app}, "127.0.0.1")
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}{path}"
        with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": kind}), timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    finally:
        server.server_close()


@pytest.mark.parametrize(
    ("path", "body", "kind", "status"),
    [
        ("/v1/traces", to_request([SPAN]), "application/x-protobuf", 200),
        ("/v1/traces", b"\xff", "application/x-protobuf", 400),
        ("/v1/traces", to_request([SPAN]), "application/json", 415),
        ("/v1/logs", b"", "application/x-protobuf", 404),
    ],
)
def test_otlp_over_http(path: str, body: bytes, kind: str, status: int) -> None:
    taken: list[Span] = []
    assert post(otlp_http(lambda spans, how, size: taken.extend(spans)), path, body, kind) == status
    assert taken == ([SPAN] if status == 200 else [])


def test_who_can_take_none_says_so_in_each_form() -> None:
    assert post(otlp_http(refuse), "/v1/traces", to_request([SPAN]), "application/x-protobuf") == 503
    assert post(zipkin_http(refuse), "/api/v2/spans", json.dumps([to_zipkin(SPAN)]).encode(), "application/json") == 503
    server = grpc.listen(0, otlp_methods(refuse), "127.0.0.1")
    with pytest.raises(grpc.CallError) as refused:
        client.call(f"127.0.0.1:{server.server_address[1]}", EXPORT, to_request([SPAN]))
    server.shutdown()
    server.server_close()
    assert (refused.value.code, refused.value.words) == (grpc.UNAVAILABLE, "data refused due to high memory usage")


def guarded(auth: Any) -> Obj:
    """A configuration whose receiver lets in who has a token."""
    listen_at = {"endpoint": "0.0.0.0:0", "auth": {"authenticator": auth}}
    return config(
        receivers={"otlp": {"protocols": {"grpc": listen_at, "http": listen_at}}},
        extensions={"bearertokenauth": {"token": "open-sesame"}, "oidc": {"issuer_url": "https://a"}, "zpages": None},
        service={
            "telemetry": {"metrics": {"address": "0.0.0.0:0"}},
            "extensions": ["bearertokenauth", "zpages"],
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["debug"]}},
        },
    )


@pytest.mark.parametrize(
    ("auth", "token", "words"),
    [
        ("bearertokenauth", "Bearer open-sesame", ""),
        ("bearertokenauth", "Bearer open", "scheme or token does not match"),
        ("bearertokenauth", "", "missing or empty authorization header: authorization"),
        ("oidc", "Bearer open-sesame", "the sandbox does not play authenticator 'oidc', so that nobody is let in"),
    ],
)
def test_a_receiver_lets_in_who_has_the_token(auth: str, token: str, words: str) -> None:
    collector = Collector(plan(guarded(auth), "0.123.0"))
    collector.start()
    headers = [("authorization", token)] if token else []

    def over_grpc() -> tuple[int, str]:
        try:
            client.call(f"127.0.0.1:{collector.ports['otlp/grpc']}", EXPORT, to_request([SPAN]), headers=headers)
        except grpc.CallError as error:
            return error.code, error.words
        return 0, ""

    def over_http() -> tuple[int, str]:
        url = f"http://127.0.0.1:{collector.ports['otlp/http']}/v1/traces"
        sent = urllib.request.Request(
            url, to_request([SPAN]), {"Content-Type": "application/x-protobuf", **dict(headers)}
        )
        try:
            with urllib.request.urlopen(sent, timeout=60) as answer:
                return int(answer.status), ""
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    assert over_grpc() == (16 if words else 0, words)
    assert over_http() == (401 if words else 200, words)


def test_a_receiver_that_asks_whom_nobody_configured_does_not_start() -> None:
    with pytest.raises(ConfigurationError, match='failed to resolve authenticator "nobody"'):
        Collector(plan(guarded("nobody"), "")).start()


def test_from_each_receiver_to_each_exporter(until: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    store, posted = TraceStore(), TraceStore()
    behind = grpc.listen(0, otlp_methods(taking(store)), "127.0.0.1")
    (zipkin,) = listen({0: zipkin_http(taking(posted))}, "127.0.0.1")
    what = plan(
        {
            "receivers": {
                "otlp": {"protocols": {"grpc": {"endpoint": "0.0.0.0:0"}, "http": {"endpoint": "0.0.0.0:0"}}},
                "zipkin": {"endpoint": "0.0.0.0:0"},
            },
            "processors": {
                "memory_limiter": {"check_interval": "1s", "limit_percentage": 90},
                "batch": {"timeout": "10ms"},
            },
            "exporters": {
                "debug": {"verbosity": "detailed"},
                "otlp/jaeger": {"endpoint": f"127.0.0.1:{behind.server_address[1]}", "tls": {"insecure": True}},
                "zipkin": {"endpoint": f"http://127.0.0.1:{zipkin.server_address[1]}/api/v2/spans"},
            },
            "service": {
                "telemetry": {"metrics": {"address": "0.0.0.0:0"}},
                "pipelines": {
                    "traces": {
                        "receivers": ["otlp", "zipkin"],
                        "processors": ["memory_limiter", "batch"],
                        "exporters": ["debug", "otlp/jaeger", "zipkin"],
                    }
                },
            },
        },
        "0.130.0",
    )
    assert what.notes == []
    collector = Collector(what)
    collector.start()
    client.call(f"127.0.0.1:{collector.ports['otlp/grpc']}", EXPORT, to_request([SPAN]))
    body = json.dumps([to_zipkin(OTHER)]).encode()
    sent = urllib.request.Request(
        f"http://127.0.0.1:{collector.ports['zipkin']}/api/v2/spans", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(sent, timeout=60) as answer:
        assert answer.status == 202
    for one in (store, posted):
        until(lambda one=one: len((one.trace(SPAN.trace) or {"spans": []})["spans"]) == 2, what="both spans")
        assert one.services() == ["page", "reviews.bookinfo"]
    until(lambda: "    Name           : reviews:9080/*" in capsys.readouterr().err, what="the span in the log")
    with urllib.request.urlopen(f"http://127.0.0.1:{collector.ports['metrics']}/metrics", timeout=60) as answer:
        page = answer.read().decode()
    assert 'otelcol_receiver_accepted_spans_total{receiver="otlp",transport="grpc"} 1' in page
    behind.shutdown()
    behind.server_close()
    zipkin.server_close()


@pytest.mark.parametrize(
    "reference",
    ["otel/opentelemetry-collector:0.130.0", "docker.io/otel/opentelemetry-collector-contrib:0.73.0"],
)
def test_the_image_is_known(reference: str) -> None:
    image = find(reference)
    assert image is not None
    assert set(image.programs) == {"otelcol", "otelcol-contrib"}
