# SPDX-License-Identifier: Apache-2.0
"""What the agent beside Istio's Envoy answers at 15020, here answered by that Envoy itself.

Readiness, the application's probes, metrics together with the application's, and the end of the proxy.
"""

from __future__ import annotations

import json
from typing import Any

from meshbox.images.context import ContainerContext
from meshbox.images.proxy.agent import Agent
from meshbox.interception import Interception

__all__ = ["agent_route", "filters", "inside_routes", "looks_itself", "status"]

Json = dict[str, Any]

_EXTENSIONS = "type.googleapis.com/envoy.extensions."
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_METRICS = "app-metrics"
_WAIT = 5000
"""Milliseconds that the application's metrics may take."""

_GET = [{"name": ":method", "string_match": {"exact": "GET"}}]
_POST = [{"name": ":method", "string_match": {"exact": "POST"}}]


def agent_route(match: Json, rewrite: str) -> Json:
    """A route to Envoy's own admin interface."""
    return {"match": match, "route": {"cluster": "agent", "prefix_rewrite": rewrite, "timeout": "30s"}}


def inside_routes() -> list[Json]:
    """What only the pod itself may ask for."""
    wrong = {"status": 405, "body": {"inline_string": "method not allowed\n"}}
    return [
        agent_route({"path": "/drain", "headers": _POST}, "/drain_listeners?inboundonly&graceful"),
        {"match": {"path": "/quitquitquit"}, "direct_response": wrong},
    ]


def status(context: ContainerContext) -> tuple[list[Json], list[Json], list[Json]]:
    """Routes of the status ports, the clusters behind them, and filters that answer before any route."""
    routes = [
        agent_route({"path": "/healthz/ready", "headers": _GET}, "/ready"),
        agent_route({"path": "/stats/prometheus", "headers": _GET}, "/stats/prometheus"),
        agent_route({"path": "/metrics", "headers": _GET}, "/stats/prometheus"),
    ]
    found: list[Json] = []
    answers: list[Json] = []
    probes = json.loads(context.env.get("ISTIO_KUBE_APP_PROBERS") or "{}")
    for number, (path, probe) in enumerate(sorted(probes.items())):
        name = f"app-probe-{number}"
        # Istio 1.2 wrote what is asked by HTTP as it is.
        http = probe if "port" in probe else probe.get("httpGet")
        other = http or probe.get("tcpSocket") or probe.get("grpc") or {}
        if not isinstance(other.get("port"), int):
            continue
        cluster = _application(context, name, other["port"], other.get("host") or "")
        if http:
            if str(http.get("scheme", "HTTP")).upper() == "HTTPS":
                cluster |= {"transport_socket": _unverified()}
            routes.append(_asked(path, name, http, probe.get("timeoutSeconds") or 1))
        else:
            cluster |= _checked(probe)
            answers.append(_answer(path, name))
        found.append(cluster)
    return routes, found, answers


def looks_itself(context: ContainerContext) -> bool:
    """Whether there is a probe of the application that Envoy answers by its own checks."""
    told = context.env.get("ISTIO_KUBE_APP_PROBERS") or ""
    return '"tcpSocket"' in told or '"grpc"' in told


def _application(context: ContainerContext, name: str, port: int, host: str) -> Json:
    """The cluster of a port of the application."""
    left = Interception.of(context.pod["spec"]).leaves(port)
    where = host or (context.pod_ip if left else context.local_ip)
    address = {"socket_address": {"address": where, "port_value": context.settings.plan.port(port)}}
    endpoint = {"endpoint": {"address": address}}
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}
    return {"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": assignment}


