# SPDX-License-Identifier: Apache-2.0
"""Prometheus runs while somebody asks or sends requests, else now and then; and who asks sees new figures."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from labkit.ground import web
from labkit.ground.web import Request, Response
from meshbox.images.prometheus import pace as module
from meshbox.images.prometheus.pace import Pace
from meshbox.images.prometheus.program import Scraped
from meshbox.images.prometheus.scrapes import Scrapes
from meshbox.images.prometheus.server import forward
from tests.conftest import PATIENCE, wait_until

COUNTED = b'envoy_istio_requests_total{a="b"} %d\nenvoy_server_uptime{} 7\n'


class Proxy:
    """A sidecar's page."""

    def __init__(self) -> None:
        self.requests = self.asked = 0

    def __call__(self, request: Request) -> Response:
        self.asked += 1
        return Response(200, COUNTED % self.requests, content_type="text/plain")


class Prometheus:
    """Scrapes one proxy and one other page whenever somebody looks when it did, as long as it runs."""

    def __init__(self, scrapes: Scrapes, url: str) -> None:
        self._scrapes, self._url = scrapes, url
        self.running, self.samples, self.signals = True, list[int](), list[str]()
        self._last = 0.0

    def scrape(self) -> None:
        headers = {"host": "127.0.0.1"}
        body = self._scrapes(Request("GET", self._url, headers, b"", "127.0.0.1", list(headers.items()))).body
        assert isinstance(body, bytes)
        self.samples.append(int(body.split()[1]))
        self._last = time.time()

    def scraped(self) -> list[Scraped]:
        assert self.running, "asked while it was stopped"
        self.scrape()
        return [Scraped("proxy", 0.5, self._last), Scraped("node", 5.0, self._last)]

    def stop(self) -> None:
        assert self.running
        self.running = False
        self.signals.append("stop")

    def go_on(self) -> None:
        assert not self.running
        self.running = True
        self.signals.append("go on")


class World:
    """All of it; nobody has done anything for long enough."""

    def __init__(self, url: str, proxy: Proxy) -> None:
        self.proxy, self.objects = proxy, 0
        self.scrapes = Scrapes("127.0.")
        self.prometheus = Prometheus(self.scrapes, url)
        self.pace = Pace(self.prometheus, self.scrapes, lambda: self.objects)
        self.scrapes.told = self.pace.touch
        self.prometheus.scrape()

    def wait(self, seconds: float) -> None:
        """Have so much time gone by since somebody did something, and since the last round."""
        self.pace._last -= seconds
        self.pace._rounded -= seconds

    def rest(self) -> None:
        self.wait(module.PATIENCE + 1)
        self.pace.step()
        assert self.pace.resting
        assert not self.prometheus.running
        self.prometheus.samples.clear()
        self.prometheus.signals.clear()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    # How long a round, and a moment without scrapes, are waited for at most is not what these tests are about.
    monkeypatch.setattr(module, "_SECONDS", PATIENCE)
    monkeypatch.setattr(module, "_WAIT", PATIENCE)
    proxy = Proxy()
    (server,) = web.listen({0: proxy}, "127.0.0.1")
    made = World(f"http://127.0.0.1:{server.server_address[1]}/stats/prometheus", proxy)
    with closing(made.scrapes):
        yield made
    server.server_close()


def test_it_stops_when_nobody_has_asked_or_sent_anything_for_a_while(world: World) -> None:
    # Half of it is left: the test itself takes some of it.
    world.wait(module.PATIENCE / 2)
    world.pace.step()
    assert (world.pace.resting, world.prometheus.signals) == (False, [])
    world.wait(module.PATIENCE / 2 + 1)
    world.pace.step()
    assert (world.pace.resting, world.prometheus.signals) == (True, ["stop"])


def test_while_it_rests_all_targets_have_a_round_every_so_often(world: World) -> None:
    world.rest()
    world.pace.step()
    assert world.prometheus.signals == []
    for _ in range(3):
        world.wait(module.ROUND + 1)
        world.prometheus.signals.clear()
        world.prometheus.samples.clear()
        world.pace.step()
        assert world.pace.resting
        assert world.prometheus.signals == ["go on", "stop"]
        assert world.prometheus.samples
        assert set(world.prometheus.samples) == {0}


def test_a_round_is_over_when_what_was_overdue_has_been_scraped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """That happens in the moment in which Prometheus goes on, and not again for five seconds."""
    monkeypatch.setattr(module, "_WAIT", 1.0)
    world.rest()
    scraped, go_on, node = world.prometheus.scraped, world.prometheus.go_on, [0.0]

    def woken() -> None:
        go_on()
        node.append(time.time())

    def looked() -> list[Scraped]:
        proxy, _ = scraped()
        return [proxy, Scraped("node", 5.0, node[-1])]

    monkeypatch.setattr(world.prometheus, "go_on", woken)
    monkeypatch.setattr(world.prometheus, "scraped", looked)
    world.wait(module.ROUND + 1)
    world.pace.step()
    # Looked at for the round, and to stop between two scrapes.
    assert world.prometheus.samples == [0, 0]
    assert world.pace.resting


