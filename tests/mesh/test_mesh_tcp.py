# SPDX-License-Identifier: Apache-2.0
"""The `tcp` and `tls` routes of VirtualServices inside the mesh, without any Envoy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshbox.mesh.translate import translate

from .objects import istio, service, snapshot, workload

Json = dict[str, Any]
Chain = tuple[Json, list[tuple[str, int]], str]

DB = "127.99.16.9_3306"
AN_HOUR = ""
"""What Envoy waits by itself, and Istio does not change."""
DETAILS = "outbound|9080||details.bookinfo.svc.cluster.local"
RATINGS = "outbound|9080||ratings.bookinfo.svc.cluster.local"
ITSELF = "outbound|3306||db.bookinfo.svc.cluster.local"
SUBNET = {"prefix_ranges": [{"address_prefix": "127.99.16.0", "prefix_len": 24}]}


def chains(listener: str = DB, *, port: str = "tcp", source: str = "productpage-v1", **objects: Any) -> list[Chain]:
    """What a listener chooses by, where it leads with which weights, and when it closes an idle connection."""
    db = service("db", (port, 3306), ip="127.99.16.9")
    snap = snapshot(services=[db, *objects.pop("services", [])], **objects)
    found = []
    for chain in json.loads(translate(snap, workload(snap, source)).listeners[listener])["filter_chains"]:
        proxy = chain["filters"][-1]["typed_config"]
        weighted = [(one["name"], one["weight"]) for one in proxy.get("weighted_clusters", {}).get("clusters", [])]
        targets = weighted or [(proxy["cluster"], 1)]
        found.append((chain.get("filter_chain_match", {}), targets, proxy.get("idle_timeout", AN_HOUR)))
    return found


def to(host: str, weight: int | None = None) -> Json:
    return {"destination": {"host": host}, **({} if weight is None else {"weight": weight})}


def tcp(*rules: Json, hosts: tuple[str, ...] = ("db",), namespace: str = "bookinfo", **spec: Any) -> list[Json]:
    return [istio("db", {"hosts": list(hosts), "tcp": list(rules), **spec}, namespace)]


def tls(*rules: Json, hosts: tuple[str, ...] = ("db",)) -> list[Json]:
    return [istio("db", {"hosts": list(hosts), "tls": list(rules)})]


def test_without_a_rule_a_service_is_itself() -> None:
    assert chains() == [({}, [(ITSELF, 1)], AN_HOUR)]
    policy = {"trafficPolicy": {"connectionPool": {"tcp": {"idleTimeout": "7s"}}}}
    assert chains(destination_rules=[istio("db", {"host": "db", **policy})]) == [({}, [(ITSELF, 1)], "7s")]


def test_connections_are_shared_by_weight() -> None:
    rule = {"route": [to("details", 80), to("ratings", 20)]}
    assert chains(virtual_services=tcp(rule)) == [({}, [(DETAILS, 80), (RATINGS, 20)], AN_HOUR)]


def test_what_weighs_nothing_gets_nothing() -> None:
    rule = {"route": [to("details", 0), to("ratings", 100)]}
    assert chains(virtual_services=tcp(rule)) == [({}, [(RATINGS, 1)], AN_HOUR)]
    assert chains(virtual_services=tcp({"route": [to("ratings")]})) == [({}, [(RATINGS, 1)], AN_HOUR)]


@pytest.mark.parametrize(
    ("match", "applies"),
    [
        ({"port": 3306}, True),
        ({"port": 3307}, False),
        ({"sourceNamespace": "bookinfo"}, True),
        ({"sourceNamespace": "library"}, False),
        ({"sourceLabels": {"app": "productpage"}}, True),
        ({"sourceLabels": {"app": "details"}}, False),
        ({"gateways": ["mesh"]}, True),
        ({"gateways": ["some-gateway"]}, False),
    ],
)
def test_what_is_known_of_the_caller_decides_beforehand(match: Json, applies: bool) -> None:
    spec = tcp({"match": [match], "route": [to("ratings")]}, gateways=["mesh", "some-gateway"])
    assert chains(virtual_services=spec) == [({}, [(RATINGS if applies else ITSELF, 1)], AN_HOUR)]


@pytest.mark.parametrize(
    ("spec", "applies"),
    [
        (tcp({"route": [to("ratings")]}, gateways=["mesh"]), True),
        (tcp({"route": [to("ratings")]}, gateways=["some-gateway"]), False),
        (tcp({"route": [to("ratings")]}, hosts=("*.bookinfo.svc.cluster.local",)), True),
        (tcp({"route": [to("ratings")]}, hosts=("details",)), False),
        (tcp({"route": [to("ratings.bookinfo.svc.cluster.local")]}, namespace="library"), False),
        (tcp({"route": [to("ratings.bookinfo")]}, hosts=("x.y", "db.bookinfo"), namespace="bookinfo"), False),
    ],
)
def test_a_rule_is_for_its_hosts_and_gateways(spec: list[Json], applies: bool) -> None:
    (found,) = chains(virtual_services=spec)
    assert (found[1] != [(ITSELF, 1)]) is applies


def test_a_rule_that_is_not_for_a_service_hides_none_that_is() -> None:
    other = istio("a", {"hosts": ["details"], "tcp": [{"route": [to("details")]}]})
    assert chains(virtual_services=[other, *tcp({"route": [to("ratings")]})]) == [({}, [(RATINGS, 1)], AN_HOUR)]


def test_the_first_rule_that_takes_all_is_the_last() -> None:
    subnet = {"match": [{"destinationSubnets": ["127.99.16.0/24"]}], "route": [to("ratings")]}
    everything, never = {"route": [to("details")]}, {"route": [to("productpage")]}
    found = chains(virtual_services=tcp(subnet, everything, never))
    assert found == [(SUBNET, [(RATINGS, 1)], AN_HOUR), ({}, [(DETAILS, 1)], AN_HOUR)]
    # What no rule takes goes to the Service.
    assert chains(virtual_services=tcp(subnet)) == [(SUBNET, [(RATINGS, 1)], AN_HOUR), ({}, [(ITSELF, 1)], AN_HOUR)]
    # A rule that does not apply ends nothing.
    skipped = {"match": [{"port": 1}, {"destinationSubnets": ["127.99.16.0/24"]}], "route": [to("ratings")]}
    assert chains(virtual_services=tcp(skipped))[0] == (SUBNET, [(RATINGS, 1)], AN_HOUR)


def test_of_two_chains_with_one_match_the_first_is_meant() -> None:
    subnet = [{"destinationSubnets": ["127.99.16.0/24"]}]
    rules = [{"match": subnet, "route": [to(host)]} for host in ("ratings", "details")]
    found = chains(virtual_services=tcp(*rules))
    assert found == [(SUBNET, [(RATINGS, 1)], AN_HOUR), ({}, [(ITSELF, 1)], AN_HOUR)]


def test_tls_is_told_by_server_name_before_bytes() -> None:
    names = ("db", "db.bookinfo.svc.cluster.local")
    named = {"match": [{"sniHosts": [names[1]]}], "route": [to("ratings")]}
    found = chains(port="tls", virtual_services=tls(named, hosts=names[1:]))
    # Other names are nobody's once a rule speaks of some.
    rest = ({}, [("PassthroughCluster", 1)], AN_HOUR)
    assert found == [({"server_names": [names[1]]}, [(RATINGS, 1)], AN_HOUR), rest]
    elsewhere = {"match": [{"port": 1, "sniHosts": [names[1]]}], "route": [to("ratings")]}
    within = {"match": [{"sniHosts": ["db"], "destinationSubnets": ["127.99.16.0/24"]}], "route": [to("details")]}
    found = chains(port="tls", virtual_services=tls(elsewhere, within, named, hosts=names))
    assert [match for match, _, _ in found] == [{"server_names": ["db"], **SUBNET}, {"server_names": [names[1]]}, {}]


def outside(name: str, protocol: str, host: str) -> Json:
    port = {"number": 7443, "name": protocol.lower(), "protocol": protocol}
    return istio(name, {"hosts": [host], "ports": [port], "resolution": "DNS"})


@pytest.mark.parametrize(
    ("mesh", "nowhere"),
    [("", "PassthroughCluster"), ("outboundTrafficPolicy: {mode: REGISTRY_ONLY}", "BlackHoleCluster")],
)
def test_hosts_without_an_address_share_a_port_by_server_name(mesh: str, nowhere: str) -> None:
    entries = [outside("a", "TLS", "a.test"), outside("b", "HTTPS", "b.test")]
    rule = {"match": [{"port": 7443, "sniHosts": ["x.b.test"]}], "route": [to("b.test")]}
    found = chains(
        "0.0.0.0_7443", mesh=mesh, service_entries=entries, virtual_services=tls(rule, hosts=("b.test", "*.b.test"))
    )
    assert found == [
        ({"server_names": ["a.test"]}, [("outbound|7443||a.test", 1)], AN_HOUR),
        ({"server_names": ["x.b.test"]}, [("outbound|7443||b.test", 1)], AN_HOUR),
        ({}, [(nowhere, 1)], AN_HOUR),
    ]


def test_of_hosts_that_nothing_tells_apart_the_first_is_served() -> None:
    entries = [outside("a", "TCP", "a.test"), outside("b", "TCP", "b.test")]
    assert chains("0.0.0.0_7443", service_entries=entries) == [({}, [("outbound|7443||a.test", 1)], AN_HOUR)]


def filters(listener: str = DB, **objects: Any) -> list[Json]:
    """All filters of a listener's first chain."""
    db = service("db", ("tcp", 3306), ip="127.99.16.9")
    snap = snapshot(services=[db], **objects)
    body = translate(snap, workload(snap, "productpage-v1")).listeners[listener]
    found: list[Json] = json.loads(body)["filter_chains"][0]["filters"]
    return found


