# SPDX-License-Identifier: Apache-2.0
"""Which endpoints a client prefers, by where both are, without any Envoy."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.mesh.locality import of_labels
from meshbox.mesh.settings import mesh_problem
from meshbox.mesh.translate import translate

from .objects import PLAN, istio, pod, service, snapshot, workload
from .whole import whole_clusters

Json = dict[str, Any]
Seen = list[tuple[str, list[str], int, int]]

RULES = "destinationrules.networking.istio.io"
SHOP = "outbound|9080||shop.bookinfo.svc.cluster.local"
DETECTION = {"consecutive5xxErrors": 1}
OLD_DETECTION = {"consecutiveErrors": 1}
PLACES = {"a": "us.east.r1", "b": "us.east.r2", "c": "us.west", "d": "eu.north", "e": "asia.south"}


def seen(
    setting: Json | None,
    *,
    legacy: bool = False,
    detection: Json | None = DETECTION,
    client: str = "us.east.r1",
    mesh: str = "",
    places: dict[str, str] = PLACES,
    policy: Json | None = None,
    fields: Json | None = None,
    client_labels: dict[str, str] | None = None,
    looked_at: bool = True,
) -> tuple[Seen, Json]:
    """Locality, pods, priority and weight of each group that a client sees, and the cluster."""
    pods = [
        pod(
            f"shop-{name}",
            f"127.99.64.{number}",
            app="shop",
            version=name,
            **({"istio-locality": where} if where else {}),
        )
        for number, (name, where) in enumerate(places.items(), 20)
    ]
    where = {"istio-locality": client} if client else {}
    pods.append(pod("caller-v1", "127.99.64.90", **where, **(client_labels or {})))
    balancer = {} if setting is None else {"loadBalancer": {"localityLbSetting": setting}}
    outlier = {} if detection is None else {"outlierDetection": detection}
    spec = {"host": "shop", "trafficPolicy": {**outlier, **balancer, **(policy or {})}}
    rules = [istio("shop", spec)] if spec["trafficPolicy"] else []
    shop = service("shop", **(fields or {}))
    written = {"destination_rules": rules} if looked_at else {"kept": {RULES: rules}}
    snap = snapshot(legacy=legacy, mesh=mesh, pods=pods, services=[shop], **written)
    cluster = whole_clusters(translate(snap, workload(snap, "caller-v1")))[SHOP]
    names = {f"127.99.64.{number}": name for number, name in enumerate(places, 20)}
    found = []
    for group in cluster["load_assignment"]["endpoints"]:
        there = [names[e["endpoint"]["address"]["socket_address"]["address"]] for e in group["lb_endpoints"]]
        locality = "/".join((group.get("locality") or {}).values())
        found.append((locality, there, group.get("priority", 0), group.get("load_balancing_weight", 0)))
    return found, cluster


def priorities(found: Seen) -> dict[str, int]:
    return {name: priority for _, names, priority, _ in found for name in names}


def test_endpoints_are_grouped_by_where_they_are() -> None:
    found, cluster = seen(None, detection=None)
    assert found == [
        ("asia/south", ["e"], 0, 0),
        ("eu/north", ["d"], 0, 0),
        ("us/east/r1", ["a"], 0, 0),
        ("us/east/r2", ["b"], 0, 0),
        ("us/west", ["c"], 0, 0),
    ]
    (here,) = [g for g in cluster["load_assignment"]["endpoints"] if g["locality"].get("sub_zone") == "r1"]
    assert here["locality"] == {"region": "us", "zone": "east", "sub_zone": "r1"}
    # Without any place there is one group, as there always was.
    found, cluster = seen(None, client="", places=dict.fromkeys("ab", ""))
    assert found == [("", ["a", "b"], 0, 0)]
    assert set(cluster["load_assignment"]["endpoints"][0]) == {"lb_endpoints"}


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        # What is nearest goes first, where unhealthy endpoints are noticed.
        (None, {"a": 0, "b": 1, "c": 2, "d": 3, "e": 3}),
        ({"enabled": True}, {"a": 0, "b": 1, "c": 2, "d": 3, "e": 3}),
        ({"failover": [{"from": "us", "to": "eu"}]}, {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4}),
        ({"failover": [{"from": "eu", "to": "us"}]}, {"a": 0, "b": 1, "c": 2, "d": 3, "e": 3}),
        ({"enabled": False}, dict.fromkeys("abcde", 0)),
        ({"failoverPriority": ["topology.kubernetes.io/region"]}, {"a": 0, "b": 0, "c": 0, "d": 1, "e": 1}),
        (
            {"failoverPriority": ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"]},
            {"a": 0, "b": 0, "c": 1, "d": 2, "e": 2},
        ),
        ({"failoverPriority": ["topology.kubernetes.io/region=eu"]}, {"a": 1, "b": 1, "c": 1, "d": 0, "e": 1}),
        ({"failoverPriority": ["version=c"]}, {"a": 1, "b": 1, "c": 0, "d": 1, "e": 1}),
        ({"failoverPriority": ["topology.istio.io/subzone"]}, {"a": 0, "b": 1, "c": 1, "d": 1, "e": 1}),
        (
            {"failoverPriority": ["topology.kubernetes.io/region=us"], "failover": [{"from": "us", "to": "eu"}]},
            {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4},
        ),
    ],
)
def test_what_is_preferred(setting: Json | None, expected: dict[str, int]) -> None:
    assert priorities(seen(setting)[0]) == expected
    # Nothing would ever fail over: so all are used alike.
    assert priorities(seen(setting, detection=None)[0]) == dict.fromkeys("abcde", 0)


def test_a_clients_own_labels_choose() -> None:
    setting = {"failoverPriority": ["version", "stage"]}
    found, _ = seen(setting, client_labels={"version": "b", "stage": "test"})
    assert priorities(found) == {"a": 1, "b": 0, "c": 1, "d": 1, "e": 1}
    # Who has no such label agrees with those that have none either.
    assert priorities(seen({"failoverPriority": ["stage"]})[0]) == dict.fromkeys("abcde", 0)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([{"from": "us/east/*", "to": {"us/east/*": 80, "us/west/*": 20}}], {"a": 40, "b": 40, "c": 20}),
        ([{"from": "us/*", "to": {"us/east/r1": 70, "us/*": 30}}], {"a": 70, "b": 15, "c": 15}),
        ([{"from": "*", "to": {"eu/*": 100}}], {"d": 100}),
        ([{"from": "us", "to": {"eu": 1, "*": 99}}], {"a": 25, "b": 25, "c": 25, "d": 1, "e": 25}),
        ([{"from": "eu/*", "to": {"eu/*": 100}}, {"from": "us/east/r1", "to": {"us/west": 100}}], {"c": 100}),
        # Nobody speaks of this client.
        ([{"from": "eu/*", "to": {"eu/*": 100}}], dict.fromkeys("abcde", 1)),
    ],
)
def test_how_requests_are_spread(rules: list[Json], expected: dict[str, int]) -> None:
    for detection in (DETECTION, None):
        # Of places within each other Istio's webhook says now yes, now no: an older cluster may have such a rule.
        found, cluster = seen({"distribute": rules}, detection=detection, looked_at=False)
        assert {names[0]: weight for _, names, _, weight in found} == expected
        assert {priority for _, _, priority, _ in found} == {0}
        assert cluster["common_lb_config"]["locality_weighted_lb_config"] == {}


MESH = "localityLbSetting: {distribute: [{from: us/*, to: {eu/*: 100}}]}"


def test_the_mesh_says_what_no_rule_says() -> None:
    assert [names for _, names, _, _ in seen(None, mesh=MESH)[0]] == [["d"]]
    assert priorities(seen({"failover": []}, mesh=MESH)[0]) == {"a": 0, "b": 1, "c": 2, "d": 3, "e": 3}
    off = "localityLbSetting: {enabled: false}"
    assert priorities(seen(None, mesh=off)[0]) == dict.fromkeys("abcde", 0)
    assert priorities(seen({"enabled": True}, mesh=off)[0])["e"] == 3


def test_in_the_old_release_only_the_mesh_speaks() -> None:
    old = {"legacy": True, "detection": OLD_DETECTION}
    assert priorities(seen(None, **old)[0]) == dict.fromkeys("abcde", 0)
    assert priorities(seen(None, mesh="localityLbSetting: {}", **old)[0]) == {"a": 0, "b": 1, "c": 2, "d": 3, "e": 3}
    found, cluster = seen(None, mesh=MESH, **old)
    assert found == [("eu/north", ["d"], 0, 100)]
    assert "locality_weighted_lb_config" in cluster["common_lb_config"]
    _, cluster = seen(None, mesh=MESH, legacy=True, detection=None)
    assert "locality_weighted_lb_config" not in cluster["common_lb_config"]


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        ("PreferClose", {"a": 0, "b": 0, "c": 1, "d": 2, "e": 2}),
        ("PreferSameZone", {"a": 0, "b": 0, "c": 1, "d": 2, "e": 2}),
        ("PreferSameNode", {"a": 0, "b": 2, "c": 3, "d": 4, "e": 4}),
    ],
)
def test_a_service_may_ask_to_be_near(distribution: str, expected: dict[str, int]) -> None:
    found, _ = seen(None, detection=None, fields={"trafficDistribution": distribution})
    order = sorted(set(expected.values()))
    assert priorities(found) == {name: order.index(value) for name, value in expected.items()}
    off, _ = seen({"enabled": False}, fields={"trafficDistribution": distribution})
    assert priorities(off) == dict.fromkeys("abcde", 0)


@pytest.mark.parametrize(
    ("legacy", "labels", "locality"),
    [
        (False, {"topology.kubernetes.io/region": "us", "topology.kubernetes.io/zone": "east"}, "us/east"),
        (False, {"topology.kubernetes.io/zone": "east", "topology.istio.io/subzone": "r1"}, "/east/r1"),
        (False, {"failure-domain.beta.kubernetes.io/region": "us"}, "us"),
        (False, {"kubernetes.io/hostname": "node"}, ""),
        (
            True,
            {"failure-domain.beta.kubernetes.io/region": "us", "failure-domain.beta.kubernetes.io/zone": "e"},
            "us/e",
        ),
        (True, {"topology.kubernetes.io/region": "us"}, ""),
    ],
)
def test_a_pod_is_where_its_node_is(legacy: bool, labels: dict[str, str], locality: str) -> None:
    there = pod("shop-v1", "127.99.64.20")
    there["spec"]["nodeName"] = "worker"
    own = pod("shop-v2", "127.99.64.21", **{"istio-locality": "eu.north"})
    own["spec"]["nodeName"] = "worker"
    node = {"metadata": {"name": "worker", "labels": labels}}
    snap = snapshot(legacy=legacy, pods=[there, own], nodes=[node])
    assert workload(snap, "shop-v1").locality == locality
    assert workload(snap, "shop-v1").node == "worker"
    assert workload(snap, "shop-v2").locality == "eu/north"
    assert workload(snap, "details-v1").locality == ""


def test_a_label_says_a_place_with_dots_or_slashes() -> None:
    assert of_labels({"istio-locality": "a.b.c"}) == "a/b/c"
    assert of_labels({"istio-locality": "a.1/b.2"}) == "a.1/b.2"
    assert of_labels({}) == ""


def test_clients_at_one_place_are_told_the_same_bytes() -> None:
    near = {"istio-locality": "us.east"}
    pods = [
        pod("one-v1", "127.99.64.30", **near),
        pod("two-v1", "127.99.64.31", **near),
        pod("far-v1", "127.99.64.32", **{"istio-locality": "eu.north"}),
    ]
    rule = istio("one", {"host": "one", "trafficPolicy": {"outlierDetection": DETECTION}})
    spread = [("one-v1", near), ("one-v2", {"istio-locality": "eu.north"})]
    pods += [pod(f"{name}-x", f"127.99.64.{40 + n}", app="one", **labels) for n, (name, labels) in enumerate(spread)]
    snap = snapshot(pods=pods, services=[service("one")], destination_rules=[rule])
    one, two, far = (translate(snap, workload(snap, f"{name}-v1")) for name in ("one", "two", "far"))
    name = "outbound|9080||one.bookinfo.svc.cluster.local"
    assert one.clusters[name] is two.clusters[name]
    assert one.endpoints[name] is two.endpoints[name]
    # The cluster is the same: only where it leads first depends on where one is.
    assert one.clusters[name] == far.clusters[name]
    assert one.endpoints[name] != far.endpoints[name]
    assert PLAN.of_pods("127.99.64.30")
    assert not PLAN.of_pods("127.99.16.30")


def test_a_setting_that_nobody_could_read_is_refused() -> None:
    def problem(mesh: str) -> str:
        return mesh_problem({"metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": mesh}})

    assert problem("connectTimeout: soon") == 'connectTimeout must be a duration, such as "10s"'
    assert problem("connectTimeout: 5s") == ""
    assert problem("tcpKeepalive: {probes: many}") == "tcpKeepalive.probes must be a whole number"
    assert problem("tcpKeepalive: {time: 1}") == 'tcpKeepalive.time must be a duration, such as "10s"'
    assert problem("localityLbSetting: {distribute: [x]}") == "localityLbSetting.distribute must be a list of maps"
    assert problem("localityLbSetting: {distribute: [{from: x}]}") == (
        "localityLbSetting.distribute[0].to must give each locality a percentage"
    )
    assert problem("defaultDestinationRuleExportTo: [1]") == (
        "defaultDestinationRuleExportTo must be a list of strings"
    )
