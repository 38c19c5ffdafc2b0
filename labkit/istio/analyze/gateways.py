# SPDX-License-Identifier: Apache-2.0
"""Gateways: whose pods they open, on which ports, with which certificates, and who else opens the same."""

from __future__ import annotations

from collections.abc import Iterator

from labkit.cluster import Obj
from labkit.ground.hosts import overlap, scoped
from labkit.ground.labels import selects
from labkit.istio.analyze.certificates import valid
from labkit.istio.analyze.messages import listed
from labkit.istio.analyze.world import Said, World, credentials, full, labels, missing, name, namespace, shown

__all__ = ["gateways"]


def gateways(world: World) -> Iterator[Said]:
    """What is wrong with them."""
    doors = world.all("Gateway")
    for item in doors:
        selector = item["spec"].get("selector") or {}
        pods = [one for one in world.workloads if selects(selector, labels(one))]
        if not pods:
            yield missing(item, "selector", shown(selector), f"kubectl get pods -A -l {shown(selector)}")
            continue
        open_ports = {port for pod in pods for port in _ports(pod, world)}
        for port in dict.fromkeys(_number(server) for server in item["spec"].get("servers") or [] if "port" in server):
            if port not in open_ports:
                yield Said(item, "IST0162", (port, shown(selector)))
        yield from _credentials(item, sorted({namespace(pod) for pod in pods}), world)
        yield from _conflicts(item, doors, pods)
        yield from _shared(item, doors)


def _number(server: Obj) -> int:
    return int((server.get("port") or {}).get("number") or 0)


def _ports(pod: Obj, world: World) -> Iterator[int]:
    """Ports by which the Services of a pod lead to it: a Gateway may name the Service's or the pod's."""
    for service in world.all("Service"):
        selector = service["spec"].get("selector")
        if namespace(service) == namespace(pod) and selector and selects(selector, labels(pod)):
            for port in service["spec"].get("ports") or []:
                if (port.get("protocol") or "TCP") == "TCP":
                    yield port.get("port") or 0
                    target = port.get("targetPort")
                    yield target if isinstance(target, int) else _named(pod).get(str(target), 0)


def _named(pod: Obj) -> dict[str, int]:
    ports = [port for one in pod["spec"].get("containers") or [] for port in one.get("ports") or []]
    known = (port for port in ports if isinstance(port, dict) and isinstance(port.get("containerPort"), int))
    return {str(port.get("name", "")): port["containerPort"] for port in known}


def _credentials(item: Obj, places: list[str], world: World) -> Iterator[Said]:
    # A gateway is given the Secrets of its pods' namespace, wherever the Gateway is.
    for credential in credentials(item) if world.secret_names is not None else ():
        for there in places:
            if f"{there}/{credential}" not in (world.secret_names or ()):
                yield missing(item, "credentialName", credential, f"kubectl get secrets -n {there}")
            elif (secret := world.secrets.get(f"{there}/{credential}")) and not valid(secret):
                yield Said(item, "IST0161", (name(item), there))


def _conflicts(item: Obj, doors: list[Obj], pods: list[Obj]) -> Iterator[Said]:
    selector = item["spec"].get("selector") or {}
    for server in item["spec"].get("servers") or []:
        number, hosts = _number(server), server.get("hosts") or []
        same = [
            full(door)
            for door in doors
            for theirs in [door["spec"].get("selector") or {}]
            if door is not item and any(selects(theirs, labels(pod)) for pod in pods)
            # Istio looks no further where neither selector's text is a part of the other's.
            if shown(theirs) in shown(selector) or shown(selector) in shown(theirs)
            for other in door["spec"].get("servers") or []
            if number and _number(other) == number
            if any(
                _meet(scoped(a, namespace(item)), scoped(b, namespace(door)))
                for a in hosts
                for b in other.get("hosts") or []
            )
        ]
        if same:
            yield Said(item, "IST0145", (",".join(dict.fromkeys(same)), shown(selector), number, ",".join(hosts)))


def _meet(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether two hosts, each with the namespace that it is for, have something in common."""
    return overlap(one[1], other[1]) and ("*" in (one[0], other[0]) or one[0] == other[0])


def _shared(item: Obj, doors: list[Obj]) -> Iterator[Said]:
    """Other Gateways of the same pods with the same certificate: clients keep one connection for both."""
    for door in doors:
        if door is item or not selects(item["spec"].get("selector"), door["spec"].get("selector")):
            continue
        mine, theirs = ({_certificate(one) for one in each["spec"].get("servers") or []} for each in (item, door))
        if mine & theirs - {("", "", "")}:
            yield Said(item, "IST0138", (listed((full(item), full(door))),))


def _certificate(server: Obj) -> tuple[str, str, str]:
    """What names a server's certificate: the Secret, or its files; nothing where there is none."""
    tls = server.get("tls") or {}
    if tls.get("credentialName"):
        return tls["credentialName"], "", ""
    files = tls.get("serverCertificate") or "", tls.get("privateKey") or ""
    return ("", *files) if all(files) else ("", "", "")
