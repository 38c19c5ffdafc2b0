# SPDX-License-Identifier: Apache-2.0
"""Routes of the Gateway API in route tables and clusters, without any Envoy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshbox.mesh.kinds import BACKEND_TLS_POLICIES, HTTP_ROUTES, TCP_ROUTES, TLS_ROUTES
from meshbox.mesh.memo import Memo
from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.translate import Config, translate

from .objects import PLAN, bookinfo, endpoints, istio, pod, service, snapshot, workload
from .test_gateway_api_routes import named, route, service_parent
from .test_gateway_api_rules import to

Json = dict[str, Any]

REVIEWS = "reviews.bookinfo.svc.cluster.local"


def config(
    *routes: Json,
    source: str = "productpage-v1",
    namespace: str = "bookinfo",
    resource: str = HTTP_ROUTES,
    **objects: Any,
) -> Config:
    snap = snapshot(kept={resource: list(routes)}, **objects)
    return translate(snap, workload(snap, source, namespace))


def table(*routes: Json, port: int = 9080, host: str = REVIEWS, **objects: Any) -> list[Json]:
    """The routes of a host in a sidecar's table."""
    hosts = json.loads(config(*routes, **objects).routes[str(port)])["virtual_hosts"]
    found: list[Json] = next(one["routes"] for one in hosts if one["name"] == f"{host}:{port}")
    return found


def inside(*rules: Json, **fields: Any) -> Json:
    return route(*rules, **{"parents": service_parent(), **fields})


def action(*filters: Json, path: str = "/a", kind: str = "PathPrefix", **rule: Any) -> Json:
    match = {"path": {"type": kind, "value": path}}
    (found,) = table(inside({"matches": [match], "filters": list(filters), "backendRefs": [to()], **rule}))
    return found


def test_a_prefix_ends_where_an_element_of_the_path_does() -> None:
    found = action()
    assert found["match"] == {"path_separated_prefix": "/a"}
    assert found["route"]["cluster"] == f"outbound|9080||{REVIEWS}"
    assert found["decorator"] == {"operation": f"{REVIEWS}:9080/*"}
    assert action(path="/")["match"] == {"prefix": "/"}
    assert action(path="/a.*", kind="RegularExpression")["match"] == {"safe_regex": {"regex": "/a.*"}}


def test_a_virtual_services_prefix_ends_anywhere() -> None:
    spec = {
        "hosts": ["reviews"],
        "http": [{"match": [{"uri": {"prefix": "/a"}}], "route": [{"destination": {"host": "reviews"}}]}],
    }
    (found,) = table(virtual_services=[istio("vs", spec)])
    assert found["match"] == {"prefix": "/a"}
    assert "cluster_not_found_response_code" not in found["route"]


def test_a_backend_that_is_not_there_is_answered_with_500() -> None:
    (found,) = table(inside({"backendRefs": [to("gone")]}))
    assert found["route"]["cluster"] == "outbound|9080||gone.bookinfo.svc.cluster.local"
    assert found["route"]["cluster_not_found_response_code"] == "INTERNAL_SERVER_ERROR"
    (found,) = table(inside({"backendRefs": [to("x", group="a.b", kind="C"), to()]}))
    assert found["route"]["weighted_clusters"]["clusters"] == [
        {"name": "UnknownService", "weight": 1},
        {"name": f"outbound|9080||{REVIEWS}", "weight": 1},
    ]
    (found,) = table(inside({"backendRefs": [to(weight=0)]}))
    assert found["direct_response"] == {"status": 500}


@pytest.mark.parametrize(
    ("prefix", "path", "wanted"),
    [
        ("/x", "/a", {"prefix_rewrite": "/x"}),
        ("/~", "/a", {"prefix_rewrite": "/~"}),
        ("/", "/a.b", {"regex_rewrite": {"pattern": {"regex": r"^/a\.b(/?)(.*)"}, "substitution": r"/\2"}}),
        ("/", "/", {"prefix_rewrite": "/"}),
    ],
)
def test_a_prefix_is_replaced_or_taken_away(prefix: str, path: str, wanted: Json) -> None:
    rewrite = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": prefix}}
    found = action({"type": "URLRewrite", "urlRewrite": rewrite}, path=path)["route"]
    assert {key: found[key] for key in ("prefix_rewrite", "regex_rewrite") if key in found} == wanted


