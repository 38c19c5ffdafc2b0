# SPDX-License-Identifier: Apache-2.0
"""Load of which every span has arrived."""

from __future__ import annotations

import time

import pandas as pd

from labkit import bookinfo
from labkit.observe.jaeger import Jaeger, Trace
from tests.conftest import PATIENCE
from tests.shops import Shop

SPANS = 6
"""Of the gateway, productpage, details and reviews, each at the end that calls and at the one that is called."""
DEADLINE = PATIENCE
"""Seconds after which no more rounds begin."""


def traces(jaeger: Jaeger, since: pd.Timestamp) -> list[Trace]:
    """What came through the gateway since then."""
    gateway = [name for name in jaeger.services() if name.startswith("istio-ingressgateway")]
    return jaeger.traces(gateway[0], start=since, limit=1000) if gateway else []


def load_is_traced(shop: Shop, jaeger: Jaeger, requests: int) -> None:
    """Send requests until every proxy on their way sends spans: each takes tracing up at its own moment.

    Whoever has not taken it up leaves a trace incomplete for good, so there is an end to waiting for one; on a busy
    machine spans take their time, so each round is waited for twice as long.
    """
    patience, end = 1.0, time.monotonic() + DEADLINE
    while True:
        start = pd.Timestamp.now(tz="UTC")
        assert (bookinfo.load(shop.url, requests, rate=50)["status"] == 200).all()
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if sum(len(trace.spans) >= SPANS for trace in traces(jaeger, start)) == requests:
                return
        assert deadline < end, f"{requests} requests had no whole traces within {patience:g} s"
        patience *= 2
