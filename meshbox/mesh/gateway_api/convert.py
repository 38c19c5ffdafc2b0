# SPDX-License-Identifier: Apache-2.0
"""The objects of the Gateway API, turned into Istio's own, with what their status has to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshbox.contracts import View
from meshbox.mesh.gateway_api.listeners import Listener, listeners
from meshbox.mesh.gateway_api.routes import RouteKey, virtual_services
from meshbox.mesh.gateway_api.status import RouteStatus

if TYPE_CHECKING:
    from labkit.ground.typed.destination_rules import DestinationRule
    from labkit.ground.typed.hosts import Gateway
    from labkit.ground.typed.virtual_services import VirtualService

__all__ = ["Converted", "convert"]


@dataclass(frozen=True)
class Converted:
    """What the objects of the Gateway API become.

    Args:
        gateways: An Istio Gateway for each listener.
        virtual_services: From routes.
        destination_rules: From BackendTLSPolicies.
        listeners: The listeners.
        routes: The status of each route.
    """

    gateways: tuple[Gateway, ...] = ()
    virtual_services: tuple[VirtualService, ...] = ()
    destination_rules: tuple[DestinationRule, ...] = ()
    listeners: tuple[Listener, ...] = ()
    routes: Mapping[RouteKey, RouteStatus] = field(default_factory=dict)


def convert(objects: Mapping[str, Sequence[View]]) -> Converted:
    """Turn the Gateway API's objects, by resource, into Istio's."""
    found = listeners(objects.get("gateways.gateway.networking.k8s.io") or ())
    made, statuses = virtual_services((), found, (), (), {})
    return Converted(virtual_services=tuple(made), listeners=tuple(found), routes=statuses)
