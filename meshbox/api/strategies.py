# SPDX-License-Identifier: Apache-2.0
"""What the API server does to objects of one kind beyond defaults: first status, identity, what must not change."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from meshbox.api.defaults import fill_in
from meshbox.api.metadata import now
from meshbox.api.qos import qos_class
from meshbox.api.refusals import cause
from meshbox.api.service_fields import carry
from meshbox.contracts import Obj
from meshbox.rbac.users import User
from meshbox.values import clone

__all__ = ["SIGNING_REQUESTS", "asked_by", "first_status", "prepare", "taint"]

SIGNING_REQUESTS = "certificatesigningrequests.certificates.k8s.io"


def first_status(resource: str, obj: Obj) -> None:
    """Replace the status a client sent with the one a new object has."""
    if resource == "nodes":
        # The kubelet registers its node with its status.
        obj.setdefault("status", {})
        return
    obj["status"] = {}
    fill_in(f"{resource}@new", obj)
    if resource == "persistentvolumes":
        obj["status"]["lastPhaseTransitionTime"] = now()


def _namespace(obj: Obj, old: Obj | None) -> None:
    meta = obj["metadata"]
    if old is None:
        given = (obj.get("spec") or {}).get("finalizers") or []
        obj["spec"] = {"finalizers": given if "kubernetes" in given else [*given, "kubernetes"]}
    else:
        obj["spec"] = {**(obj.get("spec") or {}), "finalizers": (old.get("spec") or {}).get("finalizers", [])}
        if not obj["spec"]["finalizers"]:
            obj["spec"] = {}
    meta["labels"] = {**(meta.get("labels") or {}), "kubernetes.io/metadata.name": meta.get("name", "")}


def _daemon_set(obj: Obj, old: Obj | None) -> None:
    """The server counts the templates of a DaemonSet in an annotation."""
    counted = "deprecated.daemonset.template.generation"
    count = 1
    if old is not None:
        count = int((old["metadata"].get("annotations") or {}).get(counted) or 1)
        count += (obj.get("spec") or {}).get("template") != (old.get("spec") or {}).get("template")
    meta = obj["metadata"]
    meta["annotations"] = {**(meta.get("annotations") or {}), counted: str(count)}


def taint(obj: Obj) -> None:
    """Keep pods off a node that somebody has written: no kubelet has said that it is ready."""
    spec = obj.get("spec") or {}
    mark = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    if all(one.get("key") != mark["key"] for one in spec.get("taints") or []):
        obj["spec"] = {**spec, "taints": [*(spec.get("taints") or []), mark]}


def _limit_range(obj: Obj, old: Obj | None) -> None:
    # The one kind that is given a name where it has none.
    if old is None and not obj["metadata"].get("name"):
        obj["metadata"]["name"] = str(uuid.uuid4())


def _service(obj: Obj, old: Obj | None) -> None:
    if old is not None:
        carry(obj.setdefault("spec", {}), old.get("spec") or {})


def asked_by(obj: Obj, user: User) -> None:
    """Write into a new CertificateSigningRequest who asks, whatever it says of that itself; in place."""
    said = obj.get("spec") or {}
    for name in ("uid", "extra"):
        said.pop(name, None)
    obj["spec"] = {**said, "username": user.name, "groups": list(user.groups)}


def _signing_request(obj: Obj, old: Obj | None) -> None:
    # Who asked for what is written once: an update of it is taken, and changes nothing.
    if old is not None:
        obj["spec"] = clone(old.get("spec") or {})


EPHEMERAL = "ephemeralcontainers"
"""The subresource by which containers are added to a pod that runs."""


def ephemeral_problems(old: Obj | None, new: Obj) -> list[Obj]:
    """Why a pod's ephemeral containers may not be written so: they are added while it runs, and stay as they are."""
    if old is None:
        given = new["spec"].get("ephemeralContainers")
        return [cause("spec.ephemeralContainers", "Forbidden: cannot be set on create")] if given else []
    wanted = {one["name"]: one for one in new["spec"].get("ephemeralContainers") or ()}
    found = []
    for one in old["spec"].get("ephemeralContainers") or ():
        name, what = one["name"], "removed" if one["name"] not in wanted else "changed"
        if wanted.get(name) != one:
            words = f'Forbidden: existing ephemeral containers "{name}" may not be {what}'
            found.append(cause("spec.ephemeralContainers", words))
    return found


_GATED: Obj = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "SchedulingGated",
    "message": "Scheduling is blocked due to non-empty scheduling gates",
}


def _pod(obj: Obj, old: Obj | None) -> None:
    # Not before it is admitted: what was injected asks for something as well.
    if old is None:
        first_status("pods", obj)
        obj["status"]["qosClass"] = qos_class(obj.get("spec") or {})
        if (obj.get("spec") or {}).get("schedulingGates"):
            obj["status"]["conditions"] = [{**_GATED, "lastTransitionTime": now()}]


_PREPARE: dict[str, Callable[[Obj, Obj | None], None]] = {
    "daemonsets.apps": _daemon_set,
    "limitranges": _limit_range,
    "namespaces": _namespace,
    "pods": _pod,
    SIGNING_REQUESTS: _signing_request,
    "services": _service,
}


def prepare(resource: str, obj: Obj, old: Obj | None) -> None:
    """Make `obj` what the server would keep, in place.

    Args:
        resource: Name of the resource.
        obj: The object, defaulted and admitted.
        old: The object before (None on create).
    """
    step = _PREPARE.get(resource)
    if step:
        step(obj, old)
