# SPDX-License-Identifier: Apache-2.0
"""What a change of the mesh costs, by how much there is: ``python -m tools.bench.growing`` prints the whole table."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from tools.bench.figures import Figure
from tools.bench.meshes import Change, Grown, grown

__all__ = ["growing"]

SIZES = ((10, 10), (100, 10), (100, 50), (1000, 10), (1000, 50), (1000, 200))
"""Services and proxies of the whole table."""

LIMITED = ((100, 12), (1000, 50))
"""Of the lines of `make bench`."""

LIMITS = {
    "a ConfigMap": (5.0, 10.0),
    "a VirtualService of one host": (50.0, 250.0),
    "a VirtualService of one gateway": (25.0, 50.0),
    "a pod gets ready": (50.0, 250.0),
    "a Service is added": (75.0, 500.0),
}
"""Milliseconds of CPU for each change, in each of `LIMITED`."""


async def measured(services: int, proxies: int) -> tuple[dict[str, Change], int]:
    """What each kind of change costs in a mesh of that size, and how many bytes its proxies' resources are."""
    async with grown(services, proxies) as here:
        changes = {what: await here.cost(write) for what, write in _writes(here).items()}
        return changes, here.held()


def _writes(here: Grown) -> dict[str, Callable[[], None]]:
    found = (here.config_map, here.rule, here.gateway_rule, here.ready, here.more)
    return dict(zip(LIMITS, found, strict=True))


def growing() -> list[Figure]:
    """The lines of `make bench`; the floor of each is the same change in a mesh of ten Services and ten proxies."""
    floors, _ = asyncio.run(measured(10, 10))
    rows = []
    for index, (services, proxies) in enumerate(LIMITED):
        changes, _ = asyncio.run(measured(services, proxies))
        for what, change in changes.items():
            title = f"{what}: {services} Services × {proxies} proxies, CPU; {change.size / 2**20:.2f} MiB sent"
            floor = floors[what].cpu
            rows.append(Figure(title, change.cpu, "ms", floor, "10 Services × 10 proxies", LIMITS[what][index]))
    return rows


def main() -> None:
    """Print the table."""
    sizes = [tuple(map(int, one.split("x"))) for one in sys.argv[1:]] or SIZES
    print("| Services × proxies |", " | ".join(LIMITS), "| all proxies' bytes |")
    print("|---" * (len(LIMITS) + 2) + "|")
    for services, proxies in sizes:
        changes, held = asyncio.run(measured(services, proxies))
        cells = (f"{one.cpu:.1f} ms, {one.size / 2**20:.2f} MiB to {one.proxies}" for one in changes.values())
        print(f"| {services} × {proxies} |", " | ".join(cells), f"| {held / 2**20:.1f} MiB |", flush=True)


if __name__ == "__main__":
    main()
