# SPDX-License-Identifier: Apache-2.0
"""Patches of route tables, their virtual hosts and their routes; and of clusters."""

from __future__ import annotations

from typing import Any

from meshbox.mesh.envoy import Json
from meshbox.mesh.envoy_filters.listeners import Hit
from meshbox.mesh.envoy_filters.merging import merged, merged_extension
from meshbox.mesh.envoy_filters.patches import Patch
from meshbox.mesh.envoy_filters.placing import placed
from meshbox.mesh.envoy_filters.site import CAPTURE, Site, addresses
from meshbox.mesh.virtual_hosts import HTTP_PROXY

__all__ = ["added_clusters", "patched_cluster", "patched_table"]

_ACTIONS = {"ROUTE": "route", "REDIRECT": "redirect", "DIRECT_RESPONSE": "direct_response"}


def patched_table(body: Json, patches: list[Patch], site: Site, hit: Hit) -> Json:
    """A route table with all patches that are meant for it."""
    name = str(body["name"])
    inbound = name.startswith("inbound|")
    context = "GATEWAY" if site.gateway else "SIDECAR_INBOUND" if inbound else "SIDECAR_OUTBOUND"
    meant = [one for one in patches if one.within(context) and _gateway_meant(one, name, site)]
    for patch in meant:
        if patch.place == "ROUTE_CONFIGURATION" and patch.operation == "MERGE" and _meant(patch, name, name, site):
            hit(patch)
            body = merged(body, {k: v for k, v in patch.value.items() if k != "name"})
    hosts = [one for host in body["virtual_hosts"] for one in _patched_host(host, meant, name, site, hit)]
    for patch in meant:
        if patch.place == "VIRTUAL_HOST" and patch.operation == "ADD" and _meant(patch, name, name, site):
            hit(patch)
            hosts.append(patch.value)
    return {**body, "virtual_hosts": hosts}


def _number(table: str) -> int:
    """The port that a table is for."""
    parts = table.split("|" if "|" in table else ".")
    text = parts[1] if len(parts) > 1 else table
    return int(text) if text.isdigit() else 0


def _meant(patch: Patch, name: str, shown: str, site: Site) -> bool:
    """Whether a patch asks for a table, which for a host of the HTTP proxy's table is `shown`: that of its port."""
    asked = patch.about("routeConfiguration")
    names = {name, shown}
    ports = {_number(shown)} if not site.gateway else set(site.ports(_number(shown)))
    if name == HTTP_PROXY:
        ports.add(CAPTURE)
    if site.gateway:
        head, _, rest = shown.partition(".")
        names |= {".".join((head, str(port), *rest.split(".")[1:])) for port in ports}
    wanted = asked.get("name")
    return (not wanted or wanted in names) and asked.get("portNumber") in (None, 0, *ports)


def _gateway_meant(patch: Patch, name: str, site: Site) -> bool:
    """Whether a patch asks for this table of a gateway: one of HTTPS names its server's port and its Gateway; one of
    plain HTTP is shared by all Gateways of a port and names none, so whoever asks for one does not get it, as in Istio.
    """
    if not site.gateway:
        return True
    asked = patch.about("routeConfiguration")
    kind, _, port_name, gateway, namespace = (*name.split(".", 4), *[""] * 4)[:5]
    secure = kind == "https"
    return asked.get("portName") in (None, "", port_name if secure else None) and asked.get("gateway") in (
        *(None, ""),
        f"{namespace}/{gateway}" if secure else None,
    )


def _host_meant(patch: Patch, host: Json, site: Site) -> bool:
    asked = patch.about("routeConfiguration").get("vhost") or {}
    if asked.get("domainName") and asked["domainName"] not in host["domains"]:
        return False
    wanted = asked.get("name")
    if not wanted or wanted == host["name"]:
        return True
    own, _, port = str(host["name"]).rpartition(":")
    name, _, number = str(wanted).rpartition(":")
    return site.gateway and own == name and number.isdigit() and int(number) in site.ports(_number(port))


def _patched_host(host: Json, patches: list[Patch], table: str, site: Site, hit: Hit) -> list[Json]:
    # The HTTP proxy's table has the hosts of every port: each is found as if it were in the table of its own.
    shown = str(host["name"]).rpartition(":")[2] if table == HTTP_PROXY else table
    meant = [one for one in patches if _meant(one, table, shown, site) and _host_meant(one, host, site)]
    for patch in meant:
        if patch.place != "VIRTUAL_HOST":
            continue
        if patch.operation == "REMOVE":
            hit(patch)
            return []
        if patch.operation == "REPLACE":
            hit(patch)
            host = patch.value
        if patch.operation == "MERGE":
            hit(patch)
            host = merged(host, patch.value)
    for patch in meant:
        if patch.place != "HTTP_ROUTE":
            continue
        asked = (patch.about("routeConfiguration").get("vhost") or {}).get("route") or {}
        routes = list(host.get("routes") or [])
        chosen = [index for index, route in enumerate(routes) if _route_meant(asked, route)]
        made = placed(routes, patch, chosen, asked=bool(asked), merge=merged)
        if made is not None:
            hit(patch)
            host = {**host, "routes": made}
    return [host]


