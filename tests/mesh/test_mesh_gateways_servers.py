# SPDX-License-Identifier: Apache-2.0
"""Which servers of Gateways a proxy plays, with which TLS, and what is said of the rest; without any Envoy."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshbox.mesh.certificates import Authority, Identity
from meshbox.mesh.credentials import secret_of
from meshbox.mesh.gateway_notices import GatewayNotices
from meshbox.mesh.gateway_servers import listening_port, served_gateways
from meshbox.mesh.refusals import in_a_line, ingredients, named
from meshbox.mesh.translate import Config, translate

from .cluster import Cluster
from .objects import istio, service, snapshot, workload
from .test_mesh_gateways import gateway, gateway_pod, routed, server, table

Json = dict[str, Any]

UNPRIVILEGED = {"name": "ISTIO_META_UNPRIVILEGED_POD", "value": "true"}
WAY_IN = {"selector": {"istio": "ingressgateway"}, "namespace": "istio-system"}


def unprivileged() -> Json:
    found = gateway_pod()
    found["spec"]["containers"][-1]["env"] = [UNPRIVILEGED]
    return found


def front(*ports: tuple[int, int | str], name: str = "istio-ingressgateway", age: int = 0, **labels: str) -> Json:
    made = service(name, **WAY_IN)
    made["metadata"] |= {"labels": labels, "creationTimestamp": f"2020-01-01T00:00:{age:02d}Z"}
    made["spec"]["ports"] = [{"name": f"p{port}", "port": port, "targetPort": target} for port, target in ports]
    return made


def made(*, legacy: bool = False, **objects: Any) -> tuple[Config, list[str]]:
    """The proxy's configuration, and what is said of what is left out."""
    snap = snapshot(legacy=legacy, pods=[objects.pop("gateway_pod", unprivileged())], **objects)
    proxy = workload(snap, "ingress", "istio-system")
    return translate(snap, proxy), [left.why for left in served_gateways(snap, proxy).left_out]


@pytest.mark.parametrize(
    ("services", "listener"),
    [
        ([front((80, 8080))], "0.0.0.0_8080"),
        ([front((80, "web"))], "0.0.0.0_9080"),
        ([front((80, 8080)), front((80, 8081), name="other", age=1)], "0.0.0.0_8080"),
        ([front((80, 8080), age=1), front((80, 8081), name="other")], "0.0.0.0_8081"),
        ([front((80, "unknown")), front((80, 8082), name="other", age=1)], "0.0.0.0_8082"),
    ],
)
def test_the_port_of_the_oldest_service_that_has_it_counts(services: list[Json], listener: str) -> None:
    named = unprivileged()
    named["spec"]["containers"][0]["ports"] = [{"name": "web", "containerPort": 9080}]
    objects: Json = {"gateways": [gateway(server(80))], "virtual_services": [routed("*")]}
    found, left_out = made(gateway_pod=named, services=services, **objects)
    assert (list(found.listeners), left_out) == ([listener], [])
    # The table is called by the pod's port, the host by the Gateway's.
    assert list(table(found, f"http.{listener.rpartition('_')[2]}")) == ["*:80"]


def test_https_keeps_the_gateways_number_in_its_tables_name() -> None:
    tls = {"mode": "SIMPLE", "credentialName": "shop"}
    found, _ = made(services=[front((443, 8443))], gateways=[gateway(server(443, "HTTPS", tls=tls))])
    assert list(found.listeners) == ["0.0.0.0_8443"]
    assert list(found.routes) == ["https.443.https-443.gw.bookinfo"]


def test_virtual_services_ask_for_the_gateways_number() -> None:
    rules = [{"match": [{"port": number}], "redirect": {"uri": f"/{number}"}} for number in (8080, 80)]
    found, _ = made(
        services=[front((80, 8080))], gateways=[gateway(server(80))], virtual_services=[routed("*", http=rules)]
    )
    (route,) = table(found, "http.8080")["*:80"]["routes"]
    assert route["redirect"]["path_redirect"] == "/80"


