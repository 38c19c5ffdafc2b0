# SPDX-License-Identifier: Apache-2.0
"""Addresses for Services of type LoadBalancer, where the sandbox was asked to give them."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, cast

from meshbox.controllers.meta import Context, write_status
from meshbox.reconcile import Key, Reconciler

if TYPE_CHECKING:
    from meshbox.typed.services import LoadBalancerIngress, Service, ServiceStatus

__all__ = ["LoadBalancerController"]

COMPONENT = "service-controller"


def _addresses(service: Service) -> list[str]:
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return [item["ip"] for item in ingress if "ip" in item]


def _of_gateway(service: Service) -> bool:
    """Whether a Gateway of the Gateway API is reached by a Service: without an address it would never be programmed."""
    return any(owner.get("kind") == "Gateway" for owner in service["metadata"].get("ownerReferences") or [])


class LoadBalancerController:
    """Gives each Service of type LoadBalancer an address of the plan; without `settings.loadbalancer`, only a
    Gateway's own.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self.reconciler = Reconciler("loadbalancer", context.objects, self._reconcile).watches("services")

    async def _reconcile(self, key: Key) -> None:
        namespace, name = key
        service = cast("Service | None", self._context.objects.find("services", name, namespace))
        if service is None or "deletionTimestamp" in service["metadata"]:
            return
        spec = service["spec"]
        wanted = spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass")
        present = _addresses(service)
        if not (wanted and (self._context.settings.loadbalancer or _of_gateway(service))):
            if present and spec.get("type") != "LoadBalancer":
                write_status(self._context, "services", {**service}, {**service["status"], "loadBalancer": {}})
            return
        network = self._context.settings.plan.loadbalancer_cidr
        if len(present) == 1 and ipaddress.ip_address(present[0]) in network:
            return
        self._say(service, "EnsuringLoadBalancer", "Ensuring load balancer")
        address = self._free(spec.get("loadBalancerIP", ""))
        if address is None:
            message = f"Error syncing load balancer: failed to ensure load balancer: no address is left in {network}"
            self._context.objects.event(service, "Warning", "SyncLoadBalancerFailed", message, COMPONENT)
            return
        ingress: LoadBalancerIngress = (
            {"ip": address} if self._context.settings.legacy else {"ip": address, "ipMode": "VIP"}
        )
        status: ServiceStatus = {**(service.get("status") or {}), "loadBalancer": {"ingress": [ingress]}}
        write_status(self._context, "services", {**service}, status)
        self._say(service, "EnsuredLoadBalancer", "Ensured load balancer")
        self._tell_moved(service, address)

    def _tell_moved(self, service: Service, address: str) -> None:
        plan = self._context.settings.plan
        ports = [port["port"] for port in service["spec"].get("ports") or []]
        moved = [f"{port} at {address}:{plan.port(port)}" for port in ports if plan.port(port) != port]
        if moved:
            message = f"this user may not listen on ports below 1024: {', '.join(moved)}"
            self._context.objects.event(service, "Warning", "PortsMoved", message, COMPONENT)

    def _say(self, service: Service, reason: str, message: str) -> None:
        self._context.objects.event(service, "Normal", reason, message, COMPONENT)

    def _free(self, asked: str) -> str | None:
        """An address nobody has: the one asked for if possible, else the lowest."""
        services = cast("list[Service]", self._context.objects.list("services"))
        taken = {ip for service in services for ip in _addresses(service)}
        free = [str(ip) for ip in self._context.settings.plan.loadbalancer_cidr.hosts() if str(ip) not in taken]
        return asked if asked in free else next(iter(free), None)