def test_what_several_share_is_counted_by_the_first() -> None:
    (proxy,) = filters(virtual_services=tcp({"route": [to("ratings", 80), to("details", 20)]}))
    assert proxy["typed_config"]["stat_prefix"] == RATINGS


def test_a_wildcard_of_tls_is_resolved_by_the_name_that_is_asked_for() -> None:
    wild = outside("wild", "TLS", "*.wild.test")
    wild["spec"]["resolution"] = "DYNAMIC_DNS"
    by_name, proxy = filters("0.0.0.0_7443", service_entries=[wild])
    assert by_name == {
        "name": "envoy.filters.network.sni_dynamic_forward_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig",
            "port_value": 7443,
            "dns_cache_config": {"name": "*.wild.test_dfp_dns_cache", "dns_lookup_family": "V4_ONLY"},
        },
    }
    assert proxy["typed_config"]["cluster"] == "outbound|7443||*.wild.test"
    # Fixed servers need none of it.
    assert [one["name"] for one in filters("0.0.0.0_7443", service_entries=[outside("a", "TLS", "a.test")])] == [
        "envoy.filters.network.tcp_proxy"
    ]


def test_what_is_about_requests_or_at_a_gateway_hides_no_rule_for_bytes() -> None:
    requests = istio("a", {"hosts": ["db"], "http": [{"route": [to("details")]}]})
    outside_only = istio("b", {"hosts": ["db"], "gateways": ["some-gateway"], "tcp": [{"route": [to("details")]}]})
    found = chains(virtual_services=[requests, outside_only, *tcp({"route": [to("ratings")]})])
    assert found == [({}, [(RATINGS, 1)], AN_HOUR)]


