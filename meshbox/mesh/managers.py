# SPDX-License-Identifier: Apache-2.0
"""HTTP connection managers and TCP proxies: what every listener's filter chain ends in."""

from __future__ import annotations

import functools
import json
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

from labkit.ground import reading
from meshbox.contracts import View
from meshbox.mesh import telemetry
from meshbox.mesh.authorization import asking_filters, judging_filters, network_filters
from meshbox.mesh.envoy import ADS, Json, extension, typed
from meshbox.mesh.jwt import ORIGIN_REFUSED, jwt_filters
from meshbox.mesh.memo import Identity, Known
from meshbox.mesh.model import Port, Service, Workload, annotations_of
from meshbox.mesh.peers import Inbound, peer_filters, peer_headers, peer_tlvs
from meshbox.mesh.reporting import Reports
from meshbox.mesh.settings import number
from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.tracing import tracing
from meshbox.mesh.traffic_extensions import LATE, lua_of, phased

__all__ = ["Proxy", "bytes_proxy", "filters_of", "fronted", "http_manager", "inbound_rules", "tcp_proxy"]


Side = Literal["inbound", "outbound", "gateway"]

_HCM = "envoy.filters.network.http_connection_manager"
_HCM_TYPE = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_TCP = "envoy.filters.network.tcp_proxy"
_TCP_TYPE = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"

_CORS = extension("envoy.filters.http.cors", "envoy.extensions.filters.http.cors.v3.Cors")
_FAULT = extension("envoy.filters.http.fault", "envoy.extensions.filters.http.fault.v3.HTTPFault")
_WEB = extension("envoy.filters.http.grpc_web", "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb")
_ROUTER = extension("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router")
_FORWARDED_FOR = {
    fronted: extension(
        "envoy.filters.http.header_mutation",
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
        mutations={
            "request_mutations": [
                {
                    "append": {
                        "header": {"key": "x-forwarded-for", "value": f"%DOWNSTREAM_{whose}_ADDRESS_WITHOUT_PORT%"},
                        "append_action": "APPEND_IF_EXISTS_OR_ADD",
                    }
                }
            ]
        },
    )
    for fronted, whose in ((False, "DIRECT_REMOTE"), (True, "REMOTE"))
}
"""Who asks a gateway, for whom it asks. All addresses here are loopback's, for which Envoy writes the machine's own.

By whether a PROXY header says who it is.
"""

_ADDED = ("SANITIZE_SET", "APPEND_FORWARD")
_FORWARDED = (*_ADDED, "SANITIZE", "FORWARD_ONLY", "ALWAYS_FORWARD_ONLY")
"""What a gateway may do with a caller's X-Forwarded-Client-Cert; the first two add what it has seen itself."""

_REFUSED_ORIGIN = {
    "mappers": [
        {
            "filter": {
                "status_code_filter": {
                    "comparison": {"op": "EQ", "value": {"default_value": 401, "runtime_key": "istio.origin_refused"}}
                }
            },
            "body": {"inline_string": ORIGIN_REFUSED},
        }
    ]
}

_BASE: Json = {"normalize_path": True, "path_with_escaped_slashes_action": "KEEP_UNCHANGED"}
_NORMALIZED: dict[str, Json] = {
    "NONE": {"path_with_escaped_slashes_action": "KEEP_UNCHANGED"},
    "MERGE_SLASHES": {**_BASE, "merge_slashes": True},
    "DECODE_AND_MERGE_SLASHES": {
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
    },
}
"""By the `normalization` of the mesh's `pathNormalization`; BASE is the default."""


@dataclass(frozen=True)
class Proxy:
    """One proxy whose configuration is being computed.

    Args:
        snapshot: All objects.
        workload: The pod it serves.
        reports: What it reports.
    """

    snapshot: Snapshot
    workload: Workload
    reports: Reports

    @property
    def legacy(self) -> bool:
        """Whether Istio 1.2's rules apply."""
        return self.snapshot.legacy

    @functools.cached_property
    def same(self) -> Hashable:
        """What all of its listeners are made of: a part of the key of each that is kept."""
        mesh = self.snapshot.mesh
        return self.snapshot.memo.same(
            Known(
                (
                    *(self.workload, self.reports, self.legacy, Identity(self.lua)),
                    *(mesh.normalization, mesh.http10, str(mesh.mutual_tls)),
                )
            )
        )

    @functools.cached_property
    def lua(self) -> tuple[View, ...]:
        """The Lua that runs in it."""
        return lua_of(self.snapshot, self.workload)

    @property
    def spoken(self) -> list[str]:
        """How requests begin, by which they are told from bytes: those of a version that is not taken are bytes."""
        old = ["http/1.0"] if self.legacy or self.snapshot.mesh.http10 else []
        return [*old, "http/1.1", "h2c"]

    @property
    def local(self) -> str:
        """The address that stands for localhost inside the pod."""
        return self.snapshot.plan.local(self.workload.ip)


