# SPDX-License-Identifier: Apache-2.0
"""Fields of DestinationRules as clusters and listeners, without any Envoy."""

from __future__ import annotations

import base64
import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from meshbox.mesh.certificates import Authority
from meshbox.mesh.destination_rules import DestinationRules
from meshbox.mesh.secrets import SecretSource
from meshbox.mesh.translate import translate

from .objects import istio, pod, service, snapshot, workload
from .whole import whole_clusters

Json = dict[str, Any]

REVIEWS = "outbound|9080||reviews.bookinfo.svc.cluster.local"
V1 = "outbound|9080|v1|reviews.bookinfo.svc.cluster.local"
HTTP = {"number": 80, "name": "http", "protocol": "HTTP"}
TCP = {"number": 7000, "name": "tcp", "protocol": "TCP"}


def clusters(source: str = "productpage-v1", namespace: str = "bookinfo", **objects: Any) -> dict[str, Json]:
    snap = snapshot(**objects)
    return whole_clusters(translate(snap, workload(snap, source, namespace)))


def under(*, mesh: str = "", legacy: bool = False, subsets: list[Json] | None = None, **policy: Any) -> dict[str, Json]:
    spec: Json = {"host": "reviews", **({"trafficPolicy": policy} if policy else {}), "subsets": subsets or []}
    return clusters(destination_rules=[istio("reviews", spec)], mesh=mesh, legacy=legacy)


def options(cluster: Json) -> Json:
    found: Json = cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
    return {key: value for key, value in found.items() if key != "@type"}


def entry(*ports: Json, name: str = "api", host: str = "api.test", age: int = 0, **fields: Any) -> Json:
    return istio(name, {"hosts": [host], "ports": list(ports) or [HTTP], **fields}, age=age)


HOSTS = {
    "connectionPool": {"tcp": {"maxConnections": 9}, "http": {"maxRetries": 8}},
    "outlierDetection": {"consecutive5xxErrors": 7},
    "retryBudget": {"percent": 50},
}
PORT = [{"port": {"number": 9080}, "loadBalancer": {"simple": "RANDOM"}}]


def test_a_subsets_settings_for_a_port_inherit_nothing() -> None:
    subset = {"name": "v1", "labels": {"version": "v1"}, "trafficPolicy": {"portLevelSettings": PORT}}
    found = under(subsets=[subset], **HOSTS)
    limits = found[V1]["circuit_breakers"]["thresholds"][0]
    assert (limits["max_connections"], limits["max_retries"]) == (4294967295, 4294967295)
    assert "outlier_detection" not in found[V1]
    assert found[V1]["lb_policy"] == "RANDOM"
    # What is never a port's own stays.
    assert limits["retry_budget"] == {"budget_percent": {"value": 50.0}, "min_retry_concurrency": 3}
    # The whole host is as it was.
    assert found[REVIEWS]["outlier_detection"]["consecutive_5xx"] == 7


def test_in_the_old_release_they_did() -> None:
    subset = {"name": "v1", "labels": {"version": "v1"}, "trafficPolicy": {"portLevelSettings": PORT}}
    pool = {"connectionPool": HOSTS["connectionPool"]}
    limits = under(subsets=[subset], legacy=True, **pool)[V1]["circuit_breakers"]["thresholds"][0]
    assert limits["max_connections"] == 9


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({}, (0.2, 3)),
        ({"percent": 0, "minRetryConcurrency": 10}, (0.0, 10)),
        ({"percent": 20, "minRetryConcurrency": 0}, (20.0, 3)),
        ({"percent": 12.5}, (12.5, 3)),
    ],
)
def test_a_retry_budget(budget: Json, expected: tuple[float, int]) -> None:
    # Istio's webhook counts it for no setting, so it takes no rule that says nothing else.
    found = under(retryBudget=budget, loadBalancer={"simple": "RANDOM"})[REVIEWS]["circuit_breakers"]["thresholds"][0][
        "retry_budget"
    ]
    assert (found["budget_percent"]["value"], found["min_retry_concurrency"]) == expected


@pytest.mark.parametrize(
    ("balancer", "key", "expected"),
    [
        ({"warmupDurationSecs": "60s"}, "least_request_lb_config", {"slow_start_window": "60s"}),
        ({"warmup": {"duration": "5s"}, "simple": "ROUND_ROBIN"}, "round_robin_lb_config", {"slow_start_window": "5s"}),
        (
            {"warmup": {"duration": "5s", "minimumPercent": 20, "aggression": 1.5}},
            "least_request_lb_config",
            {
                "slow_start_window": "5s",
                "min_weight_percent": {"value": 20.0},
                "aggression": {"default_value": 1.5, "runtime_key": "upstream.slow_start.aggression"},
            },
        ),
    ],
)
def test_warm_up(balancer: Json, key: str, expected: Json) -> None:
    assert under(loadBalancer=balancer)[REVIEWS][key] == {"slow_start_config": expected}


