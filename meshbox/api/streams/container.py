# SPDX-License-Identifier: Apache-2.0
"""Which container of a pod a client means."""

from __future__ import annotations

from meshbox.contracts import ApiError, Obj

__all__ = ["chosen_container", "node_required"]

_DEFAULT = "kubectl.kubernetes.io/default-container"


def _names(pod: Obj, field: str) -> list[str]:
    return [container.get("name", "") for container in pod.get("spec", {}).get(field) or []]


def chosen_container(pod: Obj, wanted: str) -> str:
    """The container named `wanted`; by default the one that the pod's annotation names, else the only one.

    Raises:
        ApiError: 400 where the name is not one of the pod's, or the choice is open.
    """
    name = pod["metadata"]["name"]
    apps, inits, ephemeral = (_names(pod, field) for field in ("containers", "initContainers", "ephemeralContainers"))
    if wanted:
        if wanted not in apps + inits + ephemeral:
            raise ApiError(400, "BadRequest", f"container {wanted} is not valid for pod {name}")
        return wanted
    annotated = (pod["metadata"].get("annotations") or {}).get(_DEFAULT)
    if annotated in apps:
        return str(annotated)
    if len(apps) == 1:
        return apps[0]
    message = f"a container name must be specified for pod {name}"
    if apps:
        message += f", choose one of: [{' '.join(apps)}]"
    if inits:
        message += f" or one of the init containers: [{' '.join(inits)}]"
    raise ApiError(400, "BadRequest", message)


def node_required(pod: Obj) -> None:
    """Refuse where no node has the pod yet.

    Raises:
        ApiError: 400.
    """
    if not pod.get("spec", {}).get("nodeName"):
        raise ApiError(400, "BadRequest", f"pod {pod['metadata']['name']} does not have a host assigned")
