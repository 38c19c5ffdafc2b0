# SPDX-License-Identifier: Apache-2.0
"""Mixer's telemetry: Istio 1.2's series at istio-telemetry:42422, summed over what every sidecar counted.

Sidecars of that time told Mixer of each request; ours count by themselves. So Mixer asks them, when it is asked itself,
and adds what is new to its own counters: a pod that ends takes nothing away, as it would from a mere sum of series.
Durations become seconds; the buckets are those of Mixer's configuration, which the sidecars use already. What Envoy
does not know, and writes as "-" or not at all, becomes Mixer's "unknown"; only among the response flags "-" is a value.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from labkit.ground.client import send
from meshbox.exposition import head
from meshbox.images.cluster import Cluster

__all__ = ["Collector", "Counters", "known", "parse", "sidecars"]

_STATS_PORT = 15090
_PATH = "/stats/prometheus?usedonly&filter=%5E(istio%5C.|server%5C.uptime$)"
_UPTIME = re.compile(r"^envoy_server_uptime\S* (\d+)$", re.MULTILINE)
_LINE = re.compile(r"envoy_(istio_\w+?)\{([^}]*)\} (\S+)")
_NOTHING = re.compile(r'(?<!response_flags)="-?"')
_BOUND = re.compile(r',?le="([^"]+)"')

Series = tuple[str, str]
"""Name and labels (as text), e.g. ("istio_requests_total", 'reporter="source",…')."""


def known(text: str) -> str:
    """Statistics with Mixer's labels: each that Envoy has no value for is "unknown"."""
    return _NOTHING.sub('="unknown"', text)


def parse(text: str) -> dict[Series, float]:
    """Istio's series in one sidecar's statistics, with Mixer's names and units."""
    found: dict[Series, float] = {}
    for name, labels, number in _LINE.findall(text):
        series = _series(name, labels)
        if series is not None:
            value = float(number)
            found[series] = value / 1000 if name.endswith("_milliseconds_sum") else value
    return found


@functools.lru_cache(maxsize=32768)
def _series(name: str, labels: str) -> Series | None:
    """What Mixer calls a series of a sidecar's; remembered, as the same ones are read twice a second."""
    labels = known(labels)
    if name.endswith("_bucket"):
        bound = _BOUND.search(labels)
        if bound is None:
            return None
        labels = _BOUND.sub("", labels)
        limit = float(bound[1].replace("+Inf", "inf"))
        if "_milliseconds" in name:
            limit /= 1000
        labels += f',le="{"+Inf" if limit == float("inf") else f"{limit:g}"}"'
    return name.replace("_milliseconds", "_seconds"), labels


class Counters:
    """Totals that only grow, fed with each sidecar's own totals."""

    def __init__(self) -> None:
        self._totals: dict[Series, float] = {}
        # Series are only added, so as many as there were are the same.
        self._ordered: list[Series] = []
        self._last: dict[str, dict[Series, float]] = {}
        self._uptimes: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, sidecar: str, now: dict[Series, float], uptime: int = 0) -> None:
        """Take in the totals of one sidecar.

        Args:
            sidecar: Tells it from others: its pod's uid.
            now: From `parse`.
            uptime: For how many seconds its Envoy has run. One that was started anew counts all from nothing; a
                listener that was replaced takes only its own series along.
        """
        with self._lock:
            anew = uptime < self._uptimes.get(sidecar, 0)
            before = {} if anew else self._last.get(sidecar, {})
            for series, value in now.items():
                known = before.get(series, 0.0)
                grown = value - known if value >= known else value
                self._totals[series] = self._totals.get(series, 0.0) + grown
            self._last[sidecar] = now
            self._uptimes[sidecar] = uptime

    def forget(self, known: Iterable[str]) -> None:
        """Drop what is remembered of sidecars that are not among `known`; their totals stay."""
        with self._lock:
            for sidecar in self._last.keys() - set(known):
                del self._last[sidecar], self._uptimes[sidecar]

    def text(self) -> str:
        """All series in Prometheus' text format."""
        with self._lock:
            if len(self._ordered) != len(self._totals):
                self._ordered = sorted(self._totals, key=_order)
            values = [(series, self._totals[series]) for series in self._ordered]
        lines: list[str] = []
        family = ""
        for (name, labels), value in values:
            base = _base(name)
            if base != family:
                family = base
                lines += head(base, "counter" if base.endswith("_total") else "histogram")
            lines.append(f"{name}{{{labels}}} {value:.10g}")
        return "\n".join(lines) + "\n"


@functools.cache
def _base(name: str) -> str:
    """The family of a series; there are a dozen names."""
    return re.sub(r"_(bucket|sum|count)$", "", name)


def _order(series: Series) -> tuple[str, str, float, str]:
    name, labels = series
    bound = _BOUND.search(labels)
    return _base(name), name, float(bound[1].replace("+Inf", "inf")) if bound else 0.0, labels


def sidecars(pods: Iterable[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Uid and address of each running pod that has an Envoy with statistics."""
    for pod in pods:
        containers = [*pod["spec"].get("containers", []), *pod["spec"].get("initContainers", [])]
        ports = [port for container in containers for port in container.get("ports") or []]
        address = pod.get("status", {}).get("podIP")
        if address and any(port.get("containerPort") == _STATS_PORT for port in ports):
            yield pod["metadata"]["uid"], address


def _read(address: str) -> str:
    try:
        answer = send(f"http://{address}:{_STATS_PORT}{_PATH}", timeout=1)
    except OSError:
        # A sidecar that starts or ends; what it counted is asked for next time, or lost with it.
        return ""
    return answer.text if answer.status == 200 else ""


class Collector:
    """Asks every sidecar whenever it is asked."""

    def __init__(self) -> None:
        self._counters = Counters()
        self._cluster: Cluster | None = None
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="sidecar")

    def _pods(self) -> list[dict[str, Any]]:
        if self._cluster is None:
            self._cluster = Cluster.of_pod({"pod": "/api/v1/pods"})
        return self._cluster.objects()["pod"]

    def text(self) -> str:
        """The series now."""
        with self._lock:
            found = list(sidecars(self._pods()))
            for (uid, _), answer in zip(found, self._pool.map(_read, (ip for _, ip in found)), strict=True):
                if answer:
                    found_uptime = _UPTIME.search(answer)
                    self._counters.add(uid, parse(answer), int(found_uptime[1]) if found_uptime else 0)
            self._counters.forget(uid for uid, _ in found)
            return self._counters.text()
