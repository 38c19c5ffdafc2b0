# SPDX-License-Identifier: Apache-2.0
"""What a gateway does with what comes in, told of a configuration: istiod's own or ours, in the same words."""

from __future__ import annotations

import json
from typing import Any

from .istiods_answers import http_facts, logs, picked, plain, seen, tls_facts

Json = dict[str, Any]

_FORM = {"decorator", "name", "metadata", "typed_per_filter_config"}


def served(told: Json, ports: list[int], names: list[str]) -> Json:
    """What becomes of plain and of TLS connections to each port, by the server's name that clients give."""
    chains: list[str] = []
    ways: Json = {}
    for port in ports:
        listener: Json = next(
            (one for one in told["listeners"] if one["name"].rpartition("_")[2] == str(port)), {"filter_chains": []}
        )
        for secure in (False, True):
            for name in names if secure else names[:1]:
                wire = {"tls": secure, "alpn": "", "port": port, "sni": name if secure else ""}
                chain = picked(listener["filter_chains"], seen(listener, wire))
                # TLS is what is spoken to a chain that ends it, however it was found.
                if chain is not None and (secure or not chain.get("transport_socket")):
                    key = f"{port} tls {name}" if secure else f"{port} plain"
                    said = json.dumps(_chain(told, chain, names, port), sort_keys=True)
                    if said not in chains:
                        chains.append(said)
                    ways[key] = chains.index(said)
    return {"chains": list(map(json.loads, chains)), "ways": ways}


def _chain(told: Json, chain: Json, names: list[str], port: int) -> Json:
    found: Json = {"tls": tls_facts(chain)}
    last = chain["filters"][-1]["typed_config"]
    if not chain["filters"][-1]["name"].endswith("http_connection_manager"):
        found["tls"].pop("alpn", None)
        weighted = [[one["name"], one["weight"]] for one in last.get("weighted_clusters", {}).get("clusters", [])]
        return {**found, "to": weighted or last["cluster"], "logs": logs(last)}
    found |= http_facts(last)
    # A gateway's own address is told by a filter of ours, as it is loopback's.
    found["http"].pop("skip_xff_append", None)
    table: Json = next((one for one in told["routes"] if one["name"] == last["rds"]["route_config_name"]), {})
    found["hosts"] = {host: _host(table, host) for name in names for host in (name, f"{name}:31999")}
    return found


def _host(table: Json, host: str) -> Json | str:
    bare = host.partition(":")[0] if table.get("ignore_port_in_host_matching") else host
    by_domain = {domain: one for one in table.get("virtual_hosts") or [] for domain in one["domains"]}
    wanted = [d for d in by_domain if d == bare]
    wanted += sorted(
        (d for d in by_domain if d[0] == "*" and d != "*" and bare.endswith(d[1:]) and len(bare) >= len(d)), key=len
    )[::-1]
    wanted += sorted((d for d in by_domain if d[-1] == "*" and d != "*" and bare.startswith(d[:-1])), key=len)[::-1]
    wanted += [d for d in by_domain if d == "*"]
    if not wanted or not by_domain[wanted[0]].get("routes"):
        return "nobody" if not wanted or by_domain[wanted[0]].get("require_tls") != "ALL" else "https"
    chosen = by_domain[wanted[0]]
    if chosen.get("require_tls") == "ALL":
        return "https"
    return json.dumps([_route(one) for one in chosen["routes"]], sort_keys=True)


def _route(route: Json) -> Json:
    found = plain({key: value for key, value in route.items() if key not in _FORM})
    action = found.get("route") or {}
    return {"match": found.get("match"), "to": action.get("cluster") or action.get("weighted_clusters") or "answer"}
