# SPDX-License-Identifier: Apache-2.0
"""What a mesh takes that nobody uses."""

from __future__ import annotations

import time
from collections.abc import Sequence

import psutil

from tools.bench.bare import bare_world
from tools.bench.figures import Figure
from tools.bench.world import World, spent, wait_for

SECONDS = 60.0
"""Four of Prometheus' rounds."""


def idle(here: World) -> Figure:
    """CPU of a whole sandbox with its add-ons while nobody asks or sends anything, in percent of a core."""
    processes = here.processes()
    prometheus = [one for one in processes if any("prometheus.adapted.yml" in word for word in one.cmdline())]
    wait_for(lambda: all(one.status() == psutil.STATUS_STOPPED for one in prometheus), seconds=180, pause=0.1)
    value = _percent(processes)
    envoys, pythons = sum("envoy" in one.name() for one in processes), 6
    with bare_world(envoys, pythons) as running:
        floor = _percent([psutil.Process(process.pid) for process in running])
    return Figure("idle, with all add-ons, CPU", value, "%", floor, f"{envoys} bare Envoys, {pythons} Pythons", 3.0)


def _percent(processes: Sequence[psutil.Process]) -> float:
    before, began = spent(processes), time.monotonic()
    time.sleep(SECONDS)
    return 100 * (spent(processes) - before) / (time.monotonic() - began)
