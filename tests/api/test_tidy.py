# SPDX-License-Identifier: Apache-2.0
"""When memory is given back: once many objects are gone, or much was taken, and nothing is being written."""

from __future__ import annotations

import asyncio
import gc

from meshbox.tidy import Tidy

MIB = 1 << 20


class World:
    """So many objects after so many writes."""

    def __init__(self) -> None:
        self.count = self.version = self.forgotten = 0
        self.resident = 100 * MIB
        self.tidy = Tidy(
            lambda: self.count,
            lambda: self.version,
            every=0.001,
            resident=lambda: self.resident,
            forget=self.forget,
        )

    def forget(self) -> None:
        self.forgotten += 1

    def has(self, count: int) -> World:
        self.count, self.version = count, self.version + 1
        return self

    def looks(self, times: int = 1) -> int:
        for _ in range(times):
            self.tidy.look()
        return self.tidy.times


def test_after_a_storm_of_objects_once_it_is_over() -> None:
    world = World()
    assert world.has(100).looks(3) == 0
    assert world.has(30).looks(1) == 0, "it was written a moment ago"
    assert world.has(20).looks(1) == 0
    assert world.looks(1) == 1
    assert world.looks(5) == 1, "once is enough"
    assert world.forgotten == 1


def test_not_for_a_few_and_again_for_the_next_storm() -> None:
    world = World()
    assert world.has(100).looks(2) == world.has(60).looks(2) == 0
    assert world.has(50).looks(2) == 1
    assert world.has(20).looks(2) == 1
    assert world.has(90).looks(2) == world.has(40).looks(2) - 1 == 1


def test_after_requests_that_took_much_and_left_no_object() -> None:
    world = World().has(10)
    assert world.looks(3) == 0
    world.resident = 115 * MIB
    assert world.looks(3) == 0
    world.resident = 120 * MIB
    assert world.has(11).looks(1) == 0, "it was written a moment ago"
    assert world.looks(5) == 1, "what is left is in use: once is enough"
    world.resident = 110 * MIB
    assert world.looks(3) == 1
    world.resident = 130 * MIB
    assert world.looks(3) == 2
    assert world.forgotten == 0, "all objects are still there"


async def test_what_only_the_collector_of_circles_can_find_goes() -> None:
    class Node:
        pass

    def circle() -> None:
        one, other = Node(), Node()
        one.other, other.other = other, one  # type: ignore[attr-defined]

    gc.disable()
    try:
        circle()
        world = World().has(100)
        await world.tidy.start()
        await asyncio.sleep(0)
        async with asyncio.timeout(120):
            while world.tidy._most < 100:
                await asyncio.sleep(0.001)
            world.has(10)
            while not world.tidy.times:
                await asyncio.sleep(0.001)
        await world.tidy.stop()
        assert not [one for one in gc.get_objects() if isinstance(one, Node)]
    finally:
        gc.enable()
