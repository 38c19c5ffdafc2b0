# SPDX-License-Identifier: Apache-2.0
"""Our istioctl's tables: set as documented ones are, and with what an Envoy's own pages say."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from labkit.istio.envoy.dump import Dump
from labkit.istioctl import summaries
from labkit.istioctl.common import camel, table
from labkit.istioctl.prototext import fault_text

HERE = Path(__file__).parent
SHOWN = {
    title: (int(gap), body.strip("\n").split("\n"))
    for title, gap, body in re.findall(r"== (\S+) (\d)\n(.*?)(?=\n== |\Z)", (HERE / "documented.txt").read_text(), re.S)
}


def cells(lines: list[str]) -> list[list[str]]:
    """What stands in a table, by where the columns of its first line begin."""
    starts = [found.start() for found in re.finditer(r"(?:(?<=^)|(?<=  )|(?<=PORT ))\S", lines[0])]
    return [[line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)] for line in lines]


@pytest.mark.parametrize("title", SHOWN)
def test_tables_are_set_as_documented_ones(title: str) -> None:
    gap, lines = SHOWN[title]
    assert table(cells(lines), gap=gap) == "\n".join(lines)


EMPTY = Dump({"configs": []}, {}, {}, datetime.now(UTC))
NOTHING: dict[str, str] = {}
COLUMNS: dict[str, Any] = {
    "endpoint": lambda: summaries.endpoints({}, NOTHING),
    "route": lambda: summaries.routes(EMPTY, NOTHING),
    "listener": lambda: summaries.listeners(EMPTY, NOTHING),
    "cluster": lambda: summaries.clusters(EMPTY, NOTHING),
}


@pytest.mark.parametrize("title", COLUMNS)
def test_columns_are_the_documented_ones(title: str) -> None:
    assert list(next(COLUMNS[title]())) == cells(SHOWN[title][1])[0]


def dump(version: str, workload: str = "reviews-v1") -> tuple[Dump, dict[str, Any]]:
    pages = json.loads((HERE.parent / "istio/dumps" / f"{version}.json").read_text())[workload]
    return Dump(pages["config"], pages["health"], pages["certificates"], datetime.now(UTC)), pages


@pytest.mark.parametrize("version", ["1.2.2", "1.30.3"])
def test_what_an_envoy_has_is_in_the_tables(version: str) -> None:
    found, pages = dump(version)
    (cluster,) = list(summaries.clusters(found, NOTHING))[1:]
    assert cluster[1:4] == (9080, "http" if version == "1.2.2" else "-", "inbound")
    assert {row[1] for row in list(summaries.listeners(found, NOTHING))[1:]} == {9080}
    assert list(summaries.listeners(found, {"port": "9081"}))[1:] == []
    (route,) = list(summaries.routes(found, NOTHING))[1:]
    assert route[2:4] == ("*", "/*")
    every = list(summaries.endpoints(pages["health"], NOTHING))[1:]
    assert len(every) == sum(len(one.get("host_statuses") or []) for one in pages["health"]["cluster_statuses"])
    one = every[0]
    address, _, port = str(one[0]).rpartition(":")
    wanted = {"address": address, "port": port, "cluster": str(one[3]), "status": "healthy"}
    assert list(summaries.endpoints(pages["health"], wanted))[1:] == [one]
    assert list(summaries.endpoints(pages["health"], {"status": "UNHEALTHY"}))[1:] == []


def a_config(**parts: Any) -> Dump:
    configs = [{"@type": f"x.{name}ConfigDump", **part} for name, part in parts.items()]
    return Dump({"configs": configs}, {}, {}, datetime.now(UTC))


def test_clusters_are_sorted_and_chosen() -> None:
    istio = {"config": "/apis/networking.istio.io/v1alpha3/namespaces/bookinfo/destination-rule/reviews"}
    names = [
        "BlackHoleCluster",
        "outbound|9080|v2|b.test",
        "outbound|9080||b.test",
        "outbound|80||b.test",
        "inbound|9080||",
    ]
    bodies = [{"name": name, "type": "EDS"} for name in names]
    bodies[1]["metadata"] = {"filter_metadata": {"istio": istio}}  # type: ignore[assignment]
    found = a_config(Clusters={"static_clusters": [{"cluster": one} for one in bodies]})
    rows = list(summaries.clusters(found, NOTHING))[1:]
    assert rows == [
        ("", 9080, "-", "inbound", "EDS", ""),
        ("BlackHoleCluster", "-", "-", "-", "EDS", ""),
        ("b.test", 80, "-", "outbound", "EDS", ""),
        ("b.test", 9080, "-", "outbound", "EDS", ""),
        ("b.test", 9080, "v2", "outbound", "EDS", "reviews.bookinfo"),
    ]
    for wanted, count in (
        ({"fqdn": "b.te"}, 3),
        ({"port": "80"}, 1),
        ({"subset": "v2"}, 1),
        ({"direction": "inbound"}, 1),
    ):
        assert len(list(summaries.clusters(found, wanted))[1:]) == count


def test_routes_are_told_with_their_virtual_services() -> None:
    istio = {"config": "/apis/networking.istio.io/v1alpha3/namespaces/bookinfo/virtual-service/books"}
    names = [
        "b.bookinfo.svc.cluster.local",
        "b.bookinfo.svc.cluster.local:80",
        "b.bookinfo",
        "b.bookinfo.svc",
        "b",
        "10.0.0.1",
    ]
    hosts = [
        {
            "name": "b:80",
            "domains": names,
            "routes": [
                {"match": {"path": "/a"}, "route": {"cluster": "x"}, "metadata": {"filter_metadata": {"istio": istio}}},
                {"match": {"safe_regex": {"regex": "/b.*"}}, "route": {"cluster": "x"}},
                {"match": {"prefix": "/"}, "route": {"cluster": "PassthroughCluster"}},
            ],
        },
        {"name": "none", "domains": ["*"]},
    ]
    tables = [{"name": "http.8080"}, {"name": "9080"}, {"name": "80", "virtual_hosts": hosts}]
    found = a_config(Routes={"static_route_configs": [{"route_config": one} for one in tables]})
    assert list(summaries.routes(found, NOTHING))[1:] == [
        ("80", "b:80", "b.bookinfo, b + 1 more...", "/a", "books.bookinfo"),
        ("80", "b:80", "b.bookinfo, b + 1 more...", "regex /b.*", ""),
        ("80", "none", "*", "/*", "404"),
    ]


def test_secrets_are_told_with_their_time() -> None:
    empty = {"configs": [{"@type": "x.SecretsConfigDump"}]}
    assert summaries.secrets(empty, EMPTY) == "No active or warming secrets found."
    active = [
        {"name": "default", "secret": {"tls_certificate": {}}},
        {"name": "ROOTCA", "secret": {"validation_context": {}}},
    ]
    part = {
        "@type": "x.SecretsConfigDump",
        "dynamic_active_secrets": active,
        "dynamic_warming_secrets": [{"name": "books"}],
    }
    config = {"configs": [part]}
    lines = summaries.secrets(config, Dump(config, {}, {}, datetime.now(UTC))).splitlines()
    assert cells(lines)[0] == cells(SHOWN["secret"][1])[0]
    assert cells(lines)[1:] == [
        ["books", "", "WARMING", "false", "", "", ""],
        ["default", "Cert Chain", "ACTIVE", "false", "", "", ""],
        ["ROOTCA", "CA", "ACTIVE", "false", "", "", ""],
    ]


CHAINS: list[tuple[dict[str, Any], str]] = [
    ({}, "ALL"),
    ({"server_names": ["a.test", "b.test"]}, "SNI: a.test,b.test"),
    (
        {"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"]},
        "Trans: raw_buffer; App: http/1.1,h2c",
    ),
    ({"application_protocols": ["http/1.0", "http/1.1", "h2c"]}, "App: HTTP"),
    ({"destination_port": 15001}, "Addr: *:15001"),
    (
        {"prefix_ranges": [{"address_prefix": "10.0.0.7", "prefix_len": 32}], "destination_port": 9080},
        "Addr: 10.0.0.7/32:9080",
    ),
]


@pytest.mark.parametrize(("match", "words"), CHAINS)
def test_what_a_chain_takes(match: dict[str, Any], words: str) -> None:
    tcp = {"name": "envoy.filters.network.tcp_proxy", "typed_config": {"cluster": "outbound|53||dns"}}
    listener = {
        "name": "one",
        "address": {"socket_address": {"address": "10.0.0.1", "port_value": 53}},
        "filter_chains": [{"filter_chain_match": match, "filters": [tcp]}],
    }
    part = {"@type": "x.ListenersConfigDump", "static_listeners": [{"listener": listener}]}
    found = Dump({"configs": [part]}, {}, {}, datetime.now(UTC))
    assert list(summaries.listeners(found, NOTHING))[1:] == [("10.0.0.1", 53, words, "Cluster: outbound|53||dns")]
    assert list(summaries.listeners(found, {"type": "http"}))[1:] == []


def test_json_has_protobufs_names_and_leaves_what_is_somebodys_own() -> None:
    given = {
        "@type": "x",
        "alt_stat_name": "a_b",
        "metadata": {"filter_metadata": {"istio": {"service_name": "x_y"}}},
        "node": {"metadata": {"LABELS": {"my_label": "z"}}, "user_agent_name": "envoy"},
        "typed_per_filter_config": {"envoy.filters.http.rbac": {"stat_prefix": "q"}},
    }
    assert camel(given) == {
        "@type": "x",
        "altStatName": "a_b",
        "metadata": {"filterMetadata": {"istio": {"service_name": "x_y"}}},
        "node": {"metadata": {"LABELS": {"my_label": "z"}}, "userAgentName": "envoy"},
        "typedPerFilterConfig": {"envoy.filters.http.rbac": {"statPrefix": "q"}},
    }


def test_all_the_addresses_of_a_listener_are_told() -> None:
    def at(address: str) -> dict[str, Any]:
        return {"address": {"socket_address": {"address": address, "port_value": 15021}}}

    chain = {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {"cluster": "agent"}}]}
    both = {"name": "a", **at("10.0.0.1"), "additional_addresses": [at("10.0.0.2")], "filter_chains": [chain]}
    pipe = {"name": "b", "address": {"pipe": {"path": "capture.sock"}}, "filter_chains": [chain]}
    found = a_config(Listeners={"static_listeners": [{"listener": one} for one in (both, pipe)]})
    assert list(summaries.listeners(found, NOTHING))[1:] == [
        ("capture.sock", 0, "ALL", "Cluster: agent"),
        ("10.0.0.1,10.0.0.2", 15021, "ALL", "Cluster: agent"),
    ]
    assert [row[0] for row in summaries.listeners(found, NOTHING, named=True)] == ["NAME", "b", "a"]


def test_numbered_tables_come_first_then_those_that_were_sent() -> None:
    def one(name: str) -> dict[str, Any]:
        return {"route_config": {"name": name, "virtual_hosts": [{"name": "h", "domains": ["*"]}]}}

    sent = [{"version_info": "1", **one(name)} for name in ("http.8080", "9080", "80", "https.443")]
    found = a_config(Routes={"static_route_configs": [one("admin")], "dynamic_route_configs": sent})
    names = [row[0] for row in summaries.routes(found, NOTHING)][1:]
    assert names == ["80", "9080", "http.8080", "https.443", "admin"]


def test_a_bootstrap_is_told_in_what_it_says() -> None:
    build = {
        "version": {"major_number": 1, "minor_number": 40},
        "metadata": {"revision.status": "Clean", "build.type": "RELEASE", "ssl.version": "BoringSSL"},
    }
    about = {"metadata": {"ISTIO_VERSION": "1.30.3"}, "user_agent_build_version": build}

    def told(node: dict[str, Any]) -> str:
        return summaries.bootstrap({"configs": [{"@type": "x.BootstrapConfigDump", "bootstrap": {"node": node}}]})

    assert told(about) == "Istio Version: 1.30.3\nEnvoy Version: 1.40.0/Clean/RELEASE/BoringSSL"
    about["metadata"]["ISTIO_PROXY_SHA"] = "istio-proxy:abc"
    assert told(about).splitlines() == [
        "Istio Version:       1.30.3",
        "Istio Proxy Version: abc",
        "Envoy Version:       1.40.0/Clean/RELEASE/BoringSSL",
    ]


@pytest.mark.parametrize("authority", [True, False])
def test_a_certificate_that_may_sign_is_an_authoritys(authority: bool) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "books.test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(0x0519)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    chain = {"certificate_chain": {"inline_bytes": base64.b64encode(pem).decode()}}
    active = [{"name": "kubernetes://books", "secret": {"tls_certificate": chain}}]
    config = {"configs": [{"@type": "x.SecretsConfigDump", "dynamic_active_secrets": active}]}
    known = {"serial_number": "0519", "subject_alt_names": [], "valid_from": "2020-01-01T00:00:00Z"}
    pages = {"certificates": [{"cert_chain": [known | {"expiration_time": "2999-01-01T00:00:00Z"}]}]}
    ((_, kind, *_, serial, _, _),) = list(summaries.secret_rows(config, Dump(config, {}, pages, now)))[1:]
    assert (kind, serial) == ("CA" if authority else "Cert Chain", "519".zfill(32))


FAULTS = [
    (
        {"delay": {"fixedDelay": "7s", "percentage": {"value": 100}}},
        "delay:{fixed_delay:{seconds:7} percentage:{value:100}}",
    ),
    ({"delay": {"fixedDelay": "0.25s"}}, "delay:{fixed_delay:{nanos:250000000}}"),
    (
        {"abort": {"percentage": {"value": 0.5}, "httpStatus": 503}},
        "abort:{http_status:503 percentage:{value:0.5}}",
    ),
    (
        {"abort": {"grpcStatus": "UNAVAILABLE"}, "delay": {"fixedDelay": "1m"}},
        'delay:{fixed_delay:{seconds:60}} abort:{grpc_status:"UNAVAILABLE"}',
    ),
]


@pytest.mark.parametrize(("fault", "text"), FAULTS)
def test_a_fault_is_told_as_protobufs_text(fault: dict[str, Any], text: str) -> None:
    assert fault_text(fault) == text
