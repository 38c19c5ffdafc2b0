# SPDX-License-Identifier: Apache-2.0
"""Waiting for traces: each Envoy hears of a setting, and sends its spans, at a moment of its own."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from labkit.cluster import Condition, wait_for
from labkit.ground.errors import NotReadyError

if TYPE_CHECKING:
    import pandas as pd

    from labkit.observe.jaeger import Jaeger, Trace

__all__ = ["arrived", "seen", "until_silent", "until_whole"]

_IN_A_ROW, _AT_A_TIME = 60, 20
"""Whole traces of requests that follow each other: one of three versions takes part in none once in 10^10 times."""

_KEPT = 6.0
"""Seconds without a new trace. An Envoy that no longer traces may keep its last spans for 5 s."""


def arrived(jaeger: Jaeger, since: pd.Timestamp, through: Mapping[str, int], *, timeout: float = 60.0) -> list[Trace]:
    """Wait until so many traces have passed through each service.

    Args:
        jaeger: Where to ask.
        since: Traces from then on.
        through: How many, by service: {"productpage": 20, "ratings": 13}.
        timeout: Seconds.

    Returns:
        All traces since then, newest first.

    Raises:
        NotReadyError: Not within `timeout`; says how many there are.
    """
    found: list[Trace] = []

    def missing() -> str | None:
        found[:] = jaeger.since(since, limit=1500)
        now = {service: sum(trace.passed(service) for trace in found) for service in through}
        lacks = [f"{now[service]} of {count} through {service}" for service, count in through.items()]
        return ", ".join(lacks) if any(now[service] < count for service, count in through.items()) else None

    wait_for(Condition("the traces", missing), timeout=timeout)
    return found


def seen(jaeger: Jaeger, since: pd.Timestamp, *, within: float) -> list[Trace]:
    """The traces since then, as soon as there are some; none if there are none after `within` seconds."""
    try:
        return arrived(jaeger, since, {"istio-ingressgateway": 1}, timeout=within)
    except NotReadyError:
        return []


def until_whole(
    jaeger: Jaeger, send: Callable[[], object], services: tuple[str, ...], *, timeout: float = 90.0
) -> float:
    """Send requests, some at a time, until sixty in a row are traced by all services that a request passes through.

    Args:
        jaeger: Where to ask.
        send: Sends one request through the ingress gateway.
        services: What a whole trace passes through.
        timeout: Seconds.

    Returns:
        The seconds it took.

    Raises:
        NotReadyError: Not within `timeout`.
    """
    since = _now()

    def lacks() -> str | None:
        for _ in range(_AT_A_TIME):
            send()
        # The spans of the newest may still be on their way.
        newest = itertools.dropwhile(lambda trace: not trace.passed(*services), jaeger.since(since))
        row = sum(1 for _ in itertools.takewhile(lambda trace: trace.passed(*services), newest))
        return None if row >= _IN_A_ROW else f"{row} whole traces in a row"

    return wait_for(Condition(f"{_IN_A_ROW} whole traces in a row", lacks), timeout=timeout)


def until_silent(jaeger: Jaeger, send: Callable[[], object], *, timeout: float = 90.0) -> float:
    """Send requests until none is traced any more, as arguments and errors of `until_whole` are."""
    since, known, last = _now(), 0, time.monotonic()

    def traced() -> str | None:
        nonlocal known, last
        for _ in range(_AT_A_TIME):
            send()
        if (count := len(jaeger.since(since, limit=1500))) != known:
            known, last = count, time.monotonic()
        quiet = time.monotonic() - last
        return None if quiet > _KEPT else f"a request was traced {quiet:.1f} s ago"

    return wait_for(Condition("no request to be traced any more", traced), timeout=timeout)


def _now() -> pd.Timestamp:
    import pandas as pd

    return pd.Timestamp.now(tz="UTC")
