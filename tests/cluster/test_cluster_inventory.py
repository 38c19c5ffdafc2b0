# SPDX-License-Identifier: Apache-2.0
"""What is left, and which images are where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labkit import cluster
from labkit.cluster import Entry, NodeImage, Snapshot
from labkit.ground.errors import ClusterError
from tests.cluster.fake_kubectl import UID, FakeKubectl

NODE = {
    "kind": "Node",
    "metadata": {"name": "n1"},
    "status": {
        "images": [
            {"names": ["docker.io/istio/pilot:1.2.2", "docker.io/istio/pilot@sha256:aa"], "sizeBytes": 9},
            {"names": ["docker.io/istio/pilot:1.2.0"], "sizeBytes": 8},
            {"names": ["docker.io/istio/galley:1.2.2"], "sizeBytes": 7},
            {"names": ["registry:5000/no-tag"], "sizeBytes": 1},
            {"names": None or [], "sizeBytes": 1},
        ]
    },
}


def test_snapshot_lists_what_nothing_owns(kubectl: FakeKubectl) -> None:
    kubectl.api.items = [NODE]
    kubectl.api.items += [
        {"kind": "Pod", "metadata": {"namespace": "default", "name": "a-1", "ownerReferences": [{"uid": "uid-of-a"}]}},
        {"kind": "Pod", "metadata": {"namespace": "default", "name": "bare"}},
        {"kind": "Gateway", "metadata": {"namespace": "default", "name": "g"}},
        {"kind": "Event", "metadata": {"namespace": "default", "name": "e"}},
    ]
    seen = cluster.snapshot(show=False)
    assert seen.entries == {
        Entry("Namespace", "", "kube-system"),
        Entry("Node", "", "n1"),
        Entry("Pod", "default", "bare"),
        Entry("Gateway", "default", "g"),
    }
    assert seen.images == {"docker.io/istio/pilot:1.2.2", "docker.io/istio/pilot:1.2.0", "docker.io/istio/galley:1.2.2"}
    assert seen.cluster == UID
    assert "GET /api/v1/events" not in kubectl.api.requests
    assert kubectl.commands == []


def test_difference_both_ways(tmp_path: Path) -> None:
    before = Snapshot(
        frozenset({Entry("Namespace", "", "default"), Entry("ConfigMap", "default", "mine")}), frozenset()
    )
    now = Snapshot(frozenset({Entry("Namespace", "", "default"), Entry("Service", "x", "s")}), frozenset({"a:1"}))
    before.save(tmp_path / "kept" / "before.json")
    changed = now.difference(Snapshot.load(tmp_path / "kept" / "before.json"))
    assert changed.added == (Entry("Service", "x", "s"),)
    assert changed.removed == (Entry("ConfigMap", "default", "mine"),)
    assert changed.images == ("a:1",)
    assert bool(changed)
    assert "left" in str(changed)
    assert "missing" in str(changed)
    same = before.difference(before)
    assert not same
    assert "Nothing is left" in str(same)


def test_a_snapshot_that_is_missing_or_broken(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="00-kubernetes takes one"):
        Snapshot.load(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text('{"objects": [[1]]}')
    with pytest.raises(ClusterError, match=r"broken\.json cannot be read"):
        Snapshot.load(tmp_path / "broken.json")


def test_images(kubectl: FakeKubectl) -> None:
    kubectl.api.items = [NODE]
    found = cluster.images("istio")
    assert found == [
        NodeImage("n1", "docker.io/istio/galley", "1.2.2", 7),
        NodeImage("n1", "docker.io/istio/pilot", "1.2.0", 8),
        NodeImage("n1", "docker.io/istio/pilot", "1.2.2", 9),
    ]
    assert found[0].reference == "docker.io/istio/galley:1.2.2"
    assert cluster.images("galley") == found[:1]


@pytest.mark.parametrize("reported", [0, 50])
def test_of_a_node_that_does_not_report_all_its_pods_tell(kubectl: FakeKubectl, reported: int) -> None:
    images = [{"names": [f"docker.io/istio/a{n}:1"], "sizeBytes": 9} for n in range(reported)]
    node = {"kind": "Node", "metadata": {"name": "n1"}, "status": {"images": images}}
    statuses = [
        {"image": "docker.io/istio/pilot:1.2.2", "imageID": "x"},
        {"image": "docker.io/istio/a0:1", "imageID": "x"},
        {"image": "docker.io/istio/waits:1"},
        {"image": "docker.io/other:1", "imageID": "x"},
    ]

    def pod(name: str, where: str) -> dict[str, Any]:
        spec, status = {"nodeName": where}, {"containerStatuses": statuses}
        return {"kind": "Pod", "metadata": {"name": name, "namespace": "d"}, "spec": spec, "status": status}

    kubectl.api.items = [node, pod("p", "n1"), pod("q", "n2")]
    found = cluster.images("istio")
    assert NodeImage("n1", "docker.io/istio/pilot", "1.2.2", 0) in found
    assert NodeImage("n1", "docker.io/istio/a0", "1", 9 if reported else 0) in found
    assert len(found) == max(reported, 1) + 1
