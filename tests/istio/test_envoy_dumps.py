# SPDX-License-Identifier: Apache-2.0
"""What is read in dumps of real Envoys, recorded in a sandbox and cut down to BookInfo's reviews."""

from __future__ import annotations

import base64
import copy
import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from labkit.istio.envoy import chains, states
from labkit.istio.envoy.chains import Connection
from labkit.istio.envoy.differences import changes
from labkit.istio.envoy.dump import KINDS, Dump
from labkit.istio.envoy.matching import Request
from labkit.istio.envoy.walk import Passage, Target, endpoints_of, pass_through

NOW = datetime.datetime(2026, 11, 26, 14, tzinfo=datetime.UTC)
REVIEWS = "outbound|9080|{}|reviews.bookinfo.svc.cluster.local"


@pytest.fixture(scope="module", params=["1.2.2", "1.30.3"])
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def recorded(release: str) -> dict[str, dict[str, Any]]:
    """Dumps by workload: a client, ratings-v1, and a server, reviews-v1."""
    found: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / f"dumps/{release}.json").read_text())
    return found


@pytest.fixture(scope="module")
def client(recorded: dict[str, dict[str, Any]]) -> Dump:
    return Dump(**recorded["ratings-v1"], read_at=NOW)


@pytest.fixture(scope="module")
def server(recorded: dict[str, dict[str, Any]]) -> Dump:
    return Dump(**recorded["reviews-v1"], read_at=NOW)


def walked(dump: Dump, request: Request, port: int = 9080) -> Passage:
    connection = Connection("10.255.0.1", port, protocols=("http/1.1",))
    taken = chains.outbound(dump, connection)
    assert taken is not None
    return pass_through(dump, "ratings-v1", taken, connection, request)


def test_every_part_is_read(client: Dump) -> None:
    assert {"virtualOutbound", "0.0.0.0_9080"} <= client.listeners.keys()
    assert "9080" in client.routes
    names = {REVIEWS.format(subset) for subset in ("", "v1", "v2", "v3")}
    assert names <= client.clusters.keys()
    assert names <= client.endpoints.keys()
    assert client.identity == "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings"
    assert client.refused == ()
    assert client.latest is not None
    assert ("routes", "9080") in client.moments
    for kind in KINDS:
        columns, rows = states.rows(client, kind, namespace="bookinfo")
        assert all(len(row) == len(columns) for row in rows)
    one = client.endpoints[REVIEWS.format("v1")].body["endpoints"]
    assert [(end["weight"], end["trouble"], end["metadata"]["istio"]["workload"]) for end in one] == [
        (1, "", "reviews-v1")
    ]


def test_how_connections_are_wrapped_is_said_once(client: Dump) -> None:
    """Whatever is known of the endpoints that a way to wrap them is for."""
    name = REVIEWS.format("v1")
    matches = [{"name": one, "match": {"tlsMode": one}, "transport_socket": {}} for one in ("istio", "disabled")]
    changed = copy.deepcopy(client)
    changed.clusters[name].body["transport_socket_matches"] = matches
    columns, rows = states.rows(changed, "clusters")
    assert [row[columns.index("tls")] for row in rows if row[0] == name] == ["plain"]


def test_of_a_gateway_istios_own_services_come_after_all_others(client: Dump) -> None:
    """It is in their namespace itself; what is asked of it is about the hosts that it leads to."""
    ours, istios = REVIEWS.format(""), "outbound|9090||kiali.istio-system.svc.cluster.local"
    gateway = copy.deepcopy(client)
    added = {name: copy.deepcopy(gateway.clusters[ours]) for name in ("BlackHoleCluster", istios)}
    gateway.clusters = {**added, **gateway.clusters}
    _, rows = states.rows(gateway, "clusters", namespace="istio-system")
    names = [row[0] for row in rows]
    assert names[-2:] == ["BlackHoleCluster", istios]
    assert ours in names[:-2]
    _, rows = states.rows(gateway, "clusters", {istios}, "istio-system")
    assert rows[0][0] == istios


