# SPDX-License-Identifier: Apache-2.0
"""Fields of features that are not switched on: the server takes them and drops them."""

from __future__ import annotations

from typing import Any

from meshbox.contracts import Obj

__all__ = ["drop_gated"]

_TRUST = "volumes.*.projected.sources.*.clusterTrustBundle"
_DROPPED = {
    **dict.fromkeys(("daemonsets.apps", "deployments.apps", "jobs.batch"), (f"spec.template.spec.{_TRUST}",)),
    **dict.fromkeys(("replicasets.apps", "replicationcontrollers"), (f"spec.template.spec.{_TRUST}",)),
    "cronjobs.batch": (f"spec.jobTemplate.spec.template.spec.{_TRUST}",),
    "endpointslices.discovery.k8s.io": ("endpoints.*.deprecatedTopology",),
    "leases.coordination.k8s.io": ("spec.preferredHolder", "spec.strategy"),
    "nodes": ("spec.configSource",),
    "pods": (f"spec.{_TRUST}",),
    "statefulsets.apps": (f"spec.template.spec.{_TRUST}", "spec.updateStrategy.rollingUpdate.maxUnavailable"),
}
"""Resource → where the fields are; "*" is every item of a list."""


def drop_gated(resource: str, obj: Obj) -> None:
    """Drop, in place, what only a feature that is off would read.

    Args:
        resource: kubectl's name of the resource, e.g. "deployments.apps".
        obj: An object of it; values of a wrong type are left as they are.
    """
    for path in _DROPPED.get(resource, ()):
        _drop(obj, path.split("."))


def _drop(value: Any, steps: list[str]) -> None:
    if steps[0] == "*":
        for one in value if isinstance(value, list) else ():
            _drop(one, steps[1:])
    elif isinstance(value, dict):
        if len(steps) == 1:
            value.pop(steps[0], None)
        else:
            _drop(value.get(steps[0]), steps[1:])
