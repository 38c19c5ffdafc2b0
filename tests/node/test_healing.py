# SPDX-License-Identifier: Apache-2.0
"""What `labkit status` says is being mended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from meshbox.healing import KEEPER_LOST, healing

NOW = datetime(2026, 5, 1, 12, 0, 30, tzinfo=UTC)


def pod(*statuses: dict[str, Any], **more: Any) -> dict[str, Any]:
    found = [{"name": "app", "restartCount": 0, "ready": False, **one} for one in statuses]
    phase = more.pop("phase", "Running")
    meta = {"name": "web", "namespace": "shop", **more.pop("metadata", {})}
    return {"metadata": meta, "spec": more, "status": {"phase": phase, "containerStatuses": found}}


RUNNING: dict[str, Any] = {"running": {}}
LOST = {"reason": KEEPER_LOST, "lastTimestamp": "2026-05-01T12:00:28Z", "metadata": {}}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"state": RUNNING, "ready": True, "restartCount": 3}, None),
        ({"state": RUNNING}, None),
        ({"state": {"waiting": {"reason": "ContainerCreating"}}}, None),
        ({"state": {"waiting": {"reason": "ErrImagePull"}}}, None),
        ({"state": {"terminated": {"exitCode": 137}}}, "has ended and is started again (restart 1)"),
        ({"state": RUNNING, "restartCount": 2}, "runs again (restart 2) and is not ready yet"),
        (
            {
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed …"}},
                "restartCount": 2,
            },
            "waits for its next start after 2 restarts (CrashLoopBackOff: back-off 20s)",
        ),
    ],
)
def test_one_sentence_a_container_that_is_not_well_again(status: dict[str, Any], said: str | None) -> None:
    wanted = [f"pod shop/web: container app {said}"] if said else []
    assert healing([pod(status)], [], NOW) == wanted


def test_an_envoy_waits_for_its_configuration() -> None:
    (said,) = healing([pod({"name": "istio-proxy", "state": RUNNING, "restartCount": 1})], [], NOW)
    assert said == "pod shop/web: container istio-proxy runs again (restart 1) and gets its configuration"


def test_what_has_done_its_work_or_goes_is_not_mended() -> None:
    done = {"state": {"terminated": {"exitCode": 0}}}
    assert healing([pod(done, restartPolicy="Never")], [], NOW) == []
    assert healing([pod(done, phase="Succeeded")], [], NOW) == []
    failed = {"state": {"terminated": {"exitCode": 1}}}
    assert healing([pod(failed, metadata={"deletionTimestamp": "2026-05-01T12:00:00Z"})], [], NOW) == []


def test_the_loss_of_the_keeper_is_told_while_it_is_mended_and_shortly_after() -> None:
    keeper = "the keeper of the pods' processes was restarted 2 s ago, and all pods with it"
    assert healing([], [LOST], NOW) == [keeper]
    assert healing([], [LOST | {"reason": "Starting"}], NOW) == []
    before = LOST | {"lastTimestamp": "2026-05-01T11:59:30Z"}
    assert healing([], [before], NOW) == []
    slow = pod({"state": RUNNING, "restartCount": 1})
    assert healing([slow], [before, LOST], NOW)[0] == keeper
    assert "60 s ago" in healing([slow], [before], NOW)[0]


def test_a_status_that_is_none_does_not_hide_the_others() -> None:
    bad = {"metadata": {"name": "bad"}, "spec": {}, "status": {"containerStatuses": [7]}}
    good = pod({"name": "istio-proxy", "state": RUNNING, "restartCount": 1})
    assert healing([bad, good], [], NOW) == healing([good], [], NOW) != []
