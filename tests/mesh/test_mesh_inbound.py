# SPDX-License-Identifier: Apache-2.0
"""What stands before an application's ports and behind them, without any Envoy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshbox.mesh.settings import mesh_problem, not_played
from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.translate import Config, translate

from .objects import PLAN, istio, pod, service, snapshot, workload

Json = dict[str, Any]

IP = "127.99.64.60"


def config(*, legacy: bool = False, listening: tuple[int, ...] = (), **objects: Any) -> Config:
    """The configuration of "app-v1", whose application listens on `listening` besides."""
    snap = snapshot(legacy=legacy, **objects)
    snap = Snapshot(snap._objects, PLAN, legacy=legacy, listening={IP: listening})
    return translate(snap, workload(snap, "app-v1"))


def app(*ports: int, left: str = "") -> Json:
    """Its pod; `left`: ports that `istio-init` is told to leave alone."""
    found = pod("app-v1", IP, ports=ports, app="app")
    if left:
        arguments = ["istio-iptables", "-p", "15001", "-b", "*", "-d", left]
        found["spec"]["initContainers"] = [{"name": "istio-init", "image": "istio/proxyv2", "args": arguments}]
    return found


def let_in(made: Config) -> set[int]:
    start = ("virtualInbound_", f"{IP}_")
    return {int(name.rpartition("_")[2]) for name in made.listeners if name.startswith(start)}


def last(made: Config, name: str, chain: int = -1) -> Json:
    """The last filter of one of a listener's chains."""
    found: Json = json.loads(made.listeners[name])["filter_chains"][chain]["filters"][-1]
    return found


def test_what_nobody_captures_is_served_where_its_application_listens() -> None:
    assert let_in(config(pods=[app(9080, 8080, left="8080")])) == {9080}
    # One that cannot listen at the pod's own address listens beside it.
    assert let_in(config(pods=[app(9080, left="8080")], listening=(8080,))) == {9080, 8080}


def test_the_old_release_hands_on_what_a_pod_does_not_declare() -> None:
    served = service("app", ("http", 7002), ("tcp", 7003))
    asked = "accessLogFile: /dev/stdout"
    made = config(legacy=True, mesh=asked, pods=[app(7000, 7003)], services=[served], listening=(7001, 7002))
    assert let_in(made) == {7000, 7001, 7002, 7003}
    kinds = {port: last(made, f"{IP}_{port}", 0) for port in let_in(made)}
    assert {port for port, one in kinds.items() if one["name"].endswith("http_connection_manager")} == {7002}
    # What no sidecar of its time took is not counted either.
    assert {port for port, one in kinds.items() if "access_log" not in one["typed_config"]} == {7001}
    names = {port: one["typed_config"]["stat_prefix"] for port, one in kinds.items() if port != 7002}
    assert names == {
        7000: "inbound|7000||mgmtCluster",
        7001: "inbound|7001||mgmtCluster",
        7003: "inbound|7003|tcp|app.bookinfo.svc.cluster.local",
    }


@pytest.mark.parametrize("protocol", ["TCP", "HTTP"])
def test_an_entry_that_chooses_a_pod_says_whether_its_port_is_for_bytes(protocol: str) -> None:
    ports = [{"number": 80, "name": "one", "protocol": protocol, "targetPort": 7000}]
    chosen = {"resolution": "STATIC", "location": "MESH_INTERNAL", "workloadSelector": {"labels": {"app": "app"}}}
    entry = istio("api", {"hosts": ["api.test"], "ports": ports, **chosen})
    made = config(pods=[app(7000, 7001)], service_entries=[entry])
    chains = [one["name"] for one in json.loads(made.listeners["virtualInbound_7000"])["filter_chains"]]
    anything = ["7000_mtls", "7000_mtls_tcp", "7000_http", "7000_tcp", "7000_tls"]
    assert chains == (["7000_mtls", "7000_plain", "7000_tls"] if protocol == "TCP" else anything)
    assert last(made, "virtualInbound_7001", 0)["name"].endswith("http_connection_manager")


def test_requests_carry_who_called() -> None:
    made = config(pods=[app(7000)], services=[service("app", ("http", 7000))])
    manager = last(made, "virtualInbound_7000", 0)["typed_config"]
    assert manager["stat_prefix"] == "inbound_0.0.0.0_7000;"
    nobodys = last(config(pods=[app(7000)]), "virtualInbound_7000", 0)["typed_config"]
    assert nobodys["stat_prefix"] == "InboundPassthroughCluster;"
    assert manager["rds"]["route_config_name"] == "inbound|7000||"
    assert manager["forward_client_cert_details"] == "APPEND_FORWARD"
    assert manager["set_current_client_cert_details"] == {"subject": True, "dns": True, "uri": True}
    assert manager["server_name"] == "istio-envoy"


