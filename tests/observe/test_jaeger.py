# SPDX-License-Identifier: Apache-2.0
"""Traces as tables and figures, from the API that the stand-in serves (the same as Jaeger's)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pandas as pd
import pytest

from labkit.ground import web
from labkit.ground.errors import ClusterError, NotReadyError
from labkit.observe import tracing
from labkit.observe.jaeger import Jaeger, Trace
from meshbox.images.jaeger import server
from meshbox.images.jaeger.store import TraceStore

MILLISECOND = 1000
BEGAN = 1_700_000_000_000_000


def span(number: int, parent: int, service: str, start: float, duration: float, **tags: str) -> dict:
    made = {
        "traceId": f"{0xABC:032x}",
        "id": f"{number:016x}",
        "name": f"{service}.bookinfo.svc.cluster.local:9080/*",
        "timestamp": BEGAN + int(start * MILLISECOND),
        "duration": int(duration * MILLISECOND),
        "kind": "SERVER" if number % 2 else "CLIENT",
        "localEndpoint": {"serviceName": f"{service}.bookinfo"},
        "tags": {"http.status_code": "200", **tags},
    }
    return {**made, "parentId": f"{parent:016x}"} if parent else made


# gateway 0–100 → productpage 10–90 → details 20–30, then reviews 40–80
PAGE_VIEW = [
    span(1, 0, "gateway", 0, 100),
    span(3, 1, "productpage", 10, 80),
    span(5, 3, "details", 20, 10),
    span(7, 3, "reviews", 40, 40, error="true"),
]


@pytest.fixture
def jaeger() -> Iterator[Jaeger]:
    store = TraceStore()
    (running,) = web.listen({0: server.query(store)}, "127.0.0.1")
    store.add(PAGE_VIEW)
    yield Jaeger(f"http://127.0.0.1:{running.server_address[1]}")
    running.server_close()


@pytest.fixture
def long_ago() -> pd.Timestamp:
    return pd.Timestamp(BEGAN - 1_000_000, unit="us", tz="UTC")


def test_spans_become_a_table(jaeger, long_ago):
    (trace,) = jaeger.traces("details.bookinfo", start=long_ago)
    table = trace.spans
    assert list(table["service"]) == [
        "gateway.bookinfo",
        "productpage.bookinfo",
        "details.bookinfo",
        "reviews.bookinfo",
    ]
    assert list(table["depth"]) == [0, 1, 2, 2]
    assert list(table["start_ms"]) == [0.0, 10.0, 20.0, 40.0]
    assert list(table["duration_ms"]) == [100.0, 80.0, 10.0, 40.0]
    assert list(table["error"]) == [False, False, False, True]
    assert str(table["status"].dtype) == "Int64"
    assert table["start"].iloc[0] == pd.Timestamp(BEGAN, unit="us", tz="UTC")
    assert trace.duration_ms == 100.0


def test_the_critical_path_is_what_the_end_waited_for(jaeger):
    path = jaeger.trace(f"{0xABC:032x}").critical_path()
    stretches = [(row.service.split(".")[0], row.start_ms, row.self_ms) for row in path.itertuples()]
    assert stretches == [
        ("gateway", 0.0, 10.0),
        ("productpage", 10.0, 10.0),
        ("details", 20.0, 10.0),
        ("productpage", 30.0, 10.0),
        ("reviews", 40.0, 40.0),
        ("productpage", 80.0, 10.0),
        ("gateway", 90.0, 10.0),
    ]
    assert path["self_ms"].sum() == 100.0


def test_the_waterfall_has_a_bar_for_each_span_where_it_ran(jaeger):
    figure = jaeger.trace(f"{0xABC:032x}").waterfall()
    bars = {bar.name: (list(bar.y), list(bar.base), list(bar.x)) for bar in figure.data}
    assert bars["reviews.bookinfo"] == ([3], [40.0], [40.0])
    assert bars["gateway.bookinfo"] == ([0], [0.0], [100.0])
    assert figure.layout.xaxis.title.text == "time since the request came in (ms)"


def test_services_and_operations(jaeger):
    assert jaeger.services() == ["details.bookinfo", "gateway.bookinfo", "productpage.bookinfo", "reviews.bookinfo"]
    assert jaeger.operations("details.bookinfo") == ["details.bookinfo.svc.cluster.local:9080/*"]


def test_tags_filter(jaeger, long_ago):
    assert len(jaeger.traces("reviews.bookinfo", tags={"error": "true"}, start=long_ago)) == 1
    assert jaeger.traces("reviews.bookinfo", tags={"error": "false"}, start=long_ago) == []


def test_an_unknown_trace_and_a_wrong_address_are_told(jaeger):
    with pytest.raises(ClusterError, match="trace not found"):
        jaeger.trace("123")
    with pytest.raises(ClusterError, match="without JSON: is that Jaeger"):
        Jaeger(f"{jaeger.url}/search").services()
    with pytest.raises(ClusterError, match="time: invalid duration"):
        jaeger.traces("details.bookinfo", min_duration="fast")


def test_dependencies_are_empty_for_old_traces(jaeger):
    assert list(jaeger.dependencies().columns) == ["parent", "child", "calls"]


def test_who_was_passed_with_and_without_its_namespace(jaeger, long_ago):
    (trace,) = jaeger.since(long_ago, "gateway")
    assert trace.passed("details", "reviews.bookinfo")
    assert not trace.passed("details", "ratings")
    assert jaeger.since(long_ago, "nobody") == []


def test_calls_are_within_what_caused_them(jaeger, long_ago):
    calls = jaeger.traces("details.bookinfo", start=long_ago)[0].calls()
    assert calls[["caller", "service"]].to_numpy().tolist() == [
        ["gateway.bookinfo", "productpage.bookinfo"],
        ["productpage.bookinfo", "details.bookinfo"],
        ["productpage.bookinfo", "reviews.bookinfo"],
    ]
    assert calls["within"].all()


def test_a_call_that_begins_outside_of_its_cause_is_seen():
    spans = {"span": ["a", "b", "c"], "parent": ["", "a", "gone"], "service": ["x", "y", "z"]}
    times = {"start_ms": [0.0, 11.0, 0.0], "duration_ms": [10.0, 1.0, 1.0]}
    calls = Trace("1", pd.DataFrame(spans | times)).calls()
    assert calls[["span", "within"]].to_numpy().tolist() == [["b", False]]


def test_times_by_service_add_up_longest_first(jaeger, long_ago):
    by_service = jaeger.traces("details.bookinfo", start=long_ago)[0].by_service()
    assert by_service.to_dict() == {
        "reviews.bookinfo": 40.0,
        "productpage.bookinfo": 30.0,
        "gateway.bookinfo": 20.0,
        "details.bookinfo": 10.0,
    }
    assert list(by_service) == sorted(by_service, reverse=True)


class Arriving:
    """A Jaeger whose traces come when the test says so; time passes where somebody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at_look: Callable[[int], list[str]]) -> None:
        self.looks, self.sent, self.now = 0, 0, 0.0
        self.at_look = at_look
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)
        monkeypatch.setattr("labkit.cluster.waits.time", clock)
        monkeypatch.setattr(tracing, "time", clock)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def send(self) -> None:
        self.sent += 1

    def since(self, start: pd.Timestamp, *, limit: int = 200) -> list[Trace]:
        """Each trace as the letters of its services, newest first."""
        self.looks += 1
        return [
            Trace(str(number), pd.DataFrame({"service": list(letters)}))
            for number, letters in enumerate(self.at_look(self.looks))
        ]


