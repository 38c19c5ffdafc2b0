# SPDX-License-Identifier: Apache-2.0
"""ServiceEntries whose host is a Kubernetes Service's: what they add to it, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from meshbox.contracts import AdmissionRequest
from meshbox.mesh.admission import MeshAdmission
from meshbox.mesh.entry_notices import idle_entries
from meshbox.mesh.kinds import SERVICE_ENTRIES, SERVICES
from meshbox.mesh.memo import Memo
from meshbox.mesh.snapshot import Snapshot

from .cluster import Cluster
from .objects import istio, service, snapshot

Json = dict[str, Any]

HOST = "reviews.bookinfo.svc.cluster.local"
HTTP = {"number": 9080, "name": "http", "protocol": "HTTP"}
WHAT = "spec.hosts[0] is the host of Service bookinfo/reviews, which "
ALONE = WHAT + "alone counts: this ServiceEntry adds nothing to it"
NOWHERE = WHAT.removesuffix(", which ") + ", and spec.endpoints is empty: this ServiceEntry adds nothing to it"
NO_NAME = (
    WHAT.removesuffix(", which ")
    + ", beside whose pods only addresses answer: spec.endpoints[1] (reviews.test) adds nothing"
)
NO_PORT = WHAT + "has no port named web: spec.ports[0] adds nothing to it"


def entry(*ports: Json, namespace: str = "bookinfo", **fields: Any) -> Json:
    spec = {"hosts": [HOST], "ports": list(ports) or [HTTP], "resolution": "STATIC", "endpoints": [AWAY], **fields}
    return istio("more", spec, namespace)


AWAY = {"address": "10.1.2.3"}
NAMED = {"address": "reviews.test"}


def behind(snap: Snapshot) -> list[tuple[str, int]]:
    return [(one.address, one.port) for one in snap.by_host[HOST].endpoints[9080]]


@pytest.mark.parametrize(
    ("given", "added", "words"),
    [
        (entry(), [("10.1.2.3", 9080)], ""),
        (entry(resolution="DNS"), [("10.1.2.3", 9080)], ""),
        # The name of a port counts, and not its number.
        (entry({**HTTP, "number": 7000}), [("10.1.2.3", 7000)], ""),
        (entry({**HTTP, "name": "web"}), [], NO_PORT),
        # What is told of addresses has no place for a name, nor for the host, which is one.
        (entry(resolution="DNS", endpoints=[AWAY, NAMED]), [("10.1.2.3", 9080)], NO_NAME),
        (entry(resolution="DNS", endpoints=[]), [], NOWHERE),
        (entry(endpoints=None, workloadSelector={"labels": {"app": "away"}}), [], ""),
        (entry(resolution="NONE", endpoints=None), [], ALONE),
        (entry(namespace="other"), [], ALONE),
    ],
)
def test_what_an_entry_adds_to_a_service(given: Json, added: list[tuple[str, int]], words: str) -> None:
    snap = snapshot(service_entries=[given])
    own = behind(snapshot())
    assert behind(snap) == [*own, *added]
    assert [told for _, told in idle_entries(snap)] == ([words] if words else [])


def test_nothing_is_added_in_istio_1_2() -> None:
    snap = snapshot(legacy=True, service_entries=[entry()])
    assert behind(snap) == behind(snapshot(legacy=True))
    assert [told for _, told in idle_entries(snap)] == [ALONE]


def test_a_service_is_the_same_until_what_is_added_changes() -> None:
    memo = Memo()
    objects = snapshot(service_entries=[entry()])._objects

    def host(**more: Any) -> Any:
        return Snapshot({**objects, **more}, snapshot().plan, legacy=False, memo=memo).by_host[HOST]

    first = host()
    assert host() is first
    assert host(**{SERVICE_ENTRIES: []}).endpoints[9080] == first.endpoints[9080][:-1]
    assert host() == first


def test_it_is_said_to_whoever_writes_one(cluster_of: Callable[[str], Cluster]) -> None:
    cluster = cluster_of("1.30.3")

    def warnings(obj: Json) -> list[str]:
        request = AdmissionRequest("CREATE", SERVICE_ENTRIES, obj["metadata"]["namespace"], "more", obj)
        MeshAdmission(cluster, cluster.settings).validate(request)
        return request.warnings

    assert warnings(entry(namespace="other")) == []
    cluster.put(SERVICES, service("reviews"))
    assert warnings(entry()) == []
    assert warnings(entry(namespace="other")) == [ALONE]
    assert warnings(entry(hosts=["reviews.test", HOST], namespace="other")) == [ALONE.replace("[0]", "[1]")]


@pytest.mark.parametrize(
    ("exported", "seen"), [("", True), ("*", True), ("bookinfo, other", True), (".", False), ("~", False)]
)
def test_an_entry_stands_for_a_service_that_is_not_exported_to_it(exported: str, seen: bool) -> None:
    given = service("reviews")
    given["metadata"]["annotations"] = {"networking.istio.io/exportTo": exported}
    snap = snapshot(service_entries=[entry(namespace="other")], services=[given])
    assert [told for _, told in idle_entries(snap)] == ([ALONE] if seen else [])
