# SPDX-License-Identifier: Apache-2.0
"""The status of a Gateway or ListenerSet: is it accepted and programmed, at which addresses, and its listeners."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from meshbox.contracts import Obj, View
from meshbox.mesh.gateway_api.binding import services_of, skipped
from meshbox.mesh.gateway_api.listener_sets import Added
from meshbox.mesh.gateway_api.listeners import Built
from meshbox.mesh.gateway_api.status import Condition, conditions, joined
from meshbox.mesh.kinds import GATEWAY_API

__all__ = ["gateway_status", "listener_set_status", "remote_status"]

Find = Callable[[str], Sequence[View]]
"""Gives the Services of a name, in all namespaces."""

_ACCEPTED = Condition("Accepted", "Accepted", "Resource accepted")


class _Places(Struct, frozen=True):
    """Where a Gateway is reached.

    Args:
        internal: "host:port" of each Service's port that it listens at.
        external: Addresses that load balancers have.
        pending: Hosts whose load balancer has none yet.
        warnings: What cannot be used, in Istio's words.
        usable: Whether all that is missing is an address.
    """

    internal: list[str]
    external: list[str]
    pending: list[str]
    warnings: list[str]
    usable: bool


def gateway_status(
    gateway: View,
    built: Sequence[Built],
    attached: Mapping[str, int],
    find: Find,
    invalid: str = "",
    more: Sequence[Built] = (),
) -> Obj:
    """The whole status of a Gateway that Istio plays.

    Args:
        gateway: The Gateway, with the status that it has.
        built: Its listeners.
        attached: How many routes each listener has, by "namespace/gateway/section".
        find: Gives the Services of a name, in all namespaces.
        invalid: Why its `parametersRef` cannot be followed; "" where it can.
        more: The listeners that ListenerSets add to it.
    """
    meta, before = gateway["metadata"], gateway.get("status") or {}
    generation = meta.get("generation", 1)
    places = _places(gateway, [*built, *more], find)
    accepted = _accepted(gateway)
    if invalid:
        accepted = Condition("Accepted", "InvalidParameters", invalid, status=False)
    found = [accepted, _programmed(gateway, places)]
    reached = _addresses(places)
    status: Obj = {
        **(
            {"addresses": reached} if reached else {"addresses": before["addresses"]} if before.get("addresses") else {}
        ),
        "conditions": conditions(found, before.get("conditions") or (), generation),
        "listeners": _listeners(built, before, generation, attached),
    }
    # Istio counts the listeners, not the sets, and leaves the number as it was when the last one goes.
    if number := len(more) or before.get("attachedListenerSets"):
        status["attachedListenerSets"] = number
    return status


def listener_set_status(listener_set: View, found: Added, find: Find) -> Obj:
    """The whole status of a ListenerSet whose Gateway Istio knows.

    Args:
        listener_set: The ListenerSet, with the status that it has.
        found: What it adds.
        find: Gives the Services of a name, in all namespaces.
    """
    before, generation = listener_set.get("status") or {}, listener_set["metadata"].get("generation", 1)
    if found.refused:
        said = [Condition(name, "NotAllowed", found.refused, status=False) for name in ("Accepted", "Programmed")]
    else:
        said = [
            _accepted(found.gateway, "Parent not accepted: "),
            _programmed(found.gateway, _places(found.gateway, found.listeners, find)),
        ]
    status: Obj = {"conditions": conditions(said, before.get("conditions") or (), generation)}
    if found.listeners:
        status["listeners"] = _listeners(found.listeners, before, generation, {})
    return status


def _listeners(built: Sequence[Built], before: View, generation: int, attached: Mapping[str, int]) -> list[Obj]:
    known = {entry["name"]: entry.get("conditions") or () for entry in before.get("listeners") or []}
    return [
        {
            "name": listener.section,
            "attachedRoutes": attached.get(f"{listener.namespace}/{listener.name}/{listener.section}", 0),
            "supportedKinds": [{"group": GATEWAY_API, "kind": kind} for kind in listener.allowed_kinds],
            "conditions": conditions(said, known.get(listener.section, ()), generation),
        }
        for listener, said in ((one.listener, one.conditions) for one in built)
    ]


def _accepted(gateway: View, whose: str = "") -> Condition:
    if not (addresses := skipped(gateway)):
        return _ACCEPTED
    words = f"{whose}only Hostname is supported, ignoring [{' '.join(addresses)}]"
    return Condition("Accepted", "UnsupportedAddress", words, status=False)


def remote_status(gateway: View) -> Obj:
    """The status of a Gateway that another cluster's control plane plays: its addresses are taken as given."""
    before = gateway.get("status") or {}
    found = (_ACCEPTED, Condition("Programmed", "Programmed", "This Gateway is remote; Istio will not program it"))
    status: Obj = {"conditions": conditions(found, before.get("conditions") or (), gateway["metadata"]["generation"])}
    if addresses := gateway["spec"].get("addresses"):
        status["addresses"] = [dict(one) for one in addresses]
    return status


