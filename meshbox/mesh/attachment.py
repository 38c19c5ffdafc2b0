# SPDX-License-Identifier: Apache-2.0
"""Which workloads a policy is for that names its targets: `targetRefs`, or the older `targetRef`.

Sidecars take policies by their selectors only. A target that is a Gateway of the Gateway API is the pods that stand for
it; Services, ServiceEntries and GatewayClasses are targets of waypoints, of which there are none here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meshbox.contracts import View
from meshbox.mesh.model import Workload

__all__ = ["GATEWAY_API", "GATEWAY_NAME", "is_for_targets", "target_refs"]

GATEWAY_API = "gateway.networking.k8s.io"
GATEWAY_NAME = f"{GATEWAY_API}/gateway-name"


def target_refs(spec: View) -> list[View]:
    """What a policy says it is for; empty where its selector decides."""
    found: Any = spec.get("targetRefs") or ([spec["targetRef"]] if spec.get("targetRef") else [])
    return [target or {} for target in found]


def is_for_targets(targets: Sequence[View], namespace: str, workload: Workload) -> bool:
    """Whether `workload` stands for one of the targets of a policy in `namespace`."""
    gateway = workload.labels.get(GATEWAY_NAME)
    return (
        gateway is not None
        and workload.proxy == "router"
        and workload.namespace == namespace
        and any(_is_gateway(target) and target.get("name") == gateway for target in targets)
    )


def _is_gateway(target: View) -> bool:
    return target.get("group") == GATEWAY_API and target.get("kind") == "Gateway"
