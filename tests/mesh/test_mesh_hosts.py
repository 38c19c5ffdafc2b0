# SPDX-License-Identifier: Apache-2.0
"""Route tables of sidecars, without any Envoy: which hosts they have, and which VirtualService speaks for each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshbox.mesh.translate import translate

from .objects import SLICES, bookinfo, endpoints, istio, pod, service, snapshot, stored, workload

Json = dict[str, Any]

V1 = {"destination": {"host": "reviews", "subset": "v1"}}
V3 = {"destination": {"host": "reviews", "subset": "v3"}}


def hosts(
    table: str = "9080", *, legacy: bool = False, source: str = "productpage-v1", **objects: Any
) -> dict[str, Json]:
    snap = snapshot(legacy=legacy, **objects)
    config = translate(snap, workload(snap, source))
    return {h["name"]: h for h in json.loads(config.routes[table])["virtual_hosts"]}


@pytest.mark.parametrize("legacy", [True, False])
def test_every_service_of_a_port_is_a_virtual_host_under_all_its_names(legacy: bool) -> None:
    found = hosts(legacy=legacy)
    assert set(found) == {
        *(f"{n}.bookinfo.svc.cluster.local:9080" for n in ("productpage", "details", "ratings", "reviews")),
        "allow_any",
    }
    domains = found["reviews.bookinfo.svc.cluster.local:9080"]["domains"]
    for name in ("reviews", "reviews.bookinfo", "reviews.bookinfo.svc", "reviews.bookinfo.svc.cluster.local"):
        assert name in domains
        assert f"{name}:9080" in domains
    # The name that ends with a dot is the whole one: today's Istio knows it.
    whole = "reviews.bookinfo.svc.cluster.local."
    assert {one for one in domains if ".:" in one or one.endswith(".")} == (
        set() if legacy else {whole, f"{whole}:9080"}
    )
    assert found["reviews.bookinfo.svc.cluster.local:9080"]["include_request_attempt_count"] is True
    (default,) = found["reviews.bookinfo.svc.cluster.local:9080"]["routes"]
    assert default["route"].pop("retry_policy")["num_retries"] == 2
    assert default == {
        "name": "default",
        "match": {"prefix": "/"},
        "decorator": {"operation": "reviews.bookinfo.svc.cluster.local:9080/*"},
        "route": {
            "cluster": "outbound|9080||reviews.bookinfo.svc.cluster.local",
            "timeout": "0s",
            # A gRPC client's own deadline holds.
            **({} if legacy else {"max_grpc_timeout": "0s"}),
        },
    }


def test_a_service_of_another_namespace_has_no_short_name() -> None:
    other = service("books", namespace="library")
    found = hosts(services=[other])
    domains = found["books.library.svc.cluster.local:9080"]["domains"]
    assert "books" not in domains
    assert "books.library" in domains


@pytest.mark.parametrize(
    ("host", "short"),
    [("more.bookinfo", True), ("books.library", False), ("*.bookinfo", None), ("a.reviews.bookinfo", None)],
)
def test_a_host_of_a_services_form_has_a_services_names(host: str, short: bool | None) -> None:
    whole = f"{host}.svc.cluster.local"
    ports = [{"number": 9090, "name": "http", "protocol": "HTTP"}]
    entry = {"hosts": [whole], "ports": ports, "resolution": "NONE" if host[0] == "*" else "STATIC"}
    domains = hosts("9090", kept={"serviceentries.networking.istio.io": [istio("more", entry)]})[f"{whole}:9090"]
    assert (host in domains["domains"]) == (short is not None)
    assert (host.partition(".")[0] in domains["domains"]) == bool(short)


def test_a_pod_of_a_headless_service_is_a_host_by_the_name_it_has() -> None:
    db = service("db", clusterIP="None", selector={"app": "reviews"})
    (held,) = endpoints([db], bookinfo()[1])[SLICES]
    for number, hostname in enumerate(("db-1", "db-0", None)):
        held["endpoints"][number] |= {"hostname": hostname} if hostname else {}
    found = hosts(services=[db], kept={SLICES: [stored(SLICES, held)]})
    whole = "db.bookinfo.svc.cluster.local"
    assert [name for name in found if whole in name] == [f"db-0.{whole}:9080", f"db-1.{whole}:9080", f"{whole}:9080"]
    one = found[f"db-0.{whole}:9080"]
    known = (whole, f"{whole}.", "db.bookinfo.svc", "db.bookinfo", "db")
    assert sorted(one["domains"]) == sorted(f"db-0.{name}{port}" for name in known for port in ("", ":9080"))
    assert one["include_request_attempt_count"] is True
    (route,) = one["routes"]
    assert route["match"] == {"prefix": "/"}
    assert route["route"]["cluster"] == f"outbound|9080||{whole}"
    assert route["route"]["metadata_match"] == {"filter_metadata": {"envoy.lb": {"hostname": "db-0"}}}
    (plain,) = found[f"{whole}:9080"]["routes"]
    assert "metadata_match" not in plain["route"]


def test_hosts_are_by_name_and_what_no_rule_takes_is_last() -> None:
    names = list(hosts(services=[service("b"), service("zebra"), service("a")]))
    assert names == [*sorted(names[:-1]), "allow_any"]
    assert names[0] == "a.bookinfo.svc.cluster.local:9080"


def test_another_name_of_a_service_is_routed_as_the_service_is() -> None:
    whole = "reviews.bookinfo.svc.cluster.local"
    alias = service("books", type="ExternalName", externalName=whole, selector={})
    rule = istio("r", {"hosts": ["reviews"], "http": [{"route": [V3]}]})
    found = hosts(services=[alias], virtual_services=[rule])
    assert found[f"{whole}:9080"]["routes"][0]["route"]["cluster"] == f"outbound|9080|v3|{whole}"
    assert {"reviews:9080", "books", "books:9080", "books.bookinfo"} <= set(found[f"{whole}:9080"]["domains"])
    assert "books.bookinfo.svc.cluster.local:9080" not in found
    # The old release took it for a host of its own.
    old = hosts(legacy=True, services=[alias], virtual_services=[rule])
    assert "books" not in old[f"{whole}:9080"]["domains"]
    own = "books.bookinfo.svc.cluster.local"
    assert old[f"{own}:9080"]["routes"][0]["route"]["cluster"] == f"outbound|9080||{own}"


def test_what_speaks_no_http_is_no_host_of_a_table() -> None:
    dns = service("dns", ("dns", 53), ("http", 8053))
    dns["spec"]["ports"][0]["protocol"] = "UDP"
    given = [service("db", ("tcp", 9080)), service("any", ("", 7000)), dns]
    assert set(hosts(services=given)) == set(hosts())
    assert set(hosts("7000", services=given)) == {"any.bookinfo.svc.cluster.local:7000", "allow_any"}
    found = hosts("http_proxy", services=given)
    assert found["any.bookinfo.svc.cluster.local:7000"]["routes"][0]["name"] == "default"
    assert found["db.bookinfo.svc.cluster.local:9080"]["routes"][0]["name"] == "tunnel"
    assert "dns.bookinfo.svc.cluster.local:8053" in found
    assert "dns.bookinfo.svc.cluster.local:53" not in found


def test_a_host_is_called_by_addresses_that_a_request_may_name() -> None:
    ports = [{"number": 9080, "name": "http", "protocol": "HTTP"}]
    addresses = ["10.9.9.9", "10.1.0.0/16", "2001:db8::1"]
    spec = {"hosts": ["far.test"], "addresses": addresses, "ports": ports, "resolution": "NONE"}
    domains = hosts(service_entries=[istio("far", spec)])["far.test:9080"]["domains"]
    assert domains == ["far.test", "far.test:9080", "far.test.", "far.test.:9080", "10.9.9.9", "10.9.9.9:9080"]


def test_no_domain_appears_twice_in_a_table() -> None:
    entry = istio("own", {"hosts": ["reviews"], "ports": [{"number": 9080, "name": "http", "protocol": "HTTP"}]})
    snap = snapshot(service_entries=[entry])
    for table in translate(snap, workload(snap, "details-v1")).routes.values():
        domains = [d for h in json.loads(table)["virtual_hosts"] for d in h["domains"]]
        assert len(domains) == len(set(domains))


def test_of_two_virtual_services_the_more_specific_then_the_older_speaks_for_a_host() -> None:
    def named(name: str, host: str, age: int) -> Json:
        rule = {"name": name, "route": [V1]}
        return istio(name, {"hosts": [host], "http": [rule]}, age=age)

    found = hosts(
        virtual_services=[
            named("wild", "*.bookinfo.svc.cluster.local", 0),
            named("young", "reviews", 5),
            named("old", "reviews", 1),
        ]
    )
    assert found["reviews.bookinfo.svc.cluster.local:9080"]["routes"][0]["name"] == "old"
    assert found["details.bookinfo.svc.cluster.local:9080"]["routes"][0]["name"] == "wild"


def test_a_virtual_service_of_a_gateway_leaves_the_mesh_alone() -> None:
    only = istio("r", {"hosts": ["reviews"], "gateways": ["gw"], "http": [{"route": [V3]}]})
    route = hosts(virtual_services=[only])["reviews.bookinfo.svc.cluster.local:9080"]["routes"][0]
    assert route["route"]["cluster"] == "outbound|9080||reviews.bookinfo.svc.cluster.local"


def test_export_keeps_a_virtual_service_in_its_namespace() -> None:
    private = istio(
        "r", {"hosts": ["reviews.bookinfo.svc.cluster.local"], "exportTo": ["."], "http": [{"route": [V3]}]}, "library"
    )
    route = hosts(virtual_services=[private])["reviews.bookinfo.svc.cluster.local:9080"]["routes"][0]
    assert route["route"]["cluster"] == "outbound|9080||reviews.bookinfo.svc.cluster.local"


def test_a_sidecar_narrows_what_a_proxy_sees() -> None:
    sidecar = istio(
        "default",
        {
            "egress": [{"hosts": ["./ratings.bookinfo.svc.cluster.local"]}],
            "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
        },
    )
    found = hosts(sidecars=[sidecar])
    assert set(found) == {"ratings.bookinfo.svc.cluster.local:9080", "block_all"}
    assert found["block_all"]["routes"][0]["direct_response"]["status"] == 502


def test_a_sidecar_for_some_workloads_leaves_others_alone() -> None:
    sidecar = istio("few", {"workloadSelector": {"labels": {"app": "ratings"}}, "egress": [{"hosts": ["./*"]}]})
    far = service("far", namespace="library")
    mine = hosts(sidecars=[sidecar], services=[far], source="ratings-v1")
    other = hosts(sidecars=[sidecar], services=[far], source="details-v1")
    assert "far.library.svc.cluster.local:9080" not in mine
    assert "far.library.svc.cluster.local:9080" in other


def test_unknown_hosts_pass_or_are_refused_as_the_mesh_says() -> None:
    forever = {"timeout": "0s", "max_grpc_timeout": "0s"}
    assert hosts()["allow_any"] == {
        "name": "allow_any",
        "domains": ["*"],
        "routes": [
            {
                "name": "allow_any",
                "match": {"prefix": "/"},
                "route": {"cluster": "PassthroughCluster", **forever},
            }
        ],
        "include_request_attempt_count": True,
    }
    for table in ("9080", "http_proxy"):
        closed = hosts(table, mesh="outboundTrafficPolicy: {mode: REGISTRY_ONLY}")
        # By name but for what no rule takes.
        assert [*closed] == [*sorted(closed.keys() - {"block_all"}), "block_all"]
        blocked = {
            "name": "block_all",
            "match": {"prefix": "/"},
            "direct_response": {"status": 502},
            "metadata": {"filter_metadata": {"istio": {"service_name": "BlackHoleCluster"}}},
        }
        *tunnel, last = closed["block_all"].pop("routes")
        assert closed["block_all"] == {"name": "block_all", "domains": ["*"]}
        assert last == blocked
        # A tunnel is made, and ends at once, as a captured connection does.
        assert [one["route"]["cluster"] for one in tunnel] == (
            ["BlackHoleCluster_by_tunnel"] if table == "http_proxy" else []
        )


def test_a_sidecar_may_name_a_proxy_for_all_that_is_unknown() -> None:
    policy = {"mode": "ALLOW_ANY", "egressProxy": {"host": "details", "subset": "v1", "port": {"number": 9080}}}
    chosen = [istio("default", {"outboundTrafficPolicy": policy})]
    for table in ("9080", "http_proxy"):
        found = hosts(table, sidecars=chosen)["allow_any"]["routes"]
        targets = {route["route"]["cluster"] for route in found}
        assert targets == {"outbound|9080|v1|details.bookinfo.svc.cluster.local"}


def test_a_host_that_only_a_virtual_service_knows_is_served_on_port_80() -> None:
    def called(name: str) -> list[str]:
        return [name, f"{name}:80"]

    rules = [{"route": [V1]}]

    def named(name: str, hosts: list[str], namespace: str = "bookinfo", **spec: Any) -> Json:
        return istio(name, {"hosts": hosts, "http": rules, **spec}, namespace)

    given = [
        named("mine", ["shop", "shop.test", "reviews", "web"]),
        named("far", ["far"], "library"),
        named("gateway", ["gateway.test"], gateways=["gw"]),
        named("both", ["both.test"], gateways=["gw", "mesh"]),
        istio("bytes", {"hosts": ["bytes.test"], "tcp": [{"route": [{"destination": {"host": "reviews"}}]}]}),
    ]
    found = hosts("80", virtual_services=given, services=[service("web", ("http", 80))])
    assert {name: host["domains"] for name, host in found.items()} == {
        "web.bookinfo.svc.cluster.local:80": found["web.bookinfo.svc.cluster.local:80"]["domains"],
        # It has no other name, and neither has a Service that has only other ports.
        "shop.bookinfo.svc.cluster.local:80": called("shop.bookinfo.svc.cluster.local"),
        "reviews.bookinfo.svc.cluster.local:80": called("reviews.bookinfo.svc.cluster.local"),
        "shop.test:80": called("shop.test"),
        "far.library.svc.cluster.local:80": called("far.library.svc.cluster.local"),
        "both.test:80": called("both.test"),
        "allow_any": ["*"],
    }
    shop = found["shop.test:80"]
    assert shop["include_request_attempt_count"] is True
    # A sidecar's routes lead to the port that was called, unless they name one.
    assert shop["routes"][0]["route"]["cluster"] == "outbound|80|v1|reviews.bookinfo.svc.cluster.local"
    whole = "{}.bookinfo.svc.cluster.local:9080"
    more = {whole.format("shop"), "shop.test:9080", whole.format("web")}
    assert set(hosts("9080", virtual_services=given, services=[service("web", ("http", 80))])) == {
        *hosts("9080"),
        *more,
    }
    # There is a table for port 80 even where nothing else is served there.
    assert set(hosts("80")) == {"allow_any"}


def test_a_host_that_a_service_has_keeps_no_other_of_its_virtual_service_from_being_served() -> None:
    given = istio("r", {"hosts": ["reviews", "shop.test"], "http": [{"route": [V1]}]})
    assert set(hosts("80", virtual_services=[given], services=[service("reviews", ("http", 80))])) == {
        "reviews.bookinfo.svc.cluster.local:80",
        "shop.test:80",
        "allow_any",
    }


@pytest.mark.parametrize(
    ("written", "speaks"),
    [({"gateways": ["gw"]}, False), ({"gateways": ["gw", "mesh"]}, True), ({"gateways": ["mesh"]}, True), ({}, True)],
)
def test_a_virtual_service_speaks_inside_the_mesh_where_it_names_it(written: Json, speaks: bool) -> None:
    only = istio("r", {"hosts": ["reviews"], "http": [{"name": "said", "route": [V3]}], **written})
    route = hosts(virtual_services=[only])["reviews.bookinfo.svc.cluster.local:9080"]["routes"][0]
    assert (route.get("name") == "said") is speaks


def test_the_proxy_port_serves_every_port_of_every_host() -> None:
    found = hosts("http_proxy", services=[service("web", ("http", 80)), service("db", ("tcp-db", 5000))])
    assert "reviews:9080" in found["reviews.bookinfo.svc.cluster.local:9080"]["domains"]
    assert "reviews" not in found["reviews.bookinfo.svc.cluster.local:9080"]["domains"]
    assert {"web", "web:80"} <= set(found["web.bookinfo.svc.cluster.local:80"]["domains"])
    tunnel = found["db.bookinfo.svc.cluster.local:5000"]["routes"][0]
    assert tunnel == {
        "name": "tunnel",
        "match": {"connect_matcher": {}},
        "route": {
            "cluster": "outbound|5000||db.bookinfo.svc.cluster.local",
            "timeout": "0s",
            "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
        },
    }
    assert found["allow_any"]["routes"][0] == {
        **tunnel,
        "route": {**tunnel["route"], "cluster": "PassthroughCluster_by_name"},
    }
    assert found["db.bookinfo.svc.cluster.local:5000"]["domains"] == [
        # In the order in which istioctl tells them: two, and how many others.
        "db.bookinfo.svc.cluster.local:5000",
        "db:5000",
        "db.bookinfo:5000",
        "db.bookinfo.svc:5000",
        "127.99.16.198:5000",
    ]
    # A call to an address that nobody captured must never come back to the proxy itself.
    assert found["allow_any"]["routes"][-1]["route"]["cluster"] == "PassthroughCluster_by_name"


@pytest.mark.parametrize(
    ("legacy", "name"), [(True, "inbound|9080|http|ratings.bookinfo.svc.cluster.local"), (False, "inbound|9080||")]
)
def test_inbound_tables_have_the_releases_name(legacy: bool, name: str) -> None:
    table = hosts(name, legacy=legacy, source="ratings-v1")
    assert table["inbound|http|9080"]["routes"][0]["route"]["cluster"] == name


def test_tables_are_made_of_the_same_bytes_for_proxies_that_see_the_same() -> None:
    snap = snapshot(pods=[pod("other-v1", "127.99.64.20")])
    one = translate(snap, workload(snap, "details-v1"))
    two = translate(snap, workload(snap, "other-v1"))
    assert one.routes["9080"] is two.routes["9080"]
    assert (
        one.clusters["outbound|9080||reviews.bookinfo.svc.cluster.local"]
        is two.clusters["outbound|9080||reviews.bookinfo.svc.cluster.local"]
    )
