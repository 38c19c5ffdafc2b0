# SPDX-License-Identifier: Apache-2.0
"""A pod's phase and conditions beside native sidecars, as the kubelet's own code of 1.35.4 gives them."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.node.status import pod_status

Obj = dict[str, Any]

RUNNING: Obj = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
WAITING: Obj = {"waiting": {"reason": "PodInitializing"}}
ENDED: Obj = {"terminated": {"exitCode": 0}}
FAILED: Obj = {"terminated": {"exitCode": 1}}


class Container:
    """What a status knows of a container."""

    def __init__(self, name: str, state: Obj, last: Obj | None = None, *, up: bool = False, sidecar: bool = False):
        self.spec: Any = {"name": name, **({"restartPolicy": "Always"} if sidecar else {})}
        self.state: Any = state
        self.last_state: Any = last or {}
        self.ready = self.started = up
        self.restarts = int(bool(last))

    def status(self) -> Any:
        return {"name": self.spec["name"], "ready": self.ready, "started": self.started}


def side(state: Obj, last: Obj | None = None, *, up: bool = False) -> Container:
    return Container("side", state, last, up=up, sidecar=True)


@pytest.mark.parametrize(
    ("policy", "init", "main", "phase", "incomplete"),
    [
        ("Always", [side(WAITING)], Container("c", WAITING), "Pending", "side"),
        ("Always", [side(RUNNING)], Container("c", WAITING), "Pending", "side"),
        ("Always", [side(RUNNING, up=True)], Container("c", RUNNING), "Running", ""),
        # A sidecar that ends or starts again leaves a pod as far as it was.
        ("Always", [side(ENDED)], Container("c", RUNNING), "Running", ""),
        ("Always", [side(RUNNING, FAILED)], Container("c", RUNNING), "Running", ""),
        ("Always", [side(WAITING, FAILED)], Container("c", RUNNING), "Running", ""),
        ("Always", [side(WAITING, FAILED)], Container("c", FAILED), "Running", ""),
        ("Never", [side(ENDED)], Container("c", FAILED), "Failed", ""),
        # Where the application waits to start again nothing of it counts as begun but in the phase.
        ("Always", [side(RUNNING)], Container("c", WAITING, FAILED), "Running", "side"),
        # What failed before decides.
        ("Never", [side(RUNNING, FAILED), Container("first", FAILED)], Container("c", WAITING), "Failed", "side first"),
    ],
)
def test_beside_sidecars(policy: str, init: list[Container], main: Container, phase: str, incomplete: str) -> None:
    pod: Any = {"metadata": {"name": "p"}, "spec": {"restartPolicy": policy}}
    found = pod_status(pod, init, [main], host_ip="127.0.0.1", pod_ip="127.0.0.2")
    assert found["phase"] == phase
    (initialized,) = (one for one in found["conditions"] if one["type"] == "Initialized")
    words = f"containers with incomplete status: [{incomplete}]" if incomplete else None
    assert (initialized["status"], initialized.get("message")) == ("False" if incomplete else "True", words)
