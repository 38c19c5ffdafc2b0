# SPDX-License-Identifier: Apache-2.0
"""What it takes until the page is there again when a sandbox is started that has Istio and BookInfo already."""

from __future__ import annotations

import statistics
import time

from tools.bench.figures import Figure
from tools.bench.world import World, status_of, wait_for

ROUNDS = 3


def restored(here: World) -> Figure:
    """From `labkit up` to the first 200 at /productpage, median; the sandbox runs before and after."""
    gateway = here.gateway()
    took = []
    for _ in range(ROUNDS):
        here.down()
        began = time.perf_counter()
        here.up()
        wait_for(lambda: status_of(*gateway, "/productpage") == 200)
        took.append(time.perf_counter() - began)
    return Figure("kept world → 200 at /productpage", statistics.median(took), "s", None, "", 1.2)
