# SPDX-License-Identifier: Apache-2.0
"""A pod that is new gets less than its share while it warms up, through a real Envoy."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from meshbox.addresses import AddressPlan
from tests.chance import likely

from .bookshop import VERSIONS, Bookshop, opened
from .world import App

pytestmark = pytest.mark.asyncio(loop_scope="module")

Obj = dict[str, Any]

WINDOW = 20.0
"""Seconds of warm-up. Envoy weighs a pod by its age as part of them, and by no less than the least: so those that were
there before weigh more than a new one only once they are warm, and a longer window would be a longer wait."""
LEAST = 10
"""Percent of its share that a pod has at least, as Istio has it where nobody says."""
MANY = 600
WARM = {
    "idlest": {"warmup": {"duration": f"{WINDOW}s", "minimumPercent": LEAST}},
    "turns": {"simple": "ROUND_ROBIN", "warmup": {"duration": f"{WINDOW}s"}},
    "formerly": {"simple": "LEAST_REQUEST", "warmupDurationSecs": f"{WINDOW}s"},
}
COLD: Obj = {"cold": {"simple": "ROUND_ROBIN"}}


@pytest_asyncio.fixture(loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan) -> AsyncIterator[Bookshop]:
    async with opened(tmp_path_factory.mktemp("mesh"), plan, "1.30.3") as shop:
        yield shop


async def test_a_new_pod_gets_little_until_it_is_warm(shop: Bookshop) -> None:
    names = [*WARM, *COLD]
    for name in names:
        shop.service(name, selector={"app": "reviews"})
    policies = {name: {"loadBalancer": one} for name, one in (WARM | COLD).items()}
    rules = [("DestinationRule", name, {"host": name, "trafficPolicy": one}) for name, one in policies.items()]
    async with shop.rules(*rules):
        seen: dict[str, int] = {}

        async def share(name: str, count: int = MANY) -> int:
            """How many of so many calls, one after the other, the new pod answers."""
            found = [(await shop.get(host=name)).headers["x-app"] for _ in range(count)]
            return found.count("new")

        for name in names:
            # Whoever is answered knows the pods; from now on they grow older.
            assert await share(name, 1) == 0
        warm = time.monotonic() + WINDOW
        await shop.until(lambda: time.monotonic() > warm, "those that were there are warm")
        came = time.monotonic()
        await shop.pod("new", {"app": "reviews", "version": "v4"}, role="", app=App("new"))
        await shop.follow()
        # The proxy knows the new pod by now, and so counts its age from an earlier moment than this.
        grown = time.monotonic() + WINDOW
        for name in WARM:
            seen[name] = await share(name)
            # Nobody weighs less than the least or more than its age; on a slow machine it is older at the end.
            weight = max(LEAST / 100, min((time.monotonic() - came) / WINDOW, 1.0))
            bound = weight / (len(VERSIONS) + weight)
            # Too many come by chance in one of 2 x 10^9 runs, were turns taken at random; they are taken evenly.
            assert seen[name] < MANY * bound or likely(seen[name], MANY, bound), (name, seen[name], bound)
            assert seen[name] > 0, name
        for name in COLD:
            assert likely(seen.setdefault(name, await share(name)), MANY, 1 / (len(VERSIONS) + 1)), seen
        await shop.until(lambda: time.monotonic() > grown, "the new one is warm too")
        for name in WARM:
            assert likely(await share(name), MANY, 1 / (len(VERSIONS) + 1)), name
