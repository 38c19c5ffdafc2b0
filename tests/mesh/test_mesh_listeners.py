# SPDX-License-Identifier: Apache-2.0
"""The listeners of a sidecar, without any Envoy: which there are, what they look at, and where each chain leads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshbox.addresses import AddressPlan
from meshbox.doors import peer_check
from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.translate import translate

from .objects import PLAN, istio, pod, service, snapshot, workload

Json = dict[str, Any]

HTTP_ALPN = ["http/1.1", "h2c"]
MESH_ALPN = ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"]


def listeners(source: str = "productpage-v1", *, legacy: bool = False, **objects: Any) -> dict[str, Json]:
    snap = snapshot(legacy=legacy, **objects)
    return {name: json.loads(body) for name, body in translate(snap, workload(snap, source)).listeners.items()}


def filters(chain: Json) -> list[str]:
    return [one["name"].removeprefix("envoy.filters.network.") for one in chain["filters"]]


def inspectors(listener: Json) -> list[str]:
    return [one["name"].removeprefix("envoy.filters.listener.") for one in listener.get("listener_filters", [])]


def matches(listener: Json) -> dict[str, Json]:
    return {chain.get("name", ""): chain.get("filter_chain_match", {}) for chain in listener["filter_chains"]}


def where(listener: Json) -> tuple[str, int]:
    found = listener["address"]["socket_address"]
    return found["address"], found["port_value"]


def test_what_an_application_calls_is_captured_and_handed_on_by_address() -> None:
    dns = service("dns", ("dns", 53))
    dns["spec"]["ports"][0]["protocol"] = "UDP"
    found = listeners(services=[service("db", ("tcp", 3306), ip="127.99.16.9"), dns])
    assert set(found) == {
        *("virtualOutbound", "http_proxy", "0.0.0.0_80", "0.0.0.0_9080", "127.99.16.9_3306", "virtualInbound_9080")
    }
    capture = found["virtualOutbound"]
    assert capture["address"] == {"pipe": {"path": "capture.sock", "mode": 0o600}}
    assert capture["use_original_dst"] is True
    assert inspectors(capture) == ["proxy_protocol"]
    for name, (address, number) in {
        "0.0.0.0_9080": ("0.0.0.0", 9080),
        "127.99.16.9_3306": ("127.99.16.9", 3306),
    }.items():
        assert (found[name]["name"], where(found[name])) == (name, (address, number))
        assert found[name]["bind_to_port"] is False
        assert found[name]["traffic_direction"] == "OUTBOUND"
    http = found["0.0.0.0_9080"]["filter_chains"][0]["filters"][0]["typed_config"]
    assert http["rds"]["route_config_name"] == "9080"


@pytest.mark.parametrize(
    ("mesh", "nowhere"),
    [("", "PassthroughCluster"), ("outboundTrafficPolicy: {mode: REGISTRY_ONLY}", "BlackHoleCluster")],
)
def test_what_nobody_knows_passes_or_is_dropped(mesh: str, nowhere: str) -> None:
    capture = listeners(mesh=mesh)["virtualOutbound"]
    assert matches(capture) == {
        # Who calls the capture's own port would go in a circle.
        "virtualOutbound-blackhole": {"destination_port": 15001},
        "virtualOutbound-catchall-tcp": {},
    }
    targets = [chain["filters"][-1]["typed_config"]["cluster"] for chain in capture["filter_chains"]]
    assert targets == ["BlackHoleCluster", nowhere]


def test_the_http_proxy_is_for_the_pods_own_programs() -> None:
    proxy = listeners()["http_proxy"]
    assert where(proxy) == ("127.99.128.1", 15001)
    assert proxy["traffic_direction"] == "OUTBOUND"
    (chain,) = proxy["filter_chains"]
    assert chain["filter_chain_match"] == {"source_prefix_ranges": [{"address_prefix": "127.0.0.1", "prefix_len": 32}]}
    manager = chain["filters"][-1]["typed_config"]
    assert manager["rds"]["route_config_name"] == "http_proxy"
    assert "envoy.filters.http.dynamic_forward_proxy" in [one["name"] for one in manager["http_filters"]]


def test_a_headless_service_is_each_of_its_pods() -> None:
    found = listeners(services=[service("db", ("tcp", 3306), clusterIP="None", selector={"app": "reviews"})])
    assert {name for name in found if name.endswith("_3306")} == {f"127.99.64.{n}_3306" for n in (4, 5, 6)}


def test_of_two_services_at_one_address_and_port_the_first_is_served() -> None:
    first, second = (
        istio(name, {"hosts": [f"{name}.test"], "addresses": ["127.99.16.200"], "resolution": "STATIC"})
        for name in "ab"
    )
    for one in (first, second):
        one["spec"] |= {
            "ports": [{"number": 7000, "name": "tcp", "protocol": "TCP"}],
            "endpoints": [{"address": "10.0.0.1"}],
        }
    (chain,) = listeners(service_entries=[first, second])["127.99.16.200_7000"]["filter_chains"]
    assert chain["filters"][-1]["typed_config"]["cluster"] == "outbound|7000||a.test"


def test_a_range_of_addresses_is_no_address() -> None:
    ports = [{"number": 7000, "name": "tcp", "protocol": "TCP"}]
    spec = {"hosts": ["far.test"], "addresses": ["10.1.0.0/16"], "ports": ports, "resolution": "NONE"}
    found = listeners(service_entries=[istio("far", spec)])
    assert [name for name in found if name.endswith("_7000")] == ["0.0.0.0_7000"]


def test_a_port_that_says_nothing_of_its_protocol_is_looked_into() -> None:
    found = listeners(services=[service("any", ("", 7000), ip="127.99.16.9")])["127.99.16.9_7000"]
    http, raw = found["filter_chains"]
    assert (http["name"], http["filter_chain_match"]) == ("http", {"application_protocols": HTTP_ALPN})
    assert http["filters"][0]["typed_config"]["rds"]["route_config_name"] == "7000"
    assert filters(raw) == ["istio.raw_bytes", "tcp_proxy"]
    assert inspectors(found) == ["http_inspector"]
    assert found["listener_filters_timeout"] == "0.1s"
    assert found["continue_on_listener_filters_timeout"] is True


def test_server_names_are_looked_for_where_a_rule_asks_for_them() -> None:
    spec = {
        "hosts": ["db"],
        "tls": [{"match": [{"sniHosts": ["db"]}], "route": [{"destination": {"host": "ratings"}}]}],
    }
    objects: Json = {"services": [service("db", ("tls", 3306), ip="127.99.16.9")]}
    assert "listener_filters" not in listeners(**objects)["127.99.16.9_3306"]
    assert inspectors(listeners(**objects, virtual_services=[istio("db", spec)])["127.99.16.9_3306"]) == [
        "tls_inspector"
    ]


def test_the_capture_port_belongs_to_the_proxy() -> None:
    found = listeners(services=[service("odd", ("tcp", 15001), ip="127.99.16.9")])
    assert not [name for name in found if name.endswith("_15001")]


PERMISSIVE = {
    "9080_mtls": {"transport_protocol": "tls", "application_protocols": MESH_ALPN},
    # Nothing takes the application's own TLS: HTTP is what the Service says is spoken.
    "9080_plain": {"transport_protocol": "raw_buffer"},
}


@pytest.mark.parametrize(
    ("mode", "chains"),
    [
        ("PERMISSIVE", PERMISSIVE),
        ("STRICT", {"9080_mtls": {"transport_protocol": "tls"}}),
        ("DISABLE", {name: match for name, match in PERMISSIVE.items() if name != "9080_mtls"}),
    ],
)
def test_a_call_to_the_pod_is_let_in_as_its_mode_says(mode: str, chains: Json) -> None:
    rule = istio("default", {"mtls": {"mode": mode}})
    found = listeners(peer_authentications=[rule])["virtualInbound_9080"]
    assert matches(found) == chains
    assert where(found) == ("127.99.64.1", 9080)
    assert found["traffic_direction"] == "INBOUND"
    # Nobody looks for TLS where none is ended.
    assert inspectors(found) == ([] if mode == "DISABLE" else ["tls_inspector"])
    assert (found["listener_filters_timeout"], found["continue_on_listener_filters_timeout"]) == ("5s", True)
    for chain in found["filter_chains"]:
        mutual = chain["name"] == "9080_mtls"
        assert ("transport_socket" in chain) is mutual
        # Only who shows a certificate needs no look at whose the connection is.
        assert filters(chain)[-1] == "http_connection_manager"
        assert (len(filters(chain)) == 1) is mutual


def test_a_port_of_no_service_may_speak_anything() -> None:
    bare = pod("bare-v1", "127.99.64.60", ports=(7000,))
    found = listeners("bare-v1", pods=[bare])["virtualInbound_7000"]
    raw = {"transport_protocol": "raw_buffer"}
    assert matches(found) == {
        "7000_mtls": {"transport_protocol": "tls", "application_protocols": MESH_ALPN},
        "7000_mtls_tcp": {"transport_protocol": "tls", "application_protocols": ["istio-raw"]},
        "7000_http": {**raw, "application_protocols": HTTP_ALPN},
        "7000_tcp": raw,
        "7000_tls": {"transport_protocol": "tls"},
    }
    ends = {chain["name"]: filters(chain)[-1] for chain in found["filter_chains"]}
    # Whoever shows no certificate is looked at first, whatever is spoken.
    for chain in found["filter_chains"]:
        asked = chain["filters"][: len(peer_check())] == peer_check()
        assert asked is ("transport_socket" not in chain) is (not chain["name"].startswith("7000_mtls"))
    http = ("7000_mtls", "7000_http")
    assert ends == {name: "http_connection_manager" if name in http else "tcp_proxy" for name in ends}
    assert inspectors(found) == ["tls_inspector", "http_inspector"]
    assert found["listener_filters_timeout"] == "0.1s"
    # The old release took it for bytes.
    old = listeners("bare-v1", legacy=True, pods=[bare])["127.99.64.60_7000"]
    assert {filters(chain)[-1] for chain in old["filter_chains"]} == {"tcp_proxy"}


def test_application_ports_are_those_of_containers_and_services_but_the_proxys_own() -> None:
    odd = pod("odd-v1", "127.99.64.60", ports=(7000, 15020), app="odd")
    web = service("odd", ("http", 80), ("udp-x", 5353))
    web["spec"]["ports"][0]["targetPort"] = 8000
    web["spec"]["ports"][1]["protocol"] = "UDP"
    found = listeners("odd-v1", pods=[odd], services=[web])
    assert {name for name in found if "Inbound" in name} == {"virtualInbound_7000", "virtualInbound_8000"}


def test_low_ports_are_bound_where_they_can_be() -> None:
    web = pod("web-v1", "127.99.64.60", ports=(80,), app="web")
    found = listeners("web-v1", pods=[web], plan=AddressPlan(99, low_ports=False))
    assert where(found["virtualInbound_80"]) == ("127.99.64.60", 20080)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_listener_has_the_name_that_it_is_known_by_and_the_address_in_it(legacy: bool) -> None:
    served = [service("db", ("tcp", 3306), ip="127.99.16.9"), service("web", ("http", 80), ("more", 8080))]
    found = listeners(legacy=legacy, services=served)
    assert {name: one["name"] for name, one in found.items()} == dict(zip(found, found, strict=True))
    told = {name: name.rpartition("_") for name in found if name.startswith(("0.0.0.0_", "127."))}
    assert len(told) > 2
    for name, (address, _, number) in told.items():
        if not (legacy and name.startswith("127.99.64.")):
            assert where(found[name]) == (address, int(number))


def test_the_proxys_own_ports_are_no_applications() -> None:
    own = (15000, 15001, 15006, 15008, 15020, 15021, 15053, 15090)
    around = (14999, 15002, 15005, 15007, 15009, 15019, 15022, 15052, 15054, 15089, 15091)
    found = listeners("app-v1", pods=[pod("app-v1", "127.99.64.60", ports=(*own, *around))])
    assert {int(name.partition("_")[2]) for name in found if name.startswith("virtualInbound_")} == set(around)


@pytest.mark.parametrize(
    ("port", "read"), [("tcp", True), ("mongo", True), ("tls", True), ("http", False), ("grpc", False), ("more", False)]
)
def test_before_bytes_a_caller_may_say_who_it_is(port: str, read: bool) -> None:
    pods = [pod("db-v1", "127.99.64.60", ports=(27000,))]
    served = service("db", ports=[{"name": port, "port": 20017, "targetPort": 27000}])
    found = listeners("db-v1", pods=pods, services=[served])["virtualInbound_27000"]
    assert ("proxy_protocol" in inspectors(found)) is read


@pytest.mark.parametrize(
    ("port", "http"), [("http", True), ("http2", True), ("grpc", True), ("grpc-web", True), ("tcp", False)]
)
def test_requests_are_looked_at_where_the_port_says_that_there_are_some(port: str, http: bool) -> None:
    pods = [pod("db-v1", "127.99.64.60", ports=(7000,))]
    found = listeners("db-v1", pods=pods, services=[service("db", (port, 7000))])["virtualInbound_7000"]
    plain = next(chain for chain in found["filter_chains"] if chain["name"] == "7000_plain")
    assert (filters(plain)[-1] == "http_connection_manager") is http


def test_what_no_sidecar_takes_is_neither_judged_nor_counted() -> None:
    """An excluded port whose application cannot listen at the pod's address: its bytes are handed on."""
    arguments = ["istio-iptables", "-p", "15001", "-b", "*", "-d", "15090,15021,8080"]
    left = pod("left-v1", "127.99.64.60", ports=(9080,))
    left["spec"]["initContainers"] = [{"name": "istio-init", "image": "istio/proxyv2", "args": arguments}]
    denied = istio("all", {"action": "DENY", "rules": [{}]})
    tokens = istio("tokens", {"jwtRules": [{"issuer": "a", "jwks": '{"keys": []}'}]})
    telemetry = istio("logs", {"accessLogging": [{"providers": [{"name": "envoy"}]}]})
    given = {"pods": [left], "authorization_policies": [denied], "request_authentications": [tokens]}
    snap = snapshot(mesh="accessLogFile: /dev/stdout", telemetries=[telemetry], **given)
    snap = Snapshot(snap._objects, PLAN, legacy=False, listening={"127.99.64.60": (8080, 8081)})
    found = translate(snap, workload(snap, "left-v1"))
    chains = {port: json.loads(found.listeners[f"virtualInbound_{port}"])["filter_chains"] for port in (8080, 8081)}
    filters = {port: {one["name"] for chain in each for one in chain["filters"]} for port, each in chains.items()}
    assert "envoy.filters.network.http_connection_manager" in filters[8081]
    assert "envoy.filters.network.rbac" in filters[8081]
    assert {name for name in filters[8080] if "peer" not in name and "door" not in name} >= {
        "envoy.filters.network.tcp_proxy"
    }
    assert not filters[8080] & {"envoy.filters.network.http_connection_manager", "envoy.filters.network.rbac"}
    # Nobody asks for a certificate there either.
    assert [chain["name"] for chain in chains[8080]] == ["8080_plain", "8080_tls"]
    assert not any("access_log" in one["typed_config"] for chain in chains[8080] for one in chain["filters"])
    assert ("inbound|8080||" in found.routes, "inbound|8081||" in found.routes) == (False, True)
