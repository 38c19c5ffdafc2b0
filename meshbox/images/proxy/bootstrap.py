# SPDX-License-Identifier: Apache-2.0
"""The configuration that Envoy starts with: where its control plane is, and its own listeners that never change."""

from __future__ import annotations

import os
from typing import Any

from meshbox.doors import peer_check
from meshbox.images.context import ContainerContext
from meshbox.images.proxy.agent import Agent
from meshbox.images.proxy.constants import named
from meshbox.images.proxy.statistics import CONTROL_PLANE, statistics
from meshbox.images.proxy.status_port import agent_route, filters, inside_routes, status
from meshbox.settings import XDS_PORT

__all__ = ["ADMIN_SOCKET", "Agent", "bootstrap"]

Json = dict[str, Any]

ADMIN_SOCKET = "admin.sock"
"""Relative to the container's working directory: a path from the root could be too long for a socket."""

_PREFIX = "type.googleapis.com/"
_HTTP = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "envoy.extensions.filters.http.router.v3.Router"
_CREDENTIALS = "envoy.extensions.filters.http.credential_injector.v3.CredentialInjector"
_GENERIC = "envoy.extensions.http.injected_credentials.generic.v3.Generic"
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_ADS = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
_OWN_NAMES = ["localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*"]
"""What a pod calls itself. A port-forward asks by these names too, with whichever port it was given."""
_SELDOM = {"miss_timeout": "60s", "megamiss_timeout": "60s"}


def _typed(kind: str, **fields: Any) -> Json:
    return {"@type": _PREFIX + kind, **fields}


def _address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def _static(name: str, address: Json, **fields: Any) -> Json:
    endpoint = {"endpoint": {"address": address}}
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}
    return {"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": assignment, **fields}


def _listener(name: str, addresses: list[Json], hosts: list[Json], first: list[Json] | None = None) -> Json:
    manager = _typed(
        _HTTP,
        stat_prefix=name,
        route_config={"name": name, "virtual_hosts": hosts},
        http_filters=[*(first or []), {"name": "envoy.filters.http.router", "typed_config": _typed(_ROUTER)}],
        normalize_path=True,
    )
    filters = [*peer_check(), {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    more = [{"address": address} for address in addresses[1:]]
    return {
        "name": name,
        "address": addresses[0],
        **({"additional_addresses": more} if more else {}),
        # Pages of statistics are long, and filters put them together.
        **({"per_connection_buffer_limit_bytes": 1 << 24} if first else {}),
        "filter_chains": [{"filters": filters}],
    }


def _refuse_origin(routes: list[Json]) -> list[Json]:
    """A request that a web page made names the page's origin; none of those is answered."""
    refused = {
        "match": {"prefix": "/", "headers": [{"name": "origin", "present_match": True}]},
        "direct_response": {"status": 403, "body": {"inline_string": "not for web pages\n"}},
    }
    return [refused, *routes]


def _admin_routes() -> list[Json]:
    """What may be asked of Envoy's admin interface: all that only looks, and what a learner switches."""

    def route(method: str, match: Json) -> Json:
        headers = [{"name": ":method", "string_match": {"exact": method}}]
        return {"match": {**match, "headers": headers}, "route": {"cluster": "agent", "timeout": "60s"}}

    switches = ["/logging", "/reset_counters", "/healthcheck/ok", "/healthcheck/fail", "/drain_listeners"]
    said = "this sandbox answers GET, and POST to what is harmless; POST localhost:15020/quitquitquit ends the proxy\n"
    refused = {"status": 403, "body": {"inline_string": said}}
    return _refuse_origin(
        [
            route("GET", {"prefix": "/"}),
            *(route("POST", {"path": path}) for path in switches),
            {"match": {"prefix": "/"}, "direct_response": refused},
        ]
    )


def _own_listeners(context: ContainerContext, agent: Agent) -> tuple[list[Json], list[Json]]:
    pod, local = context.pod_ip, context.local_ip
    admin = {"name": "admin", "domains": _OWN_NAMES, "routes": _admin_routes()}
    stats = [agent_route({"prefix": "/stats/prometheus"}, "/stats/prometheus")]
    routes, clusters, answers = status(context)
    merging, metrics = filters(context, agent)
    inside = {
        "name": "local",
        "domains": _OWN_NAMES,
        "routes": _refuse_origin([*inside_routes(), *routes]),
    }
    outside = {"name": "status", "domains": ["*"], "routes": routes}
    listeners = [
        _listener("admin", [_address(local, 15000)], [admin]),
        _listener(
            "prometheus_stats",
            [_address(pod, 15090), _address(local, 15090)],
            [{"name": "stats", "domains": ["*"], "routes": stats}],
        ),
    ]
    for port in sorted({agent.agent_port, agent.status_port}):
        where = [_address(pod, port), _address(local, port)]
        first = [*answers, *(merging if port == agent.agent_port else [])]
        listeners.append(_listener(f"status_{port}", where, [inside, outside], first))
    return listeners, [*clusters, *metrics]


def _fixed_listeners(context: ContainerContext) -> list[Json]:
    """The ports of Istio 1.2's own proxies, which lead to parts that the sandbox plays otherwise."""
    said = "this port belongs to a part of Istio 1.2 that the sandbox plays in another way\n"
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 501, "body": {"inline_string": said}}}
    hosts = [{"name": "fixed", "domains": ["*"], "routes": [answer]}]
    ports = {port["containerPort"] for port in context.container.get("ports") or []} - {15020, 15090}
    plan = context.settings.plan
    return [_listener(f"fixed_{port}", [_address(context.pod_ip, plan.port(port))], hosts) for port in sorted(ports)]


