# SPDX-License-Identifier: Apache-2.0
"""Gateways and their VirtualServices as listeners and tables, without any Envoy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshbox.addresses import LOW_PORT_SHIFT, AddressPlan
from meshbox.mesh.translate import Config, translate

from .objects import istio, pod, snapshot, workload

Json = dict[str, Any]

TO_PRODUCTPAGE = [{"route": [{"destination": {"host": "productpage", "port": {"number": 9080}}}]}]


def gateway_pod(**extra: Any) -> Json:
    return pod(
        "ingress",
        "127.99.70.1",
        namespace="istio-system",
        role="router",
        app="istio-ingressgateway",
        istio="ingressgateway",
        **extra,
    )


def server(number: int = 80, protocol: str = "HTTP", hosts: tuple[str, ...] = ("*",), **fields: Any) -> Json:
    return {
        "port": {"number": number, "name": f"{protocol.lower()}-{number}", "protocol": protocol},
        "hosts": list(hosts),
        **fields,
    }


def gateway(*servers: Json, name: str = "gw", age: int = 0, namespace: str = "bookinfo") -> Json:
    return istio(name, {"selector": {"istio": "ingressgateway"}, "servers": list(servers)}, namespace, age)


def routed(
    *hosts: str, gateways: tuple[str, ...] = ("gw",), name: str = "vs", age: int = 0, http: Any = TO_PRODUCTPAGE
) -> Json:
    return istio(name, {"hosts": list(hosts), "gateways": list(gateways), "http": http}, age=age)


def config(*, legacy: bool = False, **objects: Any) -> Config:
    snap = snapshot(legacy=legacy, pods=[objects.pop("gateway_pod", gateway_pod())], **objects)
    return translate(snap, workload(snap, "ingress", "istio-system"))


def table(found: Config, name: str) -> dict[str, Json]:
    return {h["name"]: h for h in json.loads(found.routes[name])["virtual_hosts"]}


def test_the_walk_throughs_gateway() -> None:
    found = config(legacy=True, gateways=[gateway(server(80))], virtual_services=[routed("*")])
    assert list(found.listeners) == ["0.0.0.0_80"]
    host = table(found, "http.80")["*:80"]
    assert host["domains"] == ["*"]
    assert host["routes"][0]["route"]["cluster"] == "outbound|9080||productpage.bookinfo.svc.cluster.local"


@pytest.mark.parametrize("name", ["gw", "bookinfo/gw", "gw.bookinfo", "gw.bookinfo.svc.cluster.local", "gw.bookinfo.x"])
def test_every_form_of_its_name_is_known_also_in_matches(name: str) -> None:
    rule = {**TO_PRODUCTPAGE[0], "match": [{"gateways": [name]}]}
    found = config(gateways=[gateway(server(8080))], virtual_services=[routed("*", gateways=(name,), http=[rule])])
    (route,) = table(found, "http.8080")["*:8080"]["routes"]
    assert route["route"]["cluster"] == "outbound|9080||productpage.bookinfo.svc.cluster.local"


def test_a_gateway_for_other_pods_is_not_served_here() -> None:
    other = istio("gw", {"selector": {"istio": "egressgateway"}, "servers": [server()]})
    assert config(gateways=[other]).listeners == {}


def test_a_gateway_without_virtual_services_answers_404() -> None:
    # Envoy's own answer where there is no route, with the flag NR; in 2019 a route's, which has none.
    assert table(config(gateways=[gateway(server(8080))]), "http.8080")["blackhole:8080"]["routes"] == []
    legacy = table(config(legacy=True, gateways=[gateway(server(80))]), "http.80")["blackhole:80"]
    assert legacy["routes"][0]["direct_response"] == {"status": 404}


def test_low_ports_are_bound_where_they_can_be() -> None:
    found = config(gateways=[gateway(server(80))], plan=AddressPlan(99, low_ports=False))
    listener = json.loads(found.listeners["0.0.0.0_80"])
    assert listener["address"]["socket_address"] == {"address": "127.99.70.1", "port_value": 80 + LOW_PORT_SHIFT}


def test_an_unprivileged_gateway_pod_leaves_low_ports_out() -> None:
    unprivileged = gateway_pod()
    unprivileged["spec"]["containers"][-1]["env"] = [{"name": "ISTIO_META_UNPRIVILEGED_POD", "value": "true"}]
    found = config(gateways=[gateway(server(80), server(8080))], gateway_pod=unprivileged)
    assert list(found.listeners) == ["0.0.0.0_8080"]


@pytest.mark.parametrize(
    ("offered", "asked", "served"),
    [
        ("*", "a.example.com", "a.example.com"),
        ("*.example.com", "a.example.com", "a.example.com"),
        ("a.example.com", "*.example.com", "a.example.com"),
        ("a.example.com", "*", "a.example.com"),
        ("b.example.com", "a.example.com", ""),
        ("bookinfo/*", "a.example.com", "a.example.com"),
        ("other/*", "a.example.com", ""),
        ("./*", "a.example.com", "a.example.com"),
    ],
)
def test_hosts_are_what_gateway_and_virtual_service_agree_on(offered: str, asked: str, served: str) -> None:
    found = config(gateways=[gateway(server(8080, hosts=(offered,)))], virtual_services=[routed(asked)])
    names = set(table(found, "http.8080"))
    assert names == ({f"{served}:8080"} if served else {"blackhole:8080"})


def test_virtual_services_of_one_host_are_taken_together_and_catch_alls_go_last() -> None:
    whole = routed("*", name="whole", age=0)
    part = routed("*", name="part", age=1, http=[{"match": [{"uri": {"prefix": "/x"}}], **TO_PRODUCTPAGE[0]}])
    routes = table(config(gateways=[gateway(server(8080))], virtual_services=[whole, part]), "http.8080")["*:8080"][
        "routes"
    ]
    assert [r["match"]["prefix"] for r in routes] == ["/x", "/"]


@pytest.mark.parametrize("name", ["gw", "bookinfo/gw", "gw.bookinfo.svc.cluster.local"])
def test_gateways_are_named_in_three_ways(name: str) -> None:
    found = config(gateways=[gateway(server(8080))], virtual_services=[routed("*", gateways=(name,))])
    assert "*:8080" in table(found, "http.8080")


def test_a_match_can_ask_for_one_of_two_gateways() -> None:
    http = [
        {"match": [{"gateways": ["one"]}], "redirect": {"uri": "/one"}},
        {"match": [{"gateways": ["two"]}], "redirect": {"uri": "/two"}},
    ]
    found = config(
        gateways=[gateway(server(8080), name="one"), gateway(server(8081), name="two")],
        virtual_services=[routed("*", gateways=("one", "two"), http=http)],
    )
    assert [r["redirect"]["path_redirect"] for r in table(found, "http.8080")["*:8080"]["routes"]] == ["/one"]
    assert [r["redirect"]["path_redirect"] for r in table(found, "http.8081")["*:8081"]["routes"]] == ["/two"]


def test_https_redirect() -> None:
    found = config(gateways=[gateway(server(8080, tls={"httpsRedirect": True}))], virtual_services=[routed("*")])
    assert table(found, "http.8080")["*:8080"]["require_tls"] == "ALL"


def test_tls_is_chosen_by_server_name() -> None:
    tls = {"mode": "SIMPLE", "credentialName": "shop"}
    servers = [server(8443, "HTTPS", ("a.example.com",), tls=tls)]
    objects: Json = {"gateways": [gateway(*servers)], "virtual_services": [routed("a.example.com")]}
    found = config(**objects)
    chain = json.loads(found.listeners["0.0.0.0_8443"])["filter_chains"][0]
    assert chain["filter_chain_match"] == {"server_names": ["a.example.com"]}
    context = chain["transport_socket"]["typed_config"]["common_tls_context"]
    assert context["tls_certificate_sds_secret_configs"][0]["name"] == "kubernetes://shop"
    assert "https.8443.https-8443.gw.bookinfo" in found.routes


@pytest.mark.parametrize(("named", "root"), [({}, "shop"), ({"caCertCredentialName": "clients"}, "clients")])
def test_who_may_call_stands_in_the_servers_secret_or_in_one_of_its_own(named: Json, root: str) -> None:
    tls = {"mode": "MUTUAL", "credentialName": "shop", **named}
    secret = {"metadata": {"name": "shop", "namespace": "istio-system"}, "data": {"cert": "", "key": ""}}
    found = config(gateways=[gateway(server(8443, "HTTPS", ("a.example.com",), tls=tls))], secrets=[secret])
    (chain,) = json.loads(found.listeners["0.0.0.0_8443"])["filter_chains"]
    context = chain["transport_socket"]["typed_config"]["common_tls_context"]
    wanted = context["combined_validation_context"]["validation_context_sds_secret_config"]["name"]
    assert wanted == f"kubernetes://{root}-cacert"


def test_tls_can_pass_through_by_server_name() -> None:
    servers = [server(8443, "TLS", ("a.example.com",), tls={"mode": "PASSTHROUGH"})]
    spec = {
        "hosts": ["a.example.com"],
        "gateways": ["gw"],
        "tls": [{"match": [{"sniHosts": ["a.example.com"]}], "route": [{"destination": {"host": "details"}}]}],
    }
    found = config(gateways=[gateway(*servers)], virtual_services=[istio("vs", spec)])
    chain = json.loads(found.listeners["0.0.0.0_8443"])["filter_chains"][0]
    assert chain["filter_chain_match"] == {"server_names": ["a.example.com"]}
    assert "transport_socket" not in chain
    assert chain["filters"][-1]["typed_config"]["cluster"] == "outbound|9080||details.bookinfo.svc.cluster.local"


def test_any_server_name_is_any_tls() -> None:
    servers = [server(8443, "TLS", ("*",), tls={"mode": "PASSTHROUGH"})]
    route = [{"destination": {"host": "details"}}]
    spec = {"hosts": ["*"], "gateways": ["gw"], "tls": [{"match": [{"sniHosts": ["*"]}], "route": route}]}
    found = config(gateways=[gateway(*servers)], virtual_services=[istio("vs", spec)])
    (chain,) = json.loads(found.listeners["0.0.0.0_8443"])["filter_chains"]
    assert chain["filter_chain_match"] == {"transport_protocol": "tls"}


def test_tcp_servers_share_connections_by_weight() -> None:
    route = [
        {"destination": {"host": "details"}, "weight": 80},
        {"destination": {"host": "ratings"}, "weight": 20},
    ]
    spec = {"hosts": ["*"], "gateways": ["gw"], "tcp": [{"match": [{"port": 31400}], "route": route}]}
    found = config(gateways=[gateway(server(31400, "TCP"))], virtual_services=[istio("vs", spec)])
    proxy = json.loads(found.listeners["0.0.0.0_31400"])["filter_chains"][0]["filters"][-1]["typed_config"]
    assert [(c["name"].split("|")[-1].split(".")[0], c["weight"]) for c in proxy["weighted_clusters"]["clusters"]] == [
        ("details", 80),
        ("ratings", 20),
    ]
