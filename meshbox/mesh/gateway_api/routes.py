# SPDX-License-Identifier: Apache-2.0
"""Routes of the Gateway API as VirtualServices."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from meshbox.contracts import View
from meshbox.mesh.gateway_api.listeners import Listener
from meshbox.mesh.gateway_api.status import RouteStatus

if TYPE_CHECKING:
    from labkit.ground.typed.virtual_services import VirtualService

__all__ = ["RouteKey", "virtual_services"]

RouteKey = tuple[str, str, str]
"""Kind, namespace and name of a route."""


def virtual_services(
    routes: Iterable[View],
    listeners: Sequence[Listener],
    services: Collection[View],
    grants: Collection[View],
    namespaces: Mapping[str, Mapping[str, str]],
) -> tuple[list[VirtualService], dict[RouteKey, RouteStatus]]:
    """The VirtualServices that play routes, and what the routes' status says.

    Args:
        routes: HTTPRoutes, GRPCRoutes, TLSRoutes and TCPRoutes, oldest first.
        listeners: All listeners of Gateways.
        services: Kubernetes' Services.
        grants: The ReferenceGrants.
        namespaces: The labels of each namespace, by its name.
    """
    return [], {}