def _control_plane(context: ContainerContext) -> Json:
    """The cluster of the mesh, where this proxy proves that it is one of the sandbox's."""
    credential = {
        "name": "envoy.http.injected_credentials.generic",
        "typed_config": _typed(_GENERIC, credential={"name": "xds"}),
    }
    filters = [
        {
            "name": "envoy.filters.http.credential_injector",
            "typed_config": _typed(_CREDENTIALS, overwrite=True, credential=credential),
        },
        {
            "name": "envoy.filters.http.upstream_codec",
            "typed_config": _typed("envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"),
        },
    ]
    options = _typed(_OPTIONS, explicit_http_config={"http2_protocol_options": {}}, http_filters=filters)
    return _static(
        CONTROL_PLANE,
        _address(context.settings.plan.node, XDS_PORT),
        typed_extension_protocol_options={_OPTIONS: options},
        upstream_bind_config={},
        **named(CONTROL_PLANE, legacy=context.settings.legacy),
    )


def _stream() -> Json:
    """Where configuration comes from: each proxy says once who it is, and then hears of what changes."""
    again = {"base_interval": "0.1s", "max_interval": "1s"}
    service = {"cluster_name": CONTROL_PLANE, "retry_policy": {"retry_back_off": again}}
    return {
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": True,
        "grpc_services": [{"envoy_grpc": service}],
    }


def bootstrap(context: ContainerContext, agent: Agent) -> Json:
    """Envoy's whole bootstrap."""
    pod = context.pod["metadata"]
    listeners, clusters = _own_listeners(context, agent)
    fixed = not agent.role
    # Calls leave from the pod IP, as from a pod's own network: that is how the other side tells callers apart.
    manager = {"upstream_bind_config": {"source_address": {"address": context.pod_ip, "port_value": 0}}}
    admin = {"pipe": {"path": ADMIN_SOCKET, "mode": 0o600}}
    secret = {"inline_string": f"Bearer {context.settings.xds_token}"}
    real = context.settings.real_clocks
    own = named("agent", legacy=context.settings.legacy)
    sources = {"lds_config": _ADS, "cds_config": _ADS, "ads_config": _stream()}
    runtime = {
        "re2.max_program_size.error_level": 32768,
        "re2.max_program_size.warn_level": 32768,
        # A proxy keeps its last few spans for as long; until then a page's trace is there in part.
        **{f"tracing.{form}.flush_interval_ms": 5000 if real else 250 for form in ("zipkin", "opentelemetry")},
        # Sending is what tracing costs. Ten spans at a time instead of Envoy's five take a seventh off the median of
        # a hop; from twenty on the request that has to send them waits longer than the rest.
        **{f"tracing.{form}.min_flush_spans": 5 if real else 10 for form in ("zipkin", "opentelemetry")},
        **agent.runtime,
    }
    return {
        "node": {
            "id": f"{agent.role or 'fixed'}~{context.pod_ip}~{pod['name']}.{context.namespace}"
            f"~{context.namespace}.svc.cluster.local",
            "cluster": agent.cluster,
            "locality": {"region": "region1", "zone": "zone1"},
            "metadata": {
                "NAMESPACE": context.namespace,
                "NAME": pod["name"],
                "ISTIO_VERSION": context.settings.release,
                "LABELS": pod.get("labels") or {},
                "INSTANCE": f"{os.urandom(8).hex()}",
                "INSTANCE_IPS": context.pod_ip,
            },
        },
        "admin": {"address": admin},
        # Most clusters and listeners of a mesh are never used by one proxy.
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        "cluster_manager": manager,
        "stats_config": statistics(context, agent),
        # What the histograms show is as old as the last one; each wakes all threads, also where nothing came.
        "stats_flush_interval": "5s" if real else "0.5s",
        # They count how often a thread was late and do nothing else; their looks wake each thread ten times a second.
        "watchdogs": {"main_thread_watchdog": _SELDOM, "worker_watchdog": _SELDOM},
        **({} if fixed else {"dynamic_resources": sources}),
        "static_resources": {
            "listeners": [*listeners, *(_fixed_listeners(context) if fixed else [])],
            "clusters": [
                _static("agent", {"pipe": {"path": ADMIN_SOCKET}}, upstream_bind_config={}, **own),
                *clusters,
                *([] if fixed else [_control_plane(context)]),
            ],
            "secrets": [{"name": "xds", "generic_secret": {"secret": secret}}],
        },
        # An Envoy would never give back what it had for a moment, for Services that are gone or while it was loaded.
        # Its allocator still waits for minutes, until it is sure that it needs that no more.
        "memory_allocator_manager": {"bytes_to_release": 8 * 2**20, "memory_release_interval": "1s"},
        "layered_runtime": {"layers": [{"name": "static", "static_layer": runtime}]},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": _typed(
                        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                        max_active_downstream_connections=100000,
                    ),
                }
            ]
        },
    }
