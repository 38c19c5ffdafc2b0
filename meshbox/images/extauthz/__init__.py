# SPDX-License-Identifier: Apache-2.0
"""The images of Istio's security samples: who is asked by CUSTOM policies, and who serves the keys of tokens."""

from __future__ import annotations

import json

from labkit.ground import files
from meshbox.doors import peer_check
from meshbox.images.context import ContainerContext, Image, Launch
from meshbox.images.proxy.binary import envoy_binary

__all__ = ["IMAGES"]

_BRIDGE = "/etc/bridge/envoy.json"
_HCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_BRIDGE_FILTER = "envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3.FilterConfig"
_TYPE = "@type"
_PREFIX = "type.googleapis.com/"


def _bridge(context: ContainerContext, port: int) -> dict[str, object]:
    """An Envoy that takes gRPC and passes on plain HTTP/1.1, which is what the program speaks."""

    def where(host: str, number: int | str) -> dict[str, object]:
        return {"socket_address": {"address": host, "port_value": number}}

    manager = {
        _TYPE: _PREFIX + _HCM,
        "stat_prefix": "grpc",
        "http_filters": [
            {
                "name": "bridge",
                "typed_config": {
                    _TYPE: _PREFIX + _BRIDGE_FILTER,
                    "content_type": "application/grpc+proto",
                    "withhold_grpc_frames": True,
                },
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {_TYPE: _PREFIX + "envoy.extensions.filters.http.router.v3.Router"},
            },
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "program"}}],
                }
            ]
        },
    }
    filters = [*peer_check(), {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"name": "grpc", "address": where(context.bind, port), "filter_chains": [{"filters": filters}]}
    program = {"endpoint": {"address": where(context.local_ip, "@port@")}}
    cluster = {
        "name": "program",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "program", "endpoints": [{"lb_endpoints": [program]}]},
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _ext_authz(context: ContainerContext) -> Launch:
    port = 9000
    for flag, value in zip(context.argv, context.argv[1:], strict=False):
        if flag.lstrip("-") == "grpc" and value.isdigit():
            port = int(value)
    file = context.path(_BRIDGE)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    files.write(file, json.dumps(_bridge(context, port)).encode(), lasting=False)
    flags = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    env = {"LABKIT_BRIDGE": json.dumps([envoy_binary(), "-c", str(file), *flags])}
    return Launch(entry="meshbox.images.extauthz.server:main", argv=context.argv, env=env)


IMAGES = (
    Image(
        repositories=("testing/ext-authz", "istio-testing/ext-authz", "istio/ext-authz"),
        entrypoint=("/extauthz",),
        programs=dict.fromkeys(("extauthz", "ext-authz"), _ext_authz),
        modules=("meshbox.images.extauthz.server",),
        size=14_000_000,
        stands_in="same behaviour over HTTP and gRPC, written in Python behind an Envoy that speaks gRPC",
    ),
    Image(
        repositories=("testing/jwt-server", "istio-testing/jwt-server", "istio/jwt-server"),
        entrypoint=("/jwt-server",),
        programs={"jwt-server": "meshbox.images.extauthz.keys:main"},
        size=12_000_000,
        stands_in="serves the keys that Istio's samples publish, over HTTP only",
    ),
)
