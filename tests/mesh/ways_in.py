# SPDX-License-Identifier: Apache-2.0
"""A bookshop that is reached by what Kubernetes calls a way in: its gateway has a Service with an address."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from meshbox.addresses import AddressPlan

from .bookshop import Bookshop, opened
from .world import Reply

Obj = dict[str, Any]
Given = tuple[str, Obj]
"""A resource and an object of it."""

ADDRESS = "192.0.2.7"


@contextlib.asynccontextmanager
async def with_ways_in(home: Path, plan: AddressPlan, release: str) -> AsyncIterator[Bookshop]:
    async with opened(home, plan, release) as shop:
        for version in ("v1", "v3"):
            shop.service(f"reviews-{version}", selector={"app": "reviews", "version": version})
        ports = [{"name": f"p{port}", "port": port, "targetPort": port} for port in (80, 443, 8080, 9000, 9443)]
        meta = {"name": "istio-ingressgateway", "namespace": "istio-system"}
        spec = {"type": "LoadBalancer", "ports": ports, "selector": {"istio": "ingressgateway"}}
        status = {"loadBalancer": {"ingress": [{"ip": ADDRESS}]}}
        shop.objects.put("services", {"metadata": meta, "spec": spec, "status": status})
        shop.slice("istio-ingressgateway", "istio-system")
        yield shop


@contextlib.asynccontextmanager
async def applied(shop: Bookshop, *given: Given) -> AsyncIterator[None]:
    """Apply objects and wait until all proxies follow; take them away again."""
    for resource, obj in given:
        shop.objects.put(resource, obj, "bookinfo")
    await shop.follow()
    try:
        yield
    finally:
        for resource, obj in given:
            shop.objects.drop(resource, obj["metadata"]["name"], obj["metadata"].get("namespace", "bookinfo"))
        await shop.follow()


def answered(reply: Reply) -> str:
    return str(reply.json["app"]) if reply.status == 200 else str(reply.status)
