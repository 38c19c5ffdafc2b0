# SPDX-License-Identifier: Apache-2.0
"""What the Gateway API's objects become is kept: an unrelated change gives the very same again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from meshbox.addresses import AddressPlan
from meshbox.mesh.gateway_api.convert import NOTHING
from meshbox.mesh.kinds import KUBERNETES_GATEWAYS, RESOURCES
from meshbox.mesh.memo import Memo
from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.translate import translate

from .cluster import Cluster
from .objects import pod

Obj = dict[str, Any]

PLAN = AddressPlan(99)
OWN = {"gateway.networking.k8s.io/gateway-name": "gw"}


class Kept:
    """Snapshots of a cluster, one after the other, as the mesh takes them."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.memo = Memo()

    def take(self, *, legacy: bool = False) -> Snapshot:
        served = set(self.cluster.resources())
        objects = {one: self.cluster.view(one) for one in RESOURCES if one in served}
        return Snapshot(objects, PLAN, legacy=legacy, memo=self.memo)


def with_gateway(cluster: Cluster) -> Kept:
    cluster.install_gateway_api()
    meta = {"name": "gw", "namespace": "bookinfo"}
    listeners = [{"name": "web", "port": 80, "protocol": "HTTP"}]
    cluster.put(KUBERNETES_GATEWAYS, {"metadata": meta, "spec": {"gatewayClassName": "istio", "listeners": listeners}})
    ports = [{"name": "web", "port": 80}]
    cluster.put("services", {"metadata": {**meta, "name": "gw-istio"}, "spec": {"ports": ports, "selector": OWN}})
    own = pod("gw-0", "127.99.70.1", role="router")
    own["metadata"]["labels"] = OWN
    cluster.put("pods", own)
    return Kept(cluster)


def test_without_objects_of_it_there_is_nothing_to_do(cluster_of: Callable[[str], Cluster]) -> None:
    cluster = cluster_of("1.30.3")
    assert Kept(cluster).take().converted is NOTHING
    cluster.install_gateway_api()
    assert Kept(cluster).take().converted is NOTHING


def test_the_old_release_does_not_play_it(cluster_of: Callable[[str], Cluster]) -> None:
    assert with_gateway(cluster_of("1.30.3")).take(legacy=True).converted is NOTHING


def test_an_unrelated_change_makes_nothing_anew(cluster_of: Callable[[str], Cluster]) -> None:
    kept = with_gateway(cluster_of("1.30.3"))
    first = kept.take()
    made = translate(first, first.workloads["bookinfo", "gw-0"])
    assert list(made.listeners) == ["0.0.0.0_80"]
    kept.cluster.put("pods", pod("other", "127.99.70.2", role=""))
    second = kept.take()
    assert second.converted is first.converted
    assert translate(second, second.workloads["bookinfo", "gw-0"]) is made


def test_a_change_beside_it_gives_the_same_objects(cluster_of: Callable[[str], Cluster]) -> None:
    kept = with_gateway(cluster_of("1.30.3"))
    (first,) = kept.take().converted.gateways
    kept.cluster.put("secrets", {"metadata": {"name": "any", "namespace": "other"}, "data": {}})
    again = kept.take().converted
    assert again.gateways[0] is first
    found = kept.cluster.get(KUBERNETES_GATEWAYS, "gw", "bookinfo")
    found["spec"]["listeners"][0]["hostname"] = "a.example"
    kept.cluster.put(KUBERNETES_GATEWAYS, found)
    (changed,) = kept.take().converted.gateways
    assert changed["spec"]["servers"][0]["hosts"] == ["bookinfo/a.example"]