def test_a_service_may_leave_the_numbers_alone_and_the_old_release_always_does() -> None:
    off = {"experimental.istio.io/disable-gateway-port-translation": "true"}
    pods = gateway_pod()
    found, _ = made(gateway_pod=pods, services=[front((80, 8080), **off)], gateways=[gateway(server(80))])
    assert list(found.listeners) == ["0.0.0.0_80"]
    found, _ = made(legacy=True, gateway_pod=pods, services=[front((80, 8080))], gateways=[gateway(server(80))])
    assert list(found.listeners) == ["0.0.0.0_80"]


def test_a_port_can_be_meant_as_it_is() -> None:
    spec = {"containers": []}
    assert listening_port(80, [front((80, 8080))], spec) == 8080
    assert listening_port(80, [front((80, 8080))], spec, direct=True) == 80
    assert listening_port(81, [front((80, 8080))], spec) == 81


@pytest.mark.parametrize(
    ("services", "to_do"),
    [
        ([], "its pods have no Service, and"),
        ([front((80, 8080), (443, 8443))], "(istio-system/istio-ingressgateway) has port 81, and"),
        ([front((80, 8080), (443, 8443))], "name one of the Service's ports (80, 443), or a port above 1023"),
        ([front((81, 82))], "its Service leads to port 82 of the pods, but"),
    ],
)
def test_a_port_that_nobody_may_listen_on_is_told_with_what_to_do(services: list[Json], to_do: str) -> None:
    found, (said,) = made(services=services, gateways=[gateway(server(81), server(8080))])
    assert list(found.listeners) == ["0.0.0.0_8080"]
    assert said.startswith("servers[0] (port 81) is not served: ")
    assert to_do in said


TLS = {"mode": "SIMPLE", "credentialName": "shop"}


def secure(*hosts: str, **fields: Any) -> Json:
    return server(8443, "HTTPS", hosts, tls=TLS, **fields)


@pytest.mark.parametrize(
    ("older", "newer", "said"),
    [
        (server(8080), server(8080), ""),
        (server(8080), server(8080, "GRPC"), ""),
        (secure("a.test"), secure("b.test"), ""),
        (
            secure("a.test"),
            secure("a.test", "b.test"),
            "at port 8443 a.test belongs to servers[0] of Gateway bookinfo/old",
        ),
        (
            secure("ns1/a.test"),
            secure("ns2/a.test"),
            "at port 8443 a.test belongs to servers[0] of Gateway bookinfo/old",
        ),
        (secure("*"), secure("*"), "at port 8443 * belongs to servers[0] of Gateway bookinfo/old"),
        (server(8443), secure("a.test"), "port 8443 belongs to servers[0] of Gateway bookinfo/old (HTTP)"),
        (secure("a.test"), server(8443), "port 8443 belongs to servers[0] of Gateway bookinfo/old (HTTPS)"),
        (server(8443, "TCP"), server(8443, "TCP"), "port 8443 belongs to servers[0] of Gateway bookinfo/old (TCP)"),
        (server(8443, "TCP"), server(8443), "port 8443 belongs to servers[0] of Gateway bookinfo/old (TCP)"),
    ],
)
def test_of_two_servers_that_cannot_share_a_port_the_older_is_played(older: Json, newer: Json, said: str) -> None:
    gateways = [gateway(newer, name="new", age=2), gateway(older, name="old", age=1)]
    tcp = {"hosts": ["*"], "gateways": ["old"], "tcp": [{"route": [{"destination": {"host": "details"}}]}]}
    found, left_out = made(gateways=gateways, virtual_services=[istio("vs", tcp)])
    assert len(found.listeners) == 1
    assert len(left_out) == bool(said)
    assert said in "".join(left_out)
    tables = {name for name in found.routes if ".new." in name}
    assert not (said and tables)


def test_one_certificate_a_host_and_the_rest_of_the_port_goes_on() -> None:
    gateways = [gateway(secure("a.test"), name="old"), gateway(secure("b.test"), name="new", age=1)]
    found, _ = made(gateways=gateways)
    chains = json.loads(found.listeners["0.0.0.0_8443"])["filter_chains"]
    assert [chain["filter_chain_match"]["server_names"] for chain in chains] == [["a.test"], ["b.test"]]


