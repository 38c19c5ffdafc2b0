# SPDX-License-Identifier: Apache-2.0
"""Keeps a sidecar's counts while its Envoy lives, on their way to Prometheus.

Istio's own filter counts for as long as the proxy runs. Stock Envoy's counters live as long as the listener that
counts: one that is replaced, because a policy or a Telemetry object changed, begins at nothing. So Prometheus scrapes
sidecars through its pod's door, as through an HTTP proxy, and there what listeners before the present ones had counted
is added.
"""

from __future__ import annotations

import math
import re
import threading
import time

__all__ = ["Kept"]

_COUNTS = b"envoy_istio_"
_SERIES = re.compile(rb"^(envoy_istio_[^\n]*\}) (\S+)$", re.MULTILINE)
_RUNS = b"envoy_server_uptime"
_UPTIME = re.compile(rb"^envoy_server_uptime\S* (\d+)$", re.MULTILINE)


class Kept:
    """The counts of one sidecar."""

    def __init__(self) -> None:
        self._uptime = 0
        self._taken = -math.inf
        self._read = self._shown = b""
        self._last: dict[bytes, float] = {}
        self._before: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def whole(self, page: bytes, asked: float = math.inf) -> bytes:
        """A page of Envoy's statistics with Istio's counts as they would be had no listener been replaced.

        A proxy that was started anew counts from nothing, as anywhere.

        Args:
            page: What the Envoy has answered.
            asked: When it was asked, on the monotonic clock. Where a scrape was given up and another is under way, the
                older page may come last; its counts are smaller, and nothing was replaced all the same.
        """
        begin = page.rfind(b"\n", 0, max(page.find(_COUNTS), 0)) + 1
        end = page.find(b"\n", page.rfind(_COUNTS)) + 1 or len(page)
        with self._lock:
            if asked < self._taken:
                # Its counts are those of the page that was taken up, or older ones.
                return page[:begin] + self._shown + page[end:]
            self._taken = time.monotonic()
            found = _UPTIME.match(page, max(page.rfind(_RUNS), 0))
            uptime = int(found[1]) if found else 0
            if uptime < self._uptime:
                self._read, self._shown, self._last, self._before = b"", b"", {}, {}
            self._uptime = uptime
            # Every sidecar is scraped twice a second, and most have counted nothing since.
            if (read := page[begin:end]) != self._read:
                self._read, self._shown = read, self._added(read)
            return page[:begin] + self._shown + page[end:]

    def _added(self, counts: bytes) -> bytes:
        """The lines of Istio's counts, each with what listeners before the present ones had counted."""
        now = {series: float(value) for series, value in _SERIES.findall(counts)}
        before = self._before
        for series, value in self._last.items():
            if now.get(series, 0.0) < value:
                before[series] = before.get(series, 0.0) + value
        self._last = now
        if not before:
            return counts

        def added(found: re.Match[bytes]) -> bytes:
            earlier = before.get(found[1])
            return found[0] if earlier is None else b"%s %.10g" % (found[1], float(found[2]) + earlier)

        gone = [b"%s %.10g\n" % (series, value) for series, value in before.items() if series not in now]
        return _SERIES.sub(added, counts) + b"".join(gone)
