# SPDX-License-Identifier: Apache-2.0
"""Where clusters lead to: what changes there is told by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from meshbox.addresses import AddressPlan
from meshbox.mesh.resources import in_protobuf
from meshbox.mesh.translate import Config, translate

from .bookshop import Bookshop, opened
from .objects import SLICES, bookinfo, endpoints, snapshot, workload
from .telling import KIND

POD = ("bookinfo", "details-v1")
REVIEWS = "outbound|9080||reviews.bookinfo.svc.cluster.local"


def test_a_pod_that_becomes_ready_changes_endpoints_and_nothing_else() -> None:
    services, pods = bookinfo()
    kept = endpoints(services, pods)

    def made(*, ready: bool) -> Config:
        (held,) = (one for one in kept[SLICES] if one["metadata"]["name"].startswith("reviews"))
        held["endpoints"][1]["conditions"] = {"ready": ready}
        snap = snapshot(kept=kept)
        return translate(snap, workload(snap, "productpage-v1"))

    before, after = made(ready=False), made(ready=True)
    assert (before.clusters, before.listeners, before.routes) == (after.clusters, after.listeners, after.routes)
    changed = {name for name, body in after.endpoints.items() if before.endpoints[name] != body}
    assert changed == {REVIEWS}
    # Three pods, and not the 30 clusters.
    told = len(in_protobuf(KIND["endpoints"], after.endpoints[REVIEWS]))
    assert told < 3 * 400
    assert sum(map(len, after.clusters.values())) > 8 * told


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["1.30.3", "1.2.2"])
async def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan
) -> AsyncIterator[Bookshop]:
    home: Path = tmp_path_factory.mktemp("mesh")
    async with opened(home, plan, request.param) as made:
        yield made


@pytest.mark.long
@pytest.mark.asyncio(loop_scope="module")
async def test_an_endpoint_that_goes_and_comes_sends_no_clusters(shop: Bookshop) -> None:
    async with shop.rules():
        # One of three is never chosen in 60 times with a probability of 3 x (2/3)^60 = 8e-11.
        assert set(await shop.many(60)) == {"reviews-v1", "reviews-v2", "reviews-v3"}
    states = list(shop.mesh._proxies.values())
    versions = [state.told["clusters"].version for state in states]
    ends = [state.told["endpoints"] for state in states]
    pushes = [one.version for one in ends]
    gone = shop.pods.pop("reviews-v2")
    try:
        shop.slice("reviews")
        await shop.until(lambda: all(one.version > p for one, p in zip(ends, pushes, strict=True)), "told")
        await shop.until(shop._settled, "every proxy has taken it")
        assert set(await shop.many(40)) == {"reviews-v1", "reviews-v3"}
    finally:
        shop.pods["reviews-v2"] = gone
        shop.slice("reviews")

    async def all_answer() -> bool:
        return set(await shop.many(40)) == {"reviews-v1", "reviews-v2", "reviews-v3"}

    await shop.until(all_answer, "it is called again")
    assert [state.told["clusters"].version for state in states] == versions
    # Once when it went, once when it came.
    assert [one.version - before for one, before in zip(ends, pushes, strict=True)] == [2] * len(states)
