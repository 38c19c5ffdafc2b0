# SPDX-License-Identifier: Apache-2.0
"""Traffic beside the lesson: its rate, what is kept of it, and all that ends it."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pandas as pd
import pytest

from labkit import bookinfo, clicks, display, traffic
from labkit.cluster import target
from labkit.ground.errors import NoTargetError, NotReadyError, SettingError
from labkit.traffic import Row, Traffic
from tests.conftest import wait_until
from tests.course.test_course_bookinfo import Shop, shop

__all__ = ["shop"]


@pytest.fixture
def made() -> Iterator[Callable[..., Traffic]]:
    """Makes traffic that answers itself, and ends with the test."""
    all_made: list[Traffic] = []

    def make(send: Callable[[], Row] = lambda: (0.0, 200, 0.01, "v1", ""), rate: float = 1000) -> Traffic:
        all_made.append(Traffic("GET x", send, lambda: None, rate))
        return all_made[-1]

    yield make
    for one in all_made:
        one.stop()


def working(run: Traffic) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.endswith(run._what) and thread.is_alive()]


def test_what_is_answered_is_a_table_as_that_of_load(shop: Shop) -> None:
    with bookinfo.traffic(shop.url, 200, headers={"end-user": "jason"}) as run:
        wait_until(lambda: len(run.seen) >= 30, 60, "thirty answers")
        assert run.running
    seen = run.seen
    loaded = bookinfo.load(shop.url, 3, rate=1000)
    assert dict(seen.dtypes) == dict(loaded.dtypes)
    assert set(seen["status"]) == {200}
    assert set(seen["reviews"]) == {"v1", "v2", "v3"}
    assert seen["time"].is_monotonic_increasing
    assert set(shop.headers[: len(seen)]) == {"jason"}
    wait_until(lambda: not working(run), 60, "its threads to end")
    assert not run.running


def test_without_an_answer_there_is_a_table_too(made) -> None:
    over = threading.Event()

    def never() -> Row:
        over.wait()
        return 0.0, 200, 0.0, "", ""

    seen = made(never).seen
    over.set()
    assert list(seen.columns) == ["time", "status", "latency", "reviews", "error"]
    assert isinstance(seen["time"].dtype, pd.DatetimeTZDtype)
    assert (seen["status"].dtype, seen["latency"].dtype, len(seen)) == ("int64", "float64", 0)


def test_the_next_answers_are_waited_for_and_no_earlier_ones(made) -> None:
    sent = itertools.count(1)

    def send() -> Row:
        # The first fifty were under way before anybody waited, whenever they are answered.
        number = next(sent)
        return 0.0 if number <= 50 else traffic.time.time(), 200, 0.01, f"v{number}", ""

    run = made(send)
    more = run.more(20)
    assert len(more) == 20
    assert {int(version[1:]) for version in more["reviews"]}.isdisjoint(range(1, 51))
    assert more["time"].is_monotonic_increasing
    for wrong in (0, traffic.KEPT + 1):
        with pytest.raises(SettingError, match="out of range"):
            run.more(wrong)


def test_answers_that_do_not_come_are_told(made) -> None:
    run = made(rate=0.001)
    with pytest.raises(NotReadyError, match=r"5 more answers were waited for, and [01] came: GET x: 0\.001 requests"):
        run.more(5, timeout=0.05)
    threading.Timer(0.05, run.stop).start()
    with pytest.raises(NotReadyError, match=r"stands still \(stopped\)"):
        run.more(5)


class Clock(threading.Condition):
    """Time that only moves where somebody waits for it."""

    now = 1000.0

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.now += timeout
        return False


@pytest.fixture
def due(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[float]]:
    """When the next requests are sent, in seconds since the traffic began; each takes `slow` seconds to be answered."""
    clock = Clock()
    monkeypatch.setattr(traffic, "time", SimpleNamespace(time=lambda: clock.now, monotonic=lambda: clock.now))
    # The test takes the place of its threads.
    monkeypatch.setattr(traffic, "_CONNECTIONS", 0)
    monkeypatch.setattr(traffic.threading, "Condition", lambda: clock)

    def times(run: Traffic, count: int, slow: float = 0.0) -> list[float]:
        found = []
        for _ in range(count):
            assert run._waited(run._runs)
            found.append(round(clock.now - 1000, 6))
            clock.now += slow
        return found

    return times


def test_each_request_has_its_time_however_long_those_before_took(due, made) -> None:
    run = made(rate=10)
    assert due(run, 4) == [0.0, 0.1, 0.2, 0.3]
    assert due(run, 1, slow=0.35) == [0.4]
    # At 0.75 s three are late, and are made up for; then it is on time again.
    assert due(run, 5) == [0.75, 0.75, 0.75, 0.8, 0.9]


def test_what_is_made_up_for_has_a_bound(due, made) -> None:
    run = made(rate=10)
    assert due(run, 1, slow=100.0) == [0.0]
    late = due(run, 60)
    assert late.count(100.0) == 51
    assert late[51:53] == [100.1, 100.2]


def test_a_new_rate_holds_at_once(due, made) -> None:
    run = made(rate=1)
    assert due(run, 2) == [0.0, 1.0]
    run.rate = 20
    assert run.rate == 20.0
    assert due(run, 3) == [1.0, 1.05, 1.1]


@pytest.mark.parametrize("rate", [0, -1, 1001, float("nan")])
def test_a_rate_out_of_range_is_told_and_changes_nothing(made, rate: float) -> None:
    run = made(rate=50)
    with pytest.raises(SettingError, match="is out of range") as error:
        run.rate = rate
    assert "at most 1000" in error.value.next_step
    assert (run.rate, run.running) == (50.0, True)
    with pytest.raises(SettingError, match="is out of range"):
        made(rate=rate)


def test_only_the_last_answers_are_kept(made, monkeypatch) -> None:
    monkeypatch.setattr(traffic, "KEPT", 20)
    number = itertools.count()
    run = made(lambda: (float(next(number)), 200, 0.01, "v1", ""))
    wait_until(lambda: len(run._kept()) == 20 and run._kept()[0][0] > 50, 60, "early ones to be forgotten")
    assert len(run.seen) == 20


def test_it_stops_and_goes_on(made) -> None:
    run = made()
    wait_until(lambda: run._sent > 10, 60, "some answers")
    run.stop()
    wait_until(lambda: not working(run), 60, "its threads to end")
    before = run._sent
    assert "stands still (stopped)" in str(run)
    run.start()
    run.start()
    assert len(working(run)) == 8
    wait_until(lambda: run._sent > before, 60, "more answers")
    assert run.running


def test_it_ends_with_the_next_lesson_and_with_its_cluster(made) -> None:
    for end in (target.end_lesson, lambda: target._set(target._UNFINISHED)):
        run = made()
        try:
            end()
            assert not run.running
            wait_until(lambda run=run: not working(run), 60, "its threads to end")
            with pytest.raises(NoTargetError):
                run.start()
        finally:
            target.leave()
    with pytest.raises(NoTargetError, match="its lesson is over") as error:
        run.start()
    assert "Run the cell again" in error.value.next_step


def test_a_cell_that_is_run_again_replaces_its_traffic(shop: Shop) -> None:
    first = bookinfo.traffic(shop.url, 50)
    other = bookinfo.traffic(shop.url, 50, headers={"end-user": "jason"})
    second = bookinfo.traffic(shop.url, 100)
    assert (first.running, other.running, second.running) == (False, True, True)
    other.stop()
    second.stop()


def test_failures_are_rows_and_what_nobody_foresaw_is_its_state(made) -> None:
    nobody = bookinfo.traffic("http://127.255.255.254:9", 100)
    wait_until(lambda: len(nobody.seen) > 3, 60, "some failures")
    nobody.stop()
    assert set(nobody.seen["status"]) == {0}
    assert nobody.seen["error"].str.contains("refused").all()

    def broken() -> Row:
        raise ValueError("no such page")

    run = made(broken)
    wait_until(lambda: not run.running, 60, "it to stop")
    assert "stands still (ValueError('no such page'))" in str(run)


def test_it_shows_what_was_answered_lately_and_what_can_be_done(made, monkeypatch) -> None:
    now = traffic.time.time()
    versions = itertools.cycle([(200, "v1"), (200, "v2"), (503, ""), (0, "")])

    def answer() -> Row:
        status, version = next(versions)
        return now + 1000, status, 0.01, version, ""

    run = made(answer)
    wait_until(lambda: run._sent > 20, 60, "some answers")
    said = str(run)
    assert "GET x: 1000 requests a second" in said
    for name in ("no answer: ", "reviews v1: ", "reviews v2: ", "status 200: ", "status 503: "):
        assert name in said
    assert "`.rate = 20`, `.stop()`, `.start()`" in said
    shown: list[str] = []
    live = SimpleNamespace(update=lambda what: shown.append(what.text))
    monkeypatch.setattr(display, "show", lambda what: live)
    run._ipython_display_()
    run.rate = 7
    run.stop()
    assert "7 requests a second" in shown[0]
    assert "stands still" in shown[1]


class Counters:
    """Counters that stand still at each look."""

    def __init__(self, *looks: dict[str, float]) -> None:
        self.looks = [pd.Series(look, dtype="float64") for look in looks]
        self.asked: list[str] = []

    def settled(self, expression: str, *, timeout: float = 1.0) -> pd.Series:
        self.asked.append(expression)
        found = self.looks.pop(0)
        found.attrs["changed_for"] = 0.5
        return found


def test_what_was_sent_and_what_was_counted_of_it(shop: Shop) -> None:
    counters = Counters({"productpage-v1": 5}, {"productpage-v1": 17, "ratings-v1": 3})
    measured = bookinfo.measure(shop.url, 12, counters, "sum by (w) (x)", rate=1000)
    assert measured.gained.to_dict() == {"productpage-v1": 12, "ratings-v1": 3}
    assert measured.gained.dtype == "int64"
    assert (len(measured.sent), measured.seconds) == (12, 0.5)
    assert counters.asked == ["sum by (w) (x)"] * 2


def test_buttons_stop_it_start_it_and_change_its_rate(made, capsys: pytest.CaptureFixture[str]) -> None:
    run = made(rate=5)
    run._ipython_display_()
    shown = run.rich().html
    (name,) = set(re.findall(r'data-labkit-of="([a-z][a-z0-9-]{0,59})"', shown))
    assert re.findall(r'call="(\w+)" data-labkit-of="[\w-]+"(?: data-labkit-choice="(\d{1,2})")?', shown) == [
        ("stop", ""),
        *(("rate", str(rate)) for rate in traffic._OFFERED),
    ]
    assert "data-labkit" not in run.rich().text
    clicks.clicked("rate", name, 50)
    assert (run.rate, run.running) == (50, True)
    clicks.clicked("stop", name)
    assert not run.running
    assert 'data-labkit-call="start"' in run.rich().html
    assert "stands still (stopped)" in capsys.readouterr().out
    clicks.clicked("start", name)
    assert run.running
    assert "GET x: 50 requests a second" in capsys.readouterr().out
    clicks.clicked("rate", name, -1)
    assert "a rate of -1 is out of range" in capsys.readouterr().out
    assert run.rate == 50


def test_what_has_ended_with_its_lesson_has_no_buttons(made, capsys: pytest.CaptureFixture[str]) -> None:
    run = made(rate=5)
    run._ipython_display_()
    run.end()
    assert "data-labkit-call" not in run.rich().html
    clicks.clicked("start", run._name)
    assert "its lesson is over" in capsys.readouterr().out
    clicks.forget()
    clicks.clicked("start", run._name)
    assert "another lesson has begun in it" in capsys.readouterr().out
    assert not run.running