DOWNSTREAM = {"http_protocol_options": {}, "http2_protocol_options": {}}


@pytest.mark.parametrize(
    ("mesh", "http", "expected"),
    [
        ("", {"h2UpgradePolicy": "UPGRADE"}, {"explicit_http_config": {"http2_protocol_options": {}}}),
        (
            "",
            {"h2UpgradePolicy": "UPGRADE", "maxConcurrentStreams": 5},
            {"explicit_http_config": {"http2_protocol_options": {"max_concurrent_streams": 5}}},
        ),
        ("", {"useClientProtocol": True}, {"use_downstream_protocol_config": DOWNSTREAM}),
        ("h2UpgradePolicy: UPGRADE", {"maxRetries": 1}, {"explicit_http_config": {"http2_protocol_options": {}}}),
        ("h2UpgradePolicy: UPGRADE", {"h2UpgradePolicy": "DO_NOT_UPGRADE"}, None),
    ],
)
def test_which_http_is_spoken(mesh: str, http: Json, expected: Json | None) -> None:
    cluster = under(mesh=mesh, connectionPool={"http": http})[REVIEWS]
    assert ("typed_extension_protocol_options" in cluster) is (expected is not None)
    if expected is not None:
        assert options(cluster) == expected


def test_the_mesh_speaks_of_connections_where_no_rule_does() -> None:
    mesh = "connectTimeout: 3s\ntcpKeepalive: {time: 60s, probes: 4}"
    found = under(mesh=mesh)
    cluster = found[REVIEWS]
    assert [found[name]["connect_timeout"] for name in (REVIEWS, "PassthroughCluster")] == ["3s", "3s"]
    seen = cluster["upstream_connection_options"]["tcp_keepalive"]
    assert seen == {"keepalive_time": 60, "keepalive_probes": 4}
    own = {"connectTimeout": "1s", "tcpKeepalive": {"time": "5s", "interval": "2s"}}
    cluster = under(mesh=mesh, connectionPool={"tcp": own})[REVIEWS]
    assert cluster["connect_timeout"] == "1s"
    seen = cluster["upstream_connection_options"]["tcp_keepalive"]
    assert seen == {"keepalive_time": 5, "keepalive_probes": 4, "keepalive_interval": 2}
    assert "upstream_connection_options" not in under()[REVIEWS]


def test_outlier_detection_of_errors_on_this_side() -> None:
    split = {"splitExternalLocalOriginErrors": True, "consecutiveLocalOriginFailures": 2, "consecutive5xxErrors": 0}
    found = under(outlierDetection=split)[REVIEWS]["outlier_detection"]
    assert found == {
        "enforcing_success_rate": 0,
        "consecutive_5xx": 0,
        "enforcing_consecutive_5xx": 0,
        "max_ejection_percent": 10,
        "split_external_local_origin_errors": True,
        "enforcing_local_origin_success_rate": 0,
        "consecutive_local_origin_failure": 2,
        "enforcing_consecutive_local_origin_failure": 100,
    }
    # Asked for with nothing in it, it is what Envoy's own numbers make it; today nobody reads `consecutiveErrors`.
    alone = {"enforcing_success_rate": 0, "max_ejection_percent": 10}
    assert under(outlierDetection={})[REVIEWS]["outlier_detection"] == alone
    assert under(outlierDetection={"consecutiveErrors": 1})[REVIEWS]["outlier_detection"] == alone


def test_servers_are_told_by_a_header_who_calls() -> None:
    wrapped = "envoy.transport_sockets.upstream_proxy_protocol"
    matches = under(proxyProtocol={"version": "V2"})[REVIEWS]["transport_socket_matches"]
    assert [one["transport_socket"]["name"] for one in matches] == [wrapped, wrapped]
    assert matches[0]["transport_socket"]["typed_config"]["config"] == {"version": "V2"}
    plain = under(proxyProtocol={}, tls={"mode": "DISABLE"})[REVIEWS]["transport_socket"]
    assert plain["name"] == wrapped
    assert plain["typed_config"]["config"] == {"version": "V1"}
    assert plain["typed_config"]["transport_socket"]["name"] == "envoy.transport_sockets.raw_buffer"


