# SPDX-License-Identifier: Apache-2.0
"""Which rule bears on what: calls, workloads, or the whole namespace."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from labkit.istio.bearing import Workloads, bearing

THERE = Workloads(
    "bookinfo",
    ("productpage", "reviews", "ratings"),
    {
        "productpage-v1": {"app": "productpage", "version": "v1"},
        "reviews-v1": {"app": "reviews", "version": "v1"},
        "reviews-v2": {"app": "reviews", "version": "v2"},
        "ratings-v1": {"app": "ratings", "version": "v1"},
    },
    {"istio-ingressgateway": {"istio": "ingressgateway"}, "istio-egressgateway": {"istio": "egressgateway"}},
)
GATEWAY = """
kind: Gateway
metadata: {name: door, namespace: bookinfo}
spec: {selector: {istio: ingressgateway}}
"""


def found(*texts: str) -> list[tuple[str, str, str, tuple[str, ...]]]:
    objects: list[Any] = [yaml.safe_load(text) for text in texts]
    return [(str(one), one.service, one.workload, one.callers) for one in bearing(objects, THERE)]


def virtual_service(spec: str, name: str = "rule") -> str:
    return f"kind: VirtualService\nmetadata: {{name: {name}, namespace: bookinfo}}\nspec: {spec}"


def test_rules_of_the_mesh_bear_on_the_calls_of_their_hosts():
    spec = "{hosts: [reviews], http: [{route: [{destination: {host: ratings}}]}]}"
    assert found(virtual_service(spec)) == [("VirtualService rule", "reviews", "", ())]
    both = "{hosts: [reviews.bookinfo.svc.cluster.local, ratings], http: []}"
    assert [service for _, service, _, _ in found(virtual_service(both))] == ["reviews", "ratings"]
    assert found(virtual_service("{hosts: [reviews.other.svc.cluster.local], http: []}")) == []


def test_rules_of_a_gateway_bear_on_what_comes_through_it():
    spec = '{hosts: ["*"], gateways: [door], http: [{route: [{destination: {host: productpage}}]}]}'
    assert found(GATEWAY, virtual_service(spec)) == [
        ("Gateway door", "", "istio-ingressgateway", ()),
        ("VirtualService rule", "productpage", "", ("istio-ingressgateway",)),
    ]
    assert found(virtual_service(spec)) == [], "there is no such Gateway"


def test_the_rules_of_a_delegate_are_those_of_who_names_it():
    root = "{hosts: [shop.example], gateways: [door], http: [{delegate: {name: part}}]}"
    part = "{http: [{route: [{destination: {host: reviews}}]}]}"
    told = found(GATEWAY, virtual_service(root, "root"), virtual_service(part, "part"))
    assert told[1:] == [("VirtualService root", "reviews", "", ("istio-ingressgateway",))]


@pytest.mark.parametrize(
    ("host", "services"),
    [("reviews", ["reviews"]), ("*.bookinfo.svc.cluster.local", ["productpage", "reviews", "ratings"]), ("*.com", [])],
)
def test_destination_rules_bear_on_the_calls_of_their_host(host: str, services: list[str]):
    rule = f"kind: DestinationRule\nmetadata: {{name: r, namespace: bookinfo}}\nspec: {{host: '{host}'}}"
    assert [(name, service) for name, service, _, _ in found(rule)] == [("DestinationRule r", one) for one in services]


def test_policies_bear_on_the_workloads_that_they_choose_or_on_all():
    policy = "kind: AuthorizationPolicy\nmetadata: {name: p, namespace: bookinfo}\nspec: "
    assert found(policy + "{selector: {matchLabels: {app: reviews}}}") == [
        ("AuthorizationPolicy p", "", "reviews-v1", ()),
        ("AuthorizationPolicy p", "", "reviews-v2", ()),
    ]
    assert found(policy + "{}") == [("AuthorizationPolicy p", "", "", ())]
    assert found("kind: PeerAuthentication\nmetadata: {name: default, namespace: istio-system}") == [
        ("PeerAuthentication default", "", "", ())
    ]
    sidecar = (
        "kind: Sidecar\nmetadata: {name: s, namespace: bookinfo}\nspec: {workloadSelector: {labels: {app: ratings}}}"
    )
    assert found(sidecar) == [("Sidecar s", "", "ratings-v1", ())]


def test_the_policies_of_2019():
    policy = "kind: Policy\nmetadata: {name: p, namespace: bookinfo}\nspec: "
    assert found(policy + "{targets: [{name: reviews}]}") == [("Policy p", "reviews", "", ())]
    assert found(policy + "{peers: [{mtls: {}}]}", "kind: MeshPolicy\nmetadata: {name: default}") == [
        ("Policy p", "", "", ()),
        ("MeshPolicy default", "", "", ()),
    ]
    role = "kind: ServiceRole\nmetadata: {name: r, namespace: bookinfo}\nspec: {rules: [{services: [ratings]}]}"
    assert found(role) == [("ServiceRole r", "ratings", "", ())]


def test_routes_of_the_gateway_api():
    route = "kind: HTTPRoute\nmetadata: {name: h, namespace: bookinfo}\nspec: "
    through = "{parentRefs: [{name: front}], rules: [{backendRefs: [{name: productpage, port: 9080}]}]}"
    assert found(route + through) == [("HTTPRoute h", "productpage", "", ("front-istio",))]
    inside = "{parentRefs: [{kind: Service, name: reviews}], rules: [{backendRefs: [{name: ratings}]}]}"
    assert found(route + inside) == [("HTTPRoute h", "reviews", "", ())]
