# SPDX-License-Identifier: Apache-2.0
"""Whose clusters and routes are: what Istio writes in their metadata, and what istioctl and Kiali read of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from labkit.istio.envoy.dump import Dump
from labkit.istioctl import summaries
from meshbox.images.kiali.envoy import resource
from meshbox.mesh.translate import translate

from .objects import istio, service, snapshot, workload

Json = dict[str, Any]

HOST = "reviews.bookinfo.svc.cluster.local"
RULE = {"host": "reviews", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}
ROUTE = {"route": [{"destination": {"host": "reviews", "subset": "v1"}}]}
SPEC = {
    "hosts": ["reviews"],
    "http": [{"match": [{"uri": {"prefix": "/a"}}], "redirect": {"uri": "/b"}}, ROUTE],
}


def told(*, legacy: bool) -> tuple[dict[str, Json], dict[str, Json]]:
    """Clusters and route tables of ratings' proxy, where reviews has a DestinationRule and a VirtualService."""
    snap = snapshot(
        legacy=legacy,
        destination_rules=[istio("rule", RULE)],
        virtual_services=[istio("routes", SPEC)],
    )
    config = translate(snap, workload(snap, "ratings-v1"))
    return tuple({name: json.loads(body) for name, body in part.items()} for part in (config.clusters, config.routes))  # type: ignore[return-value]


def istios(body: Json) -> Json:
    found: Json = ((body.get("metadata") or {}).get("filter_metadata") or {}).get("istio") or {}
    return found


@pytest.mark.parametrize(("legacy", "version"), [(True, "v1alpha3"), (False, "v1")])
def test_clusters_and_routes_name_what_made_them(legacy: bool, version: str) -> None:
    clusters, tables = told(legacy=legacy)
    base = f"/apis/networking.istio.io/{version}/namespaces/bookinfo"
    whole, subset = (istios(clusters[f"outbound|9080|{name}|{HOST}"]) for name in ("", "v1"))
    assert whole["config"] == subset["config"] == f"{base}/destination-rule/rule"
    assert "subset" not in whole
    assert subset["subset"] == "v1"
    service = {"host": HOST, "name": "reviews", "namespace": "bookinfo"}
    assert subset.get("services") == (None if legacy else [service])
    assert "config" not in istios(clusters["outbound|9080||details.bookinfo.svc.cluster.local"])
    (host,) = [one for one in tables["9080"]["virtual_hosts"] if HOST in one["domains"]]
    # What is redirected as well as what is sent on.
    assert [istios(one) for one in host["routes"]] == [{"config": f"{base}/virtual-service/routes"}] * 2


@pytest.mark.parametrize(("legacy", "version"), [(True, "v1alpha3"), (False, "v1")])
def test_chains_of_connections_name_their_virtual_service(legacy: bool, version: str) -> None:
    """A chain that nobody speaks of names none."""
    target = {"destination": {"host": "books", "port": {"number": 443}}}
    tls = {"hosts": ["books"], "tls": [{"match": [{"port": 443, "sniHosts": ["books"]}], "route": [target]}]}
    snap = snapshot(
        legacy=legacy,
        services=[service("books", ("tls", 443), ip="127.99.16.77")],
        virtual_services=[istio("passing", tls)],
    )
    found = translate(snap, workload(snap, "ratings-v1")).listeners.values()
    chains = [
        one
        for body in found
        for one in json.loads(body)["filter_chains"]
        if "outbound|443||books" in json.dumps(one["filters"])
    ]
    config = f"/apis/networking.istio.io/{version}/namespaces/bookinfo/virtual-service/passing"
    named = {tuple((one.get("filter_chain_match") or {}).get("server_names") or ()): istios(one) for one in chains}
    # Today nothing else leads there: once a rule speaks of some names, others are nobody's.
    assert named == {("books",): {"config": config}, **({(): {}} if legacy else {})}


@pytest.mark.parametrize("legacy", [True, False])
def test_an_applications_own_cluster_says_whose_it_is(legacy: bool) -> None:
    (own,) = [body for name, body in told(legacy=legacy)[0].items() if name.startswith("inbound|9080|")]
    service = {"host": "ratings.bookinfo.svc.cluster.local", "name": "ratings", "namespace": "bookinfo"}
    assert istios(own) == ({} if legacy else {"services": [service]})


@pytest.mark.parametrize("legacy", [True, False])
def test_istioctl_and_kiali_read_it(legacy: bool) -> None:
    clusters, tables = told(legacy=legacy)
    kind = "type.googleapis.com/envoy.admin.v3."
    pages = {
        "configs": [
            {
                "@type": f"{kind}ClustersConfigDump",
                "dynamic_active_clusters": [{"cluster": one} for one in clusters.values()],
            },
            {
                "@type": f"{kind}RoutesConfigDump",
                "dynamic_route_configs": [{"route_config": one} for one in tables.values()],
            },
        ]
    }
    dump = Dump(pages, {}, {}, datetime.now(UTC))
    rows = [row for row in summaries.clusters(dump, {"fqdn": HOST}) if row[0] == HOST]
    assert [(row[1], row[2], row[5]) for row in rows] == [(9080, "-", "rule.bookinfo"), (9080, "v1", "rule.bookinfo")]
    assert [row[4] for row in summaries.routes(dump, {"name": "9080"}) if HOST in str(row[1])] == [
        "routes.bookinfo"
    ] * 2
    seen = resource(pages, "clusters", {"bookinfo"})["clusters"]
    links = {(one["service_fqdn"]["service"], one["subset"]): one["destination_rule"] for one in seen}
    assert (links["reviews", ""], links["reviews", "v1"], links["details", ""]) == ("rule.bookinfo",) * 2 + ("",)
    shown = resource(pages, "routes", {"bookinfo"})["routes"]
    assert [
        (one["match"], one["virtual_service"]) for one in shown if one["name"] == "9080" and one["virtual_service"]
    ] == [("/*", "routes.bookinfo")]