def _logs(proxy: Proxy, inbound: Inbound | None) -> list[Json]:
    told = proxy.reports.server if inbound else proxy.reports.client
    logs = telemetry.access_logs(told, legacy=proxy.legacy)
    if told.metrics:
        logs.append(telemetry.http_stats(proxy.workload, inbound, told, legacy=proxy.legacy))
    return logs


def inbound_rules(proxy: Proxy, port: int, owner: tuple[Service, Port] | None) -> str:
    """What policies make of the chains before an application's port, as a key: HTTP's own rules are in the routes."""
    snapshot, workload = proxy.snapshot, proxy.workload
    made = (
        jwt_filters(snapshot, workload, port),
        asking_filters(snapshot, workload),
        judging_filters(snapshot, workload),
        network_filters(snapshot, workload, owner),
    )
    return json.dumps((made, snapshot.mesh.trust_domains))


def _gateway_topology(proxy: Proxy) -> Json:
    """What is in front of a gateway (`gatewayTopology`): as its pod says, else the mesh."""
    pod, told = proxy.snapshot.pods[proxy.workload.namespace, proxy.workload.pod], proxy.snapshot.mesh.gateway_topology
    try:
        own: Json = reading.yaml_value(annotations_of(pod).get("proxy.istio.io/config", ""))["gatewayTopology"]
    except (reading.ReadingError, KeyError, TypeError):
        own = {}
    return {**told, **own} if isinstance(own, dict) else told


def fronted(proxy: Proxy) -> bool:
    """Whether a load balancer tells a gateway whose connection it is, in a PROXY header."""
    return _gateway_topology(proxy).get("proxyProtocol") is not None


def filters_of(proxy: Proxy, protocol: str) -> list[Json]:
    """More filters of a connection manager that requests of `protocol` need: browsers' gRPC is made gRPC."""
    return [_WEB] if protocol == "GRPC-WEB" and not proxy.legacy else []


def http_manager(
    proxy: Proxy,
    side: Side,
    stat_prefix: str,
    table: str,
    *,
    inbound: Inbound | None = None,
    filters: list[Json] | None = None,
    tunnels: bool = False,
) -> Json:
    """The connection manager of a listener.

    Args:
        proxy: Whose.
        side: Where in the proxy.
        stat_prefix: Its name in Envoy's statistics.
        table: The route table it follows.
        inbound: What it stands before; for the server's side.
        filters: More filters, before the router.
        tunnels: Whether clients may ask for tunnels (CONNECT).
    """
    told = proxy.reports.server if inbound else proxy.reports.client
    chain: list[Json] = [_FORWARDED_FOR[fronted(proxy)]] if side == "gateway" else []
    chain += [telemetry.PROTOCOL] if told.metrics else []
    if inbound is not None:
        chain += peer_filters(inbound, legacy=proxy.legacy)
    else:
        chain.append(peer_headers(proxy.workload, legacy=proxy.legacy))
    tokens: list[Json] = []
    lua = phased(proxy.lua, inbound=inbound.port if inbound else None)
    chain += lua.get("AUTHN", [])
    if side != "outbound":
        snapshot, workload = proxy.snapshot, proxy.workload
        tokens = jwt_filters(snapshot, workload, inbound.port if inbound else None)
        chain += [
            *asking_filters(snapshot, workload),
            *tokens,
            *lua.pop("AUTHZ", []),
            *judging_filters(snapshot, workload),
        ]
    chain += [one for phase in ("AUTHZ", "STATS", LATE) for one in lua.get(phase, [])]
    # Today a fault comes before an answer about origins, which it then goes without.
    chain += [*(filters or []), *((_CORS, _FAULT) if proxy.legacy else (_FAULT, _CORS)), _ROUTER]
    fields: Json = {
        # As with clusters, today's proxies end the name at the semicolon.
        "stat_prefix": stat_prefix if proxy.legacy else f"{stat_prefix};",
        "rds": {"route_config_name": table, "config_source": ADS},
        "http_filters": chain,
        "access_log": _logs(proxy, inbound),
        "use_remote_address": side == "gateway",
        "generate_request_id": True,
        **_NORMALIZED.get(proxy.snapshot.mesh.normalization, _BASE),
        "upgrade_configs": [{"upgrade_type": "websocket"}, *([{"upgrade_type": "CONNECT"}] if tunnels else [])],
        "stream_idle_timeout": "0s",
        # Whether a body is wanted is the server's to say.
        **({} if proxy.legacy else {"proxy_100_continue": True}),
    }
    if proxy.snapshot.mesh.http10:
        fields["http_protocol_options"] = {"accept_http_10": True}
    if side != "outbound":
        # Istio names itself to those who call; what an application hears of its own calls comes from "envoy".
        fields["server_name"] = "istio-envoy"
    if side == "inbound":
        fields["forward_client_cert_details"] = "APPEND_FORWARD"
        fields["set_current_client_cert_details"] = {"subject": True, "dns": True, "uri": True}
    elif side == "gateway":
        fields["skip_xff_append"] = True
        topology = _gateway_topology(proxy)
        if trusted := max(int(number(topology.get("numTrustedProxies"), 0)), 0):
            fields["xff_num_trusted_hops"] = trusted
        asked = topology.get("forwardClientCertDetails")
        fields["forward_client_cert_details"] = asked if asked in _FORWARDED else "SANITIZE_SET"
        if fields["forward_client_cert_details"] in _ADDED:
            fields["set_current_client_cert_details"] = {"subject": True, "cert": True, "dns": True, "uri": True}
    if proxy.legacy and tokens:
        fields["local_reply_config"] = _REFUSED_ORIGIN
    spans = tracing(told.collector, told.sampling, told.tags, proxy.workload)
    if spans is not None:
        fields["tracing"] = spans
    return {"name": _HCM, "typed_config": typed(_HCM_TYPE, **fields)}


