# SPDX-License-Identifier: Apache-2.0
"""The mesh's `discoverySelectors`: what lies in namespaces that none of them chooses is not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from meshbox.contracts import AdmissionRequest
from meshbox.mesh.admission import MeshAdmission
from meshbox.mesh.kinds import KUBERNETES_GATEWAYS, NAMESPACES, VIRTUAL_SERVICES
from meshbox.mesh.settings import not_played

from .cluster import Cluster
from .istiod import Istiod
from .objects import snapshot

Obj = dict[str, Any]

BOOKS = "discoverySelectors: [{matchLabels: {team: books}}, {matchExpressions: [{key: shared, operator: Exists}]}]"


def namespace(name: str, **labels: str) -> Obj:
    return {"metadata": {"name": name, "labels": labels}}


def rule(namespace: str) -> Obj:
    spec = {"hosts": [f"{namespace}.test"], "http": [{"route": [{"destination": {"host": "reviews"}}]}]}
    return {"metadata": {"name": "rule", "namespace": namespace}, "spec": spec}


@pytest.mark.parametrize(
    ("mesh", "labels", "hosts", "rules"),
    [
        ("", {}, True, 2),
        (BOOKS, {}, False, 1),
        (BOOKS, {"team": "books"}, True, 2),
        (BOOKS, {"shared": ""}, True, 2),
        (BOOKS, {"team": "others"}, False, 1),
    ],
)
def test_only_chosen_namespaces_are_looked_at(mesh: str, labels: Obj, hosts: bool, rules: int) -> None:
    snap = snapshot(
        mesh=mesh,
        kept={NAMESPACES: [namespace("bookinfo", **labels), namespace("shop", team="books")]},
        virtual_services=[rule("bookinfo"), rule("shop")],
    )
    assert any(one.host == "reviews.bookinfo.svc.cluster.local" for one in snap.services) == hosts
    assert len(snap.all(VIRTUAL_SERVICES)) == rules
    assert ("bookinfo", "reviews-v1") in snap.workloads, "its proxy asks all the same"


def test_the_old_release_knows_no_selectors() -> None:
    snap = snapshot(legacy=True, mesh=BOOKS, virtual_services=[rule("bookinfo")])
    assert len(snap.all(VIRTUAL_SERVICES)) == 1
    config = {"metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": BOOKS}}
    assert not_played(config, legacy=True) == ["discoverySelectors"]
    assert not_played(config, legacy=False) == []


def test_who_writes_where_nobody_looks_is_told(cluster_of: Callable[[str], Cluster]) -> None:
    cluster = cluster_of("1.30.3")
    config = {"metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": BOOKS}}

    def told() -> list[str]:
        request = AdmissionRequest("CREATE", VIRTUAL_SERVICES, "bookinfo", "rule", rule("bookinfo"))
        MeshAdmission(cluster, cluster.settings).validate(request)
        return [one for one in request.warnings if "discoverySelectors" in one]

    assert told() == []
    cluster.put("configmaps", config)
    words = "Istio does not look at namespace bookinfo: none of the mesh's discoverySelectors chooses it"
    assert told() == [words]
    cluster.put(NAMESPACES, namespace("bookinfo", team="books"))
    assert told() == []


async def test_a_gateway_where_nobody_looks_is_not_made(istiod: Istiod) -> None:
    config = istiod.cluster.get("configmaps", "istio", "istio-system")
    mesh = config["data"]["mesh"]
    istiod.cluster.put("configmaps", {**config, "data": {**config["data"], "mesh": f"{mesh}\n{BOOKS}\n"}})
    istiod.cluster.put(NAMESPACES, namespace("library", team="books"))
    istiod.gateway()
    seen = istiod.gateway(metadata={"namespace": "library"})
    await istiod.until(lambda: istiod.cluster.find("services", "gw-istio", "library"), "the one that is seen")
    assert seen["metadata"]["namespace"] == "library"
    assert not istiod.found("services")
    assert "observedGeneration" not in str(istiod.found(KUBERNETES_GATEWAYS, "gw")["status"])
    istiod.cluster.put(NAMESPACES, namespace("bookinfo", team="books"))
    await istiod.until(lambda: istiod.found("services"), "the other one, now that it is")
