# SPDX-License-Identifier: Apache-2.0
"""The Gateway API's definitions: the release's own file and our compact one mean the same, and their rules hold."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshbox.contracts import ApiError

from .cluster import CRDS, GATEWAY_API, Cluster, manifests

Obj = dict[str, Any]

GENUINE = GATEWAY_API.parents[3].parent / "shared" / "releases" / "gateway-api-1.5.1"
OURS = ("backendtlspolicies", "gatewayclasses", "gateways", "grpcroutes", "httproutes", "listenersets")
OURS += ("referencegrants", "tcproutes", "tlsroutes")


def gateway(**listener: Any) -> Obj:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "gw", "namespace": "bookinfo"},
        "spec": {
            "gatewayClassName": "istio",
            "listeners": [{"name": "web", "port": 80, "protocol": "HTTP", **listener}],
        },
    }


def route(**rule: Any) -> Obj:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "route", "namespace": "bookinfo"},
        "spec": {"parentRefs": [{"name": "gw"}], "rules": [rule]},
    }


def without_descriptions(schema: Any, *, fields: bool = False) -> Any:
    if isinstance(schema, list):
        return [without_descriptions(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: without_descriptions(value, fields=key == "properties" and not fields)
        for key, value in schema.items()
        if fields or key != "description"
    }


@pytest.fixture(params=["ours", "genuine"])
def cluster(request: pytest.FixtureRequest, cluster_of: Callable[[str], Cluster]) -> Cluster:
    if request.param == "genuine" and not GENUINE.is_dir():
        pytest.skip(f"the genuine definitions are not at {GENUINE}")
    made = cluster_of("1.30.3")
    made.install_gateway_api(GATEWAY_API if request.param == "ours" else GENUINE)
    return made


@pytest.mark.genuine
@pytest.mark.skipif(not GENUINE.is_dir(), reason="the genuine definitions are not at hand")
@pytest.mark.parametrize("plural", OURS)
def test_ours_says_what_the_release_says(plural: str) -> None:
    def of(folder: Path) -> Obj:
        name = f"{plural}.gateway.networking.k8s.io"
        return copy.deepcopy(next(one for one in manifests(folder, "crds.yaml") if one["metadata"]["name"] == name))

    ours, genuine = of(GATEWAY_API), of(GENUINE)
    for one in (ours, genuine):
        for version in one["spec"]["versions"]:
            version["schema"] = without_descriptions(version["schema"])
    assert ours["metadata"] == genuine["metadata"]
    assert ours["spec"] == genuine["spec"]


def test_every_definition_is_served(cluster: Cluster) -> None:
    served = {name.partition(".")[0] for name in cluster.resources() if name.endswith(".gateway.networking.k8s.io")}
    assert served >= set(OURS)


def test_what_users_leave_out_is_filled_in(cluster: Cluster) -> None:
    made = cluster.put("gateways.gateway.networking.k8s.io", gateway())
    assert made["spec"]["listeners"][0]["allowedRoutes"] == {"namespaces": {"from": "Same"}}
    assert [one["type"] for one in made["status"]["conditions"]] == ["Accepted", "Programmed"]
    assert {one["message"] for one in made["status"]["conditions"]} == {"Waiting for controller"}
    routed = cluster.put("httproutes.gateway.networking.k8s.io", route(backendRefs=[{"name": "reviews", "port": 9080}]))
    rule = routed["spec"]["rules"][0]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    assert rule["backendRefs"] == [{"group": "", "kind": "Service", "name": "reviews", "port": 9080, "weight": 1}]


BAD_GATEWAYS = {
    "tls must not be specified": gateway(tls={"certificateRefs": [{"name": "shop"}]}),
    "certificateRefs or options must be specified": gateway(protocol="HTTPS", port=443, tls={"mode": "Terminate"}),
    "tls mode must be Terminate for protocol HTTPS": gateway(protocol="HTTPS", port=443, tls={"mode": "Passthrough"}),
    "tls mode must be set for protocol TLS": gateway(protocol="TLS", port=443),
    "hostname must not be specified": gateway(protocol="TCP", port=31400, hostname="shop.example"),
}
BAD_ROUTES = {
    "must not contain '//'": route(matches=[{"path": {"type": "Exact", "value": "/a//b"}}]),
    "RequestRedirect filter must not be used together with backendRefs": route(
        filters=[{"type": "RequestRedirect", "requestRedirect": {"hostname": "a.example"}}],
        backendRefs=[{"name": "reviews", "port": 9080}],
    ),
    "filter.urlRewrite must be specified": route(filters=[{"type": "URLRewrite"}]),
    "Must have port for Service reference": route(backendRefs=[{"name": "reviews"}]),
}


@pytest.mark.parametrize("words", BAD_GATEWAYS)
def test_a_gateway_that_contradicts_itself_is_refused(cluster: Cluster, words: str) -> None:
    with pytest.raises(ApiError, match=words) as refused:
        cluster.put("gateways.gateway.networking.k8s.io", BAD_GATEWAYS[words])
    assert refused.value.code == 422


@pytest.mark.parametrize("words", BAD_ROUTES)
def test_a_route_that_contradicts_itself_is_refused(cluster: Cluster, words: str) -> None:
    with pytest.raises(ApiError, match=words) as refused:
        cluster.put("httproutes.gateway.networking.k8s.io", BAD_ROUTES[words])
    assert refused.value.code == 422


def test_two_listeners_of_one_port_protocol_and_hostname_are_refused(cluster: Cluster) -> None:
    twice = gateway()
    twice["spec"]["listeners"].append({"name": "again", "port": 80, "protocol": "HTTP"})
    with pytest.raises(ApiError, match="Combination of port, protocol and hostname must be unique"):
        cluster.put("gateways.gateway.networking.k8s.io", twice)


def test_the_resources_go_with_their_definitions(cluster: Cluster) -> None:
    cluster.put("gateways.gateway.networking.k8s.io", gateway())
    for name in OURS:
        cluster.delete(CRDS, f"{name}.gateway.networking.k8s.io")
    assert "gateways.gateway.networking.k8s.io" not in cluster.resources()