@pytest.mark.parametrize("legacy", [False, True])
def test_todays_release_tells_whose_port_it_is(legacy: bool) -> None:
    served = service("app", ("http", 7000))
    made = config(legacy=legacy, pods=[app(7000, 7001)], services=[served])
    told = {name: json.loads(body).get("metadata") for name, body in made.clusters.items() if "inbound" in name}
    one = {"host": "app.bookinfo.svc.cluster.local", "name": "app", "namespace": "bookinfo"}
    assert told == (
        {"inbound|7000|http|app.bookinfo.svc.cluster.local": None, "inbound|7001||mgmtCluster": None}
        if legacy
        else {"inbound|7000||": {"filter_metadata": {"istio": {"services": [one]}}}, "inbound|7001||": None}
    )


def test_all_that_a_sidecar_says_of_connections_to_its_application_holds() -> None:
    tcp = {"connectTimeout": "7s", "maxConnections": 3, "tcpKeepalive": {"probes": 4}}
    pool = {"tcp": tcp, "http": {"idleTimeout": "8s"}}
    sidecar = istio("default", {"inboundConnectionPool": pool})
    made = config(pods=[app(7000)], services=[service("app", ("http", 7000))], sidecars=[sidecar])
    cluster = json.loads(made.clusters["inbound|7000||"])
    limits = cluster["circuit_breakers"]["thresholds"][0]
    assert limits["max_connections"] == 3
    assert cluster["connect_timeout"] == "7s"
    assert cluster["upstream_connection_options"] == {"tcp_keepalive": {"keepalive_probes": 4}}
    (options,) = cluster["typed_extension_protocol_options"].values()
    assert options["common_http_protocol_options"]["idle_timeout"] == "8s"
    # It is the application's own, and balanced among nobody.
    assert "lb_policy" not in cluster


MUTUAL = "meshMTLS: {minProtocolVersion: TLSV1_3, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256, none-such]}"


@pytest.mark.parametrize(
    ("mesh", "legacy", "limits"),
    [
        ("", False, None),
        ("meshMTLS: {minProtocolVersion: TLS_AUTO}", False, None),
        ("meshMTLS: {minProtocolVersion: TLSV1_3}", False, {"tls_minimum_protocol_version": "TLSv1_3"}),
        (
            MUTUAL,
            False,
            {"tls_minimum_protocol_version": "TLSv1_3", "cipher_suites": ["ECDHE-RSA-AES128-GCM-SHA256"]},
        ),
        (MUTUAL, True, None),
    ],
)
def test_the_mesh_says_which_tls_sidecars_take_of_others(mesh: str, legacy: bool, limits: Json | None) -> None:
    rules: Json = {"policies": [istio("default", {"peers": [{"mtls": {}}]})]} if legacy else {}
    made = config(legacy=legacy, mesh=mesh, pods=[app(9080)], services=[service("app")], **rules)
    name = f"{IP}_9080" if legacy else "virtualInbound_9080"
    chains = json.loads(made.listeners[name])["filter_chains"]
    contexts = [one["transport_socket"]["typed_config"] for one in chains if "transport_socket" in one]
    assert [one["common_tls_context"].get("tls_params") for one in contexts] == [limits]


@pytest.mark.parametrize(
    ("mesh", "today", "old", "problem"),
    [
        ("meshMTLS: {minProtocolVersion: TLSV1_3}", [], ["meshMTLS"], ""),
        ("meshMTLS: {ecdhCurves: [P-256]}", ["meshMTLS.ecdhCurves"], ["meshMTLS"], ""),
        (MUTUAL, ["meshMTLS.cipherSuites: none-such (which Envoy does not know)"], ["meshMTLS"], ""),
        ("tlsDefaults: {minProtocolVersion: TLSV1_3, ecdhCurves: [P-256]}", [], ["tlsDefaults"], ""),
        ("meshMTLS: 1", [], [], "meshMTLS must be a map"),
        ("meshMTLS: {cipherSuites: [1]}", [], [], "meshMTLS.cipherSuites must be a list of strings"),
    ],
)
def test_what_of_it_is_not_played_is_named(mesh: str, today: list[str], old: list[str], problem: str) -> None:
    settings = {"metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": mesh}}
    assert [not_played(settings, legacy=legacy) for legacy in (False, True)] == [today, old]
    assert mesh_problem(settings) == problem
