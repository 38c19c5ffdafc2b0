# SPDX-License-Identifier: Apache-2.0
"""How long a proxy keeps what it has counted and traced: a moment, or as long as Istio's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from meshbox.images.proxy.bootstrap import Agent, bootstrap
from tests.images.test_registry import context


@pytest.mark.parametrize(("real", "stats", "spans"), [(False, "0.5s", (250, 10)), (True, "5s", (5000, 5))])
def test_metrics_and_spans_have_the_same_clock(tmp_path: Path, real: bool, stats: str, spans: tuple[int, int]) -> None:
    quick = context(tmp_path, "pilot-agent", "proxy", "sidecar", image="istio/proxyv2:1.30.3")
    given = replace(quick, settings=replace(quick.settings, real_clocks=real))
    made = bootstrap(given, Agent.of(given))
    assert made["stats_flush_interval"] == stats
    runtime = made["layered_runtime"]["layers"][0]["static_layer"]
    assert (runtime["tracing.zipkin.flush_interval_ms"], runtime["tracing.zipkin.min_flush_spans"]) == spans


@pytest.mark.parametrize("image", ["istio/proxyv2:1.2.2", "istio/proxyv2:1.30.3"])
def test_memory_that_is_free_is_given_back(tmp_path: Path, image: str) -> None:
    given = context(tmp_path, "pilot-agent", "proxy", "sidecar", image=image)
    release = {"bytes_to_release": 8388608, "memory_release_interval": "1s"}
    assert bootstrap(given, Agent.of(given))["memory_allocator_manager"] == release