IDLE = [
    istio(
        "ratings",
        {
            "host": "ratings",
            "trafficPolicy": {"connectionPool": {"tcp": {"idleTimeout": "7s"}}},
            "subsets": [{"name": "v1", "trafficPolicy": {"connectionPool": {"tcp": {"idleTimeout": "8s"}}}}],
        },
    ),
    istio("details", {"host": "details", "trafficPolicy": {"connectionPool": {"tcp": {"idleTimeout": "9s"}}}}),
]


@pytest.mark.parametrize(
    ("targets", "idle"),
    [
        ([("ratings", "", None)], "7s"),
        ([("ratings", "v1", None)], "8s"),
        # Of several the first decides, and no subset by itself.
        ([("ratings", "v1", 50), ("details", "", 50)], "7s"),
        ([("details", "", 50), ("ratings", "v1", 50)], "9s"),
        # What weighs nothing is none of them.
        ([("details", "", 0), ("ratings", "v1", 100)], "8s"),
    ],
)
def test_how_long_a_connection_may_be_idle_is_what_the_first_target_says(
    targets: list[tuple[str, str, int | None]], idle: str
) -> None:
    route = []
    for host, subset, weight in targets:
        one = to(host, weight)
        one["destination"] |= {"subset": subset} if subset else {}
        route.append(one)
    (found,) = chains(virtual_services=tcp({"route": route}), destination_rules=IDLE)
    assert found[2] == idle


@pytest.mark.parametrize(("host", "port"), [("ratings", 1234), ("nobody.test", 9080)])
def test_of_what_is_not_there_nothing_is_known(host: str, port: int) -> None:
    target = {"destination": {"host": host, "port": {"number": port}}}
    name = "ratings.bookinfo.svc.cluster.local" if host == "ratings" else host
    found = chains(virtual_services=tcp({"route": [target]}), destination_rules=IDLE)
    assert found == [({}, [(f"outbound|{port}||{name}", 1)], AN_HOUR)]
    (proxy,) = filters(virtual_services=tcp({"route": [target]}))
    assert not {"hash_policy", "tunneling_config"} & set(proxy["typed_config"])


def test_a_server_name_for_another_port_hides_none_that_follows() -> None:
    name = "db.bookinfo.svc.cluster.local"
    matches = [{"port": 1, "sniHosts": [name]}, {"sniHosts": [name]}]
    found = chains(port="tls", virtual_services=tls({"match": matches, "route": [to("ratings")]}, hosts=(name,)))
    assert found == [({"server_names": [name]}, [(RATINGS, 1)], AN_HOUR), ({}, [("PassthroughCluster", 1)], AN_HOUR)]


def test_what_several_rules_say_of_an_address_is_what_the_first_says() -> None:
    """However it is written, and of each address alone: Envoy refuses a listener with two chains for one."""
    subnets = [["127.99.16.0/24", "127.99.16.5/24"], ["127.99.17.0/24", "127.99.16.9/24"], ["127.99.17.7/24"]]
    rules = [
        {"match": [{"destinationSubnets": some}], "route": [to(host)]}
        for some, host in zip(subnets, ("ratings", "details", "ratings"), strict=True)
    ]
    other = {"prefix_ranges": [{"address_prefix": "127.99.17.0", "prefix_len": 24}]}
    assert chains(virtual_services=tcp(*rules)) == [
        (SUBNET, [(RATINGS, 1)], AN_HOUR),
        (other, [(DETAILS, 1)], AN_HOUR),
        ({}, [(ITSELF, 1)], AN_HOUR),
    ]
