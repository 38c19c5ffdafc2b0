# SPDX-License-Identifier: Apache-2.0
"""Ports that several hosts share without an address that is theirs alone: ranges, server names, HTTP beside bytes."""

from __future__ import annotations

import pytest

from .listening import (
    HTTP,
    RAW,
    SPOKEN,
    TLS,
    entry,
    leads_to,
    listeners,
    rule,
    shortened,
    sniffed,
    to,
    virtual,
    within,
)
from .objects import istio, service


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


def test_a_range_that_two_hosts_have_is_looked_into_once() -> None:
    """Envoy refuses a listener with a chain that names a range twice, as it does one with two chains for it.

    Rules about server names are for ports of TLS alone.
    """
    names = ["a.test", "b.test"]
    by_name = [{"match": [{"sniHosts": [name]}], "route": to("ratings")} for name in names]
    entries = [entry("a.test", "", "10.1.0.0/16"), entry("b.test", "", "10.1.2.3/16", "10.2.0.0/16")]
    found = listeners(service_entries=entries, virtual_services=[istio("tls", {"hosts": names, "tls": by_name})])
    chains = shortened(found["0.0.0.0_7000"])["filter_chains"]
    assert [one.get("filter_chain_match") for one in chains] == [
        {**SPOKEN, **within("10.1.0.0/16", "10.2.0.0/16")},
        within("10.1.0.0/16"),
        within("10.2.0.0/16"),
        None,
    ]


@pytest.mark.parametrize("namespace", ["bookinfo", "library"])
def test_whose_servers_speak_first_leaves_a_port_to_requests(namespace: str) -> None:
    """Whichever comes first."""
    web = service("web", ("http", 7000), namespace=namespace)
    found = listeners(services=[web], service_entries=[entry("c.test", "MONGO", "10.2.0.0/16")])
    http = virtual("0.0.0.0_7000", {"filters": [("outbound_0.0.0.0_7000;", {"table": "7000"})]})
    assert shortened(found["0.0.0.0_7000"]) == http
