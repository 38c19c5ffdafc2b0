# SPDX-License-Identifier: Apache-2.0
"""Listeners of a sidecar as tests compare them: whole, but for what a connection manager or TCP proxy has inside."""

from __future__ import annotations

import json
from typing import Any

from meshbox.mesh.translate import translate

from .objects import istio, snapshot, workload

Json = dict[str, Any]

TYPE = "type.googleapis.com/envoy."
FILTERS = f"{TYPE}extensions.filters."
LOOK: Json = {"listener_filters_timeout": "0.1s", "continue_on_listener_filters_timeout": True}
TLS = {
    "name": "envoy.filters.listener.tls_inspector",
    "typed_config": {"@type": f"{FILTERS}listener.tls_inspector.v3.TlsInspector"},
}
HTTP = {
    "name": "envoy.filters.listener.http_inspector",
    "typed_config": {"@type": f"{FILTERS}listener.http_inspector.v3.HttpInspector"},
}
RAW = {
    "name": "istio.raw_bytes",
    "typed_config": {
        "@type": f"{FILTERS}network.set_filter_state.v3.Config",
        "on_new_connection": [
            {
                "object_key": "envoy.network.application_protocols",
                "format_string": {"text_format_source": {"inline_string": "istio-raw,istio-peer-exchange,istio"}},
                "shared_with_upstream": "ONCE",
            }
        ],
    },
}
SPOKEN = {"application_protocols": ["http/1.1", "h2c"]}


def short(one: Json) -> Any:
    """A network filter; of a TCP proxy its name in statistics and where it leads, of a manager that and its table."""
    fields = one["typed_config"]
    if one["name"].endswith(".tcp_proxy"):
        return fields["stat_prefix"], fields["cluster"]
    if one["name"].endswith(".http_connection_manager"):
        return fields["stat_prefix"], {"table": fields["rds"]["route_config_name"]}
    return one


def shortened(listener: Json) -> Json:
    chains = [{**chain, "filters": [*map(short, chain["filters"])]} for chain in listener["filter_chains"]]
    return {**listener, "filter_chains": chains}


def listeners(**objects: Any) -> dict[str, Json]:
    snap = snapshot(**objects)
    found = translate(snap, workload(snap, "productpage-v1")).listeners
    return {name: json.loads(body) for name, body in found.items()}


def leads_to(*clusters: str, **match: Any) -> Json:
    return {**({"filter_chain_match": match} if match else {}), "filters": [(one, one) for one in clusters]}


def virtual(name: str, *chains: Json, filters: tuple[Json, ...] = ()) -> Json:
    host, _, number = name.rpartition("_")
    return {
        "@type": f"{TYPE}config.listener.v3.Listener",
        "name": name,
        "address": {"socket_address": {"address": host, "port_value": int(number)}},
        "filter_chains": list(chains),
        "traffic_direction": "OUTBOUND",
        "bind_to_port": False,
        **({"listener_filters": list(filters), **LOOK} if filters else {}),
    }


def sniffed(port: int, **match: Any) -> Json:
    manager = (f"outbound_0.0.0.0_{port};", {"table": str(port)})
    return {"name": "http", "filter_chain_match": {**SPOKEN, **match}, "filters": [manager]}


def entry(host: str, protocol: str, *addresses: str, number: int = 7000, **spec: Any) -> Json:
    port = {"number": number, "name": "any", **({"protocol": protocol} if protocol else {})}
    return istio(host.removesuffix(".test"), {"hosts": [host], "addresses": list(addresses), "ports": [port], **spec})


def rule(host: str, **spec: Any) -> Json:
    return istio(host.partition(".")[0], {"hosts": [host], **spec})


def to(host: str) -> list[Json]:
    return [{"destination": {"host": host}}]


def within(*texts: str) -> Json:
    parts = (text.split("/") for text in texts)
    return {"prefix_ranges": [{"address_prefix": address, "prefix_len": int(bits)} for address, bits in parts]}