NOW = pd.Timestamp(0, tz="UTC")


def test_traces_are_waited_for_service_by_service(monkeypatch):
    jaeger = Arriving(monkeypatch, lambda look: [["a"], ["ab", "a"], ["ab", "ab", "a"]][min(look, 3) - 1])
    assert len(tracing.arrived(jaeger, NOW, {"a": 2, "b": 2})) == 3
    assert jaeger.looks == 3
    with pytest.raises(NotReadyError, match="3 of 3 through a, 2 of 3 through b"):
        tracing.arrived(jaeger, NOW, {"a": 3, "b": 3}, timeout=5)


def test_that_nothing_is_traced_is_an_answer(monkeypatch):
    jaeger = Arriving(monkeypatch, lambda look: [])
    assert tracing.seen(jaeger, NOW, within=4) == []
    assert 4 <= jaeger.now < 6
    jaeger.at_look = lambda look: ["g"]
    monkeypatch.setattr(Trace, "passed", lambda *_: True)
    assert len(tracing.seen(jaeger, NOW, within=4)) == 1


def test_whole_traces_have_to_follow_each_other(monkeypatch):
    # The newest is on its way; at first one in the middle lacks a service.
    jaeger = Arriving(monkeypatch, lambda look: ["a"] + ["ab"] * 12 * look + (["a"] if look < 5 else []) + ["ab"])
    took = tracing.until_whole(jaeger, jaeger.send, ("a", "b"))
    assert (jaeger.looks, jaeger.sent) == (5, 100)
    assert took == jaeger.now > 0
    jaeger = Arriving(monkeypatch, lambda look: ["ab", "a"] * 9)
    with pytest.raises(NotReadyError, match="1 whole traces in a row"):
        tracing.until_whole(jaeger, jaeger.send, ("a", "b"), timeout=5)


def test_silence_is_six_seconds_without_a_new_trace(monkeypatch):
    jaeger = Arriving(monkeypatch, lambda look: ["a"] * min(look, 4))
    tracing.until_silent(jaeger, jaeger.send)
    assert jaeger.looks > 4
    assert jaeger.sent == 20 * jaeger.looks, "so many that none of three versions is left out"
    assert jaeger.now > 6
    jaeger = Arriving(monkeypatch, lambda look: ["a"] * look)
    with pytest.raises(NotReadyError, match=r"a request was traced 0\.0 s ago"):
        tracing.until_silent(jaeger, jaeger.send, timeout=9)
