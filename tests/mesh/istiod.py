# SPDX-License-Identifier: Apache-2.0
"""istiod's part in the Gateway API that is written into a cluster, for tests without any Envoy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from meshbox.mesh.gateway_api.controller import GatewayApi
from meshbox.mesh.kinds import KUBERNETES_GATEWAYS, RESOURCES
from meshbox.mesh.snapshot import Snapshot

from .cluster import Cluster

Obj = dict[str, Any]

DEADLINE = 240.0
HOST = "gw-istio.bookinfo.svc.cluster.local"


class Istiod:
    """The controller, told what the mesh makes of the objects whenever a test asks for it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.api = GatewayApi(cluster, "1.30.3")
        self.ready = True

    def tell(self) -> None:
        resources = set(self.cluster.resources())
        objects = {one: self.cluster.view(one) for one in RESOURCES if one in resources}
        plan = self.cluster.settings.plan
        self.api.update(Snapshot(objects, plan, legacy=False).converted, ready=self.ready)

    async def until(self, condition: Callable[[], Any], what: str) -> Any:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DEADLINE
        while not (found := condition()):
            assert loop.time() < deadline, f"not in {DEADLINE} s: {what}"
            self.tell()
            await asyncio.sleep(0.005)
        return found

    def gateway(self, name: str = "gw", **fields: Any) -> Obj:
        """Create or replace a Gateway in namespace bookinfo."""
        meta = {"name": name, "namespace": "bookinfo", **fields.pop("metadata", {})}
        spec = {
            "gatewayClassName": "istio",
            "listeners": [{"name": "web", "port": 80, "protocol": "HTTP"}],
            **fields,
        }
        return self.cluster.put(KUBERNETES_GATEWAYS, {"metadata": meta, "spec": spec})

    def found(self, resource: str, name: str = "gw-istio") -> Obj:
        return self.cluster.find(resource, name, "bookinfo") or {}

    def condition(self, kind: str, name: str = "gw") -> tuple[str, str, str]:
        """Status, reason and message of a Gateway's condition."""
        conditions = self.found(KUBERNETES_GATEWAYS, name).get("status", {}).get("conditions", [])
        one = next((one for one in conditions if one["type"] == kind), {})
        return one.get("status", ""), one.get("reason", ""), one.get("message", "")

    async def deployed(self) -> None:
        """Wait until all of a Gateway is made."""
        await self.until(lambda: self.found("services"), "a Service")
        await self.until(lambda: self.condition("Programmed")[0] in ("True", "False"), "a status")

    def balance(self, address: str = "127.99.8.1") -> None:
        """What a load balancer's provider writes."""
        service = self.found("services")
        status = {"loadBalancer": {"ingress": [{"ip": address}]}}
        self.cluster.update("services", {**service, "status": status}, subresource="status")
