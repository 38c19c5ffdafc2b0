# SPDX-License-Identifier: Apache-2.0
"""A sidecar's counts outlive its listeners, and not its Envoy."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from labkit.ground import web
from labkit.ground.web import Request, Response
from meshbox.images.prometheus.scrapes import Scrapes
from meshbox.images.proxy.kept_counts import Kept

A, B = b'envoy_istio_requests_total{response_code="200"}', b'envoy_istio_requests_total{response_code="503"}'


def page(uptime: int, **counts: float) -> bytes:
    lines = [b"# TYPE envoy_istio_requests_total counter"]
    lines += [b"%s %.10g" % ({"a": A, "b": B}[name], value) for name, value in counts.items()]
    return b"\n".join([*lines, b'envoy_http_other{x="y"} 7', b"envoy_server_uptime{} %d" % uptime]) + b"\n"


def read(text: bytes) -> dict[bytes, float]:
    pairs = [line.rpartition(b" ") for line in text.splitlines() if not line.startswith(b"#")]
    assert len({name for name, _, _ in pairs}) == len(pairs), "no series twice"
    return {name: float(value) for name, _, value in pairs}


def test_nothing_is_changed_while_counts_grow() -> None:
    kept = Kept()
    for number in range(3):
        text = page(10 + number, a=number)
        assert kept.whole(text) == text


def test_what_a_replaced_listener_had_counted_is_added() -> None:
    kept = Kept()
    kept.whole(page(10, a=200, b=3))
    assert read(kept.whole(page(11, a=5))) | {} == read(page(11, a=205, b=3))
    assert read(kept.whole(page(12, a=7, b=1))) == read(page(12, a=207, b=4))
    assert read(kept.whole(page(13))) == read(page(13, a=207, b=4))
    assert read(kept.whole(page(14, a=1))) == read(page(14, a=208, b=4))


def test_an_envoy_that_was_started_anew_counts_from_nothing() -> None:
    kept = Kept()
    kept.whole(page(10, a=200))
    kept.whole(page(11))
    assert read(kept.whole(page(0, a=1))) == read(page(0, a=1))


def test_a_page_that_was_asked_for_before_another_one_and_comes_after_it_replaces_nothing() -> None:
    kept = Kept()
    kept.whole(page(10, a=200, b=3))
    asked = time.monotonic()
    newer = page(12, a=240, b=5)
    assert kept.whole(newer, time.monotonic()) == newer
    # Its own words, as of the uptime, with the counts that are known.
    assert read(kept.whole(page(11, a=220, b=4), asked)) == read(page(11, a=240, b=5))
    assert read(kept.whole(page(9, a=199), asked)) == read(page(9, a=240, b=5))
    assert read(kept.whole(page(13, a=250, b=5), time.monotonic())) == read(page(13, a=250, b=5))
    assert read(kept.whole(page(14, a=1), time.monotonic())) == read(page(14, a=251, b=5))


def test_two_scrapes_of_one_sidecar_at_a_time_count_nothing_twice() -> None:
    """The first one waits for its answer until the second one has had a newer one."""
    first, second = threading.Event(), threading.Event()
    counted = iter(((first, page(10, a=100)), (None, page(11, a=150)), (None, page(12, a=160))))

    def pod(request: Request) -> Response:
        waits, text = next(counted)
        if waits is not None:
            waits.set()
            assert second.wait(60)
        return Response(200, text, content_type="text/plain")

    (server,) = web.listen({0: pod}, "127.0.0.1")
    try:
        app = Scrapes("127.0.")
        target = f"http://127.0.0.1:{server.server_address[1]}/stats/prometheus"

        def ask() -> dict[bytes, float]:
            request = Request("GET", target, {"host": "127.0.0.1"}, b"", "127.0.0.1", [("Host", "127.0.0.1")])
            body = app(request).body
            assert isinstance(body, bytes)
            return read(body)

        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(ask)
            assert first.wait(60)
            assert ask()[A] == 150
            second.set()
            assert late.result(60)[A] == 150
        assert ask()[A] == 160
    finally:
        second.set()
        server.server_close()


def test_the_proxy_asks_the_sandboxes_own_pods_only() -> None:
    counted = iter((page(10, a=4), page(11)))
    (pod,) = web.listen({0: lambda request: Response(200, next(counted), content_type="text/plain")}, "127.0.0.1")
    try:
        app = Scrapes("127.0.")
        target = f"http://127.0.0.1:{pod.server_address[1]}/stats/prometheus"

        def ask(target: str, method: str = "GET") -> Response:
            return app(Request(method, target, {"host": "127.0.0.1"}, b"", "127.0.0.1", [("Host", "127.0.0.1")]))

        assert [ask(target).status, ask(target).status] == [200, 200]
        for refused in (
            "http://127.1.0.1:80/",
            "http://example.org/",
            "http://127.0.evil.example/",
            "/stats/prometheus",
            "https://127.0.0.1/",
        ):
            assert ask(refused).status == 403
        assert ask(target, "POST").status == 403
    finally:
        pod.server_close()
    # A connection of its own: one that is kept outlives the listener.
    app = Scrapes("127.0.")
    assert ask(target).status == 503


def test_what_others_say_before_and_after_the_counts_stays_where_it_is() -> None:
    """Most of a page is not Istio's, and changes while the counts do not."""
    kept = Kept()
    kept.whole(b"first 1\n" + page(10, a=4))
    for uptime in (11, 12):
        told = b"first %d\n" % uptime + page(uptime, a=1, b=2) + b"last %d\n" % uptime
        expected = [line.replace(A + b" 1", A + b" 5") for line in told.splitlines()]
        assert kept.whole(told).splitlines() == expected
    # An Envoy that was started anew, whose counts look as those before did.
    told = b"first 0\n" + page(0, a=1, b=2)
    assert kept.whole(told) == told