@pytest.mark.parametrize(
    ("bind", "listener", "address"),
    [
        ("0.0.0.0", "0.0.0.0_8080", "127.99.70.1"),
        ("127.0.0.1", "127.0.0.1_8080", "127.99.134.1"),
        ("10.0.0.1", "", ""),
    ],
)
def test_a_server_listens_where_it_asks_to(bind: str, listener: str, address: str) -> None:
    found, left_out = made(gateways=[gateway(server(8080, bind=bind))])
    assert list(found.listeners) == ([listener] if listener else [])
    if listener:
        assert json.loads(found.listeners[listener])["address"]["socket_address"]["address"] == address
    else:
        assert "bind 10.0.0.1 is no address of pod istio-system/ingress" in left_out[0]


def context(tls: Json, mesh: str = "") -> Json:
    """The TLS of one server."""
    found, _ = made(mesh=mesh, gateways=[gateway(server(8443, "HTTPS", ("a.test",), tls=tls))])
    (chain,) = json.loads(found.listeners["0.0.0.0_8443"])["filter_chains"]
    socket: Json = chain["transport_socket"]["typed_config"]
    return socket


def names(configs: list[Json]) -> list[str]:
    return [one["name"] for one in configs]


def test_several_certificates_are_all_shown() -> None:
    common = context({"mode": "SIMPLE", "credentialNames": ["rsa", "ecdsa"]})["common_tls_context"]
    shown = names(common["tls_certificate_sds_secret_configs"])
    assert shown == ["kubernetes://rsa", "kubernetes://ecdsa"]
    files = [
        {"serverCertificate": "/a/crt", "privateKey": "/a/key"},
        {"serverCertificate": "/b/crt", "privateKey": "/b/key"},
    ]
    common = context({"mode": "SIMPLE", "tlsCertificates": files})["common_tls_context"]
    assert names(common["tls_certificate_sds_secret_configs"]) == ["file-cert:/a/crt~/a/key", "file-cert:/b/crt~/b/key"]


@pytest.mark.parametrize(("mode", "required"), [("MUTUAL", True), ("OPTIONAL_MUTUAL", False)])
def test_clients_are_checked_by_what_the_server_says(mode: str, required: bool) -> None:
    spki, digest = "NvqYIYSbgK2vCJpQhObf77vv+bQWtc5ek5RIOwPiC9A=", "ab" * 32
    asked = {"subjectAltNames": ["me.test"], "verifyCertificateSpki": [spki], "verifyCertificateHash": [digest]}
    socket = context({"mode": mode, "credentialName": "shop", **asked})
    assert socket["require_client_certificate"] is required
    validation = socket["common_tls_context"]["combined_validation_context"]
    assert validation["validation_context_sds_secret_config"]["name"] == "kubernetes://shop-cacert"
    assert validation["default_validation_context"] == {
        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "me.test"}}],
        "verify_certificate_spki": [spki],
        "verify_certificate_hash": [digest],
    }


def test_a_list_of_what_was_revoked_goes_with_the_files() -> None:
    files = {"serverCertificate": "/c", "privateKey": "/k", "caCertificates": "/ca", "caCrl": "/crl"}
    common = context({"mode": "MUTUAL", **files})["common_tls_context"]
    asked = common["combined_validation_context"]["validation_context_sds_secret_config"]
    assert asked["name"] == "file-root:/ca~/crl"


def test_only_the_identities_that_a_server_names_are_let_in() -> None:
    one = "spiffe://cluster.local/ns/bookinfo/sa/one"
    common = context({"mode": "ISTIO_MUTUAL", "subjectAltNames": [one]})["common_tls_context"]
    validation = common["combined_validation_context"]["default_validation_context"]
    assert validation == {"match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": one}}]}


