# SPDX-License-Identifier: Apache-2.0
"""Events go an hour after they were last seen."""

from __future__ import annotations

from meshbox.controllers.events import EventExpiry

from .conftest import Cluster


async def test_an_hour_after_it_was_last_seen_an_event_goes(cluster: Cluster) -> None:
    involved = cluster.objects.create("configmaps", {"metadata": {"name": "a"}}, "default")
    cluster.objects.event(involved, "Normal", "Seen", "words", "test")
    cluster.objects.event(involved, "Normal", "Scheduled", "words", "default-scheduler")
    clock = cluster.controllers._context.clock
    now = clock()
    expiry = EventExpiry(cluster.controllers._context)

    def left() -> set[str]:
        expiry.sweep()
        return {one["reason"] for one in cluster.objects.list("events")}

    assert left() >= {"Seen", "Scheduled"}
    cluster.ahead = 3500 - (clock() - now)
    assert left() >= {"Seen", "Scheduled"}
    cluster.ahead = 3700
    assert left() == set()
