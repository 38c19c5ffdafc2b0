# SPDX-License-Identifier: Apache-2.0
"""A world to send traffic in: one client, three versions of reviews, ratings, and a gateway."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from meshbox.addresses import AddressPlan
from meshbox.mesh.kinds import ISTIO_RESOURCES
from meshbox.mesh.proxies import ProxyState

from .world import App, Reply, World

Obj = dict[str, Any]

VERSIONS = ("v1", "v2", "v3")
_TABLE = re.compile(rb'"route_config_name":"([^"]+)"')


class Bookshop(World):
    """The world, and what tests do in it over and over."""

    apps: dict[str, App]

    async def open(self) -> None:
        await self.start()
        self.apps = {name: App(name) for name in ("client", *(f"reviews-{v}" for v in VERSIONS), "ratings-v1")}
        for name in ("client", "reviews", "ratings"):
            self.service(name)
        await self.pod("client", {"app": "client", "version": "v1"}, app=self.apps["client"])
        for version in VERSIONS:
            name = f"reviews-{version}"
            await self.pod(name, {"app": "reviews", "version": version}, app=self.apps[name])
        await self.pod("ratings-v1", {"app": "ratings", "version": "v1"}, app=self.apps["ratings-v1"])
        labels = {"app": "istio-ingressgateway", "istio": "ingressgateway"}
        await self.pod("ingress", labels, namespace="istio-system", role="router", ports=())
        await self.ready()
        self.istio("DestinationRule", "reviews", {"host": "reviews", "subsets": subsets()})
        self._sentinels = 0
        # A proxy that is ready knows what there was when it began, not the pods that came after its own.
        await self.follow()

    @contextlib.asynccontextmanager
    async def rules(self, *given: tuple[str, str, Obj]) -> AsyncIterator[None]:
        """Apply objects (kind, name, spec) and wait until the client follows; take them away again.

        A DestinationRule for a host takes the place of the standing one for as long.
        """
        self._sentinels += 1
        before = self._rules()
        for kind, name, spec in given:
            self.istio(kind, name, spec)
        await self.follow()
        try:
            yield
        finally:
            for (resource, namespace, name), obj in self._rules().items():
                earlier = before.pop((resource, namespace, name), None)
                if earlier is None:
                    self.objects.drop(resource, name, namespace)
                elif earlier["spec"] != obj["spec"]:
                    self.objects.update(resource, {**obj, "spec": earlier["spec"]})
            for (resource, _, _), obj in before.items():
                self.objects.create(resource, obj)
            await self.follow()

    def _rules(self) -> dict[tuple[str, str, str], Obj]:
        """Istio's objects by resource, namespace and name."""
        return {
            (resource, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]): obj
            for resource in ISTIO_RESOURCES
            for obj in self.objects.list(resource)
        }

    async def follow(self) -> None:
        """Wait until all proxies follow what was written before: client and gateway show it by a marker of ours."""
        self._sentinels += 1
        mark = f"/mark-{self._sentinels}"
        rule = {"match": [{"uri": {"exact": "/which"}}], "redirect": {"uri": mark}}
        self.istio(
            "Gateway", "mark", {"selector": {"istio": "ingressgateway"}, "servers": [gateway_server(9999, "mark.test")]}
        )
        spec = {"hosts": ["mark.test"], "gateways": ["mesh", "mark"], "http": [rule]}
        self.istio("VirtualService", "mark", spec)

        async def seen() -> bool:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                inside = await self.call("client", "mark.test", "/which", port=80, headers={"host": "mark.test"})
                outside = await self.http(self.pods["ingress"].ip, 9999, "/which", headers={"host": "mark.test"})
                return all(mark in r.headers.get("location", "") for r in (inside, outside))
            return False

        await self.until(seen, f"client and gateway follow {mark}")
        await self.until(self._settled, "every proxy has taken what it was offered")

    def _settled(self) -> bool:
        # Between two steps of a change all that was offered is taken, and more is to come.
        return all(not state.rolling and _has_all(state) for state in self.mesh._proxies.values())

    async def many(self, count: int, path: str = "/", host: str = "reviews", **options: Any) -> Counter[str]:
        """Who answered `count` calls of the client: the app's name, or the status where it was not 200."""
        found: Counter[str] = Counter()
        for start in range(0, count, 20):
            size = min(20, count - start)
            for reply in await asyncio.gather(*(self.call("client", host, path, **options) for _ in range(size))):
                found[reply.headers.get("x-app", "") if reply.status == 200 else str(reply.status)] += 1
        return found

    async def get(self, path: str = "/", host: str = "reviews", **options: Any) -> Reply:
        """One call of the client."""
        return await self.call("client", host, path, **options)

    async def enter(self, path: str = "/", *, port: int = 8080, host: str = "shop.test", **options: Any) -> Reply:
        """One call from outside, through the gateway."""
        headers = {"host": host, **options.pop("headers", {})}
        return await self.http(self.pods["ingress"].ip, port, path, headers=headers, **options)


def _has_all(state: ProxyState) -> bool:
    """Whether a proxy that asks has taken, or refused, all that it is to have: also what it has yet to ask for.

    A listener that is new asks for its table of routes, and a cluster for its endpoints, after it was taken itself;
    until these are there nobody is served by it.
    """
    listeners, ends, routes = (state.told[kind] for kind in ("listeners", "endpoints", "routes"))
    if state.config is None or listeners.sent < 0:
        return True
    if not all(one.settled for one in state.told.values()):
        return False
    if not state.told["clusters"].refusing and not state.config.endpoints.keys() <= ends.asked:
        return False
    tables = {name.decode() for body in state.config.listeners.values() for name in _TABLE.findall(body)}
    return listeners.refusing or tables <= routes.asked


def gateway_server(number: int, host: str = "*", protocol: str = "HTTP", **fields: Any) -> Obj:
    return {"port": {"number": number, "name": f"p{number}", "protocol": protocol}, "hosts": [host], **fields}


def subsets() -> list[Obj]:
    return [{"name": v, "labels": {"version": v}} for v in VERSIONS]


def to(subset: str = "", host: str = "reviews", **fields: Any) -> Obj:
    destination = {"host": host, **({"subset": subset} if subset else {})}
    return {"destination": destination, **fields}


def virtual_service(*rules: Obj, host: str = "reviews") -> tuple[str, str, Obj]:
    return "VirtualService", "under-test", {"hosts": [host], "http": list(rules)}


def destination_rule(**policy: Any) -> tuple[str, str, Obj]:
    return "DestinationRule", "reviews", {"host": "reviews", "subsets": subsets(), "trafficPolicy": policy}


@contextlib.asynccontextmanager
async def opened(home: Path, plan: AddressPlan, release: str) -> AsyncIterator[Bookshop]:
    shop = Bookshop(home, plan, release)
    try:
        await shop.open()
        yield shop
    finally:
        await shop.stop()