def test_versions_and_ciphers_of_tls_and_none_that_envoy_would_refuse() -> None:
    # A sign before a name adds or removes it.
    suites = ["ECDHE-RSA-AES128-GCM-SHA256", "nonsense", "ECDHE-RSA-AES128-GCM-SHA256", "-ALL", ""]
    tls = {**TLS, "minProtocolVersion": "TLSV1_2", "maxProtocolVersion": "TLSV1_3", "cipherSuites": suites}
    assert context(tls)["common_tls_context"]["tls_params"] == {
        "tls_minimum_protocol_version": "TLSv1_2",
        "tls_maximum_protocol_version": "TLSv1_3",
        "cipher_suites": ["ECDHE-RSA-AES128-GCM-SHA256", "-ALL"],
    }
    mesh = "tlsDefaults: {minProtocolVersion: TLSV1_3, ecdhCurves: [P-256], cipherSuites: [AES128-SHA]}"
    said = {**context(tls)["common_tls_context"]["tls_params"], "ecdh_curves": ["P-256"]}
    assert context(tls, mesh)["common_tls_context"]["tls_params"] == said, "the server's own word counts"
    everywhere = {"tls_minimum_protocol_version": "TLSv1_3", "cipher_suites": ["AES128-SHA"], "ecdh_curves": ["P-256"]}
    assert context(TLS, mesh)["common_tls_context"]["tls_params"] == everywhere
    assert "tls_params" not in context({"mode": "ISTIO_MUTUAL"}, mesh)["common_tls_context"]