def test_a_tunnel_and_the_callers_address_are_the_listeners() -> None:
    def proxy(name: str, **policy: Any) -> Json:
        db = service("db", ("tcp", 3306), ip="127.99.16.9")
        rule = istio("db", {"host": "db", "trafficPolicy": policy})
        snap = snapshot(services=[db], destination_rules=[rule])
        body = translate(snap, workload(snap, "productpage-v1")).listeners[name]
        found: Json = json.loads(body)["filter_chains"][0]["filters"][-1]["typed_config"]
        return found

    name = "127.99.16.9_3306"
    posted = {"protocol": "POST", "targetHost": "far.test", "targetPort": 443}
    assert proxy(name, tunnel=posted)["tunneling_config"] == {"hostname": "far.test:443", "use_post": True}
    asked = {"targetHost": "2001:db8::1", "targetPort": 443}
    assert proxy(name, tunnel=asked)["tunneling_config"] == {"hostname": "[2001:db8::1]:443"}
    hashed = proxy(name, loadBalancer={"consistentHash": {"useSourceIp": True}})
    assert hashed["hash_policy"] == [{"source_ip": {}}]
    assert not {"tunneling_config", "hash_policy"} & set(proxy(name, tls={"mode": "DISABLE"}))


def test_a_cookie_is_made_with_its_attributes() -> None:
    cookie = {"name": "user", "ttl": "0s", "attributes": [{"name": "SameSite", "value": "Strict"}]}
    spec = {"host": "reviews", "trafficPolicy": {"loadBalancer": {"consistentHash": {"httpCookie": cookie}}}}
    snap = snapshot(destination_rules=[istio("reviews", spec)])
    table = json.loads(translate(snap, workload(snap, "productpage-v1")).routes["9080"])
    (route,) = [h["routes"][0] for h in table["virtual_hosts"] if h["name"].startswith("reviews.")]
    assert route["route"]["hash_policy"] == [{"cookie": {**cookie}}]


def originated(source: str = "productpage-v1", namespace: str = "bookinfo", **objects: Any) -> Json:
    return clusters(source, namespace, **objects)["outbound|80||api.test"]


def tls(mode: str = "SIMPLE", selector: Json | None = None, **fields: Any) -> list[Json]:
    spec: Json = {"host": "api.test", "trafficPolicy": {"tls": {"mode": mode, **fields}}}
    return [istio("api", {**spec, **({"workloadSelector": {"matchLabels": selector}} if selector else {})})]


def test_a_servers_name_follows_the_request() -> None:
    known = {"service_entries": [entry(resolution="DNS")]}
    cluster = originated(destination_rules=tls(), **known)
    assert options(cluster)["upstream_http_protocol_options"] == {"auto_sni": True, "auto_san_validation": True}
    cluster = originated(destination_rules=tls(subjectAltNames=["a.test"]), **known)
    assert options(cluster)["upstream_http_protocol_options"] == {"auto_sni": True}
    assert "typed_extension_protocol_options" not in originated(destination_rules=tls(sni="b.test"), **known)


def test_a_server_may_have_the_names_that_its_entry_says() -> None:
    named = [entry(resolution="DNS", subjectAltNames=["a.test", "10.1.1.1", "spiffe://x/y"])]
    cluster = originated(service_entries=named, destination_rules=tls())
    context = cluster["transport_socket"]["typed_config"]["common_tls_context"]["combined_validation_context"]
    assert [
        (one["san_type"], one["matcher"]["exact"])
        for one in context["default_validation_context"]["match_typed_subject_alt_names"]
    ] == [("DNS", "a.test"), ("IP_ADDRESS", "10.1.1.1"), ("URI", "spiffe://x/y")]


def test_whom_a_client_trusts() -> None:
    def trusted(*mode: str, **fields: Any) -> str | None:
        cluster = originated(service_entries=[entry(resolution="DNS")], destination_rules=tls(*mode, **fields))
        context = cluster["transport_socket"]["typed_config"]["common_tls_context"]
        known = context.get("combined_validation_context")
        return known and known["validation_context_sds_secret_config"]["name"]

    assert trusted() == "file-root:system"
    assert trusted(caCertificates="/ca.pem", caCrl="/crl.pem") == "file-root:/ca.pem~/crl.pem"
    chosen = {"selector": {"app": "productpage"}, "credentialName": "api"}
    assert trusted(**chosen) == "kubernetes://api-cacert"
    assert trusted(insecureSkipVerify=True) is None
    # Only where the credential may be the client's own certificate.
    assert trusted("MUTUAL", **chosen, insecureSkipVerify=True) is None


