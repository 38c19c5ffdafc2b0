# SPDX-License-Identifier: Apache-2.0
"""From a snapshot of objects to all that one proxy is told."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from msgspec import Struct, field

from meshbox.mesh import clusters, gateways, inbound, listeners
from meshbox.mesh.authorization import route_config
from meshbox.mesh.auto_passthrough import passing_clusters
from meshbox.mesh.envoy import Json, encode, typed
from meshbox.mesh.managers import Proxy
from meshbox.mesh.memo import Identity
from meshbox.mesh.model import Port, Service, Workload
from meshbox.mesh.reporting import reports_of
from meshbox.mesh.scope import Scope
from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.virtual_hosts import outbound_tables

__all__ = ["Config", "translate"]


_ROUTES = "envoy.config.route.v3.RouteConfiguration"


class Config(Struct, frozen=True):
    """What a proxy is told: name → resource as JSON bytes, for each kind.

    Bytes, because most resources are the same for many proxies: they are built and compared once.
    """

    clusters: dict[str, bytes] = field(default_factory=dict)
    listeners: dict[str, bytes] = field(default_factory=dict)
    routes: dict[str, bytes] = field(default_factory=dict)
    endpoints: dict[str, bytes] = field(default_factory=dict)


def translate(snapshot: Snapshot, workload: Workload) -> Config:
    """Everything that the proxy of `workload` is told: the very same as before where nothing that it sees changed."""
    scope = snapshot.scope(workload)
    seen = scope.outside if workload.proxy == "router" else scope.inside
    key = ("config", _own(snapshot, workload), scope.key, seen)
    made: Config = snapshot.memo(key, lambda: _config(snapshot, workload, scope))
    return made


def _own(snapshot: Snapshot, workload: Workload) -> Hashable:
    """What a proxy's configuration is made of besides VirtualServices: its pod, and all there is around it."""
    return workload, Identity((snapshot.pods[workload.namespace, workload.pod],)), snapshot.surroundings


def _config(snapshot: Snapshot, workload: Workload, scope: Scope) -> Config:
    if workload.proxy == "router":
        proxy, found = _proxy(snapshot, workload, scope)
        made, tables = gateways.gateway(proxy, scope)
        passing_clusters(found, made)
        listening = {n: encode(v) for n, v in made.items()}
        fields = _rules(proxy) if snapshot.legacy else {"ignore_port_in_host_matching": True, **_rules(proxy)}
        return Config(found.clusters, listening, _tables(tables, **fields), found.endpoints)
    own = snapshot.memo(
        ("own", _own(snapshot, workload), scope.key, scope.inside_tcp), lambda: _without_http(snapshot, workload, scope)
    )
    labels = tuple(sorted(workload.labels.items())) if _asks_for_source(scope) else ()
    outgoing = snapshot.memo(
        ("tables", scope.key, snapshot.routing, scope.inside, labels),
        lambda: {
            # Most tables are as before: the same bytes, of which nobody asks what is in them.
            name: snapshot.memo.same(table)
            for name, table in _tables(outbound_tables(scope, workload.labels, legacy=snapshot.legacy)).items()
        },
    )
    return Config(own.clusters, own.listeners, {**outgoing, **own.routes}, own.endpoints)


def _proxy(snapshot: Snapshot, workload: Workload, scope: Scope) -> tuple[Proxy, clusters.Outbound]:
    """A proxy, with the clusters for what it calls."""
    proxy = Proxy(snapshot, workload, reports_of(snapshot, workload))
    key = ("clusters", scope.key, snapshot.surroundings, snapshot.place(workload), workload.proxy)
    shared: clusters.Outbound = snapshot.memo(key, lambda: _clusters(snapshot, scope, workload))
    found = clusters.Outbound(dict(shared.clusters), dict(shared.endpoints))
    for told in (proxy.reports.server, proxy.reports.client):
        if (taker := told.collector) is not None:
            where = clusters.collector(snapshot, scope, workload, taker)
            for name in where.clusters:
                found.take(name, where)
    return proxy, found


def _clusters(snapshot: Snapshot, scope: Scope, workload: Workload) -> clusters.Outbound:
    found = clusters.outbound(snapshot, scope, workload)
    found.clusters.update((name, encode(cluster)) for name, cluster in clusters.standing(snapshot, scope).items())
    return found


def _without_http(snapshot: Snapshot, workload: Workload, scope: Scope) -> Config:
    """What a sidecar is told besides the HTTP routes of its application's calls."""
    proxy, found = _proxy(snapshot, workload, scope)
    if snapshot.legacy:
        own = _incoming(proxy, scope)
    else:
        own = snapshot.memo(("incoming", inbound.made_of(proxy, scope)), lambda: _incoming(proxy, scope))
    listening = {**listeners.outbound(proxy, scope), **own.listeners}
    return Config({**found.clusters, **own.clusters}, listening, own.routes, found.endpoints)


def _incoming(proxy: Proxy, scope: Scope) -> Config:
    """What a sidecar is told for what calls its application."""
    incoming, behind = inbound.inbound(proxy, scope)
    routes = {
        entry.cluster: encode(_inbound_table(proxy, entry)) for entry in inbound.entries(proxy, scope) if not entry.bare
    }
    return Config(behind, incoming, routes, {})


def _asks_for_source(scope: Scope) -> bool:
    every: list[Any] = [rule for one in scope.virtual_services for rule in (*one.http, *one.tls, *one.tcp)]
    return any(match.get("sourceLabels") for rule in every for match in rule.get("match") or [])


def _tables(tables: dict[str, list[Json]], **fields: Any) -> dict[str, bytes]:
    found = {}
    for name, hosts in tables.items():
        found[name] = encode(
            typed(
                _ROUTES,
                name=name,
                virtual_hosts=hosts,
                # A route may name a subset that no DestinationRule has yet: then that route answers 503, as in Istio.
                validate_clusters=False,
                max_direct_response_body_size_bytes=1048576,
                **fields,
            )
        )
    return found


def _inbound_table(proxy: Proxy, entry: inbound.Entry) -> Json:
    name, port, owner = entry.cluster, entry.port, entry.owner
    where = f"{owner[0].host}:{owner[1].number}" if owner else f":{port}"
    route: Json = {
        "name": "default",
        "match": {"prefix": "/"},
        "decorator": {"operation": f"{where}/*"},
        "route": {"cluster": name, "timeout": "0s", "max_stream_duration": {"grpc_timeout_header_max": "0s"}},
    }
    if not proxy.legacy and entry.protocol not in ("GRPC", "GRPC-WEB"):
        # An application may close a connection just when the next request is on its way.
        route["route"]["retry_policy"] = {"retry_on": "reset-before-request", "num_retries": 2}
    host = {"name": f"inbound|http|{owner[1].number if owner else port}", "domains": ["*"], "routes": [route]}
    return typed(_ROUTES, name=name, virtual_hosts=[host], validate_clusters=False, **_rules(proxy, owner))


def _rules(proxy: Proxy, owner: tuple[Service, Port] | None = None) -> Json:
    rules = route_config(proxy.snapshot, proxy.workload, owner)
    return {"typed_per_filter_config": rules} if rules else {}
