# SPDX-License-Identifier: Apache-2.0
"""What each operation of an EnvoyFilter makes of listeners, and of what is in them."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.mesh.envoy_filters import unplayed

from .patching import HCM, MANAGER, OWN, Obj, envoy_filter, http_filters, made, patch, read


def outbound(*filters: Obj) -> list[str]:
    return http_filters(read(made(*filters).config.listeners, "0.0.0.0_9080"))


def inbound(*filters: Obj) -> list[str]:
    return http_filters(read(made(*filters).config.listeners, "virtualInbound_9080"))


def in_chain(sub: str = "", **listener: Any) -> Obj:
    inner: Obj = {"name": MANAGER, **({"subFilter": {"name": sub}} if sub else {})}
    return {"listener": {**listener, "filterChain": {"filter": inner}}}


CORS, FAULT, ROUTER = (f"envoy.filters.http.{name}" for name in ("cors", "fault", "router"))
PROTOCOL, PEER = "istio.request_protocol", "istio.peer_headers"


@pytest.mark.parametrize(
    ("operation", "sub", "expected"),
    [
        ("INSERT_BEFORE", ROUTER, [PROTOCOL, PEER, FAULT, CORS, "own", ROUTER]),
        ("INSERT_BEFORE", "envoy.router", [PROTOCOL, PEER, FAULT, CORS, ROUTER]),
        ("INSERT_BEFORE", "istio.stats", [PROTOCOL, PEER, FAULT, CORS, "own", ROUTER]),
        ("INSERT_BEFORE", FAULT, [PROTOCOL, PEER, "own", FAULT, CORS, ROUTER]),
        ("INSERT_AFTER", FAULT, [PROTOCOL, PEER, FAULT, "own", CORS, ROUTER]),
        ("INSERT_AFTER", "istio.metadata_exchange", [PROTOCOL, PEER, "own", FAULT, CORS, ROUTER]),
        ("INSERT_BEFORE", "", ["own", PROTOCOL, PEER, FAULT, CORS, ROUTER]),
        ("INSERT_AFTER", "", [PROTOCOL, PEER, FAULT, CORS, ROUTER, "own"]),
        ("INSERT_FIRST", "", ["own", PROTOCOL, PEER, FAULT, CORS, ROUTER]),
        ("ADD", "", [PROTOCOL, PEER, FAULT, CORS, ROUTER, "own"]),
        ("REPLACE", FAULT, [PROTOCOL, PEER, "own", CORS, ROUTER]),
        ("REMOVE", FAULT, [PROTOCOL, PEER, CORS, ROUTER]),
        ("INSERT_BEFORE", "unknown", [PROTOCOL, PEER, FAULT, CORS, ROUTER]),
        ("REMOVE", "", [PROTOCOL, PEER, FAULT, CORS, ROUTER]),
    ],
)
def test_http_filters(operation: str, sub: str, expected: list[str]) -> None:
    assert outbound(envoy_filter(patch("HTTP_FILTER", operation, OWN, **in_chain(sub)))) == expected


@pytest.mark.parametrize(
    ("kind", "after"),
    [("AUTHN", "istio.strip_peer_headers"), ("AUTHZ", "istio.rbac.allow"), ("STATS", CORS)],
)
def test_a_filter_class_says_after_what_a_filter_belongs(kind: str, after: str) -> None:
    one = patch("HTTP_FILTER", "INSERT_BEFORE", OWN, **in_chain())
    one["patch"]["filterClass"] = kind
    names = inbound(envoy_filter(one))
    before = inbound()
    assert names == [*before[: names.index("own")], "own", *before[names.index("own") :]]
    if kind != "AUTHN":
        assert names[names.index("own") - 1] == after
    else:
        assert names[names.index("own") + 1] == "istio.rbac.deny"


def test_istios_filters_of_authorization_are_one_place() -> None:
    names = inbound(envoy_filter(patch("HTTP_FILTER", "INSERT_AFTER", OWN, **in_chain("envoy.filters.http.rbac"))))
    assert names[names.index("own") - 1] == "istio.rbac.allow"
    names = inbound(envoy_filter(patch("HTTP_FILTER", "INSERT_BEFORE", OWN, **in_chain("istio_authn"))))
    assert names[names.index("own") + 1] == "istio.rbac.deny"


@pytest.mark.parametrize(
    ("match", "hit"),
    [
        ({"context": "SIDECAR_INBOUND"}, {"virtualInbound_9080"}),
        ({"context": "SIDECAR_OUTBOUND"}, {"0.0.0.0_9080", "0.0.0.0_80", "http_proxy"}),
        ({"context": "GATEWAY"}, set()),
        ({"listener": {"portNumber": 9080}}, {"virtualInbound_9080", "0.0.0.0_9080"}),
        ({"listener": {"name": "virtualInbound"}}, {"virtualInbound_9080"}),
        ({"listener": {"name": "0.0.0.0_9080"}}, {"0.0.0.0_9080"}),
        ({"listener": {"filterChain": {"transportProtocol": "tls"}}}, {"virtualInbound_9080"}),
        ({"listener": {"filterChain": {"name": "0.0.0.0_9080"}}}, {"virtualInbound_9080"}),
        ({"listener": {"filterChain": {"sni": "a.test"}}}, set()),
        ({"listener": {"filterChain": {"destinationPort": 9080}}}, {"virtualInbound_9080", "0.0.0.0_9080"}),
        ({"listener": {"filterChain": {"applicationProtocols": "h2c"}}}, set()),
        ({"listener": {"filterChain": {"filter": {"name": "envoy.tcp_proxy"}}}}, set()),
        ({"proxy": {"proxyVersion": r"^1\.30.*"}, "context": "SIDECAR_INBOUND"}, {"virtualInbound_9080"}),
        ({"proxy": {"proxyVersion": r"^1\.29.*"}}, set()),
        ({"proxy": {"metadata": {"NAMESPACE": "bookinfo"}}, "context": "SIDECAR_INBOUND"}, {"virtualInbound_9080"}),
        ({"proxy": {"metadata": {"NAMESPACE": "other"}}}, set()),
    ],
)
def test_a_match_finds_listeners_by_what_istio_calls_them(match: Obj, hit: set[str]) -> None:
    before = made().config.listeners
    after = made(envoy_filter(patch("HTTP_FILTER", "INSERT_FIRST", OWN, **match))).config.listeners
    assert {name for name in after if after[name] != before[name]} == hit


def test_filters_of_the_network() -> None:
    values: Obj = {"typed_config": {"@type": HCM, "xffNumTrustedHops": 2, "stream_idle_timeout": "7s"}}
    match = {"listener": {"filterChain": {"filter": {"name": MANAGER}}}}
    one = patch("NETWORK_FILTER", "MERGE", values, "SIDECAR_OUTBOUND", **match)
    manager = read(made(envoy_filter(one)).config.listeners, "0.0.0.0_9080")["filter_chains"][0]["filters"][0]
    config = manager["typed_config"]
    assert (config["xff_num_trusted_hops"], config["stream_idle_timeout"]) == (2, "7s")
    assert config["stat_prefix"] == "outbound_0.0.0.0_9080;"
    first = patch("NETWORK_FILTER", "INSERT_FIRST", OWN, "SIDECAR_INBOUND", listener={"portNumber": 9080})
    for chain in read(made(envoy_filter(first)).config.listeners, "virtualInbound_9080")["filter_chains"]:
        names = [one["name"] for one in chain["filters"]]
        # Where no certificate is asked for, who calls is looked at before all else.
        assert names.index("own") == (0 if chain["name"].endswith("_mtls") else 2)
        assert names[:2] == (["own", MANAGER] if names[0] == "own" else ["labkit.ends", "labkit.own_user"])


def test_filters_are_merged_after_all_else() -> None:
    merge = patch("HTTP_FILTER", "MERGE", {**OWN, "name": "renamed", "disabled": True}, **in_chain("own"))
    first = patch("HTTP_FILTER", "INSERT_FIRST", OWN, **in_chain())
    assert outbound(envoy_filter(merge, first))[0] == "renamed"


def test_chains() -> None:
    match = {"listener": {"portNumber": 9080, "filterChain": {"transportProtocol": "raw_buffer"}}}
    gone = patch("FILTER_CHAIN", "REMOVE", None, "SIDECAR_INBOUND", **match)
    merge = patch("FILTER_CHAIN", "MERGE", {"transport_socket_connect_timeout": "3s"}, "SIDECAR_INBOUND")
    add = patch("FILTER_CHAIN", "ADD", {"name": "new", "filters": [OWN]}, "SIDECAR_INBOUND")
    before = [one["name"] for one in read(made().config.listeners, "virtualInbound_9080")["filter_chains"]]
    chains = read(made(envoy_filter(gone, merge, add)).config.listeners, "virtualInbound_9080")["filter_chains"]
    assert [one["name"] for one in chains] == [*(n for n in before if n != "9080_plain"), "new"]
    assert {one.get("transport_socket_connect_timeout") for one in chains[:-1]} == {"3s"}
    assert [one["name"] for one in chains[-1]["filters"]] == ["labkit.ends", "labkit.own_user", "own"]


def test_listeners() -> None:
    address = {"socketAddress": {"address": "0.0.0.0", "portValue": 7777}}
    limit = {"per_connection_buffer_limit_bytes": 5, "name": "other", "address": address}
    patches = (
        patch("LISTENER", "MERGE", limit, "SIDECAR_INBOUND", listener={"name": "virtualInbound", "portNumber": 15006}),
        patch("LISTENER", "REMOVE", None, "SIDECAR_OUTBOUND", listener={"portNumber": 9080}),
        patch("LISTENER", "ADD", {"name": "new", "address": address, "filterChains": [{"filters": [OWN]}]}),
        patch("LISTENER_FILTER", "INSERT_FIRST", OWN, "SIDECAR_INBOUND"),
    )
    result = made(envoy_filter(*patches))
    body = read(result.config.listeners, "virtualInbound_9080")
    assert (body["per_connection_buffer_limit_bytes"], body["name"]) == (5, "virtualInbound_9080")
    assert body["address"]["socket_address"]["address"] == "127.99.64.1"
    assert body["listener_filters"][0] == OWN
    assert "0.0.0.0_9080" not in result.config.listeners
    new = read(result.config.listeners, "new")
    assert new["address"] == {"socket_address": {"address": "127.99.64.1", "port_value": 7777}}
    assert [one["name"] for one in new["filter_chains"][0]["filters"]] == ["labkit.ends", "labkit.own_user", "own"]
    assert {index for _, index in result.hits} == {0, 1, 2, 3}


def test_a_filter_that_is_found_by_name_has_its_configuration_at_once() -> None:
    looked_up = {"name": "own", "configDiscovery": {"configSource": {"ads": {}}, "typeUrls": ["x"]}}
    patches = (
        patch("EXTENSION_CONFIG", "ADD", OWN),
        patch("HTTP_FILTER", "INSERT_FIRST", looked_up, "SIDECAR_OUTBOUND", listener={"portNumber": 9080}),
    )
    body = read(made(envoy_filter(*patches)).config.listeners, "0.0.0.0_9080")
    assert body["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"][0] == OWN


def old_form(position: Obj | None = None, **match: Any) -> Obj:
    one: Obj = {"filterName": "envoy.lua", "filterType": "HTTP", "filterConfig": {"inlineCode": "x"}}
    if position is not None:
        one["insertPosition"] = position
    return {
        "kind": "EnvoyFilter",
        "metadata": {"name": "f", "namespace": "bookinfo"},
        "spec": {"filters": [{**one, "listenerMatch": match}]},
    }


@pytest.mark.parametrize(
    ("position", "neighbours"),
    [
        (None, ["own", PROTOCOL]),
        ({"index": "BEFORE", "relativeTo": "envoy.router"}, ["own", ROUTER]),
        ({"index": "BEFORE", "relativeTo": "mixer"}, ["own", ROUTER]),
        ({"index": "AFTER", "relativeTo": "envoy.cors"}, ["own", FAULT]),
        ({"index": "LAST"}, []),
    ],
)
def test_lua_in_the_form_of_istio_1_2(position: Obj | None, neighbours: list[str]) -> None:
    found = made(old_form(position, portNumber=9080, listenerType="SIDECAR_OUTBOUND"), legacy=True).config.listeners
    names = http_filters(read(found, "0.0.0.0_9080"))
    lua = "envoy.filters.http.lua"
    found_there = names[names.index(lua) :][:2] if lua in names else []
    assert ["own" if name == lua else name for name in found_there] == neighbours
    assert lua not in http_filters(read(found, "127.99.64.1_9080"))


def test_the_form_of_istio_1_2_says_what_comes_of_it() -> None:
    assert list(unplayed(old_form({"index": "LAST"})["spec"], legacy=True)) == [
        "filters[0]: insertPosition LAST has no effect: envoy.router before it ends the chain, in Istio as"
    ]
    assert list(unplayed(old_form(listenerProtocol="TCP")["spec"], legacy=True)) == [
        "filters[0]: listenerProtocol TCP has no effect: HTTP filters are in HTTP listeners only, in Istio as"
    ]
    assert list(unplayed(old_form(listenerProtocol="HTTP", portNamePrefix="http")["spec"], legacy=True)) == [
        "filters[0]: listenerMatch.portNamePrefix has no effect: the filter is inserted without it"
    ]