def test_a_sidecar_takes_a_credential_only_where_the_rule_is_for_some_workloads() -> None:
    known = {"service_entries": [entry(resolution="DNS")]}
    assert "transport_socket" not in originated(destination_rules=tls(credentialName="api"), **known)
    own = tls(selector={"app": "productpage"}, credentialName="api")
    assert "transport_socket" in originated(destination_rules=own, **known)
    gateway = pod("egress", "127.99.70.1", role="router", app="egress")
    found = originated("egress", destination_rules=tls(credentialName="api"), pods=[gateway], **known)
    assert "transport_socket" in found


def test_a_rule_for_some_workloads_stands_before_one_for_all() -> None:
    def named(name: str, balancer: str, age: int, **more: Any) -> Json:
        return istio(
            name, {"host": "reviews", "trafficPolicy": {"loadBalancer": {"simple": balancer}}, **more}, age=age
        )

    rules = [
        named("all", "RANDOM", 0, subsets=[{"name": "v1", "labels": {"version": "v1"}}]),
        named("some", "ROUND_ROBIN", 5, workloadSelector={"matchLabels": {"app": "productpage"}}),
    ]
    chosen, other = clusters(destination_rules=rules), clusters("details-v1", destination_rules=rules)
    assert (chosen[REVIEWS]["lb_policy"], V1 in chosen) == ("ROUND_ROBIN", False)
    assert (other[REVIEWS]["lb_policy"], V1 in other) == ("RANDOM", True)


def test_rules_are_seen_where_the_mesh_says_unless_they_say_it() -> None:
    spec = {"host": "a.b", "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}}
    rules = [
        istio("one", spec, "istio-system"),
        istio("two", {**spec, "host": "c.d", "exportTo": ["*"]}, "istio-system"),
    ]
    found = DestinationRules(rules, "bookinfo", "istio-system", ["."])  # type: ignore[arg-type]
    assert found.spec_for("a.b", "x") is None
    assert found.spec_for("c.d", "x") is not None
    cluster = clusters(
        destination_rules=[istio("reviews", {**spec, "host": "reviews.bookinfo.svc.cluster.local"}, "istio-system")],
        mesh="defaultDestinationRuleExportTo: ['.']",
    )[REVIEWS]
    assert cluster["lb_policy"] == "LEAST_REQUEST"


def inline(text: str) -> Json:
    return {"inline_bytes": base64.b64encode(text.encode()).decode()}


def revocations() -> str:
    """A list of revoked certificates, of some authority."""
    now = datetime.datetime.now(datetime.UTC)
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    made = x509.CertificateRevocationListBuilder(issuer, now, now + datetime.timedelta(days=1))
    key = ec.generate_private_key(ec.SECP256R1())
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_the_list_of_revoked_certificates_comes_with_whom_to_trust(tmp_path: Path) -> None:
    def data(**entries: str) -> dict[str, str]:
        return {name.replace("_", "."): base64.b64encode(text.encode()).decode() for name, text in entries.items()}

    authority = Authority(tmp_path)
    authority.load()
    roots, revoked = authority.root, revocations()
    kept = [
        {"metadata": {"name": "api", "namespace": "bookinfo"}, "data": data(ca_crt=roots, ca_crl=revoked)},
        {"metadata": {"name": "old", "namespace": "bookinfo"}, "data": data(cacert=roots)},
    ]
    files = pod("client-v1", "127.99.64.70")
    files["spec"]["containers"][-1]["volumeMounts"] = [{"name": "tls", "mountPath": "/etc/tls"}]
    files["spec"]["volumes"] = [{"name": "tls", "secret": {"secretName": "api"}}]
    snap = snapshot(pods=[files], secrets=kept)
    source = SecretSource(authority, lambda: snap)

    def trusted(name: str) -> Json | None:
        body = source.get(("bookinfo", "client-v1"), name)
        return body and json.loads(body)["validation_context"]

    both = {"trusted_ca": inline(roots), "crl": inline(revoked)}
    assert trusted("kubernetes://api-cacert") == both
    assert trusted("kubernetes://old-cacert") == {"trusted_ca": inline(roots)}
    assert trusted("file-root:/etc/tls/ca.crt~/etc/tls/ca.crl") == both
    # Without the list nobody is trusted.
    assert trusted("file-root:/etc/tls/ca.crt~/etc/tls/none.crl") is None