def bytes_proxy(cluster: str) -> Json:
    """Hands on the bytes of a listener that stands for none of Istio's: it counts, logs and judges nothing."""
    fields: Json = {"stat_prefix": cluster, "idle_timeout": "0s", "cluster": cluster}
    return {"name": _TCP, "typed_config": typed(_TCP_TYPE, **fields)}


def tcp_proxy(
    proxy: Proxy,
    stat_prefix: str,
    clusters: list[tuple[str, int]],
    *,
    inbound: Inbound | None = None,
    way: Json | None = None,
) -> Json:
    """The TCP proxy of a listener.

    Args:
        proxy: Whose.
        stat_prefix: Its name in Envoy's statistics.
        clusters: Where connections go, with weights.
        inbound: What it stands before; for the server's side.
        way: More of its fields: when it closes an idle connection (by itself never in Istio 1.2, today as Envoy does,
            after an hour), whether it tunnels …
    """
    fields: Json = {"stat_prefix": stat_prefix, **({"idle_timeout": "0s"} if proxy.legacy else {}), **(way or {})}
    if inbound is None:
        fields["proxy_protocol_tlvs"] = peer_tlvs(proxy.workload)
        fields["proxy_protocol_tlv_merge_policy"] = "OVERWRITE_BY_TYPE_IF_EXISTS_OR_ADD"
    elif inbound.mtls:
        # Before that nobody knows who calls, and a connection is counted as opened with its caller's identity.
        fields |= {"upstream_connect_mode": "ON_DOWNSTREAM_TLS_HANDSHAKE", "max_early_data_bytes": 65536}
    if len(clusters) == 1:
        fields["cluster"] = clusters[0][0]
    else:
        fields["weighted_clusters"] = {"clusters": [{"name": name, "weight": weight} for name, weight in clusters]}
    told = proxy.reports.server if inbound else proxy.reports.client
    logs = telemetry.access_logs(told, legacy=proxy.legacy)
    if told.metrics:
        logs += telemetry.tcp_stats(proxy.workload, inbound, told, legacy=proxy.legacy)
        fields["access_log_options"] = {"flush_access_log_on_connected": True}
    for log in logs:
        # A line a connection, written at its end, as Istio writes it.
        ended: Json = {"log_type_filter": {"types": ["TcpConnectionEnd"]}}
        asked = log.setdefault("filter", ended)
        if "log_type_filter" not in asked:
            log["filter"] = {"and_filter": {"filters": [ended, asked]}}
    if logs:
        fields["access_log"] = logs
    return {"name": _TCP, "typed_config": typed(_TCP_TYPE, **fields)}
