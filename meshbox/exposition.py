# SPDX-License-Identifier: Apache-2.0
"""Prometheus' text format: counters and histograms that count, gauges that are looked up when somebody asks.

Loaded by pods' own processes as well, so it needs nothing but the standard library; prometheus-client takes 42 ms to
import, and for a page and for an event five times as long.
"""

from __future__ import annotations

import os
import resource
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping

__all__ = ["CONTENT_TYPE", "Counter", "Histogram", "exposition", "gauge", "head", "process", "sample"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]
_PAGE, _TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def sample(name: str, labels: Labels, value: float) -> str:
    """One line: a series and its value. Labels without a value are left out, as Prometheus would."""
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items() if text)
    return f"{name}{{{inside}}} {value:.15g}" if inside else f"{name} {value:.15g}"


def head(name: str, kind: str, text: str = "") -> Iterator[str]:
    """What stands before the lines of a metric: what it is, where that is known, and of which kind."""
    if text:
        yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


class Counter:
    """Counts events, apart by labels; without any event it has no series, as in Prometheus' own clients.

    Args:
        name: Its name.
        text: What it counts.
        labels: The names of its labels.
        kind: "counter", or "gauge" where that is what the original says it is.
    """

    def __init__(self, name: str, text: str, *labels: str, kind: str = "counter") -> None:
        self.name, self.text = name, text
        self._kind, self._labels = kind, labels
        self._values: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str, by: float = 1.0) -> None:
        """One more event with these values of the labels, or `by` more."""
        self._values[labels] = self._values.get(labels, 0.0) + by

    def value(self, *labels: str) -> float:
        """How many there were."""
        return self._values.get(labels, 0.0)

    def lines(self) -> Iterator[str]:
        """Its lines; none before the first event."""
        if self._values:
            yield from head(self.name, self._kind, self.text)
        for labels, value in sorted(self._values.items()):
            yield sample(self.name, dict(zip(self._labels, labels, strict=True)), value)


class Histogram:
    """Counts values by size, apart by labels.

    Args:
        name: Its name.
        text: What the values are.
        bounds: The upper bounds of its buckets, rising.
        labels: The names of its labels.
    """

    def __init__(self, name: str, text: str, bounds: Iterable[float], *labels: str) -> None:
        self.name, self.text = name, text
        self._bounds, self._labels = tuple(bounds), labels
        self._series: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}

    def observe(self, value: float, *labels: str) -> None:
        """Count `value`."""
        counts, total = self._series.setdefault(labels, ([0] * (len(self._bounds) + 1), [0.0]))
        counts[bisect_left(self._bounds, value)] += 1
        total[0] += value

    def count(self, *labels: str) -> int:
        """How many values there were."""
        return sum(self._series[labels][0]) if labels in self._series else 0

    def lines(self) -> Iterator[str]:
        """Its lines; none before the first value."""
        if self._series:
            yield from head(self.name, "histogram", self.text)
        for labels, (counts, total) in sorted(self._series.items()):
            named = dict(zip(self._labels, labels, strict=True))
            sum_ = 0
            for bound, count in zip((*(f"{bound:g}" for bound in self._bounds), "+Inf"), counts, strict=True):
                sum_ += count
                yield sample(f"{self.name}_bucket", {**named, "le": bound}, sum_)
            yield sample(f"{self.name}_sum", named, total[0])
            yield sample(f"{self.name}_count", named, sum_)


def gauge(name: str, text: str, samples: Iterable[tuple[Labels, float]], kind: str = "gauge") -> Iterator[str]:
    """The lines of what is looked up now; none where there is nothing."""
    found = [sample(name, labels, value) for labels, value in samples]
    if found:
        yield from head(name, kind, text)
        yield from found


def _started(ticks: float) -> float:
    """When a process started, in seconds since 1970; `ticks` are since the machine's start."""
    with open("/proc/stat") as handle:
        booted = next(float(line.split()[1]) for line in handle if line.startswith("btime"))
    return booted + ticks / _TICKS


def process() -> Iterator[str]:
    """What this process uses, under the names that Prometheus' own clients give it."""
    with open("/proc/self/stat") as handle:
        # The name may hold blanks and brackets; what follows it never does.
        fields = handle.read().rpartition(")")[2].split()
    used = (int(fields[11]) + int(fields[12])) / _TICKS
    none: Labels = {}
    yield from gauge(
        "process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", [(none, used)], "counter"
    )
    yield from gauge("process_open_fds", "Number of open file descriptors.", [(none, len(os.listdir("/proc/self/fd")))])
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield from gauge("process_max_fds", "Maximum number of open file descriptors.", [(none, most)])
    yield from gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", [(none, int(fields[20]))])
    resident = int(fields[21]) * _PAGE
    yield from gauge("process_resident_memory_bytes", "Resident memory size in bytes.", [(none, resident)])
    text = "Start time of the process since unix epoch in seconds."
    yield from gauge("process_start_time_seconds", text, [(none, _started(float(fields[19])))])


def exposition(*parts: Iterable[str]) -> str:
    """A page of metrics from the lines of its parts."""
    return "\n".join(line for part in parts for line in part) + "\n"
