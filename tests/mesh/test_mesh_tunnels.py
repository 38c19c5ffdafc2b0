# SPDX-License-Identifier: Apache-2.0
"""Tunnels that a client asks a sidecar's HTTP proxy for: they lead where rules lead the connections themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.translate import translate
from meshbox.mesh.unplayed import unplayed

from .objects import istio, service, snapshot, workload

Json = dict[str, Any]

WAY = "outbound|443||out.bookinfo.svc.cluster.local"
OWN = "outbound|443||api.test"
OUT = {"destination": {"host": "out", "port": {"number": 443}}}
MORE = {"destination": {"host": "api.test", "port": {"number": 443}}}
ANYBODY = "PassthroughCluster_by_name"


def entry(host: str, protocol: str = "TLS", **fields: Any) -> Json:
    ports = [{"number": 443, "name": "tls", "protocol": protocol}]
    return istio(host.replace("*", "any"), {"hosts": [host], "ports": ports, "resolution": "DNS", **fields})


def rule(host: str, route: list[Json], sections: str = "tls", **match: Any) -> Json:
    names = {"sniHosts": [host]} if sections == "tls" else {}
    return istio("r", {"hosts": [host], sections: [{"match": [{**names, **match}], "route": route}]})


def leads(*rules: Json, entries: list[Json], legacy: bool = False, **more: Any) -> dict[str, Any]:
    """Which name with a port leads to which clusters."""
    given = {"services": [service("out", ("tls", 443))], "service_entries": entries, "virtual_services": list(rules)}
    return led(snapshot(legacy=legacy, **given, **more))


def led(snap: Snapshot, source: str = "productpage-v1") -> dict[str, Any]:
    table = json.loads(translate(snap, workload(snap, source)).routes["http_proxy"])
    found: dict[str, Any] = {}
    for host in table["virtual_hosts"]:
        first = host["routes"][0]
        if first["name"] == "tunnel":
            route = first["route"]
            several = route.get("weighted_clusters", {}).get("clusters")
            to = [(one["name"], one["weight"]) for one in several] if several else route["cluster"]
            found |= dict.fromkeys(host["domains"], to)
    return found


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", ["TLS", "HTTPS"])
def test_a_tunnel_goes_where_the_rule_for_its_server_name_leads(protocol: str, legacy: bool) -> None:
    given = [entry("api.test", protocol)]
    assert leads(entries=given, legacy=legacy)["api.test:443"] == OWN
    assert leads(rule("api.test", [OUT]), entries=given, legacy=legacy)["api.test:443"] == WAY


def test_several_targets_have_their_shares() -> None:
    route = [{**OUT, "weight": 80}, {**MORE, "weight": 20}]
    assert leads(rule("api.test", route), entries=[entry("api.test")])["api.test:443"] == [(WAY, 80), (OWN, 20)]


@pytest.mark.parametrize("match", [{"port": 8443}, {"gateways": ["elsewhere"]}, {"sourceLabels": {"app": "other"}}])
def test_a_rule_that_is_for_others_leaves_it_where_it_was(match: Json) -> None:
    # Where rules are for some names of TLS only, the rest is nobody's: it passes by name.
    found = leads(rule("api.test", [OUT], **match), entries=[entry("api.test")])
    assert found["api.test:443"] == OWN


@pytest.mark.parametrize("sections", ["tls", "tcp"])
def test_a_rule_may_be_for_the_tunnels_of_some_pods_of_a_namespace(sections: str) -> None:
    only = rule("api.test", [OUT], sections, sourceLabels={"app": "productpage"})
    entries = [entry("api.test", "TLS" if sections == "tls" else "TCP", addresses=["10.1.2.3"])]
    snap = snapshot(services=[service("out", ("tls", 443))], service_entries=entries, virtual_services=[only])
    ways = {source: led(snap, source)["api.test:443"] for source in ("productpage-v1", "reviews-v1")}
    assert ways == {"productpage-v1": WAY, "reviews-v1": OWN}


def test_a_rule_for_a_wildcard_is_for_all_of_its_names_at_the_port_of_one() -> None:
    found = leads(rule("*.test", [OUT]), entries=[entry("www.test")])
    assert (found["www.test:443"], found["*.test:443"]) == (WAY, WAY)
    assert found["*"] == ANYBODY


def test_at_an_address_that_is_its_own_no_other_name_is_looked_for() -> None:
    found = leads(rule("*.test", [OUT]), entries=[entry("www.test", addresses=["10.1.2.3"])])
    assert found["www.test:443"] == WAY
    assert "*.test:443" not in found


def test_of_two_server_names_the_more_specific_one_counts() -> None:
    each = [("*.test", {"destination": {"host": "any.test"}}), ("www.test", OUT)]
    sections = [{"match": [{"sniHosts": [name]}], "route": [route]} for name, route in each]
    found = leads(istio("r", {"hosts": ["*.test"], "tls": sections}), entries=[entry("*.test", resolution="NONE")])
    assert (found["*.test:443"], found["www.test:443"]) == ("outbound|443||*.test", WAY)


@pytest.mark.parametrize(
    ("mesh", "clusters"), [("", OWN), ("outboundTrafficPolicy: {mode: REGISTRY_ONLY}", "BlackHoleCluster_by_tunnel")]
)
def test_a_name_that_no_rule_has_is_nobodys_where_only_the_registry_counts(mesh: str, clusters: str) -> None:
    section = {"match": [{"sniHosts": ["www.test"]}], "route": [OUT]}
    short = istio("r", {"hosts": ["*.test"], "tls": [section]})
    assert leads(short, entries=[entry("api.test")], mesh=mesh)["api.test:443"] == clusters


def test_bytes_that_are_no_tls_follow_tcp_rules() -> None:
    given = [entry("api.test", "TCP", addresses=["10.1.2.3"])]
    assert leads(rule("api.test", [OUT], "tcp"), entries=given)["api.test:443"] == WAY
    # For which part of the connections a rule with addresses would be is not known.
    near = rule("api.test", [OUT], "tcp", destinationSubnets=["10.1.2.0/24"])
    assert leads(near, entries=given)["api.test:443"] == OWN


@pytest.mark.parametrize(("protocol", "told"), [("POST", True), ("post", True), ("CONNECT", False), (None, False)])
def test_a_tunnel_by_post_is_told_not_to_hold_for_these(protocol: str | None, told: bool) -> None:
    tunnel = {"targetHost": "proxy.test", "targetPort": 443, **({"protocol": protocol} if protocol else {})}
    for policy in ({"trafficPolicy": {"tunnel": tunnel}}, {"subsets": [{"trafficPolicy": {"tunnel": tunnel}}]}):
        obj = {"kind": "DestinationRule", "metadata": {"name": "x"}, "spec": {"host": "api.test", **policy}}
        found = [words for words in unplayed(obj, legacy=False) if "is a tunnel already" in words]
        assert len(found) == told
