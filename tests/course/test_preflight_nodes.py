# SPDX-License-Identifier: Apache-2.0
"""What is said of a cluster's nodes before anything is installed."""

from __future__ import annotations

from typing import Any

import pytest

from labkit import cluster
from labkit.course.preflight import _nodes


def _node(name: str, **status: Any) -> dict[str, Any]:
    return {"kind": "Node", "metadata": {"name": name}, "status": status}


@pytest.mark.parametrize(
    ("nodes", "passed", "seen", "step"),
    [
        ([], False, "0 of 0 ready", "`kubectl get nodes` shows none: it needs one."),
        (
            # A kubelet that has not told anything yet.
            [_node("one", conditions=[{"type": "Ready", "status": "True"}]), _node("two")],
            False,
            "1 of 2 ready; not: two",
            "`kubectl describe node two`",
        ),
    ],
)
def test_nodes(
    nodes: list[dict[str, Any]], passed: bool, seen: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "get", {"nodes": nodes}.__getitem__)
    found = _nodes()
    assert (found.passed, found.seen, found.next_step) == (passed, seen, step)
