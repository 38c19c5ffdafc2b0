# SPDX-License-Identifier: Apache-2.0
"""What the controllers' side of a cluster has before anybody asks: priority classes, and a class of storage.

The namespaces and the `kubernetes` Service belong to the API server, which creates them itself.
"""

from __future__ import annotations

from typing import Any

from meshbox.controllers.meta import MANAGER, Context
from meshbox.controllers.persistent import CLASSES, PROVISIONER

__all__ = ["bootstrap"]

_RESOURCE = "priorityclasses.scheduling.k8s.io"
_PRIORITIES = {
    "system-cluster-critical": (
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    "system-node-critical": (
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
}


_STANDARD: dict[str, Any] = {
    "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": PROVISIONER,
    "reclaimPolicy": "Delete",
    "volumeBindingMode": "WaitForFirstConsumer",
}


def bootstrap(context: Context) -> None:
    """Create what is missing."""
    if context.objects.find(CLASSES, "standard") is None:
        context.objects.create(CLASSES, _STANDARD, manager=MANAGER)
    for name, (value, description) in _PRIORITIES.items():
        if context.objects.find(_RESOURCE, name) is not None:
            continue
        priority: dict[str, Any] = {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": description,
        }
        if not context.settings.legacy:
            priority["preemptionPolicy"] = "PreemptLowerPriority"
        context.objects.create(_RESOURCE, priority, manager=MANAGER)
