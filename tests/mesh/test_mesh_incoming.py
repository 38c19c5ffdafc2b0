# SPDX-License-Identifier: Apache-2.0
"""Details of what proxies do with what comes in, each with the value that Istio has for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshbox.mesh.translate import Config, translate

from .objects import istio, pod, service, snapshot, workload

Json = dict[str, Any]

NO_LIMIT = 4294967295


def config(name: str = "reviews-v1", namespace: str = "bookinfo", **objects: Any) -> Config:
    snap = snapshot(**objects)
    return translate(snap, workload(snap, name, namespace))


def manager(body: bytes) -> Json:
    found: Json = json.loads(body)["filter_chains"][0]["filters"][-1]["typed_config"]
    return found


def sidecar(**spec: Any) -> list[Json]:
    return [istio("s", {"workloadSelector": {"labels": {"app": "reviews"}}, "egress": [{"hosts": ["./*"]}], **spec})]


@pytest.mark.parametrize("own", [False, True])
def test_the_pool_of_a_sidecar_is_for_ports_that_have_none(own: bool) -> None:
    pool = {"connectionPool": {"http": {"http1MaxPendingRequests": 7}}} if own else {}
    listener = {"port": {"number": 9080, "name": "http", "protocol": "HTTP"}, **pool}
    for ingress in ({"ingress": [listener]}, {}):
        made = config(sidecars=sidecar(**ingress, inboundConnectionPool={"tcp": {"maxConnections": 3}}))
        limits = json.loads(made.clusters["inbound|9080||"])["circuit_breakers"]["thresholds"][0]
        assert limits["max_connections"] == (NO_LIMIT if own and ingress else 3)


def test_nobody_speaks_another_version_of_http_to_an_application_than_its_port_says() -> None:
    made = config(sidecars=sidecar(inboundConnectionPool={"http": {"h2UpgradePolicy": "UPGRADE"}}))
    assert "typed_extension_protocol_options" not in json.loads(made.clusters["inbound|9080||"])


def test_the_mesh_says_how_long_an_application_may_take_to_be_connected() -> None:
    made = config(mesh="connectTimeout: 3s\ntcpKeepalive: {time: 10s}")
    cluster = json.loads(made.clusters["inbound|9080||"])
    assert cluster["connect_timeout"] == "3s"
    assert cluster["upstream_connection_options"] == {"tcp_keepalive": {"keepalive_time": 10}}
    assert json.loads(config(legacy=True, mesh="connectTimeout: 3s").clusters[_OLD])["connect_timeout"] == "10s"


_OLD = "inbound|9080|http|reviews.bookinfo.svc.cluster.local"


@pytest.mark.parametrize(("name", "again"), [("http", True), ("grpc", False)])
def test_a_request_that_an_application_never_saw_is_sent_again(name: str, again: bool) -> None:
    own = pod("own-v1", "127.99.64.60", ports=(7000,), app="own")
    made = config("own-v1", pods=[own], services=[service("own", (name, 7000))])
    (host,) = json.loads(made.routes["inbound|7000||"])["virtual_hosts"]
    (route,) = host["routes"]
    wanted = {"retry_on": "reset-before-request", "num_retries": 2} if again else None
    assert route["route"].get("retry_policy") == wanted


@pytest.mark.parametrize("protocol", ["HTTP", "GRPC-WEB"])
def test_browsers_grpc_is_made_grpc(protocol: str) -> None:
    gateway = pod("gw-1", "127.99.65.2", role="router", ports=(8080,), app="gw")
    port = {"number": 8080, "name": "web", "protocol": protocol}
    listener = istio("g", {"selector": {"app": "gw"}, "servers": [{"port": port, "hosts": ["*"]}]})
    made = config("gw-1", pods=[gateway], gateways=[listener])
    names = [one["name"] for one in manager(made.listeners["0.0.0.0_8080"])["http_filters"]]
    assert ("envoy.filters.http.grpc_web" in names) is (protocol == "GRPC-WEB")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_port_in_the_name_of_a_host_does_not_matter_at_a_gateway(legacy: bool) -> None:
    gateway = pod("gw-1", "127.99.65.2", role="router", ports=(8080,), app="gw")
    server = {"port": {"number": 8080, "name": "web", "protocol": "HTTP"}, "hosts": ["*.test"]}
    listener = istio("g", {"selector": {"app": "gw"}, "servers": [server]})
    route = {"route": [{"destination": {"host": "reviews"}}]}
    rule = istio("v", {"hosts": ["*.test"], "gateways": ["g"], "http": [route]})
    made = config("gw-1", legacy=legacy, pods=[gateway], gateways=[listener], virtual_services=[rule])
    table = json.loads(made.routes["http.8080"])
    assert table.get("ignore_port_in_host_matching", False) is not legacy
    assert [host["domains"] for host in table["virtual_hosts"]] == [["*.test", "*.test:8080"] if legacy else ["*.test"]]


@pytest.mark.parametrize("legacy", [False, True])
def test_a_fault_comes_before_an_answer_about_origins(legacy: bool) -> None:
    made = config(legacy=legacy)
    body = (
        next(value for name, value in made.listeners.items() if name.endswith("_9080") and "127.99.64" in name)
        if (legacy)
        else made.listeners["virtualInbound_9080"]
    )
    names = [one["name"].rpartition(".")[2] for one in manager(body)["http_filters"]]
    assert names[-3:] == (["cors", "fault", "router"] if legacy else ["fault", "cors", "router"])
    assert manager(body).get("proxy_100_continue", False) is not legacy


def test_spans_go_to_the_default_provider_without_any_object() -> None:
    provider = {"name": "z", "zipkin": {"service": "ratings.bookinfo.svc.cluster.local", "port": 9080}}
    mesh = {"extensionProviders": [provider], "defaultProviders": {"tracing": ["z"]}}
    spans = manager(config(mesh=json.dumps(mesh)).listeners["virtualInbound_9080"])["tracing"]
    assert spans["provider"]["name"] == "envoy.tracers.zipkin"
    assert spans["random_sampling"] == {"value": 1.0}


@pytest.mark.parametrize(
    ("value", "issuer", "subject"),
    [
        ("*", {"safe_regex": {"regex": ".+"}}, {"safe_regex": {"regex": ".+"}}),
        ("a/b", {"exact": "a"}, {"exact": "b"}),
        ("https://a.test/x/b", {"exact": "https://a.test/x"}, {"exact": "b"}),
        ("a/*", {"exact": "a"}, {"safe_regex": {"regex": ".+"}}),
        ("a/b*", {"exact": "a"}, {"prefix": "b"}),
        ("*/b", {"safe_regex": {"regex": ".+"}}, {"exact": "b"}),
        ("*a/b", {"suffix": "a"}, {"exact": "b"}),
        ("a*", {"prefix": "a"}, {"safe_regex": {"regex": ".+"}}),
        ("*b", {"safe_regex": {"regex": ".+"}}, {"suffix": "b"}),
        ("a", {"exact": "a"}, {"exact": ""}),
    ],
)
def test_a_principal_of_a_request_is_an_issuer_and_a_subject(value: str, issuer: Json, subject: Json) -> None:
    rule = istio("p", {"rules": [{"from": [{"source": {"requestPrincipals": [value]}}]}]})
    table = json.loads(config(authorization_policies=[rule]).routes["inbound|9080||"])
    (made,) = table["typed_per_filter_config"]["istio.rbac.allow"]["rbac"]["rules"]["policies"].values()
    (ids,) = made["principals"][0]["or_ids"]["ids"]
    found = {one["metadata"]["path"][1]["key"]: one["metadata"]["value"] for one in ids["and_ids"]["ids"]}
    assert found == {"iss": {"string_match": issuer}, "sub": {"string_match": subject}}


@pytest.mark.parametrize(
    ("field", "given", "wanted"),
    [
        ("principals", "td/ns/a/sa/b", ["td/ns/a/sa/b", "old-td/ns/a/sa/b"]),
        ("principals", "old-td/ns/a/sa/b", ["td/ns/a/sa/b", "old-td/ns/a/sa/b"]),
        ("principals", "*-td/ns/a/sa/b", ["td/ns/a/sa/b", "*-td/ns/a/sa/b"]),
        ("principals", "*/ns/a/sa/b", ["*/ns/a/sa/b"]),
        ("principals", "far/ns/a/sa/b", ["far/ns/a/sa/b"]),
        ("trustDomains", "old-td", ["td", "old-td"]),
        ("trustDomains", "far", ["far"]),
        ("trustDomains", "*", ["*"]),
    ],
)
def test_a_policy_means_the_mesh_in_all_of_its_names(field: str, given: str, wanted: list[str]) -> None:
    def told(values: list[str], mesh: str = "") -> Json:
        rule = istio("p", {"rules": [{"from": [{"source": {field: values}}]}]})
        table: Json = json.loads(config(mesh=mesh, authorization_policies=[rule]).routes["inbound|9080||"])
        return table["typed_per_filter_config"]["istio.rbac.allow"]["rbac"]

    assert told([given], "trustDomain: td\ntrustDomainAliases: [old-td]") == told(wanted)