def _places(gateway: View, built: Sequence[Built], find: Find) -> _Places:
    own = gateway["metadata"]["namespace"]
    ports = sorted({one.listener.port for one in built})
    places = _Places([], [], [], [], usable=True)
    usable = True
    for namespace, name in services_of(gateway):
        host = f"{name}.{namespace}.svc.cluster.local" if namespace else name
        everywhere = [one for one in find(name) if one["metadata"]["namespace"] == namespace]
        service = next((one for one in everywhere if namespace == own), None)
        if service is None:
            usable = False
            there = f' in namespace "{own}", but it was found in namespace(s) "{namespace}"' if everywhere else ""
            places.warnings.append(f'hostname "{host}" not found{there}')
            continue
        for port in ports:
            if problem := _missing(service, port, host):
                usable = False
                places.warnings.append(problem)
                continue
            places.internal.append(f"{host}:{port}")
            ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
            given = [str(one.get("ip") or one.get("hostname")) for one in ingress]
            places.external.extend(one for one in given if one not in places.external)
            if not given and service["spec"].get("type") == "LoadBalancer" and host not in places.pending:
                places.pending.append(host)
                places.warnings.append(f'address pending for hostname "{host}"')
    return _Places(sorted(places.internal), sorted(places.external), places.pending, sorted(places.warnings), usable)


def _missing(service: View, port: int, host: str) -> str:
    """What Istio says of a port that a Service does not have; "" where it has it."""
    ports = service["spec"].get("ports") or []
    if any(one["port"] == port for one in ports):
        return ""
    hints = sorted(str(one["port"]) for one in ports if one.get("targetPort") == port)
    hint = " (hint: the service port should be specified, not the workload port"
    hint += f". Did you mean one of these ports: [{' '.join(hints)}]?)"
    return f'port {port} not found for hostname "{host}"{hint if hints else ""}'


def _programmed(gateway: View, places: _Places) -> Condition:
    if not services_of(gateway):
        words = "Failed to assign to any requested addresses"
        return Condition("Programmed", "UnsupportedAddress", words, status=False)
    where = f" assigned to service(s) {joined(places.internal)}"
    if not places.warnings:
        return Condition("Programmed", "Programmed", f"Resource programmed,{where}")
    reason = "AddressNotAssigned" if places.usable else "AddressNotUsable"
    why = "; ".join(places.warnings)
    if places.internal:
        words = (
            f"Assigned to service(s) {joined(places.internal)}, but failed to assign to all requested addresses: {why}"
        )
    else:
        words = f"Failed to assign to any requested addresses: {why}"
    return Condition("Programmed", reason, words, status=False)


def _addresses(places: _Places) -> list[Obj]:
    found = places.external
    if not found:
        hosts = dict.fromkeys(place.rpartition(":")[0] for place in places.internal)
        found = [host for host in hosts if host not in places.pending]
    return [{"type": _address_type(one), "value": one} for one in found]


def _address_type(address: str) -> str:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return "Hostname"
    return "IPAddress"