def test_it_is_kept_small_and_whole(client: Dump) -> None:
    packed = client.packed()
    assert len(packed.pages) < 10_000
    again = packed.open()
    assert again.read_at == NOW
    for kind in KINDS:
        bodies = [{name: one.body for name, one in of.of(kind).items()} for of in (client, again)]
        assert changes(bodies[0], bodies[1], kind) == []


def test_a_request_goes_by_its_headers(client: Dump) -> None:
    his = walked(client, Request(path="/reviews/0", authority="reviews:9080", headers={"end-user": "jason"}))
    assert his.targets == [Target(REVIEWS.format("v2"), 1.0)]
    others = walked(client, Request(path="/reviews/0", authority="reviews:9080"))
    assert others.targets == [Target(REVIEWS.format("v1"), 0.8), Target(REVIEWS.format("v9"), 0.2)]
    route = others.steps[-1]
    assert route.kind == "route"
    assert route.passed == (
        "route for any path, header end-user is 'jason': header end-user is 'jason': there is none",
    )
    assert "from virtual-service bookinfo/reviews" in route.says
    assert others.depends == []


def test_what_is_no_host_of_the_mesh_goes_through(client: Dump) -> None:
    found = walked(client, Request(authority="nobody.example"))
    assert [one.cluster for one in found.targets] == ["PassthroughCluster"]
    # Nobody listens for that port in particular.
    found = walked(client, Request(authority="nobody.example"), port=4444)
    assert [one.cluster for one in found.targets] == ["PassthroughCluster"]
    assert found.steps[0].name == "virtualOutbound"


def test_clusters_with_endpoints_without_and_missing_ones(client: Dump) -> None:
    _, chosen, answer = endpoints_of(client, "ratings-v1", Target(REVIEWS.format("v1"), 0.8))
    assert answer is None
    assert len(chosen) == 1
    steps, chosen, answer = endpoints_of(client, "ratings-v1", Target(REVIEWS.format("v9"), 0.2))
    assert chosen == []
    assert answer is not None
    assert (answer.status, answer.flag) == (503, "NC")
    assert "20% of the requests" in steps[0].says


def with_health(raw: dict[str, Any], health: dict[str, Any]) -> Dump:
    """The dump, all of whose endpoints are in this state."""
    copy = json.loads(json.dumps(raw))
    for cluster in copy["health"]["cluster_statuses"]:
        for host in cluster["host_statuses"]:
            host["health_status"] = health
    return Dump(**copy, read_at=NOW)


def test_endpoints_that_are_left_out(recorded: dict[str, dict[str, Any]]) -> None:
    dump = with_health(recorded["ratings-v1"], {"failed_outlier_check": True, "eds_health_status": "HEALTHY"})
    steps, chosen, answer = endpoints_of(dump, "ratings-v1", Target(REVIEWS.format("v1"), 1.0))
    # Istio turns panic off, so that what is ejected gets nothing.
    assert chosen == []
    assert answer is not None
    assert (answer.status, answer.flag) == (503, "UH")
    assert "ejected by outlier detection" in steps[-1].says
    panicking = json.loads(json.dumps(recorded["ratings-v1"]))
    for part in panicking["config"]["configs"]:
        for one in part.get("dynamic_active_clusters") or []:
            one["cluster"].pop("common_lb_config", None)
    dump = with_health(panicking, {"failed_outlier_check": True})
    steps, chosen, answer = endpoints_of(dump, "ratings-v1", Target(REVIEWS.format("v1"), 1.0))
    assert (len(chosen), answer) == (1, None)
    assert "all fail, so Envoy asks any of them" in steps[-1].says


def test_the_server_takes_plain_and_mutual_connections_by_their_own_chains(server: Dump, release: str) -> None:
    address = next(
        one.body["address"]["socket_address"]["address"] for name, one in server.listeners.items() if "9080" in name
    )
    plain = Connection(address, 9080, protocols=("http/1.1",))
    taken = chains.inbound(server, plain)
    assert taken is not None
    found = pass_through(server, "reviews-v1", taken, plain, Request(authority="reviews:9080"))
    assert "transport_socket" not in found.chain
    name = {"1.2.2": "inbound|9080|http|reviews.bookinfo.svc.cluster.local", "1.30.3": "inbound|9080||"}[release]
    assert found.targets == [Target(name, 1.0)]
    if release == "1.30.3":
        secure = Connection(address, 9080, True, ("istio-peer-exchange", "istio"), "outbound_.9080_._.reviews")
        assert "transport_socket" in pass_through(server, "reviews-v1", taken, secure, Request()).chain


