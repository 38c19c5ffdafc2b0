# SPDX-License-Identifier: Apache-2.0
"""Requests at a rate over a number of connections, and what became of them, in fortio's own lines."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from labkit.ground.client import Connections

__all__ = ["Call", "Plan", "report", "run"]

_BOUNDS = [factor * scale for scale in (0.001, 0.01, 0.1, 1.0) for factor in (1, 2, 3, 4, 5, 6, 7, 8, 9)]
"""Seconds at which the histogram's ranges end."""


@dataclass
class Plan:
    """What is asked, and how often; the defaults are fortio's.

    Args:
        connections: How many at a time.
        calls: How many in all; 0 for as many as `seconds` allow.
        seconds: How long, unless `calls` says how many.
        rate: Requests a second over all connections; 0 for as fast as can be.
        timeout: Seconds for each.
        method: HTTP's.
        headers: To send.
        payload: A body.
        keepalive: Whether connections are used again.
        percentiles: Those told at the end.
    """

    connections: int = 4
    calls: int = 0
    seconds: float = 5.0
    rate: float = 8.0
    timeout: float = 3.0
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    payload: bytes = b""
    keepalive: bool = True
    percentiles: list[float] = field(default_factory=lambda: [50, 75, 90, 99, 99.9])


@dataclass(frozen=True)
class Call:
    """One request: its status (-1 where there was no answer), seconds, and bytes of the body."""

    status: int
    took: float
    size: int = 0


def run(plan: Plan, url: str, *, quiet: bool = False) -> int:
    """Ask `url` as `plan` says, and print what became of it; the exit code."""
    speed = f"{plan.rate:g}" if plan.rate else "max"
    share = f"for exactly {plan.calls} calls" if plan.calls else f"for {plan.seconds:g}s"
    if not quiet:
        print(f"Running at {speed} queries per second, {share}: {url}", flush=True)
        print(f"Starting at {speed} qps with {plan.connections} thread(s) {share}", flush=True)
    calls: list[Call] = []
    lock = threading.Lock()
    began = time.monotonic()
    per_thread = math.ceil(plan.calls / plan.connections) if plan.calls else 0
    threads = []
    for number in range(plan.connections):
        count = max(0, min(per_thread, plan.calls - number * per_thread)) if plan.calls else None
        threads.append(threading.Thread(target=_ask, args=(plan, url, count, began, calls, lock), daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(report(calls, time.monotonic() - began, plan.percentiles), flush=True)
    return 0 if calls else 1


def _ask(plan: Plan, url: str, count: int | None, began: float, calls: list[Call], lock: threading.Lock) -> None:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    pause = plan.connections / plan.rate if plan.rate else 0.0
    headers = dict(plan.headers) if plan.keepalive else {**plan.headers, "Connection": "close"}
    headers.setdefault("User-Agent", "fortio.org/fortio-stand-in")
    done = 0
    with Connections(parts.hostname or "", parts.port or 80, plan.timeout) as connections:
        while (count is None and time.monotonic() < began + plan.seconds) or (count is not None and done < count):
            since = time.monotonic()
            try:
                answer = connections.request(plan.method, target, headers, plan.payload or None, again=False)
                call = Call(answer.status, time.monotonic() - since, len(answer.body))
            except OSError:
                call = Call(-1, time.monotonic() - since)
            with lock:
                calls.append(call)
            done += 1
            # The next one's moment is told by the beginning, so that slow answers do not lower the rate.
            ahead = began + done * pause - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)


def report(calls: list[Call], took: float, percentiles: list[float]) -> str:
    """What fortio prints at the end: a histogram, percentiles, codes, and the summary.

    Args:
        calls: All requests.
        took: Seconds from first to last.
        percentiles: 0 to 100.
    """
    if not calls:
        return "Ended without a call"
    rate = len(calls) / took if took else 0.0
    times = sorted(call.took for call in calls)
    lines = [f"Ended after {took:.6g}s : {len(calls)} calls. qps={rate:.5g}"]
    lines += [_summary("Aggregated Function Time", times), "# range, mid point, percentile, count"]
    lines += _histogram(times)
    lines += [f"# target {wanted:g}% {_at(times, wanted):.6g}" for wanted in percentiles]
    for status, count in sorted(Counter(call.status for call in calls).items()):
        lines.append(f"Code {status:3} : {count} ({100 * count / len(calls):.1f} %)")
    lines.append(_summary("Response Body Sizes", [float(call.size) for call in calls]))
    mean = 1000 * sum(times) / len(times)
    lines.append(f"All done {len(calls)} calls (plus 0 warmup) {mean:.3f} ms avg, {rate:.1f} qps")
    return "\n".join(lines)


def _summary(what: str, values: list[float]) -> str:
    total, count = sum(values), len(values)
    mean = total / count
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / count)
    shown = f"count {count} avg {mean:.6g} +/- {spread:.4g} min {min(values):.6g} max {max(values):.6g}"
    return f"{what} : {shown} sum {total:.6g}"


def _histogram(times: list[float]) -> list[str]:
    lines: list[str] = []
    seen, low = 0, 0.0
    for high in [*_BOUNDS, max(times[-1], _BOUNDS[-1])]:
        count = sum(low < value <= high for value in times)
        if count:
            seen += count
            mark = ">=" if not lines else ">"
            share = 100 * seen / len(times)
            lines.append(f"{mark} {low:g} <= {high:g} , {(low + high) / 2:g} , {share:.2f}, {count}")
        low = high
    return lines


def _at(times: list[float], percentile: float) -> float:
    """The value below which `percentile` per cent of the sorted `times` lie."""
    return times[min(len(times) - 1, max(0, math.ceil(percentile / 100 * len(times)) - 1))]
