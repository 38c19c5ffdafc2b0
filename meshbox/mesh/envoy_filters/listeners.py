# SPDX-License-Identifier: Apache-2.0
"""Patches of listeners, and of what is in them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence

from meshbox.doors import peer_check
from meshbox.mesh.envoy import Json
from meshbox.mesh.envoy_filters.merging import merged
from meshbox.mesh.envoy_filters.patches import Patch
from meshbox.mesh.envoy_filters.placing import filters_placed, same_filter
from meshbox.mesh.envoy_filters.site import INBOUND, ListenerPlace, Site

__all__ = ["added_listeners", "patched_listener"]

MANAGER = "envoy.filters.network.http_connection_manager"
_DOOR = peer_check()
_PLACE = frozenset({"name", "address", "additional_addresses", "bind_to_port"})
"""Of a listener, what its place in the sandbox is made of."""

Hit = Callable[[Patch], None]
"""Told of each patch that found what it asks for."""


def _of(patches: Iterable[Patch], place: str) -> list[Patch]:
    return [one for one in patches if one.place == place]


def _merging_last(patches: list[Patch]) -> list[Patch]:
    """Filters are put in, taken out and replaced before any is merged."""
    return sorted(patches, key=lambda one: one.operation == "MERGE")


def _name(part: object) -> str:
    return str(part.get("name") or "") if isinstance(part, dict) else ""


def _meant(patch: Patch, where: ListenerPlace) -> bool:
    if not patch.within(where.context):
        return False
    asked = patch.about("listener")
    if asked.get("name") and asked["name"] not in where.names:
        return False
    port = asked.get("portNumber")
    if not port:
        return True
    if patch.place == "LISTENER" and where.shared:
        return bool(port == INBOUND)
    return port in where.ports


def _chain_meant(patch: Patch, chain: Json, where: ListenerPlace) -> bool:
    asked = patch.about("listener").get("filterChain") or {}
    match = chain.get("filter_chain_match") or {}
    names = {chain.get("name"), *(f"0.0.0.0_{port}" for port in where.ports if where.shared)}
    return (
        (not asked.get("name") or asked["name"] in names)
        and (not asked.get("sni") or asked["sni"] in (match.get("server_names") or []))
        and asked.get("transportProtocol") in (None, "", match.get("transport_protocol"))
        and (
            not asked.get("applicationProtocols")
            or {one.strip() for one in str(asked["applicationProtocols"]).split(",")}
            <= set(match.get("application_protocols") or [])
        )
        and asked.get("destinationPort") in (None, 0, match.get("destination_port"), *where.ports)
    )


def patched_listener(
    body: Json, patches: list[Patch], site: Site, extensions: dict[str, Json], hit: Hit
) -> Json | None:
    """A listener with all patches that are meant for it; None where one removes it.

    Args:
        body: The listener; it is not changed.
        patches: Patches in their order.
        site: The proxy.
        extensions: What EXTENSION_CONFIG patches say of filters that are found by name.
        hit: Told of each patch that found what it asks for.
    """
    where = site.listener(body)
    mutual = [chain["transport_socket"] for chain in body.get("filter_chains") or [] if _needs_no_door(chain)]
    meant = [one for one in patches if _meant(one, where)]
    if not meant:
        return body
    for patch in _of(meant, "LISTENER"):
        if patch.operation == "REMOVE":
            hit(patch)
            return None
        if patch.operation == "MERGE":
            hit(patch)
            body = merged(body, {k: v for k, v in patch.value.items() if k not in _PLACE})
    for patch in _of(meant, "LISTENER_FILTER"):
        asked = str(patch.about("listener").get("listenerFilter") or "")
        made = filters_placed(list(body.get("listener_filters") or []), patch, asked)
        if made is not None:
            hit(patch)
            body = {**body, "listener_filters": made}
    chains: list[Json] = []
    for chain in body.get("filter_chains") or []:
        made_chain = _patched_chain(chain, meant, where, extensions, hit)
        if made_chain is not None:
            chains.append(made_chain)
    for patch in _of(meant, "FILTER_CHAIN"):
        if patch.operation == "ADD":
            hit(patch)
            chains.append(copy.deepcopy(patch.value))
    return _guarded({**body, "filter_chains": chains}, mutual)


def _patched_chain(
    chain: Json, patches: list[Patch], where: ListenerPlace, extensions: dict[str, Json], hit: Hit
) -> Json | None:
    meant = [one for one in patches if _chain_meant(one, chain, where)]
    for patch in _of(meant, "FILTER_CHAIN"):
        if patch.operation == "REMOVE":
            hit(patch)
            return None
        if patch.operation == "MERGE":
            hit(patch)
            chain = merged(chain, patch.value)
    # Who may come in is no matter of patches: the door stands first whatever is inserted.
    door = [one for one in chain.get("filters") or [] if one in _DOOR]
    filters = [one for one in chain.get("filters") or [] if one not in _DOOR]
    for patch in _merging_last(_of(meant, "NETWORK_FILTER")):
        asked = _name((patch.about("listener").get("filterChain") or {}).get("filter"))
        made = filters_placed(filters, patch, asked)
        if made is not None:
            hit(patch)
            filters = made
    inside = _merging_last(_of(meant, "HTTP_FILTER"))
    filters = [_patched_manager(one, inside, extensions, hit) for one in filters] if inside else filters
    return {**chain, "filters": [*door, *filters]}


def _patched_manager(manager: Json, patches: list[Patch], extensions: dict[str, Json], hit: Hit) -> Json:
    config = manager.get("typed_config") or {}
    if not same_filter(MANAGER, str(manager.get("name"))) or "http_filters" not in config:
        return manager
    filters = list(config["http_filters"])
    for patch in patches:
        asked = (patch.about("listener").get("filterChain") or {}).get("filter") or {}
        if _name(asked) and not same_filter(_name(asked), MANAGER):
            continue
        made = filters_placed(filters, patch, _name(asked.get("subFilter")))
        if made is not None:
            hit(patch)
            filters = made
    found = [_looked_up(one, extensions) for one in filters]
    return {**manager, "typed_config": {**config, "http_filters": found}}


def _looked_up(one: Json, extensions: dict[str, Json]) -> Json:
    """A filter whose configuration is found by its name has it at once: there is no discovery of that kind here."""
    known = extensions.get(str(one.get("name")))
    if "config_discovery" not in one or known is None:
        return one
    return {**{k: v for k, v in one.items() if k != "config_discovery"}, "typed_config": known}


def _guarded(body: Json, mutual: Sequence[Json] = ()) -> Json:
    """The listener with a door before each chain that asks for no certificate of a workload.

    Args:
        body: The listener.
        mutual: The transports that do: those of the mesh. Whom a patch's own would trust nobody has looked at.
    """
    if body.get("bind_to_port") is False or "pipe" in (body.get("address") or {}):
        return body
    found = {**body, "filter_chains": [_behind_door(chain, mutual) for chain in body.get("filter_chains") or []]}
    if body.get("default_filter_chain"):
        found["default_filter_chain"] = _behind_door(body["default_filter_chain"], mutual)
    return found


def _has_door(chain: Json) -> bool:
    return bool((chain.get("filters") or [])[: len(_DOOR)] == _DOOR)


def _needs_no_door(chain: Json) -> bool:
    context = (chain.get("transport_socket") or {}).get("typed_config") or {}
    return bool(context.get("require_client_certificate")) and not _has_door(chain)


def _behind_door(chain: Json, mutual: Sequence[Json]) -> Json:
    if _has_door(chain) or chain.get("transport_socket") in mutual:
        return chain
    return {**chain, "filters": [*peer_check(), *(chain.get("filters") or [])]}


def added_listeners(patches: list[Patch], site: Site, hit: Hit) -> dict[str, Json]:
    """The listeners that patches add, by name. Each listens on the pod's own address only."""
    found = {}
    for patch in _of(patches, "LISTENER"):
        if patch.operation != "ADD":
            continue
        body = copy.deepcopy(patch.value)
        direction = body.get("traffic_direction")
        context = "SIDECAR_INBOUND" if direction == "INBOUND" else "SIDECAR_OUTBOUND"
        if not patch.within("GATEWAY" if site.gateway else context):
            continue
        socket = (body.get("address") or {}).get("socket_address")
        if not isinstance(socket, dict) or not body.get("name"):
            continue
        hit(patch)
        number = socket.get("port_value")
        port = site.plan.port(number) if isinstance(number, int) else number
        body["address"] = {"socket_address": {"address": site.ip, "port_value": port}}
        body.pop("additional_addresses", None)
        found[str(body["name"])] = _guarded(body)
    return found
