# SPDX-License-Identifier: Apache-2.0
"""An open loop of requests: each is sent at its time, however long those before it take, up to a bound."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import aiohttp

__all__ = ["Sent", "steady"]


@dataclass
class Sent:
    """What became of the requests.

    Args:
        statuses: How often each status was answered; 0 for requests without an answer.
        latest: How many seconds after its time the latest request was sent.
        took: Seconds from the first request to the last answer.
        slowest: Seconds that the slowest request was under way.
        wrong: The first answer that was not 200.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    latest: float = 0.0
    took: float = 0.0
    slowest: float = 0.0
    wrong: str = ""

    @property
    def count(self) -> int:
        """How many were sent."""
        return self.statuses.total()


def steady(url: str, rate: float, seconds: float, *, most: int = 0) -> Sent:
    """Send GET requests at an even rate and wait for all answers.

    Args:
        url: Where.
        rate: Requests a second.
        seconds: How long.
        most: Requests under way at once; one more waits its turn. 0 for no bound: on a busy machine
            they then pile up until files or Envoy's own bounds run out.
    """
    return asyncio.run(_steady(url, rate, round(rate * seconds), most))


async def _steady(url: str, rate: float, count: int, most: int) -> Sent:
    sent = Sent()
    loop = asyncio.get_running_loop()
    connector = aiohttp.TCPConnector(limit=most, keepalive_timeout=60)
    async with aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(None, sock_connect=30, sock_read=30)
    ) as session:
        begun = loop.time()

        async def one(at: float) -> None:
            started = loop.time()
            sent.latest = max(sent.latest, started - at)
            try:
                async with session.get(url) as answer:
                    text = await answer.text()
                    sent.statuses[answer.status] += 1
                    if answer.status != 200:
                        sent.wrong = sent.wrong or text
            except (OSError, aiohttp.ClientError, TimeoutError) as error:
                sent.statuses[0] += 1
                sent.wrong = sent.wrong or repr(error)
            sent.slowest = max(sent.slowest, loop.time() - started)

        under_way = set()
        for number in range(count):
            at = begun + number / rate
            await asyncio.sleep(max(0.0, at - loop.time()))
            task = asyncio.create_task(one(at))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        while under_way:
            await asyncio.wait(set(under_way))
        sent.took = loop.time() - begun
    return sent
