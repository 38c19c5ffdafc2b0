# SPDX-License-Identifier: Apache-2.0
"""What Sidecars and the mesh's settings make of proxies, without any Envoy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from labkit.ground.typed import hosts as api
from meshbox.addresses import AddressPlan
from meshbox.mesh.settings import mesh_problem, mesh_settings, not_played
from meshbox.mesh.translate import Config, translate
from meshbox.mesh.unplayed import unplayed

from .objects import istio, pod, service, snapshot, workload

Json = dict[str, Any]

FAR = service("far", ("http", 9080), namespace="library", ip="127.99.16.77")
FAR_HOST = "far.library.svc.cluster.local"


def config(source: str = "productpage-v1", *, legacy: bool = False, **objects: Any) -> Config:
    snap = snapshot(legacy=legacy, **{"services": [FAR], **objects})
    return translate(snap, workload(snap, source))


def sidecar(**spec: Any) -> list[Json]:
    return [istio("default", spec)]


def warned(kind: str, spec: Json) -> list[str]:
    return unplayed({"kind": kind, "metadata": {"name": "default"}, "spec": spec}, legacy=False)


def names(made: Config, table: str = "9080") -> set[str]:
    return {host["name"] for host in json.loads(made.routes[table])["virtual_hosts"]}


@pytest.mark.parametrize("legacy", [False, True])
def test_what_is_out_of_sight_is_passed_on_by_the_address_it_has(legacy: bool) -> None:
    made = config(legacy=legacy, sidecars=sidecar(egress=[{"hosts": ["./*"]}]))
    assert f"outbound|9080||{FAR_HOST}" not in made.clusters
    assert not {f"{FAR_HOST}:9080", f"allow_any|{FAR_HOST}:9080"} & names(made)
    (host,) = [
        one for one in json.loads(made.routes["http_proxy"])["virtual_hosts"] if one["name"].startswith("allow_any|")
    ]
    assert host["name"] == f"allow_any|{FAR_HOST}:9080"
    assert {f"{FAR_HOST}:9080", "far.library:9080", "127.99.16.77:9080"} <= set(host["domains"])
    (route,) = host["routes"]
    assert (route["name"], route["route"]["cluster"]) == ("allow_any", "PassthroughCluster")
    told = route["typed_per_filter_config"]["istio.original_dst"]["on_request_headers"][0]
    assert told["format_string"]["text_format_source"]["inline_string"] == "127.99.16.77:9080"
    assert b"istio.original_dst" in made.listeners["http_proxy"]


def test_where_all_is_in_sight_nothing_is_said_of_addresses() -> None:
    made = config()
    assert b"istio.original_dst" not in made.listeners["http_proxy"] + made.routes["http_proxy"]


def test_what_is_out_of_sight_is_passed_on_to_the_port_where_it_really_is() -> None:
    low = service("low", ("http", 80), ("tcp", 143), namespace="library", ip="127.99.16.78")
    plan = AddressPlan(99, low_ports=False)
    made = config(services=[low], plan=plan, sidecars=sidecar(egress=[{"hosts": ["./*"]}]))
    for number in (80, 143):
        cluster = json.loads(made.clusters[f"PassthroughCluster_{number}"])
        assert cluster["type"] == "ORIGINAL_DST"
        assert cluster["original_dst_lb_config"] == {"upstream_port_override": number + 20000}
    hosts = {host["name"]: host for host in json.loads(made.routes["80"])["virtual_hosts"]}
    host = hosts["allow_any|low.library.svc.cluster.local:80"]
    assert {"low.library", "low.library:80", "127.99.16.78"} <= set(host["domains"])
    assert host["routes"][0]["route"]["cluster"] == "PassthroughCluster_80"
    assert {name for name in names(made, "http_proxy") if "|" in name} == {"allow_any|low.library.svc.cluster.local:80"}
    assert not [name for name in names(made) if "|" in name]
    chains = {one.get("name"): one for one in json.loads(made.listeners["virtualOutbound"])["filter_chains"]}
    match = chains["virtualOutbound-143"]["filter_chain_match"]
    assert match == {
        "destination_port": 143,
        "prefix_ranges": [{"address_prefix": "127.99.16.78", "prefix_len": 32}],
    }
    # Where low ports can be bound nothing of it is needed.
    plain = config(services=[low], sidecars=sidecar(egress=[{"hosts": ["./*"]}]))
    assert not [name for name in plain.clusters if name.startswith("PassthroughCluster_8")]


def test_of_what_is_out_of_sight_a_port_has_only_what_listens_there() -> None:
    low = service("low", ("http", 80), namespace="library", ip="127.99.16.78")
    unnamed = service("any", ("", 7000), namespace="library", ip="127.99.16.79")
    plan = AddressPlan(99, low_ports=False)
    made = config(services=[FAR, low, unnamed], plan=plan, sidecars=sidecar(egress=[{"hosts": ["./*"]}]))
    on_80 = {"allow_any|low.library.svc.cluster.local:80"}
    assert {name for name in names(made, "80") if "|" in name} == on_80
    # What a port without a protocol carries may be HTTP, and is asked of the HTTP proxy port by its name.
    by_name = {f"allow_any|{FAR_HOST}:9080", "allow_any|any.library.svc.cluster.local:7000", *on_80}
    assert {name for name in names(made, "http_proxy") if "|" in name} == by_name


def test_a_port_of_egress_is_the_only_way_to_that_port() -> None:
    two = service("two", ("http", 9080), ("http-more", 9090), namespace="library", ip="127.99.16.78")
    egress = [
        {"port": {"number": 9080, "name": "http", "protocol": "HTTP"}, "hosts": ["./*"]},
        {"hosts": ["library/*"]},
    ]
    made = config(services=[FAR, two], sidecars=sidecar(egress=egress))
    assert names(made) == {
        *(f"{n}.bookinfo.svc.cluster.local:9080" for n in ("productpage", "details", "ratings", "reviews")),
        "allow_any",
    }
    assert names(made, "9090") == {"two.library.svc.cluster.local:9090", "allow_any"}


def test_a_port_of_egress_says_how_it_is_listened_on() -> None:
    egress = [{"port": {"number": 9080, "name": "tcp", "protocol": "TCP"}, "hosts": ["./*"]}]
    made = config(sidecars=sidecar(egress=egress))
    assert "9080" not in made.routes
    assert any(name.endswith("_9080") and b"tcp_proxy" in body for name, body in made.listeners.items())


def test_what_a_rule_leads_to_is_reached_though_it_is_out_of_sight() -> None:
    rule = istio("reviews", {"hosts": ["reviews"], "http": [{"route": [{"destination": {"host": FAR_HOST}}]}]})
    made = config(virtual_services=[rule], sidecars=sidecar(egress=[{"hosts": ["./*"]}]))
    assert f"outbound|9080||{FAR_HOST}" in made.clusters
    assert f"{FAR_HOST}:9080" not in names(made)


def test_hosts_of_nowhere_are_none() -> None:
    made = config(sidecars=sidecar(egress=[{"hosts": ["~/*"]}]))
    assert not [name for name in made.clusters if name.startswith("outbound|")]


def test_ingress_says_what_is_behind_a_port() -> None:
    pool = {"http": {"http1MaxPendingRequests": 7}}
    port = {"number": 9443, "name": "http", "protocol": "HTTP"}
    listener = {"port": port, "defaultEndpoint": "127.0.0.1:8000", "connectionPool": pool}
    made = config(sidecars=sidecar(ingress=[listener], inboundConnectionPool={"tcp": {"maxConnections": 3}}))
    assert {name for name in made.listeners if "Inbound" in name} == {"virtualInbound_9080", "virtualInbound_9443"}
    behind = json.loads(made.clusters["inbound|9443||"])
    where = behind["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    assert where == {"address": "127.99.128.1", "port_value": 8000}
    assert behind["circuit_breakers"]["thresholds"][0]["max_pending_requests"] == 7
    # A port that such a Sidecar does not name belongs to no Service: its pool is not for that one.
    other = json.loads(made.clusters["inbound|9080||"])
    assert other["circuit_breakers"]["thresholds"][0]["max_connections"] == 2**32 - 1
    assert any(one["name"] == "9080_http" for one in json.loads(made.listeners["virtualInbound_9080"])["filter_chains"])


def test_a_port_of_ingress_asks_for_certificates_as_all_others() -> None:
    port = {"number": 9443, "name": "http", "protocol": "HTTP"}
    ingress = sidecar(ingress=[{"port": port, "defaultEndpoint": "127.0.0.1:8000"}])
    made = config(sidecars=ingress, peer_authentications=[istio("default", {"mtls": {"mode": "STRICT"}})])
    for number, names in ((9080, ["9080_mtls", "9080_mtls_tcp"]), (9443, ["9443_mtls"])):
        chains = json.loads(made.listeners[f"virtualInbound_{number}"])["filter_chains"]
        assert [chain["name"] for chain in chains if "transport_socket" in chain] == names


def test_what_an_application_listens_on_is_let_in() -> None:
    snap = snapshot()
    objects = {resource: list(each) for resource, each in snap._objects.items()}
    again = type(snap)(objects, snap.plan, legacy=False, listening={"127.99.64.3": (9002, 9080, 15020)})
    made = translate(again, workload(again, "ratings-v1"))
    assert {name for name in made.listeners if "Inbound" in name} == {"virtualInbound_9002", "virtualInbound_9080"}
    assert translate(again, workload(again, "details-v1")).listeners.keys() >= {"virtualInbound_9080"}


SPEC: dict[str, Any] = {
    "egress": [{"hosts": ["./*"]}],
    "ingress": [{"port": {"number": 9443, "name": "http", "protocol": "HTTP"}}],
    "inboundConnectionPool": {"tcp": {"maxConnections": 3}},
    "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
    "workloadSelector": {"labels": {"app": "ratings"}},
}
EGRESS: dict[str, Any] = {
    "hosts": ["library/*"],
    "port": {"number": 9081, "name": "http", "protocol": "HTTP"},
    "bind": "127.0.0.1",
    "captureMode": "NONE",
}
INGRESS: dict[str, Any] = {
    "port": {"number": 9444, "name": "http", "protocol": "HTTP"},
    "defaultEndpoint": "127.0.0.1:8000",
    "connectionPool": {"tcp": {"maxConnections": 3}},
    "bind": "127.0.0.1",
    "captureMode": "NONE",
    "tls": {"mode": "SIMPLE", "serverCertificate": "/a", "privateKey": "/b"},
}


def test_no_field_of_a_sidecar_is_passed_over_in_silence() -> None:
    def seen(spec: Json) -> tuple[Config, list[str]]:
        # A webhook may refuse what a test asks for alone; a journal may hold it.
        made = config(kept={"sidecars.networking.istio.io": sidecar(**spec)})
        return made, warned("Sidecar", spec)

    assert SPEC.keys() == api.SidecarSpec.__annotations__.keys()
    for field, value in SPEC.items():
        assert seen({field: value}) != seen({}) or field == "workloadSelector"
    assert config(sidecars=sidecar(**SPEC)) == config(), "it is about another workload"
    base: Json = {"hosts": ["./*"]}
    assert EGRESS.keys() == api.IstioEgressListener.__annotations__.keys()
    for field, value in EGRESS.items():
        assert seen({"egress": [{**base, field: value}]}) != seen({"egress": [base]}), field
    base = {"port": {"number": 9443, "name": "http", "protocol": "HTTP"}}
    assert INGRESS.keys() == api.IstioIngressListener.__annotations__.keys()
    for field, value in INGRESS.items():
        assert seen({"ingress": [{**base, field: value}]}) != seen({"ingress": [base]}), field


def test_what_is_not_played_is_named() -> None:
    spec = {"egress": [{"captureMode": "NONE", "bind": "1.2.3.4"}], "ingress": [{"tls": {"a": 1}}]}
    assert warned("Sidecar", spec) == [
        "the sandbox does not play spec.egress[0].bind: a port is listened on at every address",
        "the sandbox does not play spec.egress[0].captureMode: NONE: all calls are captured",
        "the sandbox does not play spec.ingress[0].tls: "
        "Istio does only where istiod has ENABLE_TLS_ON_SIDECAR_INGRESS=true",
    ]
    rules = {"http": [{}, {"redirect": {"redirectCode": 304}}], "tcp": [{"match": [{"sourceSubnet": "10.0.0.0/8"}]}]}
    assert warned("VirtualService", rules) == [
        "the sandbox does not play spec.http[1].redirect.redirectCode: 304: "
        "Envoy redirects with 301, 302, 303, 307 or 308, and this one with 301",
        "the sandbox does not play spec.tcp[0].match[0].sourceSubnet: Istio's proxies make nothing of it either",
    ]
    assert warned("VirtualService", {"http": "nonsense"}) == []
    assert warned("Gateway", {"egress": [{"bind": "1.2.3.4"}]}) == []


def settings(text: str, name: str = "istio") -> Json:
    return {"metadata": {"name": name, "namespace": "istio-system"}, "data": {"mesh": text}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("connectTimeout: 5s", []),
        ("verifyCertificateAtClient: true", ["verifyCertificateAtClient"]),
        ("verifyCertificateAtClient:", []),
        ("trustDomain: cluster.local", []),
        ("trustDomain: books.test", []),
        ("trustDomainAliases: [old]", []),
        ("accessLogFile: /a", ["accessLogFile: /a (lines go to /dev/stdout, which is what `kubectl logs` shows)"]),
        ("defaultConfig: {proxyAdminPort: 15000, discoveryAddress: 'istiod.istio-system.svc:15012'}", []),
        ("defaultConfig: {gatewayTopology: {numTrustedProxies: 1, proxyProtocol: {}}, tracing: {sampling: 5}}", []),
        (
            "defaultConfig: {proxyAdminPort: 15005, statsdUdpAddress: 'a:1'}",
            ["defaultConfig.statsdUdpAddress", "defaultConfig.proxyAdminPort"],
        ),
        (
            "defaultConfig: {gatewayTopology: {proxyProtocol: {}}, tracing: {maxPathTagLength: 5}}",
            ["defaultConfig.tracing.maxPathTagLength"],
        ),
        (
            "defaultConfig: {extraStatTags: [a], privateKeyProvider: {cryptomb: {}}}",
            ["defaultConfig.extraStatTags", "defaultConfig.privateKeyProvider"],
        ),
    ],
)
def test_settings_that_change_nothing_are_named(text: str, said: list[str]) -> None:
    for legacy in (False, True):
        assert not_played(settings(text), legacy=legacy) == said
        assert not_played(settings(text, "other"), legacy=legacy) == []


@pytest.mark.parametrize(
    ("text", "today", "old"),
    [
        ("mixerCheckServer: 'istio-policy:9091'", ["mixerCheckServer"], []),
        ("disablePolicyChecks: true", ["disablePolicyChecks"], []),
        ("pathNormalization: {normalization: NONE}", [], ["pathNormalization"]),
        ("defaultHttpRetryPolicy: {attempts: 0}", [], ["defaultHttpRetryPolicy"]),
        ("enableAutoMtls: false", [], ["enableAutoMtls"]),
        ("defaultServiceExportTo: ['.']", [], []),
        ("proxyListenPort: 15001", [], []),
        ("proxyListenPort: 16001", ["proxyListenPort"], ["proxyListenPort"]),
        ("proxyHttpPort: 15007", ["proxyHttpPort"], ["proxyHttpPort"]),
        ("dnsRefreshRate: 60s", [], ["dnsRefreshRate"]),
        ("dnsRefreshRate: 300s", ["dnsRefreshRate"], []),
    ],
)
def test_settings_of_the_other_release_and_those_of_one_value_are_named(
    text: str, today: list[str], old: list[str]
) -> None:
    assert not_played(settings(text), legacy=False) == today
    assert not_played(settings(text), legacy=True) == old


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("connectTimeout: soon", 'connectTimeout must be a duration, such as "10s"'),
        ("connectTimeout: 5", 'connectTimeout must be a duration, such as "10s"'),
        ("defaultHttpRetryPolicy: {attempts: many}", "defaultHttpRetryPolicy.attempts must be a whole number"),
        (
            "defaultHttpRetryPolicy: {perTryTimeout: x}",
            'defaultHttpRetryPolicy.perTryTimeout must be a duration, such as "10s"',
        ),
        ("defaultServiceExportTo: all", "defaultServiceExportTo must be a list"),
        ("defaultServiceExportTo: [1]", "defaultServiceExportTo must be a list of strings"),
        ("pathNormalization: {normalization: 1}", "pathNormalization.normalization must be a string"),
    ],
)
def test_settings_that_mean_nothing_are_refused(text: str, problem: str) -> None:
    assert mesh_problem(settings(text)).startswith(problem)


def test_the_mesh_says_how_long_a_connection_may_take() -> None:
    for mesh, timeout in (("", "10s"), ("connectTimeout: 3s", "3s")):
        made = config(mesh=mesh)
        for name in (f"outbound|9080||{FAR_HOST}", "PassthroughCluster"):
            assert json.loads(made.clusters[name])["connect_timeout"] == timeout


def test_the_mesh_says_who_sees_what_does_not_say_it() -> None:
    entry = istio(
        "api", {"hosts": ["api.test"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}, "library"
    )
    rule = istio(
        "far",
        {"hosts": [FAR_HOST], "http": [{"name": "said", "route": [{"destination": {"host": FAR_HOST}}]}]},
        "library",
    )
    policy = {"host": FAR_HOST, "trafficPolicy": {"connectionPool": {"tcp": {"connectTimeout": "7s"}}}}
    given = {
        "service_entries": [entry],
        "virtual_services": [rule],
        "destination_rules": [istio("far", policy, "library")],
    }

    def seen(mesh: str, **options: Any) -> list[bool]:
        made = config(mesh=mesh, **{**given, **options})
        cluster = made.clusters.get(f"outbound|9080||{FAR_HOST}", b"")
        return [
            b"far" in cluster,
            "api.test:80" in names(made, "80"),
            b'"said"' in made.routes["9080"],
            b'"7s"' in cluster,
        ]

    assert seen("") == [True, True, True, True]
    assert seen('defaultServiceExportTo: ["."]') == [False, False, False, False]
    assert seen('defaultVirtualServiceExportTo: ["."]') == [True, True, False, True]
    assert seen('defaultDestinationRuleExportTo: ["~"]') == [True, True, True, False]
    public = {**FAR, "metadata": {**FAR["metadata"], "annotations": {"networking.istio.io/exportTo": "*"}}}
    assert seen('defaultServiceExportTo: ["."]', services=[public]) == [True, False, True, True]
    for text in ("", 'defaultServiceExportTo: ["."]'):
        old = config(mesh=text, service_entries=[entry], legacy=True)
        assert (f"outbound|9080||{FAR_HOST}" in old.clusters) is (text == "")
        assert ("api.test:80" in names(old, "80")) is (text == "")


@pytest.mark.parametrize(
    ("normalization", "fields"),
    [
        ("NONE", {"path_with_escaped_slashes_action": "KEEP_UNCHANGED"}),
        ("BASE", {"normalize_path": True, "path_with_escaped_slashes_action": "KEEP_UNCHANGED"}),
        (
            "DECODE_AND_MERGE_SLASHES",
            {
                "normalize_path": True,
                "merge_slashes": True,
                "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
            },
        ),
    ],
)
def test_the_mesh_says_what_is_done_to_paths(normalization: str, fields: Json) -> None:
    made = config(mesh=f"pathNormalization: {{normalization: {normalization}}}", pods=[pod("x-v1", "127.99.64.61")])
    http = json.loads(made.listeners["0.0.0.0_9080"])["filter_chains"][0]["filters"][-1]["typed_config"]
    keys = ("normalize_path", "merge_slashes", "path_with_escaped_slashes_action")
    assert {key: http[key] for key in keys if key in http} == fields


@pytest.mark.parametrize("value", ["", "1", "true", "false"])
def test_pilot_says_whether_http_1_0_is_taken(value: str) -> None:
    pilot = pod("istiod", "127.99.64.62", namespace="istio-system", role="", istio="pilot")
    pilot["spec"]["containers"][0]["env"] = [{"name": "PILOT_HTTP10", "value": value}]
    made = config(pods=[pilot])
    for name in ("0.0.0.0_9080", "http_proxy", "virtualInbound_9080"):
        assert (b'"accept_http_10":true' in made.listeners[name]) is (value in ("1", "true"))


def test_a_number_of_the_meshs_settings_may_be_a_string() -> None:
    """Protobuf's JSON takes both, and Istio's task on external authorization writes its ports so."""
    text = """
        extensionProviders: [{name: asked, envoyExtAuthzGrpc: {service: asker.shop.svc, port: "9000"}}]
        tcpKeepalive: {probes: "3"}
        defaultConfig: {tracing: {sampling: "12.5"}}
        trustDomain: "9000"
        defaultHttpRetryPolicy: {retryOn: "503"}
    """
    assert mesh_problem(settings(text)) == ""
    assert mesh_settings(text) == {
        "extensionProviders": [{"name": "asked", "envoyExtAuthzGrpc": {"service": "asker.shop.svc", "port": 9000}}],
        "tcpKeepalive": {"probes": 3},
        "defaultConfig": {"tracing": {"sampling": 12.5}},
        "trustDomain": "9000",
        "defaultHttpRetryPolicy": {"retryOn": "503"},
    }
    assert mesh_problem(settings("tcpKeepalive: {probes: many}")) == "tcpKeepalive.probes must be a whole number"
