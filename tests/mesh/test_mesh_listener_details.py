# SPDX-License-Identifier: Apache-2.0
"""Whole listeners of a sidecar as they go over the wire, but for what a connection manager or TCP proxy has inside."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshbox.addresses import AddressPlan
from meshbox.doors import peer_check
from meshbox.mesh import listeners as made
from meshbox.mesh.kinds import VIRTUAL_SERVICES
from meshbox.mesh.managers import Proxy
from meshbox.mesh.translate import translate

from .objects import istio, service, snapshot, workload

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
                "format_string": {"text_format_source": {"inline_string": "istio-raw"}},
                "shared_with_upstream": "ONCE",
            }
        ],
    },
}
SPOKEN = {"application_protocols": ["http/1.0", "http/1.1", "h2c"]}


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


def within(*texts: str) -> Json:
    parts = (text.split("/") for text in texts)
    return {"prefix_ranges": [{"address_prefix": address, "prefix_len": int(bits)} for address, bits in parts]}


def test_ranges_of_addresses_tell_hosts_of_one_port_apart() -> None:
    entries = [
        entry("a.test", "TCP", "10.1.0.0/16", "10.2.0.0/16", "10.9.9.9"),
        # Envoy takes no two chains for one range: the first has it.
        entry("b.test", "TCP", "10.2.0.0/16", "10.3.0.0/16"),
        entry("c.test", "TCP", "10.3.0.0/16"),
        entry("d.test", "TLS", "10.3.0.0/16"),
        entry("d.too.test", "TLS", "10.3.0.0/16"),
        entry("e.test", "TLS"),
    ]
    # What is listened for elsewhere, or is none of it, hides nothing that follows.
    db = service("a", ("tcp", 7000), ip="127.99.16.9"), service("b", ("tcp", 7000), clusterIP="None")
    found = listeners(services=[*db], service_entries=[entry("0.test", "UDP"), *entries])
    del found["127.99.16.9_7000"]
    assert {name for name in found if name.endswith("_7000")} == {"0.0.0.0_7000", "10.9.9.9_7000"}
    assert shortened(found["10.9.9.9_7000"]) == virtual("10.9.9.9_7000", leads_to("outbound|7000||a.test"))
    assert shortened(found["0.0.0.0_7000"]) == virtual(
        "0.0.0.0_7000",
        leads_to("outbound|7000||a.test", **within("10.1.0.0/16", "10.2.0.0/16")),
        leads_to("outbound|7000||b.test", **within("10.3.0.0/16")),
        leads_to("outbound|7000||d.test", server_names=["d.test"], **within("10.3.0.0/16")),
        leads_to("outbound|7000||d.too.test", server_names=["d.too.test"], **within("10.3.0.0/16")),
        leads_to("outbound|7000||e.test", server_names=["e.test"]),
        leads_to("PassthroughCluster"),
        filters=(TLS,),
    )


@pytest.mark.parametrize("legacy", [False, True])
def test_what_a_range_has_is_known_where_only_known_hosts_are_reached(legacy: bool) -> None:
    only = "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"
    found = listeners(legacy=legacy, mesh=only, service_entries=[entry("a.test", "TCP", "10.1.0.0/16")])
    assert shortened(found["0.0.0.0_7000"])["filter_chains"] == [
        leads_to("outbound|7000||a.test", **within("10.1.0.0/16")),
        leads_to("BlackHoleCluster"),
    ]


def test_a_rule_for_some_addresses_of_a_range_comes_before_the_range() -> None:
    match = [{"destinationSubnets": ["10.1.2.0/24"]}]
    tcp = rule("a.test", tcp=[{"match": match, "route": to("ratings")}])
    found = listeners(service_entries=[entry("a.test", "TCP", "10.1.0.0/16")], virtual_services=[tcp])["0.0.0.0_7000"]
    ruled, rest, nowhere = shortened(found)["filter_chains"]
    ratings = "outbound|9080||ratings.bookinfo.svc.cluster.local"
    assert ruled == {**leads_to(ratings, **within("10.1.2.0/24")), "metadata": ruled["metadata"]}
    assert rest == leads_to("outbound|7000||a.test", **within("10.1.0.0/16"))
    assert nowhere == leads_to("PassthroughCluster")


def test_a_range_of_any_protocol_is_looked_into() -> None:
    entries = [
        entry("a.test", "", "10.1.0.0/16"),
        entry("b.test", "TCP", "10.2.0.0/16"),
        entry("b.too.test", "TLS", "10.1.0.0/16"),
        # Found by its name, and what is for datagrams is nobody's here.
        entry("c.test", ""),
        entry("d.test", "UDP"),
    ]
    found = listeners(service_entries=entries)["0.0.0.0_7000"]
    bytes_only = leads_to("outbound|7000||a.test", **within("10.1.0.0/16"))
    assert shortened(found) == virtual(
        "0.0.0.0_7000",
        sniffed(7000),
        sniffed(7000, **within("10.1.0.0/16")),
        {**bytes_only, "filters": [RAW, *bytes_only["filters"]]},
        leads_to("outbound|7000||b.test", **within("10.2.0.0/16")),
        leads_to("outbound|7000||b.too.test", server_names=["b.too.test"], **within("10.1.0.0/16")),
        leads_to("PassthroughCluster"),
        filters=(TLS, HTTP),
    )


@pytest.mark.parametrize("first", ["http", "bytes"])
@pytest.mark.parametrize("number", [80, 7000])
def test_a_port_of_requests_and_of_bytes_is_looked_into(number: int, first: str) -> None:
    """Whichever comes first: hosts of the own namespace come before those of others."""
    web = service("web", ("http", number), namespace="bookinfo" if first == "http" else "library")
    entries = [
        entry("a.test", "TCP", "10.1.0.0/16", number=number),
        entry("b.test", "TLS", number=number),
        # Its servers speak first.
        entry("c.test", "MONGO", "10.2.0.0/16", number=number),
        entry("d.test", "MySQL", "10.3.0.0/16", number=number),
    ]
    found = listeners(services=[web], service_entries=entries)[f"0.0.0.0_{number}"]
    assert shortened(found) == virtual(
        f"0.0.0.0_{number}",
        sniffed(number),
        leads_to(f"outbound|{number}||a.test", **within("10.1.0.0/16")),
        leads_to(f"outbound|{number}||b.test", server_names=["b.test"]),
        leads_to("PassthroughCluster"),
        filters=(TLS, HTTP),
    )


@pytest.mark.parametrize("number", [79, 80, 81])
def test_requests_are_always_looked_for_on_port_80(number: int) -> None:
    found = listeners(service_entries=[entry("a.test", "TCP", "10.1.0.0/16", number=number)])[f"0.0.0.0_{number}"]
    chains = [leads_to(f"outbound|{number}||a.test", **within("10.1.0.0/16")), leads_to("PassthroughCluster")]
    assert shortened(found)["filter_chains"] == ([sniffed(80), *chains] if number == 80 else chains)


@pytest.mark.parametrize("namespace", ["bookinfo", "library"])
def test_in_the_old_release_a_port_is_for_what_comes_first(namespace: str) -> None:
    web = service("web", ("http", 7000), namespace=namespace)
    range_only = entry("a.test", "TCP", "10.1.0.0/16")
    found = shortened(listeners(legacy=True, services=[web], service_entries=[range_only])["0.0.0.0_7000"])
    http = {"filters": [("outbound_0.0.0.0_7000", {"table": "7000"})]}
    bytes_only = leads_to("outbound|7000||a.test", **within("10.1.0.0/16"))
    nowhere = leads_to("PassthroughCluster")
    assert found["filter_chains"] == ([http] if namespace == "bookinfo" else [bytes_only, nowhere])
    assert "listener_filters" not in found


def test_what_a_rule_says_of_a_range_is_the_first_chain_for_it() -> None:
    """However it is written, one range has one chain; and a rule's own addresses are not looked into."""
    match = [{"destinationSubnets": ["10.1.2.3/16", "10.1.0.0/16", "10.7.0.0/16"]}]
    again = [{"destinationSubnets": ["10.7.1.0/16"]}]
    tcp = rule(
        "a.test", tcp=[{"match": one, "route": to(host)} for one, host in ((match, "ratings"), (again, "details"))]
    )
    found = listeners(service_entries=[entry("a.test", "", "10.1.0.0/16", "10.2.0.0/16")], virtual_services=[tcp])
    looked_into, rest, ruled, nowhere = shortened(found["0.0.0.0_7000"])["filter_chains"]
    assert looked_into == sniffed(7000, **within("10.2.0.0/16"))
    assert rest["filter_chain_match"] == within("10.2.0.0/16")
    assert ruled["filter_chain_match"] == within("10.1.0.0/16", "10.7.0.0/16")
    assert nowhere == leads_to("PassthroughCluster")