def test_a_whole_path_is_replaced_and_the_host_with_it() -> None:
    rewrite = {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/x"}, "hostname": "c.d"}
    found = action({"type": "URLRewrite", "urlRewrite": rewrite})["route"]
    assert found["regex_rewrite"] == {"pattern": {"regex": "/.*"}, "substitution": "/x"}
    assert found["host_rewrite_literal"] == "c.d"


@pytest.mark.parametrize(("prefix", "wanted"), [("/x", {"prefix_rewrite": "/x"}), ("", {})])
def test_a_redirect_may_replace_the_prefix(prefix: str, wanted: Json) -> None:
    redirect = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": prefix}, "hostname": "a.b"}
    found = action({"type": "RequestRedirect", "requestRedirect": redirect}, backendRefs=[])["redirect"]
    # Where no port is named, it is the one that was asked.
    assert found == {"host_redirect": "a.b", "port_redirect": 9080, "response_code": "FOUND", **wanted}


def test_a_port_of_a_service_can_have_rules_of_its_own() -> None:
    web = service("web", ("http", 80), ("http-alt", 8080))
    routes = [
        inside(named("/", "all"), parents=service_parent("web"), name="all", age=1),
        inside(named("/", "alt"), parents=service_parent("web", port=8080), name="alt"),
    ]
    host = "web.bookinfo.svc.cluster.local"
    assert table(*routes, services=[web], host=host, port=80)[0]["name"] == "all"
    assert table(*routes, services=[web], host=host, port=8080)[0]["name"] == "alt"


CALLER = pod("caller-v1", "127.99.64.30", namespace="library")


def test_a_consumers_rules_go_before_the_producers_and_hold_for_its_namespace() -> None:
    producer = inside(named("/", "producer"), age=1)
    consumer = inside(named("/", "consumer"), namespace="library", parents=service_parent(namespace="bookinfo"), age=2)
    objects = {"pods": [CALLER]}
    own = table(producer, consumer, source="caller-v1", namespace="library", **objects)
    assert [one["name"] for one in own] == ["consumer"]
    assert [one["name"] for one in table(producer, consumer, **objects)] == ["producer"]
    other = table(consumer, **objects)
    assert [one["name"] for one in other] == ["default"]


def test_a_route_of_the_callers_namespace_goes_before_a_virtual_service_else_the_older_one() -> None:
    spec = {"hosts": [REVIEWS], "http": [{"name": "vs", "route": [{"destination": {"host": REVIEWS}}]}]}
    older, younger = (istio("vs", spec, age=age) for age in (0, 9))
    for given in (older, younger):
        assert table(inside(named("/", "route"), age=5), virtual_services=[given])[0]["name"] == "route"
    calling: Json = {"pods": [CALLER], "source": "caller-v1", "namespace": "library"}
    assert table(inside(named("/", "route"), age=5), virtual_services=[older], **calling)[0]["name"] == "vs"
    assert table(inside(named("/", "route"), age=5), virtual_services=[younger], **calling)[0]["name"] == "route"


def test_what_no_route_changes_stays_the_very_same() -> None:
    services, pods = bookinfo()
    objects: Json = {"services": services, "pods": pods, **endpoints(services, pods), HTTP_ROUTES: [inside()]}
    memo = Memo()
    made = []
    for _ in range(2):
        snap = Snapshot(objects, PLAN, legacy=False, memo=memo)
        made.append(translate(snap, workload(snap, "productpage-v1")))
        memo.settle()
    assert made[0] is made[1]


def test_bytes_inside_the_mesh_follow_their_route() -> None:
    plain = [service(name, ("tcp", 9000)) for name in ("one", "two")]
    given = route(
        {"backendRefs": [to("two", 9000, weight=1), to("one", 9000, weight=3)]},
        kind="TCPRoute",
        parents=service_parent("one", port=9000),
    )
    found = config(given, resource=TCP_ROUTES, services=plain)
    address = plain[0]["spec"]["clusterIP"]
    (chain,) = json.loads(found.listeners[f"{address}_9000"])["filter_chains"]
    assert chain["filters"][-1]["typed_config"]["weighted_clusters"]["clusters"] == [
        {"name": "outbound|9000||two.bookinfo.svc.cluster.local", "weight": 1},
        {"name": "outbound|9000||one.bookinfo.svc.cluster.local", "weight": 3},
    ]


def test_tls_inside_the_mesh_follows_its_route() -> None:
    secure = [service(name, ("tls", 443)) for name in ("one", "two")]
    given = route({"backendRefs": [to("two", 443)]}, kind="TLSRoute", parents=service_parent("one"), hostnames=("a.b",))
    found = config(given, resource=TLS_ROUTES, services=secure)
    chains = json.loads(found.listeners[f"{secure[0]['spec']['clusterIP']}_443"])["filter_chains"]
    assert [one.get("filter_chain_match") for one in chains] == [{"server_names": ["a.b"]}, None]
    assert chains[0]["filters"][-1]["typed_config"]["cluster"] == "outbound|443||two.bookinfo.svc.cluster.local"


def tls_policy(**validation: Any) -> Json:
    return {
        "metadata": {"name": "tls", "namespace": "bookinfo", "creationTimestamp": "2020-01-01T00:00:00Z"},
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": "reviews"}],
            "validation": {"hostname": "reviews.example.com", **validation},
        },
    }


def context(policy: Json, **objects: Any) -> Json:
    found = json.loads(config(policy, resource=BACKEND_TLS_POLICIES, **objects).clusters[f"outbound|9080||{REVIEWS}"])
    context: Json = found["transport_socket"]["typed_config"]
    return context


@pytest.mark.parametrize(
    ("validation", "data", "root"),
    [
        ({"wellKnownCACertificates": "System"}, {}, "file-root:system"),
        (
            {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]},
            {"ca.crt": "PEM"},
            "configmap://bookinfo/ca-cacert",
        ),
        ({"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]}, {}, "invalid://-cacert"),
    ],
)
def test_tls_to_a_backend_asks_for_the_policys_host_and_trusts_its_ca(validation: Json, data: Json, root: str) -> None:
    config_map = {"metadata": {"name": "ca", "namespace": "bookinfo"}, "data": data}
    settings = {"metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": ""}}
    found = context(tls_policy(**validation), config_maps=[config_map, settings])
    assert found["sni"] == "reviews.example.com"
    trusted = found["common_tls_context"]["combined_validation_context"]
    assert trusted["validation_context_sds_secret_config"]["name"] == root
    assert trusted["default_validation_context"] == {}
    named = {**validation, "subjectAltNames": [{"type": "Hostname", "hostname": "reviews.example.com"}]}
    found = context(tls_policy(**named), config_maps=[config_map, settings])
    trusted = found["common_tls_context"]["combined_validation_context"]
    assert trusted["default_validation_context"]["match_typed_subject_alt_names"] == [
        {"san_type": "DNS", "matcher": {"exact": "reviews.example.com"}}
    ]
