# SPDX-License-Identifier: Apache-2.0
"""READY, STATUS and RESTARTS of pods: what a learner reads first, so each state that kubectl has a word for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from meshbox.api.tables import to_table
from meshbox.contracts import Obj

NOW = datetime(2026, 1, 1, 1, 0, tzinfo=UTC)
RUNNING: Obj = {"running": {"startedAt": "2026-01-01T00:10:00Z"}}


def waiting(reason: str) -> Obj:
    return {"waiting": {"reason": reason}}


def ended(code: int, reason: str = "", signal: int = 0) -> Obj:
    return {"terminated": {"exitCode": code, "reason": reason, "signal": signal}}


def status(name: str, state: Obj, *, ready: bool = False, restarts: int = 0, last: str = "", **more: Any) -> Obj:
    result = {"name": name, "state": state, "ready": ready, "restartCount": restarts, **more}
    if last:
        result["lastState"] = {"terminated": {"exitCode": 1, "finishedAt": last}}
    return result


def pod(
    containers: list[Obj],
    inits: list[Obj] | None = None,
    *,
    phase: str = "Running",
    sidecars: tuple[str, ...] = (),
    conditions: dict[str, str] | None = None,
    **more: Any,
) -> Obj:
    deleted = {"deletionTimestamp": "2026-01-01T00:59:00Z"} if more.pop("deleted", False) else {}
    return {
        "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z", **deleted},
        "spec": {
            "containers": [{"name": c["name"]} for c in containers],
            "initContainers": [
                {"name": c["name"], **({"restartPolicy": "Always"} if c["name"] in sidecars else {})}
                for c in inits or []
            ],
        },
        "status": {
            "phase": phase,
            "containerStatuses": containers,
            "initContainerStatuses": inits or [],
            "conditions": [{"type": t, "status": s} for t, s in (conditions or {}).items()],
            **more,
        },
    }


def row(obj: Obj, *, legacy: bool = False) -> dict[str, Any]:
    table = to_table("pods", [obj], crd=None, now=NOW, legacy=legacy)
    return dict(zip([c["name"] for c in table["columnDefinitions"]], table["rows"][0]["cells"], strict=True))


def ready_and_status(obj: Obj, *, legacy: bool = False) -> tuple[str, str]:
    cells = row(obj, legacy=legacy)
    return cells["Ready"], cells["Status"]


UP = status("app", RUNNING, ready=True)
PROXY = status("istio-proxy", RUNNING, ready=True)
DONE = status("istio-init", ended(0, "Completed"), ready=True)
HELD = status("app", waiting("PodInitializing"))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("obj", "ready", "text"),
    [
        (pod([UP, PROXY], [DONE]), "2/2", "Running"),
        (pod([UP, status("istio-proxy", RUNNING)], [DONE]), "1/2", "Running"),
        (pod([HELD], [status("istio-init", RUNNING)], phase="Pending"), "0/1", "Init:0/1"),
        (pod([HELD], [DONE, status("second", waiting("PodInitializing"))], phase="Pending"), "0/1", "Init:1/2"),
        (pod([HELD], [DONE], phase="Pending"), "0/1", "PodInitializing"),
        (pod([status("app", waiting("ContainerCreating"))], phase="Pending"), "0/1", "ContainerCreating"),
        (pod([status("app", waiting("ErrImagePull"))], phase="Pending"), "0/1", "ErrImagePull"),
        (pod([status("app", waiting("ImagePullBackOff"))], phase="Pending"), "0/1", "ImagePullBackOff"),
        (pod([status("app", waiting("CrashLoopBackOff")), PROXY]), "1/2", "CrashLoopBackOff"),
        (pod([HELD], [status("i", waiting("CrashLoopBackOff"))], phase="Pending"), "0/1", "Init:CrashLoopBackOff"),
        (pod([HELD], [status("i", ended(1, "Error"))], phase="Pending"), "0/1", "Init:Error"),
        (pod([HELD], [status("i", ended(3))], phase="Pending"), "0/1", "Init:ExitCode:3"),
        (pod([HELD], [status("i", ended(137, signal=9))], phase="Pending"), "0/1", "Init:Signal:9"),
        (pod([status("app", ended(0, "Completed"))], phase="Succeeded"), "0/1", "Completed"),
        (pod([status("app", ended(1, "Error"))], phase="Failed"), "0/1", "Error"),
        (pod([status("app", ended(137, signal=9))]), "0/1", "Signal:9"),
        (pod([status("app", ended(2))]), "0/1", "ExitCode:2"),
        (pod([], phase="Pending"), "0/0", "Pending"),
        (pod([], phase="Failed", reason="Evicted"), "0/0", "Evicted"),
        (pod([UP], deleted=True), "1/1", "Terminating"),
        (pod([UP], deleted=True, reason="NodeLost"), "1/1", "Unknown"),
    ],
)
def test_ready_and_status(obj: Obj, ready: str, text: str, legacy: bool) -> None:
    assert ready_and_status(obj, legacy=legacy) == (ready, text)


def test_a_completed_container_beside_a_running_one() -> None:
    containers = [status("app", ended(0, "Completed")), PROXY]
    assert ready_and_status(pod(containers, conditions={"Ready": "True"})) == ("1/2", "Running")
    assert ready_and_status(pod(containers, conditions={"Ready": "False"})) == ("1/2", "NotReady")
    assert ready_and_status(pod(containers), legacy=True) == ("1/2", "Running")


def test_a_failure_behind_a_completed_container_is_shown_now_but_was_not_then() -> None:
    containers = [status("app", ended(0, "Completed")), status("b", ended(1, "Error"))]
    assert ready_and_status(pod(containers)) == ("0/2", "Error")
    assert ready_and_status(pod(containers), legacy=True) == ("0/2", "Completed")


def test_a_finished_pod_is_not_terminating_any_more() -> None:
    done = pod([status("app", ended(0, "Completed"))], phase="Succeeded", deleted=True)
    assert ready_and_status(done) == ("0/1", "Completed")
    assert ready_and_status(done, legacy=True) == ("0/1", "Terminating")


def test_native_sidecars_count_as_containers() -> None:
    proxy = status("istio-proxy", RUNNING, ready=True, started=True)
    assert ready_and_status(pod([UP], [DONE, proxy], sidecars=("istio-proxy",))) == ("2/2", "Running")
    starting = status("istio-proxy", RUNNING, started=False)
    held = pod([HELD], [DONE, starting], sidecars=("istio-proxy",), phase="Pending")
    assert ready_and_status(held) == ("0/2", "Init:1/2")


def test_a_crashing_native_sidecar_hides_the_pods_start() -> None:
    crashing = status("istio-proxy", waiting("CrashLoopBackOff"), started=False, restarts=4)
    obj = pod([HELD], [crashing], sidecars=("istio-proxy",), phase="Pending")
    assert row(obj)["Restarts"] == "4"
    assert row(obj)["Status"] == "Init:CrashLoopBackOff"
    # Once initialized, the app containers are looked at again.
    later = pod([UP], [crashing], sidecars=("istio-proxy",), conditions={"Initialized": "True"})
    assert ready_and_status(later) == ("1/2", "Init:CrashLoopBackOff")
    assert row(later)["Restarts"] == "4"


def test_restarts_tell_how_long_ago_the_last_was() -> None:
    obj = pod(
        [
            status("app", RUNNING, ready=True, restarts=2, last="2026-01-01T00:59:30Z"),
            status("istio-proxy", RUNNING, ready=True, restarts=1, last="2026-01-01T00:50:00Z"),
        ],
        [status("istio-init", ended(0, "Completed"), restarts=5, last="2026-01-01T00:59:59Z")],
    )
    assert row(obj)["Restarts"] == "3 (30s ago)"
    assert row(obj, legacy=True)["Restarts"] == 3
    assert row(pod([UP]))["Restarts"] == "0"


def test_restarts_of_init_containers_while_they_run() -> None:
    failing = status("istio-init", waiting("CrashLoopBackOff"), restarts=3, last="2026-01-01T00:58:00Z")
    assert row(pod([HELD], [failing], phase="Pending"))["Restarts"] == "3 (2m ago)"


def test_a_gated_pod() -> None:
    obj = pod([], phase="Pending")
    obj["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]
    assert row(obj)["Status"] == "SchedulingGated"


def test_wide_columns() -> None:
    obj = pod([UP], conditions={"example.com/ready": "True"}, podIP="127.1.64.2", podIPs=[{"ip": "127.1.64.2"}])
    obj["spec"] |= {
        "nodeName": "node",
        "readinessGates": [{"conditionType": "example.com/ready"}, {"conditionType": "example.com/other"}],
    }
    table = to_table("pods", [obj], crd=None, now=NOW)
    wide = [c["name"] for c in table["columnDefinitions"] if c["priority"]]
    assert wide == ["IP", "Node", "Nominated Node", "Readiness Gates"]
    assert table["rows"][0]["cells"] == ["p", "1/1", "Running", "0", "60m", "127.1.64.2", "node", "<none>", "1/2"]


def test_finished_pods_are_marked_in_the_row() -> None:
    done, up = pod([], phase="Succeeded"), pod([UP])
    rows = to_table("pods", [done, up], crd=None)["rows"]
    assert rows[0]["conditions"] == [
        {
            "type": "Completed",
            "status": "True",
            "reason": "Succeeded",
            "message": "The pod has completed successfully.",
        }
    ]
    assert "conditions" not in rows[1]
