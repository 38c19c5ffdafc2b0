# SPDX-License-Identifier: Apache-2.0
"""A pod is put on a node: what a scheduler writes, in one write, and whose field nobody's managedFields name."""

from __future__ import annotations

from meshbox.api import metadata
from meshbox.contracts import Obj

__all__ = ["BINDING", "bound"]

BINDING = "binding"
"""The subresource of pods."""


def bound(pod: Obj, node: str) -> Obj:
    """`pod` (not changed) on `node`, and said to be scheduled."""
    new = {
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": metadata.now(),
    }
    status = pod.get("status") or {}
    # In the place of what was said while no node took it.
    conditions = {one["type"]: one for one in (*(status.get("conditions") or ()), new)}
    return {
        **pod,
        "metadata": {**pod["metadata"]},
        "spec": {**pod["spec"], "nodeName": node},
        "status": {**status, "conditions": [*conditions.values()]},
    }
