# SPDX-License-Identifier: Apache-2.0
"""What Prometheus' door does as an HTTP proxy for scrapes, and what it knows from that of the mesh's traffic.

Each page passes here, so here it shows whether anybody has sent a request since the page before. While Prometheus does
not run, the door looks by itself (`peek`), at the few lines that tell it.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from labkit.ground.client import Connections
from labkit.ground.web import Request, Response
from meshbox.images.proxy.kept_counts import Kept

__all__ = ["Scrapes"]

_SECONDS = 10.0
_TRAFFIC = re.compile(rb"^(?:envoy_)?istio_(?:requests|tcp)[^\n]*", re.MULTILINE)
_FORGOTTEN = 600.0
"""Seconds after which a target that is asked no more is forgotten: pods come and go for hours."""

_ENVOY = b"envoy_server_uptime"
_STATS = "/stats/prometheus"
_ABOUT = 0.1
_FEW = f"{_STATS}?filter=%5Eistio%5C."
_MERGED, _ALONE = 15020, 15090
"""Istio's ports of a sidecar's statistics: with the application's own, for which that has to be asked, and without."""


@dataclass
class _Target:
    """One page that Prometheus scrapes, and the way to the lines of it that tell of requests."""

    connections: Connections
    path: str
    peeks: Connections
    few: str
    kept: Kept = field(default_factory=Kept)
    headers: dict[str, str] = field(default_factory=dict)
    asked: float = 0.0
    between: float = 0.0
    beat: float = 0.0
    answer: Response | None = None
    traffic: frozenset[bytes] = frozenset()
    counts: bool = False

    def begins(self, now: float) -> None:
        """Note a scrape, and where Prometheus' beat is: where two scrapes are as far apart as the two before."""
        between, self.asked, before = now - self.asked, now, self.between
        self.between = between
        if not self.beat or abs(between - before) < _ABOUT * before:
            self.beat = now

    def close(self) -> None:
        self.connections.close()
        self.peeks.close()


def _target(url: SplitResult) -> _Target:
    host, port = url.hostname or "", url.port or 80
    path = url._replace(scheme="", netloc="", fragment="").geturl() or "/"
    asked = Connections(host, port, _SECONDS)
    if url.path != _STATS:
        return _Target(asked, path, asked, path)
    return _Target(asked, path, Connections(host, _ALONE, _SECONDS) if port == _MERGED else asked, _FEW)


class Scrapes:
    """An app: the HTTP proxy that leads to the sandbox's own pods.

    Args:
        block: What the sandbox's addresses begin with, e.g. "127.20."; others are not asked.
    """

    def __init__(self, block: str) -> None:
        self._own = re.compile(rf"{re.escape(block)}\d+(\.\d+)*")
        self.told: Callable[[], None] = lambda: None
        """Called whenever a page counts requests that the page before did not."""
        self._targets: dict[str, _Target] = {}
        self._in_flight = 0
        self._answered = 0.0
        self._lock = threading.Lock()
        self.earlier = False
        """Whether each page is given as it was last, and nobody is asked: as of before what woke Prometheus."""

    def __call__(self, request: Request) -> Response:
        """Answer one scrape."""
        url = urlsplit(request.target)
        if request.method != "GET" or url.scheme != "http" or not self._own.fullmatch(url.hostname or ""):
            return Response(403, "this proxy leads to the sandbox's own pods only\n", content_type="text/plain")
        with self._lock:
            self._in_flight += 1
            target = self._targets.get(request.target)
            if target is None:
                target = self._targets[request.target] = _target(url)
            target.begins(time.monotonic())
        try:
            if self.earlier and target.answer is not None:
                return target.answer
            target.headers = {name: value for name, value in request.items if name.lower() in ("accept", "user-agent")}
            return self._scraped(target, url.netloc)
        finally:
            with self._lock:
                self._in_flight -= 1
                self._answered = time.monotonic()

    def close(self) -> None:
        """Close the connections that lie idle."""
        with self._lock:
            for target in self._targets.values():
                target.close()

    def _scraped(self, target: _Target, name: str) -> Response:
        asked = time.monotonic()
        try:
            answer = target.connections.request("GET", target.path, target.headers)
        except OSError as error:
            return Response(503, f"{name} does not answer: {error}\n", content_type="text/plain")
        page = answer.body
        if answer.status == 200:
            self._look(target, page)
            page = target.kept.whole(page, asked)
        response = Response(answer.status, page, content_type=answer.header("Content-Type") or "text/plain")
        target.answer = response if answer.status == 200 else None
        return response

    def _look(self, target: _Target, page: bytes) -> bool:
        """Whether `page` counts other requests than the target's last one; it is the last one from now on."""
        traffic = frozenset(_TRAFFIC.findall(page))
        first, before, target.traffic = not target.counts, target.traffic, traffic
        target.counts = bool(traffic) or _ENVOY in page or not first
        if first or traffic == before:
            return False
        self.told()
        return True

    def peek(self) -> bool:
        """Whether a proxy has counted a request since its last page. Nothing of it reaches Prometheus."""
        now = time.monotonic()
        with self._lock:
            for url in [url for url, one in self._targets.items() if now - one.asked > _FORGOTTEN]:
                self._targets.pop(url).close()
            targets = list(self._targets.values())
        # All are looked at, as a look is also what the next one is compared with.
        counted = [self._counted(target) for target in targets if target.counts]
        return any(counted)

    def _counted(self, target: _Target) -> bool:
        try:
            answer = target.peeks.request("GET", target.few, target.headers)
        except OSError:
            return False
        return answer.status == 200 and self._look(target, answer.body)

    def quiet(self, seconds: float, every: float) -> bool:
        """Whether no scrape is under way, none was for `seconds`, and none is due within `seconds`.

        Args:
            seconds: How long.
            every: Seconds between two scrapes of a target.
        """
        now = time.monotonic()
        with self._lock:
            if self._in_flight or now - self._answered < seconds:
                return False
            beats = [one.beat for one in self._targets.values() if now - one.asked < _FORGOTTEN]
        return all(seconds < (now - beat) % every < every - seconds for beat in beats)

    def begun(self) -> float:
        """When a scrape began last, on the monotonic clock; while one is under way, now."""
        with self._lock:
            latest = max((one.asked for one in self._targets.values()), default=0.0)
            return time.monotonic() if self._in_flight else latest
