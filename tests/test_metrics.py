# SPDX-License-Identifier: Apache-2.0
"""Prometheus' text format as the sandbox writes it."""

from __future__ import annotations

import os
import resource

import psutil
import pytest

from meshbox.exposition import Counter, Histogram, exposition, gauge, process
from tests.metrics_page import Page


def test_a_counter_has_a_series_for_what_has_happened() -> None:
    counter = Counter("pushes_total", "Pushes.", "type", "node")
    assert exposition(counter.lines()) == "\n"
    counter.add("cds", "a")
    counter.add("cds", "a", by=2)
    counter.add("lds", 'b"\\')
    assert exposition(counter.lines()).splitlines() == [
        "# HELP pushes_total Pushes.",
        "# TYPE pushes_total counter",
        'pushes_total{type="cds",node="a"} 3',
        'pushes_total{type="lds",node="b\\"\\\\"} 1',
    ]


def test_a_histogram_counts_up_to_each_bound() -> None:
    histogram = Histogram("seconds", "Seconds.", (0.1, 1, 10), "verb")
    for value in (0.05, 0.1, 0.5, 20):
        histogram.observe(value, "GET")
    page = Page(exposition(histogram.lines()))
    assert [page.one("seconds_bucket", verb="GET", le=bound) for bound in ("0.1", "1", "10", "+Inf")] == [2, 3, 3, 4]
    assert page.one("seconds_sum", verb="GET") == 20.65
    assert page.one("seconds_count", verb="GET") == 4


def test_a_gauge_without_values_is_not_there() -> None:
    assert list(gauge("nothing", "Nothing.", [])) == []
    assert list(gauge("one", "One.", [({}, 1.5)])) == ["# HELP one One.", "# TYPE one gauge", "one 1.5"]


def test_a_process_tells_what_it_uses() -> None:
    before = sum(os.times()[:2])
    page = Page(exposition(process()))
    after = sum(os.times()[:2])
    # The page has two decimals, as the kernel's clock ticks.
    assert before - 0.01 <= page.one("process_cpu_seconds_total") <= after + 0.01
    assert page.one("process_max_fds") == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert 3 <= page.one("process_open_fds") < page.one("process_max_fds")
    assert 5e6 < page.one("process_resident_memory_bytes") < page.one("process_virtual_memory_bytes")
    # Both know when this machine was started to the second.
    assert page.one("process_start_time_seconds") == pytest.approx(psutil.Process().create_time(), abs=1.5)