def _route_meant(asked: Json, route: Json) -> bool:
    action = _ACTIONS.get(str(asked.get("action")))
    return asked.get("name") in (None, "", route.get("name")) and (action is None or action in route)


def patched_cluster(name: str, body: Json, patches: list[Patch], site: Site, hit: Hit) -> Json | None:
    """A cluster with all patches that are meant for it; None where one removes it."""
    direction, _, rest = name.partition("|")
    port, _, rest = rest.partition("|")
    subset, _, host = rest.partition("|")
    inbound = direction == "inbound"
    context = "GATEWAY" if site.gateway else "SIDECAR_INBOUND" if inbound else "SIDECAR_OUTBOUND"
    for patch in patches:
        if patch.place != "CLUSTER" or patch.operation not in ("MERGE", "REMOVE") or not patch.within(context):
            continue
        asked = patch.about("cluster")
        if asked.get("name"):
            fits = asked["name"] == name
        else:
            fits = (
                _serves(asked.get("service"), inbound, port, host, site)
                and asked.get("subset") in (None, "", subset)
                and (not asked.get("portNumber") or str(asked["portNumber"]) == port)
            )
        if not fits:
            continue
        hit(patch)
        if patch.operation == "REMOVE":
            return None
        if isinstance(patch.value.get("transport_socket"), dict):
            body = _with_socket(body, patch.value["transport_socket"])
        else:
            body = merged(body, {k: v for k, v in patch.value.items() if k != "name"})
    return body


def _with_socket(body: Json, socket: Json) -> Json:
    """A cluster whose transport socket is patched, and as in Istio nothing else: where it has a choice of them, the
    first of the same name; otherwise its only one, which one of another name takes the place of.
    """
    choice = body.get("transport_socket_matches") or []
    for index, one in enumerate(choice):
        if (one.get("transport_socket") or {}).get("name") == socket.get("name"):
            made = merged_extension(one["transport_socket"], socket) or one["transport_socket"]
            return {
                **body,
                "transport_socket_matches": [
                    {**one, "transport_socket": made} if number == index else other
                    for number, other in enumerate(choice)
                ],
            }
    if choice:
        return body
    own = body.get("transport_socket")
    if own and own.get("name") == socket.get("name"):
        return {**body, "transport_socket": merged_extension(own, socket) or own}
    return {**body, "transport_socket": socket}


def _serves(asked: object, inbound: bool, port: str, host: str, site: Site) -> bool:
    if not asked or asked == host:
        return True
    return inbound and port.isdigit() and (int(port), asked) in site.serves


def added_clusters(patches: list[Patch], site: Site, hit: Hit) -> dict[str, Json]:
    """The clusters that patches add, by name."""
    found = {}
    for patch in patches:
        contexts = ("GATEWAY",) if site.gateway else ("SIDECAR_INBOUND", "SIDECAR_OUTBOUND")
        added = patch.place == "CLUSTER" and patch.operation == "ADD" and patch.value.get("name")
        if added and any(patch.within(one) for one in contexts):
            hit(patch)
            made = _in_pod(patch.value, site)
            if made.get("type") == "LOGICAL_DNS" and any(one in site.answers for one in addresses(patch.value)):
                # That kind has one endpoint, and there may be more pods, or none.
                made["type"] = "STRICT_DNS"
            found[str(patch.value["name"])] = made
    return found


def _in_pod(part: Any, site: Site) -> Any:
    """A part of a cluster where "localhost" is the pod's own, and Services' names are where their pods are."""
    if isinstance(part, list):
        return [made for one in part for made in _led(one, site)]
    if not isinstance(part, dict):
        return part
    where = part.get("socket_address")
    if not isinstance(where, dict) or where.get("address") not in ("127.0.0.1", "localhost", "::1"):
        return {key: _in_pod(one, site) for key, one in part.items()}
    number = where.get("port_value")
    port = site.plan.port(number) if isinstance(number, int) else number
    return {**part, "socket_address": {**where, "address": site.plan.local(site.ip), "port_value": port}}


def _led(part: Any, site: Site) -> list[Any]:
    """A part of a list; an endpoint that is a Service's name is one for each of that one's pods."""
    try:
        where = part["endpoint"]["address"]["socket_address"]
        pods = site.answers[where["address"], where["port_value"]]
    except (KeyError, TypeError):
        return [_in_pod(part, site)]
    places = ({**where, "address": address, "port_value": port} for address, port in pods)
    return [{**part, "endpoint": {**part["endpoint"], "address": {"socket_address": place}}} for place in places]
