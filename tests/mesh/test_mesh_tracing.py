# SPDX-License-Identifier: Apache-2.0
"""Spans reach whoever a tracing provider names, in the form that it takes, from real Envoys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from labkit.ground.web import listen
from meshbox.addresses import AddressPlan
from meshbox.images.grpc import server as grpc
from meshbox.images.otlp.receiving import otlp_http, otlp_methods
from meshbox.images.otlp.spans import Span

from .bookshop import Bookshop

Obj = dict[str, Any]
HOST = "opentelemetry-collector.istio-system.svc.cluster.local"


class Taken:
    """What a collector took, and what came with it."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def take(self, spans: list[Span], _transport: str, _size: int) -> None:
        self.spans += spans


@pytest.fixture
async def shop(tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan) -> AsyncIterator[Bookshop]:
    shop = Bookshop(tmp_path_factory.mktemp("tracing"), plan, release="1.30.3")
    await shop.open()
    yield shop
    await shop.stop()


@pytest.mark.parametrize("transport", ["grpc", "http"])
async def test_an_opentelemetry_provider_gets_spans_of_both_sides(shop: Bookshop, transport: str) -> None:
    taken = Taken()
    ports = [{"name": "grpc-otlp", "port": 4317}, {"name": "http-otlp", "port": 4318}]
    labels = {"app": "opentelemetry-collector"}
    pod = await shop.pod("collector", labels, namespace="istio-system", ports=(4317, 4318), role="")
    shop.service("opentelemetry-collector", ports, namespace="istio-system", selector=labels)
    over_grpc = grpc.listen(4317, otlp_methods(taken.take), pod.ip)
    (over_http,) = listen({4318: otlp_http(taken.take)}, pod.ip)
    way: Obj = {"http": {"path": "/v1/traces", "timeout": "5s"}} if transport == "http" else {}
    provider = {"service": HOST, "port": 4318 if way else 4317, **way}
    shop.mesh_config(extensionProviders=[{"name": "otel", "opentelemetry": provider}])
    tracing = [
        {
            "providers": [{"name": "otel"}],
            "randomSamplingPercentage": 100.0,
            "customTags": {"shop": {"literal": {"value": "books"}}},
        }
    ]
    shop.istio("Telemetry", "mesh-default", {"tracing": tracing}, namespace="istio-system")
    try:
        await shop.follow()

        async def traced() -> bool:
            # The client's first spans may be of other calls: a server's whose caller is known has both its sides.
            await shop.get("/traced", host="ratings")
            known = {span.id for span in taken.spans}
            return any(span.parent in known for span in taken.spans)

        await shop.until(traced, "both sides of a call sent their spans")
        heard = shop.apps["ratings-v1"].seen[-1][2]["traceparent"]
    finally:
        over_grpc.shutdown()
        over_grpc.server_close()
        over_http.server_close()
    by_id = {span.id: span for span in taken.spans}
    (version, trace, caller, _) = heard.split("-")
    assert (version, len(trace), len(caller)) == ("00", 32, 16)
    ends = [(by_id[span.parent], span) for span in taken.spans if span.parent in by_id]
    assert ends
    for client, server in ends:
        assert (client.service, server.service) == ("client.bookinfo", "ratings.bookinfo")
        assert (client.kind, server.kind, client.trace) == ("CLIENT", "SERVER", server.trace)
        assert client.name == "ratings.bookinfo.svc.cluster.local:9080/*"
        assert client.attributes["shop"] == server.attributes["shop"] == "books"
        assert client.attributes["http.status_code"] == "200"
        assert client.start <= server.start <= server.end <= client.end