def test_older_envoys_call_some_things_otherwise() -> None:
    listener = {
        "name": "0.0.0.0_9080",
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": 9080}},
        "filter_chains": [
            {
                "filters": [
                    {"name": "envoy.http_connection_manager", "config": {"rds": {"route_config_name": "9080"}}},
                ]
            }
        ],
    }
    host = {"name": "any", "domains": ["*"], "routes": [{"match": {"regex": "/r.*"}, "route": {"cluster": "c"}}]}
    listeners = {"@type": "type.googleapis.com/envoy.admin.v2alpha.ListenersConfigDump"}
    tables = {"@type": "type.googleapis.com/envoy.admin.v2alpha.RoutesConfigDump"}
    config = {
        "configs": [
            {**listeners, "dynamic_active_listeners": [{"version_info": "1", "listener": listener}]},
            {**tables, "dynamic_route_configs": [{"route_config": {"name": "9080", "virtual_hosts": [host]}}]},
        ]
    }
    dump = Dump(config, {}, {}, NOW)
    assert walked(dump, Request(path="/reviews")).targets == [Target("c", 1.0)]
    nothing = walked(dump, Request(path="/other")).answer
    assert nothing is not None
    assert (nothing.status, nothing.flag) == (404, "NR")


def test_what_has_no_name_is_there_each_for_itself() -> None:
    ports = (15021, 15090)
    doors = [{"address": {"socket_address": {"address": "0.0.0.0", "port_value": port}}} for port in ports]
    part = {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump"}
    config = {"configs": [part | {"static_listeners": [{"listener": one} for one in doors]}]}
    found = Dump(config, {}, {}, NOW).listeners.values()
    assert [(one.name, one.body["address"]["socket_address"]["port_value"]) for one in found] == [
        ("", port) for port in ports
    ]


def test_what_envoy_refused_is_told() -> None:
    state = {"error_state": {"details": "Duplicate domain *"}, "name": "9080"}
    part = {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": [state]}
    assert Dump({"configs": [part]}, {}, {}, NOW).refused == ("9080: Duplicate domain *",)


def test_a_secret_shows_what_is_public_and_nothing_else() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(0x0A1B2C3D4E5F)
        .not_valid_before(NOW)
        .not_valid_after(NOW + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    secret = {
        "name": "default",
        "tls_certificate": {
            "certificate_chain": {"inline_bytes": base64.b64encode(pem).decode()},
            "private_key": {"inline_bytes": "c2VjcmV0"},
        },
    }
    token = {"name": "xds", "generic_secret": {"secret": {"inline_string": "Bearer abc"}}}
    part = {
        "@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump",
        "static_secrets": [{"name": "xds", "secret": token}],
        "dynamic_active_secrets": [{"name": "default", "version_info": "1", "secret": secret}],
    }
    chain = {"serial_number": "a1b2c3d4e5f", "subject_alt_names": [{"uri": "spiffe://a/ns/b/sa/c"}]}
    chain |= {"valid_from": "2026-11-26T14:00:00Z", "expiration_time": "2026-11-27T14:00:00Z"}
    dump = Dump({"configs": [part]}, {}, {"certificates": [{"cert_chain": [chain]}]}, NOW)
    assert dump.secrets["default"].body == {
        "kind": "certificate and key",
        "serial": "a1b2c3d4e5f",
        "names": ["spiffe://a/ns/b/sa/c"],
        "valid_from": "2026-11-26T14:00:00Z",
        "expires": "2026-11-27T14:00:00Z",
    }
    assert dump.secrets["xds"].body == {"kind": "generic secret"}
