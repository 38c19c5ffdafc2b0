# SPDX-License-Identifier: Apache-2.0
"""ListenerSets: listeners that others add to a Gateway, where it allows them to."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from labkit.ground.labels import matches
from meshbox.contracts import View
from meshbox.mesh.gateway_api.binding import services_of, skipped
from meshbox.mesh.gateway_api.classes import CONTROLLER, REMOTE, Classes
from meshbox.mesh.gateway_api.listeners import Built, built_listener
from meshbox.mesh.gateway_api.tls import Around, Owner
from meshbox.mesh.kinds import GATEWAY_API

__all__ = ["Added", "added"]

_Place = tuple[str, str]

# It is a Gateway's `spec.allowedListeners` that decides; the words are Istio's.
_NOT_ALLOWED = "The parent Gateway does not allow this reference; check the 'spec.allowedRoutes'"


class Added(Struct, frozen=True):
    """What a ListenerSet adds.

    Args:
        gateway: The Gateway.
        listeners: What is added to it.
        refused: Why nothing is, in Istio's words; "" where the set is taken.
    """

    gateway: View
    listeners: tuple[Built, ...] = ()
    refused: str = ""

    @property
    def parent(self) -> _Place:
        """Namespace and name of the Gateway."""
        meta = self.gateway["metadata"]
        return meta["namespace"], meta["name"]


def added(listener_set: View, gateways: Mapping[_Place, View], classes: Classes, around: Around) -> Added | None:
    """What a ListenerSet adds to its Gateway; None where Istio has nothing to say of it.

    Args:
        listener_set: The ListenerSet.
        gateways: All Gateways by namespace and name.
        classes: The GatewayClasses.
        around: What listeners name.
    """
    meta, spec = listener_set["metadata"], listener_set["spec"]
    ref = spec["parentRef"]
    group = ref["group"] if ref.get("group") is not None else GATEWAY_API
    gateway = gateways.get((ref.get("namespace") or meta["namespace"], ref["name"]))
    if (group, ref.get("kind") or "Gateway") != (GATEWAY_API, "Gateway") or gateway is None:
        return None
    player = classes.controller_of(gateway)
    if player not in (CONTROLLER, REMOTE):
        return None
    if player == REMOTE:
        name = gateway["spec"]["gatewayClassName"]
        return Added(gateway, refused=f'The "{name}" GatewayClass does not support ListenerSet')
    if not _allowed(gateway, meta["namespace"], around.namespaces):
        return Added(gateway, refused=_NOT_ALLOWED)
    if skipped(gateway) and not services_of(gateway):
        return Added(gateway)
    owner = Owner("ListenerSet", meta, gateway["spec"])
    return Added(gateway, tuple(built_listener(owner, entry, around) for entry in spec.get("listeners") or []))


def _allowed(gateway: View, namespace: str, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether a Gateway takes the listeners of a namespace: without a word about it, of none."""
    wanted = (gateway["spec"].get("allowedListeners") or {}).get("namespaces")
    if wanted is None:
        return False
    where, selector = wanted.get("from"), wanted.get("selector")
    if where in (None, "Selector"):
        labels = {"kubernetes.io/metadata.name": namespace, **(namespaces.get(namespace) or {})}
        return selector is not None and matches(selector, labels)
    own: str = gateway["metadata"]["namespace"]
    return where == "All" or (where == "Same" and namespace == own)
