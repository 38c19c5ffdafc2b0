# SPDX-License-Identifier: Apache-2.0
"""The tab Envoy: a proxy's configuration, through a port-forward of the API server, whole and as tables."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import pytest

from labkit.ground import web
from labkit.ground.framing import Incoming
from meshbox.images.kiali.envoy import resource
from tests.images.kiali_world import World, kiali
from tests.images.test_kiali_api import get

POD = "namespaces/bookinfo/pods/reviews-v1-1-a/config_dump"
REVIEWS = "reviews.bookinfo.svc.cluster.local"


def of_istio(kind: str, name: str) -> dict[str, Any]:
    config = f"/apis/networking.istio.io/v1alpha3/namespaces/bookinfo/{kind}/{name}"
    return {"filter_metadata": {"istio": {"config": config}}}


def http(**typed: Any) -> list[dict[str, Any]]:
    return [{"name": "envoy.filters.network.http_connection_manager", "typed_config": typed}]


def to_cluster(name: str) -> list[dict[str, Any]]:
    return [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {"cluster": name}}]


def listener(address: str, port: int, *chains: Any) -> dict[str, Any]:
    socket = {"socket_address": {"address": address, "port_value": port}}
    return {"active_state": {"listener": {"address": socket, "filter_chains": list(chains)}}}


INLINE = {
    "virtual_hosts": [{"domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "inbound"}}]}]
}
LISTENERS = [
    listener(
        "0.0.0.0",
        9080,
        {
            "filter_chain_match": {
                "transport_protocol": "raw_buffer",
                "application_protocols": ["http/1.0", "http/1.1", "h2c"],
            },
            "filters": http(rds={"route_config_name": "9080"}),
        },
        {"filters": to_cluster("PassthroughCluster")},
    ),
    listener(
        "10.0.0.7",
        443,
        {
            "filter_chain_match": {"server_names": ["a.example", "b.example"], "destination_port": 443},
            "filters": to_cluster("outbound|443||a.example"),
        },
    ),
    listener("10.0.0.8", 80, {"filters": http(route_config=INLINE)}, {"filters": [{"name": "other"}]}),
]
CLUSTERS = [
    {
        "cluster": {
            "name": f"outbound|9080|v1|{REVIEWS}",
            "type": "EDS",
            "metadata": of_istio("destination-rule", "reviews"),
        }
    },
    {"cluster": {"name": "inbound|9080||", "type": "ORIGINAL_DST"}},
]
ROUTES = [
    {
        "domains": [REVIEWS, "10.0.0.9", "reviews", "reviews:9080"],
        "routes": [
            {
                "match": {"path": "/login"},
                "route": {"cluster": "a"},
                "metadata": of_istio("virtual-service", "reviews"),
            },
            {"match": {"safe_regex": {"regex": "/[a-z]+"}}, "route": {"weighted_clusters": {}}},
            {"match": {"prefix": "/old"}, "redirect": {}},
        ],
    },
    {"domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "PassthroughCluster"}}]},
    {"domains": ["nobody.example"], "routes": []},
]
KIND = "type.googleapis.com/envoy.admin.v3."
DUMP = {
    "configs": [
        {"@type": f"{KIND}BootstrapConfigDump", "bootstrap": {"node": {"id": "sidecar"}}},
        {
            "@type": f"{KIND}ClustersConfigDump",
            "dynamic_active_clusters": CLUSTERS,
            "static_clusters": [{"cluster": {"name": "xds-grpc", "type": "STATIC"}}],
        },
        {"@type": f"{KIND}ListenersConfigDump", "dynamic_listeners": LISTENERS},
        {
            "@type": f"{KIND}RoutesConfigDump",
            "dynamic_route_configs": [{"route_config": {"name": "9080", "virtual_hosts": ROUTES}}],
        },
    ]
}


def frame(data: bytes) -> bytes:
    size = struct.pack(">BB", 0x82, len(data)) if len(data) < 126 else struct.pack(">BBH", 0x82, 126, len(data))
    return size + data


def leading_to(page: bytes) -> web.App:
    """An API server that leads to a port of a pod where `page` is said."""

    def talk(incoming: Incoming, send: Callable[[bytes], None]) -> None:
        # Each channel begins with its port.
        send(frame(b"\x00" + struct.pack("<H", 15000)))
        send(frame(b"\x01" + struct.pack("<H", 15000)))
        incoming.allow(60)
        incoming.read(2)
        # In two messages, as a stream comes.
        for part in (page[:100], page[100:]):
            send(frame(b"\x00" + part))

    def answer(request: web.Request) -> web.Response:
        if not request.path.endswith("/portforward"):
            return web.Response(404)
        assert request.target.endswith("/api/v1/namespaces/bookinfo/pods/reviews-v1-1-a/portforward?ports=15000")
        return web.Response(101, b"", [("Upgrade", "websocket"), ("Connection", "Upgrade")], upgrade=talk)

    return answer


def proxied(app: web.App) -> World:
    """A world whose API server answers with `app` first."""
    world = World()
    rest = world.kubernetes

    def both(request: web.Request) -> web.Response:
        answer = app(request)
        return rest(request) if answer.status == 404 else answer

    world.kubernetes = both  # type: ignore[method-assign]
    return world


def said(body: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def shown(part: str) -> Any:
    with kiali(proxied(leading_to(said(json.dumps(DUMP))))) as address:
        status, found = get(f"{address}/kiali/api/{POD}{part}")
    assert status == 200
    return found


def test_the_whole_and_how_it_began():
    assert shown("") == DUMP
    assert shown("/bootstrap") == {"bootstrap": {"bootstrap": DUMP["configs"][0]}}


def test_clusters():
    def host(name: str) -> dict[str, str]:
        return {"service": name, "namespace": "", "cluster": ""}

    row = {"service_fqdn": host(""), "port": 0, "subset": "", "direction": "", "destination_rule": ""}
    assert shown("/clusters")["clusters"] == [
        {
            "service_fqdn": {"service": "reviews", "namespace": "bookinfo", "cluster": "svc.cluster.local"},
            "port": 9080,
            "subset": "v1",
            "direction": "outbound",
            "type": "EDS",
            "destination_rule": "reviews.bookinfo",
        },
        row | {"port": 9080, "direction": "inbound", "type": "ORIGINAL_DST"},
        row | {"service_fqdn": host("xds-grpc"), "type": "STATIC"},
    ]


def test_listeners():
    found = shown("/listeners")["listeners"]
    assert [(f"{one['address']}:{one['port']}", one["match"], one["destination"]) for one in found] == [
        ("0.0.0.0:9080", "Trans: raw_buffer; App: HTTP", "Route: 9080"),
        ("0.0.0.0:9080", "ALL", "PassthroughCluster"),
        ("10.0.0.7:443", "SNI: a.example, b.example; Addr: *:443", "Cluster: outbound|443||a.example"),
        ("10.0.0.8:80", "ALL", "Cluster: inbound"),
        ("10.0.0.8:80", "ALL", "Non-HTTP/Non-TCP"),
    ]


def test_routes():
    found = shown("/routes")["routes"]
    assert [(one["name"], one["domains"]["service"], one["match"], one["virtual_service"]) for one in found] == [
        ("9080", "reviews", "/login", "reviews.bookinfo"),
        ("9080", "reviews", "regex /[a-z]+", ""),
        ("9080", "nobody.example", "/*", "404"),
    ]


@pytest.mark.parametrize(
    ("domains", "host"),
    [
        ([REVIEWS], ("reviews", "bookinfo", "svc.cluster.local")),
        ([REVIEWS, "reviews.bookinfo"], ("reviews", "bookinfo", "")),
        (["shop.example"], ("shop.example", "", "")),
        (["*"], ("*", "", "")),
    ],
)
def test_hosts_are_taken_apart(domains, host):
    table = {"name": "9080", "virtual_hosts": [{"domains": domains}]}
    dump = {"configs": [{"@type": f"{KIND}RoutesConfigDump", "dynamic_route_configs": [{"route_config": table}]}]}
    (found,) = resource(dump, "routes", {"bookinfo"})["routes"]
    assert tuple(found["domains"][part] for part in ("service", "namespace", "cluster")) == host


def test_what_is_no_part_of_it():
    with kiali(World()) as address:
        status, found = get(f"{address}/kiali/api/{POD}/secrets")
    assert status == 404
    assert "bootstrap, clusters, listeners, routes" in found["error"]


def test_an_account_that_may_not_forward_ports():
    words = 'pods "reviews-v1-1-a" is forbidden: User "kiali" cannot create resource "pods/portforward"'

    def refuse(request: web.Request) -> web.Response:
        forwarding = request.path.endswith("/portforward")
        return web.json_response({"message": words}, 403) if forwarding else web.Response(404)

    with kiali(proxied(refuse)) as address:
        assert get(f"{address}/kiali/api/{POD}") == (403, {"error": words})


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (said("no", "503 Service Unavailable"), "the pod answers 503: no"),
        (b"", "the pod sends no page"),
        (b"SSH-2.0", "the pod sends no page"),
    ],
)
def test_a_proxy_that_does_not_answer(page, words):
    with kiali(proxied(leading_to(page))) as address:
        status, found = get(f"{address}/kiali/api/{POD}")
    assert status == 503
    assert words in found["error"]
    assert "bookinfo/reviews-v1-1-a" in found["error"]


def test_a_pod_that_is_not_there():
    with kiali(World()) as address:
        assert get(f"{address}/kiali/api/{POD}")[0] == 404