def test_a_policy_for_the_gateway_holds_for_bytes_as_well() -> None:
    deny = {"action": "DENY", "rules": [{"from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}}]}]}
    tcp = {"hosts": ["*"], "gateways": ["gw"], "tcp": [{"route": [{"destination": {"host": "details"}}]}]}
    found, _ = made(
        gateways=[gateway(server(31400, "TCP"))],
        virtual_services=[istio("vs", tcp)],
        authorization_policies=[istio("deny", deny, "istio-system")],
    )
    (chain,) = json.loads(found.listeners["0.0.0.0_31400"])["filter_chains"]
    assert "envoy.filters.network.rbac" in [one["name"] for one in chain["filters"]]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    found = Authority(tmp_path_factory.mktemp("authority"))
    found.load()
    return found


def secret(name: str = "shop", **data: str) -> Json:
    encoded = {key.replace("_", "."): base64.b64encode(text.encode()).decode() for key, text in data.items()}
    meta = {"name": name, "namespace": "istio-system", "resourceVersion": "1"}
    return {"metadata": meta, "type": "Opaque", "data": encoded}


CASES: list[tuple[Callable[[Identity, Identity], dict[str, str]], str]] = [
    (lambda _, __: {}, "has neither tls.crt and tls.key nor cert and key; it is empty"),
    (lambda own, other: {"tls_crt": own.chain}, "has neither tls.crt and tls.key nor cert and key; it has tls.crt"),
    (lambda own, other: {"tls_crt": "x", "tls_key": own.key}, "has no certificate in PEM at tls.crt"),
    (
        lambda own, other: {"tls_crt": own.chain, "tls_key": "x"},
        "has no private key in PEM at tls.key that can be read without a password",
    ),
    (
        lambda own, other: {"cert": own.chain, "key": other.key},
        "has a key at key that is not that of the first certificate at cert",
    ),
    (
        lambda own, other: {"tls_crt": own.chain, "tls_key": own.key, "ca_crt": "x"},
        "has no certificate in PEM at ca.crt",
    ),
    (
        lambda own, other: {"tls_crt": own.chain, "tls_key": own.key},
        "has no ca.crt (nor cacert); it has tls.crt, tls.key",
    ),
]


@pytest.mark.parametrize(("data", "problem"), CASES)
def test_a_secret_that_cannot_be_used_is_told_on_the_gateway(
    authority: Authority, tmp_path: Path, data: Callable[[Identity, Identity], dict[str, str]], problem: str
) -> None:
    own, other = authority.issue("https://a.test"), authority.issue("https://b.test")
    tls = {"mode": "MUTUAL", "credentialName": "shop"}
    objects: Json = {
        "gateways": [gateway(server(8443, "HTTPS", ("a.test",), tls=tls))],
        "secrets": [secret(**data(own, other))],
    }
    told = said(tmp_path, **objects)
    assert any(f"Secret istio-system/shop {problem}; TLS" in text for text in told), told


def said(home: Path, **objects: Any) -> list[str]:
    cluster = Cluster(home, "1.30.3")
    try:
        snap = snapshot(pods=[unprivileged()], **objects)
        cluster.put("gateways.networking.istio.io", {key: objects["gateways"][0][key] for key in ("metadata", "spec")})
        notices = GatewayNotices(cluster, "istiod")
        notices.tell(snap)
        before = cluster.warnings()
        notices.tell(snapshot(pods=[unprivileged()], **objects))
        assert cluster.warnings() == before, "once is enough"
        return before
    finally:
        cluster.close()


@pytest.mark.parametrize(("release", "warned"), [("1.30.3", True), ("1.2.2", False)])
def test_who_applies_a_gateway_is_warned_of_ports_that_nobody_may_listen_on(
    tmp_path: Path, release: str, warned: bool
) -> None:
    cluster = Cluster(tmp_path, release)
    try:
        cluster.validate()
        cluster.put("pods", unprivileged())
        cluster.put("services", front((80, 8080), (443, 8443)))
        for name, number in (("known", 80), ("unknown", 81)):
            spec = gateway(server(number), name=name)
            options = cluster._as_client(spec, "gateways.networking.istio.io")
            cluster.create("gateways.networking.istio.io", spec, options=options)
            found = [text for text in options.warnings if "is not served" in text]
            assert len(found) == (warned and name == "unknown"), options.warnings
    finally:
        cluster.close()


@pytest.mark.parametrize(
    ("resource", "place"),
    [
        ("kubernetes://shop", ("istio-system", "shop", False)),
        ("kubernetes://shop-cacert", ("istio-system", "shop-cacert", True)),
        ("kubernetes-gateway://other/shop", ("other", "shop", False)),
        ("file-cert:/a~/b", None),
        ("default", None),
    ],
)
def test_where_the_secret_of_a_resource_lies(resource: str, place: tuple[str, str, bool] | None) -> None:
    assert secret_of(resource, "istio-system") == place


def test_what_was_refused_is_traced_to_the_objects_it_was_made_of() -> None:
    rule = istio("for-details", {"host": "details", "subsets": [{"name": "all"}]}, age=1)
    objects: Json = {
        "gateways": [gateway(server(8080)), gateway(server(8081), name="other", age=1)],
        "virtual_services": [routed("*"), routed("*", gateways=("other",), name="away", age=1)],
        "destination_rules": [rule, istio("for-ratings", {"host": "ratings"}, age=2)],
        "authorization_policies": [
            istio("rules", {"rules": [{}]}, "istio-system"),
            istio("elsewhere", {"rules": [{}]}),
        ],
    }
    snap = snapshot(pods=[unprivileged()], **objects)
    proxy = workload(snap, "ingress", "istio-system")
    found = translate(snap, proxy)

    def refused(what: str, resource: bytes = b"", recent: tuple[str, ...] = ()) -> list[str]:
        return list(named(ingredients(snap, proxy, what, resource), recent))

    table_8080, listener_8080 = found.routes["http.8080"], found.listeners["0.0.0.0_8080"]
    cluster = found.clusters["outbound|9080|all|details.bookinfo.svc.cluster.local"]
    whole = ["virtualservices bookinfo/vs", "authorizationpolicies istio-system/rules", "gateways bookinfo/gw"]
    assert refused("routes http.8080", table_8080) == whole
    assert refused("routes http.8080", table_8080, recent=("gateways bookinfo/gw", "sidecars x/y")) == whole[2:]
    assert refused("routes http.8080", table_8080, recent=("sidecars x/y",)) == whole
    assert refused("listeners", listener_8080) == ["gateways bookinfo/gw"]
    assert refused("clusters", cluster) == ["destinationrules bookinfo/for-details", "services bookinfo/details"]


def test_a_long_reason_is_cut_where_an_event_would_be_a_page() -> None:
    assert in_a_line("cannot bind:\n  Address already in use\n") == "cannot bind: Address already in use"
    assert in_a_line("x" * 400) == "x" * 400
    assert in_a_line("x" * 401) == "x" * 400 + "... (the rest is in its log, -c istio-proxy)"
