# SPDX-License-Identifier: Apache-2.0
"""ServiceEntries and WorkloadEntries: their hosts, addresses and endpoints, without any Envoy."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import meshbox
from meshbox.mesh.allocation import Allocator
from meshbox.mesh.translate import translate
from meshbox.node.names import Names
from tests.conftest import PATIENCE

from .cluster import Cluster
from .objects import istio, pod, service, snapshot, workload
from .whole import whole_clusters

Json = dict[str, Any]

ENTRIES = "serviceentries.networking.istio.io"
HTTP = {"number": 80, "name": "http", "protocol": "HTTP"}
TCP = {"number": 7000, "name": "tcp", "protocol": "TCP"}


def clusters(source: str = "productpage-v1", **objects: Any) -> dict[str, Json]:
    snap = snapshot(**objects)
    return whole_clusters(translate(snap, workload(snap, source)))


def originated(**objects: Any) -> Json:
    return clusters(**objects)["outbound|80||api.test"]


def entry(*ports: Json, name: str = "api", host: str = "api.test", age: int = 0, **fields: Any) -> Json:
    return istio(name, {"hosts": [host], "ports": list(ports) or [HTTP], **fields}, age=age)


def addresses(cluster: Json) -> list[tuple[str, int]]:
    sockets = [
        e["endpoint"]["address"]["socket_address"]
        for group in cluster["load_assignment"]["endpoints"]
        for e in group["lb_endpoints"]
    ]
    return [(one["address"], one["port_value"]) for one in sockets]


def machine(name: str, address: str, **spec: Any) -> Json:
    return istio(name, {"address": address, "labels": {"app": "vm"}, **spec})


CHOSEN = {"resolution": "STATIC", "location": "MESH_INTERNAL", "workloadSelector": {"labels": {"app": "vm"}}}


def test_a_service_entry_chooses_machines_and_pods() -> None:
    there = [
        machine("one", "10.1.1.1", ports={"http": 8080}, weight=3),
        machine("two", "10.1.1.2", serviceAccount="vm"),
        machine("other", "10.1.1.3", labels={"app": "else"}),
        istio("far", {"address": "10.1.1.4", "labels": {"app": "vm"}}, "library"),
        machine("gateway", "", network="elsewhere"),
    ]
    pods = [pod("vm-v1", "127.99.64.40")]
    ports = {**HTTP, "targetPort": 9999}
    cluster = originated(service_entries=[entry(ports, **CHOSEN)], workload_entries=there, pods=pods)
    assert addresses(cluster) == [("10.1.1.1", 8080), ("10.1.1.2", 9999), ("127.99.64.40", 9999)]
    one, two, _ = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert one["load_balancing_weight"] == 3
    assert one["metadata"]["filter_metadata"]["istio"]["workload"] == "one"
    assert "envoy.transport_socket_match" not in one["metadata"]["filter_metadata"]
    assert two["metadata"]["filter_metadata"]["envoy.transport_socket_match"] == {"tlsMode": "istio"}
    socket = cluster["transport_socket_matches"][0]["transport_socket"]["typed_config"]
    names = socket["common_tls_context"]["combined_validation_context"]["default_validation_context"]
    assert {one["matcher"]["exact"] for one in names["match_typed_subject_alt_names"]} == {
        "spiffe://cluster.local/ns/bookinfo/sa/vm",
        "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-vm",
    }


def test_subsets_and_places_choose_among_machines() -> None:
    there = [
        machine("one", "10.1.1.1", labels={"app": "vm", "version": "v1"}, locality="us/east"),
        machine("two", "10.1.1.2", labels={"app": "vm", "istio-locality": "eu.north"}),
    ]
    rule = istio("api", {"host": "api.test", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]})
    objects = {"service_entries": [entry(**CHOSEN)], "workload_entries": there, "destination_rules": [rule]}
    found = clusters(**objects)
    assert addresses(found["outbound|80|v1|api.test"]) == [("10.1.1.1", 80)]
    places = [group["locality"] for group in found["outbound|80||api.test"]["load_assignment"]["endpoints"]]
    assert places == [{"region": "eu", "zone": "north"}, {"region": "us", "zone": "east"}]


def test_who_is_probed_and_not_healthy_gets_nothing() -> None:
    def probed(name: str, address: str, *conditions: Json) -> Json:
        obj = machine(name, address)
        obj["metadata"]["annotations"] = {"proxy.istio.io/health-checks-enabled": "true"}
        return {**obj, "status": {"conditions": list(conditions)}}

    there = [
        probed("good", "10.1.1.1", {"type": "Healthy", "status": "True"}),
        probed("bad", "10.1.1.2", {"type": "Healthy", "status": "False"}),
        probed("new", "10.1.1.3"),
    ]
    cluster = originated(service_entries=[entry(**CHOSEN)], workload_entries=there)
    assert addresses(cluster) == [("10.1.1.1", 80)]


@pytest.mark.parametrize(
    ("target", "ports", "expected"),
    [
        (8080, {}, [("10.1.1.1", 8080)]),
        (8080, {"http": 9090}, [("10.1.1.1", 9090)]),
        ("web", {"web": 7070}, [("10.1.1.1", 7070)]),
        # A name that it does not know is no port of its own.
        ("web", {"http": 9090}, []),
    ],
)
def test_a_service_chooses_machines(target: int | str, ports: Json, expected: list[tuple[str, int]]) -> None:
    vm = service("vm")
    vm["spec"]["ports"] = [{"name": "http", "port": 80, "targetPort": target}]
    cluster = clusters(services=[vm], workload_entries=[machine("one", "10.1.1.1", ports=ports)])[
        "outbound|80||vm.bookinfo.svc.cluster.local"
    ]
    assert addresses(cluster) == expected


@pytest.mark.parametrize(
    ("resolution", "expected"), [("STATIC", [("10.1.1.1", 80)]), ("DNS", [("10.1.1.1", 80), ("vm.test", 80)])]
)
def test_a_machine_with_a_name_is_chosen_where_names_are_asked(
    resolution: str, expected: list[tuple[str, int]]
) -> None:
    there = [machine("one", "10.1.1.1"), machine("two", "vm.test")]
    chosen = originated(service_entries=[entry(**{**CHOSEN, "resolution": resolution})], workload_entries=there)
    assert addresses(chosen) == expected
    found = clusters(services=[service("vm")], workload_entries=there)["outbound|9080||vm.bookinfo.svc.cluster.local"]
    assert [address for address, _ in addresses(found)] == ["10.1.1.1"]


def test_an_endpoints_account_is_as_good_as_the_names_of_its_entry() -> None:
    there = [{"address": "10.1.1.1", "serviceAccount": "vm"}]
    inside = entry(resolution="STATIC", location="MESH_INTERNAL", endpoints=there, subjectAltNames=["spiffe://q"])
    socket = originated(service_entries=[inside])["transport_socket_matches"][0]["transport_socket"]
    context = socket["typed_config"]["common_tls_context"]["combined_validation_context"]
    names = context["default_validation_context"]["match_typed_subject_alt_names"]
    own = "spiffe://cluster.local/ns/bookinfo/sa/vm"
    assert [one["matcher"]["exact"] for one in names] == [own, "spiffe://q"]


def test_what_several_entries_say_of_a_host_is_put_together() -> None:
    there = [{"address": "10.1.1.1"}]
    more = [{"address": "10.1.1.1"}, {"address": "10.1.1.2", "weight": 5}]
    entries = [
        entry(HTTP, name="one", resolution="STATIC", endpoints=there),
        entry(HTTP, TCP, name="two", age=5, resolution="STATIC", endpoints=more),
    ]
    found = clusters(service_entries=entries)
    assert addresses(found["outbound|80||api.test"]) == [("10.1.1.1", 80), ("10.1.1.2", 80)]
    assert addresses(found["outbound|7000||api.test"]) == [("10.1.1.1", 7000), ("10.1.1.2", 7000)]


def test_by_labels_only_known_addresses_are_preferred() -> None:
    there = [{"address": "10.1.1.1", "labels": {"v": "1"}}, {"address": "10.1.1.2", "labels": {"v": "2"}}]
    policy = {"outlierDetection": {}, "loadBalancer": {"localityLbSetting": {"failoverPriority": ["v=2"]}}}
    rule = istio("api", {"host": "api.test", "trafficPolicy": policy})

    def priorities(resolution: str) -> list[int]:
        cluster = originated(service_entries=[entry(resolution=resolution, endpoints=there)], destination_rules=[rule])
        return [group.get("priority", 0) for group in cluster["load_assignment"]["endpoints"]]

    assert priorities("STATIC") == [0, 1]
    # Names are resolved by the proxies, to whom istiod tells no labels.
    assert priorities("DNS") == [0]


def test_an_entry_may_ask_to_be_near() -> None:
    there = [{"address": "10.1.1.1", "locality": "us/east"}, {"address": "10.1.1.2", "locality": "eu/north"}]
    near = entry(resolution="STATIC", endpoints=there)
    near["metadata"]["annotations"] = {"networking.istio.io/traffic-distribution": "PreferClose"}
    caller = pod("caller-v1", "127.99.64.50", **{"istio-locality": "eu.north"})
    cluster = clusters("caller-v1", service_entries=[near], pods=[caller])["outbound|80||api.test"]
    seen = {g["locality"]["region"]: g.get("priority", 0) for g in cluster["load_assignment"]["endpoints"]}
    assert seen == {"eu": 0, "us": 1}


def test_an_endpoint_with_an_account_is_met_with_mtls() -> None:
    there = [{"address": "10.1.1.1", "serviceAccount": "vm"}, {"address": "10.1.1.2"}]
    inside = entry(resolution="STATIC", location="MESH_INTERNAL", endpoints=there)
    one, two = originated(service_entries=[inside])["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert one["metadata"]["filter_metadata"]["envoy.transport_socket_match"] == {"tlsMode": "istio"}
    assert "metadata" not in two


@pytest.mark.parametrize(
    ("resolution", "kind"), [("DNS", "STRICT_DNS"), ("DNS_ROUND_ROBIN", "LOGICAL_DNS"), ("NONE", "ORIGINAL_DST")]
)
def test_how_a_name_is_resolved(resolution: str, kind: str) -> None:
    assert originated(service_entries=[entry(resolution=resolution)])["type"] == kind


def test_a_name_that_is_a_services_own_leads_to_its_pods() -> None:
    far = pod("far-1", "127.99.64.60", namespace="library", ports=(8080,), app="far")
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    hidden = service("far", namespace="library", ports=ports)
    hidden["metadata"]["annotations"] = {"networking.istio.io/exportTo": "."}
    host = "far.library.svc.cluster.local"
    known = entry(host=host, resolution="DNS")
    cluster = clusters(pods=[far], services=[hidden], service_entries=[known])[f"outbound|80||{host}"]
    assert addresses(cluster) == [("127.99.64.60", 8080)]
    # A proxy knows no more of it than the address.
    (group,) = cluster["load_assignment"]["endpoints"]
    assert "metadata" not in group["lb_endpoints"][0]


def test_a_wildcard_is_resolved_by_each_requests_own_name() -> None:
    ports = [HTTP, {"number": 443, "name": "tls", "protocol": "TLS"}]
    wild = entry(*ports, host="*.wild.test", resolution="DYNAMIC_DNS")
    found = clusters(service_entries=[wild])
    cluster = found["outbound|80||*.wild.test"]
    assert (cluster["lb_policy"], "type" in cluster) == ("CLUSTER_PROVIDED", False)
    assert cluster["cluster_type"]["name"] == "envoy.clusters.dynamic_forward_proxy"
    cache = {"name": "*.wild.test_dfp_dns_cache", "dns_lookup_family": "V4_ONLY"}
    assert cluster["cluster_type"]["typed_config"]["dns_cache_config"] == cache
    assert "outbound|443||*.wild.test" in found
    # Of bare bytes nothing tells where they are to go, and Istio refuses such a port.
    bare = entry(*ports, TCP, host="*.wild.test", resolution="DYNAMIC_DNS")
    found = clusters(kept={ENTRIES: [bare]})
    assert "outbound|443||*.wild.test" in found
    assert "outbound|7000||*.wild.test" not in found


def test_an_endpoint_may_be_a_socket_in_the_proxys_files() -> None:
    local = entry(resolution="STATIC", endpoints=[{"address": "unix:///var/run/api.sock"}])
    kept = {"serviceentries.networking.istio.io": [local]}
    cluster = originated(kept=kept)
    assert cluster["type"] == "EDS"
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"] == {"pipe": {"path": "/var/run/api.sock"}}


def test_an_allocated_address_is_one_more_that_a_host_is_called_by() -> None:
    given = entry(HTTP, TCP, resolution="DNS")
    given["status"] = {"addresses": [{"value": v, "host": "api.test"} for v in ("240.240.0.1", "2001:2::1")]}
    snap = snapshot(kept={"serviceentries.networking.istio.io": [given]})
    config = translate(snap, workload(snap, "productpage-v1"))
    assert {"0.0.0.0_7000", "240.240.0.1_7000"} <= set(config.listeners)
    assert "2001:2::1_7000" not in config.listeners
    (host,) = [h for h in json.loads(config.routes["80"])["virtual_hosts"] if h["name"] == "api.test:80"]
    assert host["domains"] == [
        *("api.test", "api.test:80", "api.test.", "api.test.:80", "240.240.0.1", "240.240.0.1:80")
    ]


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.asyncio
async def test_hosts_are_given_addresses_that_no_other_has(cluster_of: Callable[[str], Cluster]) -> None:
    cluster = cluster_of("1.30.3")

    def put(name: str, *, labels: Json | None = None, **spec: Any) -> None:
        meta = {"name": name, "namespace": "bookinfo", "labels": labels or {}}
        spec = {"hosts": [f"{name}.test"], "ports": [HTTP], "resolution": "DNS", **spec}
        cluster.put(ENTRIES, {"metadata": meta, "spec": spec})

    def given(name: str) -> list[tuple[str, str]]:
        status = cluster.get(ENTRIES, name, "bookinfo").get("status") or {}
        return [(one["host"], one["value"]) for one in status.get("addresses") or []]

    put("taken", addresses=["240.240.0.2"])
    put("off", labels={"networking.istio.io/enable-autoallocate-ip": "false"})
    put("through", resolution="NONE")
    put("wild", hosts=["*.wild.test", "plain.test"], resolution="STATIC", endpoints=[{"address": "10.1.1.1"}])
    ready: list[bool] = []
    allocator = Allocator(cluster, lambda: bool(ready))
    allocator.start()
    try:
        put("last")
        ready.append(True)
        await _until(lambda: given("wild") and given("last"))
        assert {host for host, _ in given("wild")} == {"plain.test"}
        assert sorted(value for name in ("wild", "last") for _, value in given(name)) == [
            "2001:2::1",
            "2001:2::2",
            "240.240.0.1",
            "240.240.0.3",
        ]
        assert [given(name) for name in ("taken", "off", "through")] == [[], [], []]
        # A host that comes later gets its own; the others keep theirs.
        before = given("last")
        put("last", hosts=["last.test", "more.test"])
        await _until(lambda: len(given("last")) == 4)
        assert given("last")[:2] == before
    finally:
        await allocator.stop()


@pytest.mark.asyncio
async def test_names_of_entries_are_written_for_the_pods(cluster_of: Callable[[str], Cluster], tmp_path: Path) -> None:
    cluster = cluster_of("1.30.3")
    file = tmp_path / "dns.json"
    names = Names(cluster, file, legacy=False)
    names.start()

    def known() -> Json:
        found: Json = json.loads(file.read_text())["entries"]
        return found

    try:
        own = entry(addresses=["10.0.0.0/8", "10.1.2.3"], resolution="STATIC", endpoints=[{"address": "10.1.1.1"}])
        cluster.put(ENTRIES, own)
        later = entry(name="later", host="Later.test", resolution="DNS")
        made = cluster.put(ENTRIES, later)
        made["status"] = {"addresses": [{"value": v, "host": "Later.test"} for v in ("2001:2::1", "240.240.0.1")]}
        cluster.update(ENTRIES, made, subresource="status")
        await _until(lambda: known() == {"api.test": "10.1.2.3", "later.test": "240.240.0.1"})
        cluster.drop(ENTRIES, "api", "bookinfo")
        await _until(lambda: known() == {"later.test": "240.240.0.1"})
    finally:
        await names.stop()


@pytest.mark.parametrize("captured", ["true", "false"])
def test_a_program_finds_them_where_its_sidecar_answers_dns(captured: str, tmp_path: Path) -> None:
    file = tmp_path / "dns.json"
    file.write_text(
        json.dumps({"services": {}, "headless": {}, "external": {}, "entries": {"api.test": "240.240.0.1"}})
    )
    env = {
        **os.environ,
        "PYTHONPATH": str(Path(meshbox.__file__).parent / "images" / "shim"),
        "LABKIT_LOCAL_IP": "127.99.128.1",
        "LABKIT_POD_IP": "127.99.64.1",
        "LABKIT_DNS": str(file),
        "LABKIT_CAPTURE_SOCKET": str(tmp_path / "capture"),
        "LABKIT_DNS_CAPTURE": captured,
    }
    ask = """
import socket
try:
    print(socket.gethostbyname("API.test."), socket.getaddrinfo("api.test", 80)[0][4][0])
except socket.gaierror:
    print("not found")
"""
    found = subprocess.run([sys.executable, "-c", ask], env=env, capture_output=True, text=True, check=True).stdout
    assert found == ("240.240.0.1 240.240.0.1\n" if captured == "true" else "not found\n")
