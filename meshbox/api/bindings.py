# SPDX-License-Identifier: Apache-2.0
"""A pod is put on a node: what a scheduler writes, in one write, and whose field nobody's managedFields name."""

from __future__ import annotations

from meshbox.api import metadata, refusals
from meshbox.contracts import ApiError, Obj

__all__ = ["BINDING", "asked", "bound"]

BINDING = "binding"
"""The subresource of pods."""

_GIVEN = ("annotations", "labels")
"""What a pod gets of its Binding's metadata."""


def asked(binding: Obj, pod: Obj, *, legacy: bool) -> Obj:
    """What to write where a scheduler asks for a Binding of `pod`.

    Args:
        binding: As it was sent: its uid and resourceVersion, if any, are those that the pod must have.
        pod: The pod.
        legacy: Whether an old Kubernetes is played, in which pods get no labels of their Bindings.

    Raises:
        ApiError: 400 where it is of another pod; 409 where the pod may not be put anywhere, or is on a node; 500, as
            servers say it, where it names no node.
    """
    given, target = (found if isinstance(found := binding.get(part), dict) else {} for part in ("metadata", "target"))
    meta = pod["metadata"]
    if given.get("name") != meta["name"]:
        raise refusals.bad_request("name in URL does not match name in Binding object")
    if given.get("namespace", meta["namespace"]) != meta["namespace"]:
        raise refusals.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if (kind := target.get("kind") or "Node") != "Node":
        words = f'target.kind: Unsupported value: {refusals.quoted(kind)}: supported values: "Node", "<empty>"'
        raise ApiError(500, "", words)
    if not (node := target.get("name")):
        raise ApiError(500, "", "target.name: Required value")
    if why := _hindrance(pod):
        message = f'Operation cannot be fulfilled on pods/binding "{meta["name"]}": pod {meta["name"]} {why}'
        raise ApiError(409, "Conflict", message, {"name": meta["name"], "kind": "pods/binding"})
    fields = ("uid", "resourceVersion", *(_GIVEN[:1] if legacy else _GIVEN))
    kept = {field: given[field] for field in fields if given.get(field)}
    return {"metadata": {**kept, "name": meta["name"], "namespace": meta["namespace"]}, "spec": {"nodeName": str(node)}}


def _hindrance(pod: Obj) -> str:
    """Why a pod may be put on no node; "" where it may."""
    if pod["metadata"].get("deletionTimestamp"):
        return "is being deleted, cannot be assigned to a host"
    if node := pod["spec"].get("nodeName"):
        return f'is already assigned to node "{node}"'
    return "has non-empty .spec.schedulingGates" if pod["spec"].get("schedulingGates") else ""


def bound(pod: Obj, on: Obj) -> Obj:
    """`pod` (not changed) on the node of `on`, and scheduled; with annotations and labels of `on` as well."""
    new = {
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": metadata.now(),
    }
    meta = {**pod["metadata"]}
    for field in _GIVEN:
        if added := on["metadata"].get(field):
            # What is no map is refused with the rest of what is wrong with metadata.
            meta[field] = {**(meta.get(field) or {}), **added} if isinstance(added, dict) else added
    status = {key: value for key, value in (pod.get("status") or {}).items() if key != "nominatedNodeName"}
    # In the place of what was said while no node took it.
    conditions = {one["type"]: one for one in (*(status.get("conditions") or ()), new)}
    return {
        **pod,
        "metadata": meta,
        "spec": {**pod["spec"], "nodeName": on["spec"]["nodeName"]},
        "status": {**status, "conditions": [*conditions.values()]},
    }