def _unverified() -> Json:
    kind = f"{_EXTENSIONS}transport_sockets.tls.v3.UpstreamTlsContext"
    return {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": kind}}


def _asked(path: str, cluster: str, http: Json, timeout: int) -> Json:
    headers = {str(item.get("name", "")): str(item.get("value", "")) for item in http.get("httpHeaders") or []}
    host = next((headers.pop(name) for name in list(headers) if name.lower() == "host"), "")
    added = [
        {"header": {"key": name, "value": value.replace("%", "%%")}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        for name, value in headers.items()
        if name and not name.startswith(":")
    ]
    asked = str(http.get("path") or "/")
    route = {"cluster": cluster, "prefix_rewrite": asked if asked.startswith("/") else f"/{asked}"}
    route |= {"timeout": f"{timeout}s"}
    if host:
        route["host_rewrite_literal"] = host
    return {"match": {"path": path}, "route": route, **({"request_headers_to_add": added} if added else {})}


def _checked(probe: Json) -> Json:
    """Envoy looks by itself whether the application is there, which a request cannot ask for."""
    grpc = probe.get("grpc")
    often = dict.fromkeys(("interval", "no_traffic_interval", "no_traffic_healthy_interval"), "1s")
    soon = dict.fromkeys(("unhealthy_interval", "unhealthy_edge_interval"), "0.1s")
    look = {"timeout": f"{probe.get('timeoutSeconds') or 1}s", "unhealthy_threshold": 1, "healthy_threshold": 1}
    kind: Json = {"tcp_health_check": {}}
    if grpc:
        kind = {"grpc_health_check": {"service_name": grpc["service"]} if grpc.get("service") else {}}
    found: Json = {"health_checks": [{**look, **often, **soon, **kind}]}
    if grpc:
        options = {"@type": f"type.googleapis.com/{_OPTIONS}"}
        options |= {"explicit_http_config": {"http2_protocol_options": {}}}  # type: ignore[dict-item]
        found["typed_extension_protocol_options"] = {_OPTIONS: options}
    return found


def _answer(path: str, cluster: str) -> Json:
    return {
        "name": "envoy.filters.http.health_check",
        "typed_config": {
            "@type": f"{_EXTENSIONS}filters.http.health_check.v3.HealthCheck",
            "pass_through_mode": False,
            "headers": [{"name": ":path", "string_match": {"exact": path}}],
            "cluster_min_healthy_percentages": {cluster: {"value": 100}},
        },
    }


_END = """
function envoy_on_request(handle)
  local headers = handle:headers()
  if headers:get(":path") ~= "/quitquitquit" or headers:get(":method") ~= "POST" then return end
  if headers:get("origin") then return end
  local host = (headers:get(":authority") or ""):gsub(":%d+$", "")
  if host ~= "localhost" and host ~= "127.0.0.1" then return end
  local asked = {[":method"] = "POST", [":path"] = "/quitquitquit", [":authority"] = "localhost"}
  handle:httpCall("agent", asked, nil, 1000, true)
  handle:respond({[":status"] = "200"}, "OK\\n")
end
"""
"""Whoever ends the proxy is answered first: an answer of Envoy's own would have to pass the Envoy that ends."""

_MERGE = """
function envoy_on_request(handle)
  local path = handle:headers():get(":path") or ""
  if path:match("^/stats/prometheus") or path:match("^/metrics") then
    handle:streamInfo():dynamicMetadata():set("labkit", "merged", true)
  end
end
function envoy_on_response(handle)
  local noted = handle:streamInfo():dynamicMetadata():get("labkit")
  if not noted or not noted["merged"] or handle:headers():get(":status") ~= "200" then return end
  handle:body(true) -- Whole first: nothing of it may have left when more is added.
  local asked = {[":method"] = "GET", [":path"] = PATH, [":authority"] = HOST}
  local headers, more = handle:httpCall(CLUSTER, asked, nil, WAIT)
  if headers and headers[":status"] == "200" and more then
    local body = handle:body(true)
    body:setBytes(body:getBytes(0, body:length()) .. more)
  end
end
"""


def _lua(code: str) -> Json:
    kind = f"{_EXTENSIONS}filters.http.lua.v3.Lua"
    source = {"default_source_code": {"inline_string": code}}
    return {"name": "envoy.filters.http.lua", "typed_config": {"@type": kind, **source}}


def filters(context: ContainerContext, agent: Agent) -> tuple[list[Json], list[Json]]:
    """What ends the proxy, and adds the application's own metrics to the proxy's; and the cluster of these."""
    told = agent.metrics
    port = str(told.get("port") or "80")
    if not told or not port.isdigit() or int(port) == agent.agent_port:
        return [_lua(_END)], []
    path = str(told.get("path") or "/metrics")
    values = {"PATH": json.dumps(path), "HOST": f'"localhost:{port}"', "CLUSTER": f'"{_METRICS}"', "WAIT": str(_WAIT)}
    code = _MERGE
    for name, value in values.items():
        code = code.replace(name, value)
    return [_lua(_END), _lua(code)], [_application(context, _METRICS, int(port), "")]
