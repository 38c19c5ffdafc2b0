"""Load of which every span has arrived."""

from __future__ import annotations

import time

import pandas as pd

from labkit import bookinfo
from labkit.observe.jaeger import Jaeger, Trace
from tests.e2e.conftest import Shop


def traces(jaeger: Jaeger, since: pd.Timestamp) -> list[Trace]:
    """What came through the gateway since then."""
    gateway = [name for name in jaeger.services() if name.startswith("istio-ingressgateway")]
    return jaeger.traces(gateway[0], start=since, limit=1000) if gateway else []


def load_is_traced(shop: Shop, jaeger: Jaeger, requests: int) -> bool:
    """Send requests, and tell whether all proxies on their way sent spans: each takes tracing up at its own moment."""
    start = pd.Timestamp.now(tz="UTC")
    assert (bookinfo.load(shop.url, requests, rate=50)["status"] == 200).all()
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        if sum(len(trace.spans) >= 6 for trace in traces(jaeger, start)) == requests:
            return True
    return False