def test_who_asks_is_answered_after_the_page_from_before_and_a_new_one(world: World) -> None:
    world.proxy.requests = 3
    world.prometheus.scrape()
    world.rest()
    world.proxy.requests = 15
    world.pace.fresh()
    assert not world.pace.resting
    assert world.prometheus.running
    assert (world.prometheus.samples[0], world.prometheus.samples[-1]) == (3, 15)
    assert world.prometheus.samples == sorted(world.prometheus.samples)
    # And so it goes on until nobody asks again.
    world.pace.step()
    assert world.prometheus.signals == ["go on"]


def test_requests_that_nobody_asks_about_wake_it_too(world: World) -> None:
    world.rest()
    world.pace.step()
    assert world.prometheus.signals == []
    world.proxy.requests = 1
    world.pace.step()
    assert not world.pace.resting
    assert world.prometheus.signals == ["go on"]
    assert (world.prometheus.samples[0], world.prometheus.samples[-1]) == (0, 1)


def test_a_pod_that_comes_or_goes_wakes_it(world: World) -> None:
    world.rest()
    world.objects += 1
    world.pace.step()
    assert not world.pace.resting
    assert world.prometheus.signals == ["go on"]


def test_pages_that_pass_by_tell_of_requests_while_it_runs(world: World) -> None:
    world.wait(module.PATIENCE + 1)
    world.proxy.requests = 1
    world.prometheus.scrape()
    world.pace.step()
    assert (world.pace.resting, world.prometheus.signals) == (False, [])


def test_it_is_not_stopped_while_it_is_asked_something(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.wait(module.PATIENCE + 1)
    with world.pace.using(), monkeypatch.context() as hasty:
        hasty.setattr(module, "_SECONDS", 0.1)
        world.pace.step()
        assert (world.pace.resting, world.prometheus.signals) == (False, [])
    world.pace.step()
    assert (world.pace.resting, world.prometheus.signals) == (True, ["stop"])
    with world.pace.using():
        assert world.prometheus.running


def test_a_scrape_that_begins_when_it_is_stopped_is_let_through(world: World) -> None:
    """What it has sent by then arrives a moment later."""
    stop, arrived = world.prometheus.stop, []

    def stopped() -> None:
        stop()
        if not arrived:
            arrived.append(True)
            world.prometheus.scrape()

    world.prometheus.stop = stopped  # type: ignore[method-assign]
    world.wait(module.PATIENCE + 1)
    world.pace.step()
    assert world.prometheus.signals == ["stop", "go on", "stop"]
    assert world.pace.resting


def test_when_the_pod_ends_it_goes_on_for_good(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.rest()
    world.pace.end()
    assert world.prometheus.running
    monkeypatch.setattr(module, "_SECONDS", 0.1)
    world.wait(module.ROUND + 1)
    world.pace.step()
    assert world.prometheus.running


class Behind:
    """A Prometheus that is asked by the door."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.asked: list[str] = []

    def ask(self, target: str, *_: object) -> Response:
        assert self._world.prometheus.running
        self.asked.append(target)
        return Response(200, b"it", [])


def test_the_door_tells_questions_from_probes(world: World) -> None:
    behind = Behind(world)
    app = forward(behind, world.pace)  # type: ignore[arg-type]

    def get(target: str) -> tuple[int, object]:
        answer = app(Request("GET", target, {"host": "p"}, b"", "127.0.0.1", []))
        return answer.status, answer.body

    assert get("/-/ready") == get("/-/healthy") == (200, b"it")
    behind.asked.clear()
    world.rest()
    assert get("/-/ready") == get("/-/healthy") == (200, b"it")
    assert (behind.asked, world.prometheus.signals) == ([], [])
    # Its own page: it has to run to tell, but the mesh is not asked about.
    assert get("/metrics") == (200, b"it")
    assert (world.pace.resting, world.prometheus.signals) == (True, ["go on"])
    assert get("/api/v1/query?query=up") == (200, b"it")
    assert (world.pace.resting, behind.asked) == (False, ["/metrics", "/api/v1/query?query=up"])


def test_two_who_ask_at_once_are_both_answered_after_new_figures(world: World) -> None:
    world.rest()
    world.proxy.requests = 9
    seen: list[int] = []

    def ask() -> None:
        world.pace.fresh()
        seen.append(world.prometheus.samples[-1])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(seen) == 4)
    assert seen == [9] * 4
    assert world.prometheus.signals == ["go on"]


def test_a_proxy_is_looked_at_without_its_applications_own_page() -> None:
    asked: list[str] = []

    def page(request: Request) -> Response:
        asked.append(request.target)
        return Response(200, COUNTED % 4, content_type="text/plain")

    (server,) = web.listen({0: page}, "127.0.0.1")
    with closing(Scrapes("127.0.")) as scrapes:
        target = f"http://127.0.0.1:{server.server_address[1]}/stats/prometheus"
        scrapes(Request("GET", target, {"host": "p"}, b"", "127.0.0.1", []))
        assert scrapes.peek() is False
    server.server_close()
    assert asked == ["/stats/prometheus", "/stats/prometheus?filter=%5Eistio%5C."]
