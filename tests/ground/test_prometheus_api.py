# SPDX-License-Identifier: Apache-2.0
"""What Prometheus answers, and what is said where somebody else does."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from labkit.ground.errors import ClusterError
from labkit.ground.prometheus import PrometheusApi


@contextmanager
def answering(body: bytes) -> Iterator[PrometheusApi]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 (its name)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    api = PrometheusApi(f"http://127.0.0.1:{server.server_port}")
    try:
        yield api
    finally:
        api.close()
        server.shutdown()
        server.server_close()


def data(**found: Any) -> bytes:
    return json.dumps({"status": "success", "data": found}).encode()


def test_a_scalar_is_one_series_without_labels():
    with answering(data(resultType="scalar", result=[5, "1.5"])) as api:
        assert list(api.instant("1.5")) == [({}, [(5.0, 1.5)])]


def test_a_text_is_no_number():
    words = '^"a" returns a text, not numbers'
    with answering(data(resultType="string", result=[5, "a"])) as api, pytest.raises(ClusterError, match=words):
        list(api.instant('"a"'))


def test_native_histograms_are_left_out_with_a_word_and_what_is_no_number_stays():
    found = [{"metric": {"a": "b"}, "value": [1, "NaN"]}, {"metric": {"c": "d"}, "histogram": [1, {}]}]
    with answering(data(resultType="vector", result=found)) as api:
        result = api.instant("a")
    ((labels, ((at, value),)),) = result
    assert (labels, at, math.isnan(value)) == ({"a": "b"}, 1.0, True)
    assert result.histograms == ({"c": "d"},)
    (warning,) = result.warnings
    assert warning.startswith("one series of a: native histograms, which are no single numbers and are left out")


def test_native_histograms_over_time_are_left_out_too():
    found = [
        {"metric": {"a": "b"}, "histograms": [[1, {}], [2, {}]]},
        {"metric": {}, "values": [[1, "2"]], "histograms": [[2, {}]]},
    ]
    with answering(data(resultType="matrix", result=found)) as api:
        result = api.over("a", 0, 2, 1)
    assert list(result) == [({}, [(1.0, 2.0)])]
    assert result.histograms == ({"a": "b"}, {})


def test_a_range_is_all_that_it_holds():
    found = [{"metric": {"a": "b"}, "values": [[1, "2"], [2, "+Inf"]]}]
    with answering(data(resultType="matrix", result=found)) as api:
        assert list(api.instant("a[5m]")) == [({"a": "b"}, [(1.0, 2.0), (2.0, math.inf)])]


def test_what_prometheus_warns_of_comes_along():
    body = {"status": "success", "warnings": ["slow"], "infos": ["not a counter?"]}
    body["data"] = {"resultType": "vector", "result": []}
    with answering(json.dumps(body).encode()) as api:
        assert api.instant("rate(a[1m])").warnings == ("slow", "not a counter?")
        assert api.over("rate(a[1m])", 0, 1, 1).warnings == ("slow", "not a counter?")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'"x"', b"{}", b""])
def test_somebody_else_is_told(body):
    with answering(body) as api, pytest.raises(ClusterError, match="answers 200 without JSON: is that Prometheus"):
        api.get("labels")


@pytest.mark.parametrize("url", ["", "prometheus:9090", "https://x", "http://"])
def test_what_is_no_address_is_told(url):
    with pytest.raises(ClusterError, match="is no address of Prometheus"):
        PrometheusApi(url)
