# SPDX-License-Identifier: Apache-2.0
"""Whole listeners of a sidecar as they go over the wire, but for what a connection manager or TCP proxy has inside."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.addresses import AddressPlan
from meshbox.doors import peer_check
from meshbox.mesh import listeners as made
from meshbox.mesh.kinds import VIRTUAL_SERVICES
from meshbox.mesh.managers import Proxy

from .listening import (
    FILTERS,
    HTTP,
    RAW,
    TLS,
    TYPE,
    Json,
    entry,
    leads_to,
    listeners,
    rule,
    short,
    shortened,
    sniffed,
    to,
    virtual,
)
from .objects import istio, service


def captured(name: str, cluster: str, **match: Any) -> Json:
    return {"name": f"virtualOutbound-{name}", **leads_to(cluster, **match)}


def test_the_way_in_for_captured_calls() -> None:
    """What a user may not bind is found where it is: its port is another there."""
    plan = AddressPlan(99, low_ports=False)
    far = [
        service(name, ("http", 80), ("more", 8080), namespace="library", ip=f"127.99.16.{n}")
        for n, name in enumerate(("far", "farther"), 40)
    ]
    sidecar = istio("default", {"egress": [{"hosts": ["./*"]}]})
    found = listeners(plan=plan, services=far, sidecars=[sidecar])["virtualOutbound"]
    there = [{"address_prefix": f"127.99.16.{n}", "prefix_len": 32} for n in (40, 41)]
    assert shortened(found) == {
        "@type": f"{TYPE}config.listener.v3.Listener",
        "name": "virtualOutbound",
        "address": {"pipe": {"path": "capture.sock", "mode": 0o600}},
        "traffic_direction": "OUTBOUND",
        "filter_chains": [
            captured("blackhole", "BlackHoleCluster", destination_port=15001),
            {
                "name": "virtualOutbound-80",
                "filter_chain_match": {"destination_port": 80, "prefix_ranges": there},
                "filters": [("PassthroughCluster", "PassthroughCluster_80")],
            },
            captured("catchall-tcp", "PassthroughCluster"),
        ],
        "use_original_dst": True,
        "listener_filters": [
            {
                "name": "envoy.filters.listener.proxy_protocol",
                "typed_config": {"@type": f"{FILTERS}listener.proxy_protocol.v3.ProxyProtocol"},
            }
        ],
    }


@pytest.mark.parametrize("narrow", [False, True])
def test_the_http_proxy_may_be_asked_for_tunnels_and_for_addresses_that_routes_say(narrow: bool) -> None:
    far = service("far", ("http", 80), namespace="library", ip="127.99.16.40")
    sidecars = [istio("default", {"egress": [{"hosts": ["./*"]}]})] if narrow else []
    found = listeners(services=[far], sidecars=sidecars)["http_proxy"]
    assert shortened(found) == {
        "@type": f"{TYPE}config.listener.v3.Listener",
        "name": "http_proxy",
        "address": {"socket_address": {"address": "127.99.128.1", "port_value": 15001}},
        "traffic_direction": "OUTBOUND",
        "filter_chains": [
            {
                "name": "http_proxy",
                "filter_chain_match": {"source_prefix_ranges": [{"address_prefix": "127.0.0.1", "prefix_len": 32}]},
                "filters": [*peer_check(), ("http_proxy;", {"table": "http_proxy"})],
            }
        ],
    }
    manager = found["filter_chains"][0]["filters"][-1]["typed_config"]
    assert manager["upgrade_configs"] == [{"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT"}]
    assert "server_name" not in manager
    names = [one["name"] for one in manager["http_filters"]]
    assert ("istio.original_dst" in names) is narrow
    proxy = manager["http_filters"][names.index("envoy.filters.http.dynamic_forward_proxy")]
    assert proxy["typed_config"]["@type"] == f"{FILTERS}http.dynamic_forward_proxy.v3.FilterConfig"


def test_requests_and_bytes_have_virtual_listeners_of_their_own() -> None:
    found = listeners(services=[service("db", ("tcp", 3306), ip="127.99.16.8")])
    http = found["0.0.0.0_80"]
    assert shortened(http) == virtual("0.0.0.0_80", {"filters": [("outbound_0.0.0.0_80;", {"table": "80"})]})
    manager = http["filter_chains"][0]["filters"][0]["typed_config"]
    # Istio names itself to those who call from outside only.
    assert "server_name" not in manager
    assert manager["upgrade_configs"] == [{"upgrade_type": "websocket"}]
    cluster = "outbound|3306||db.bookinfo.svc.cluster.local"
    assert shortened(found["127.99.16.8_3306"]) == virtual("127.99.16.8_3306", leads_to(cluster))


def test_what_is_no_http_on_a_port_of_any_protocol_goes_as_rules_say() -> None:
    subnets = {"prefix_ranges": [{"address_prefix": "127.99.16.0", "prefix_len": 24}]}
    match = [{"destinationSubnets": ["127.99.16.0/24"]}]
    tcp = rule("any", tcp=[{"match": match, "route": to("ratings")}])
    found = listeners(services=[service("any", ("", 7000), ip="127.99.16.9")], virtual_services=[tcp])
    ruled, rest = found["127.99.16.9_7000"]["filter_chains"][1:]
    assert "metadata" in ruled
    assert shortened({**found["127.99.16.9_7000"], "filter_chains": [ruled, rest]})["filter_chains"] == [
        {
            **leads_to("outbound|9080||ratings.bookinfo.svc.cluster.local", **subnets),
            "metadata": ruled["metadata"],
            "filters": [RAW, ("outbound|9080||ratings.bookinfo.svc.cluster.local",) * 2],
        },
        {"filters": [RAW, ("outbound|7000||any.bookinfo.svc.cluster.local",) * 2]},
    ]
    whole = shortened(found["127.99.16.9_7000"])
    assert {**whole, "filter_chains": whole["filter_chains"][:1]} == virtual(
        "127.99.16.9_7000", sniffed(7000), filters=(HTTP,)
    )


def test_a_shared_port_asks_for_server_names_only() -> None:
    found = listeners(service_entries=[entry("a.test", "TLS", resolution="DNS")])["0.0.0.0_7000"]
    assert shortened(found) == virtual(
        "0.0.0.0_7000",
        leads_to("outbound|7000||a.test", server_names=["a.test"]),
        leads_to("PassthroughCluster"),
        filters=(TLS,),
    )


def test_tls_of_any_name_is_told_from_bytes() -> None:
    """A wildcard alone names no server: no webhook lets it in now, but a mesh may have it from before."""
    spec = {"hosts": ["*"], "tls": [{"match": [{"sniHosts": ["*"]}], "route": to("ratings")}]}
    db = service("db", ("tls", 3306), ip="127.99.16.9")
    found = listeners(services=[db], kept={VIRTUAL_SERVICES: [istio("all", spec)]})["127.99.16.9_3306"]
    assert found["listener_filters"] == [TLS]
    assert found["filter_chains"][0]["filter_chain_match"] == {"transport_protocol": "tls"}


def test_a_port_of_datagrams_hides_none_that_follows() -> None:
    dns = service("dns", ("udp", 53), ("http", 5380), ("tcp", 5381), ip="127.99.16.9")
    dns["spec"]["ports"][0]["protocol"] = "UDP"
    dns["spec"]["ports"].append({"name": "own", "port": 15001})
    dns["spec"]["ports"].append({"name": "tcp-last", "port": 15002})
    names = {name for name in listeners(services=[dns]) if name.endswith(("_53", "_5380", "_5381", "_15001", "_15002"))}
    assert names == {"0.0.0.0_5380", "127.99.16.9_5381", "127.99.16.9_15002"}


def test_a_host_of_any_protocol_without_an_address_is_found_by_its_name() -> None:
    found = listeners(service_entries=[entry("any.test", "", resolution="DNS")])["0.0.0.0_7000"]
    assert shortened(found) == virtual("0.0.0.0_7000", {"filters": [("outbound_0.0.0.0_7000;", {"table": "7000"})]})


def test_an_address_that_the_mesh_gave_is_the_hosts_alone() -> None:
    one = entry("a.test", "TCP", resolution="DNS")
    one["status"] = {"addresses": [{"host": "a.test", "value": v} for v in ("240.240.0.7", "2001:2::7")]}
    found = listeners(service_entries=[one])
    only = leads_to("outbound|7000||a.test")
    assert {name for name in found if name.endswith("_7000")} == {"0.0.0.0_7000", "240.240.0.7_7000"}
    for name in ("0.0.0.0_7000", "240.240.0.7_7000"):
        assert shortened(found[name]) == virtual(name, only)


def test_listeners_that_are_alike_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is long, and a mesh has as many as it has hosts."""
    asked: list[object] = []
    whole = made._TcpPlan.listener

    def counted(self: made._TcpPlan, proxy: Proxy) -> Json:
        asked.append(self)
        return whole(self, proxy)

    monkeypatch.setattr(made._TcpPlan, "listener", counted)
    many = [service(f"db-{n}", ("tcp", 3306 + n), ip=f"127.99.16.{10 + n}") for n in range(5)]
    split = rule("db-4", tcp=[{"route": [{**to(host)[0], "weight": 50} for host in ("ratings", "details")]}])
    found = listeners(services=many, virtual_services=[split])
    clusters = [short(found[f"127.99.16.{10 + n}_{3306 + n}"]["filter_chains"][0]["filters"][0]) for n in range(4)]
    assert clusters == [(f"outbound|{3306 + n}||db-{n}.bookinfo.svc.cluster.local",) * 2 for n in range(4)]
    # One for those of a single cluster, one for the other.
    assert len(asked) == 2
