# SPDX-License-Identifier: Apache-2.0
"""What the API server does to objects of one kind beyond defaults: first status, identity, what must not change."""

from __future__ import annotations

import base64
from collections.abc import Callable

from meshbox.contracts import Obj

__all__ = ["first_status", "prepare"]

_FIRST_STATUS: dict[str, Callable[[], Obj]] = {
    "namespaces": lambda: {"phase": "Active"},
    "services": lambda: {"loadBalancer": {}},
    "pods": lambda: {"phase": "Pending"},
    "persistentvolumes": lambda: {"phase": "Pending"},
    "persistentvolumeclaims": lambda: {"phase": "Pending"},
    "replicationcontrollers": lambda: {"replicas": 0},
    "replicasets.apps": lambda: {"replicas": 0},
    "statefulsets.apps": lambda: {"availableReplicas": 0, "replicas": 0},
    "daemonsets.apps": lambda: {
        "currentNumberScheduled": 0,
        "desiredNumberScheduled": 0,
        "numberMisscheduled": 0,
        "numberReady": 0,
    },
    "horizontalpodautoscalers.autoscaling": lambda: {"currentMetrics": None, "desiredReplicas": 0},
    "poddisruptionbudgets.policy": lambda: {
        "currentHealthy": 0,
        "desiredHealthy": 0,
        "disruptionsAllowed": 0,
        "expectedPods": 0,
    },
    "ingresses.networking.k8s.io": lambda: {"loadBalancer": {}},
}


def first_status(resource: str, obj: Obj) -> None:
    """Replace the status a client sent with the one a new object has."""
    if resource == "nodes":
        # The kubelet registers its node with its status.
        obj.setdefault("status", {})
        return
    obj["status"] = _FIRST_STATUS.get(resource, dict)()
    if resource == "pods":
        obj["status"]["qosClass"] = _qos_class(obj.get("spec") or {})


def _qos_class(spec: Obj) -> str:
    requests: set[str] = set()
    limits: set[str] = set()
    guaranteed = True
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        resources = container.get("resources") or {}
        asked = {name: v for name, v in (resources.get("requests") or {}).items() if name in ("cpu", "memory")}
        most = {name: v for name, v in (resources.get("limits") or {}).items() if name in ("cpu", "memory")}
        requests.update(asked)
        limits.update(most)
        if set(most) != {"cpu", "memory"} or any(str(asked.get(name, most[name])) != str(most[name]) for name in most):
            guaranteed = False
    if not requests and not limits:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _namespace(obj: Obj, old: Obj | None) -> list[Obj]:
    meta = obj["metadata"]
    if old is None:
        obj["spec"] = {"finalizers": ["kubernetes"]}
    else:
        obj["spec"] = {**(obj.get("spec") or {}), "finalizers": (old.get("spec") or {}).get("finalizers", [])}
        if not obj["spec"]["finalizers"]:
            obj["spec"] = {}
    meta["labels"] = {**(meta.get("labels") or {}), "kubernetes.io/metadata.name": meta["name"]}
    return []


def _secret(obj: Obj, old: Obj | None) -> list[Obj]:
    plain = obj.pop("stringData", None)
    if plain:
        data = dict(obj.get("data") or {})
        data.update({key: base64.b64encode(str(value).encode()).decode() for key, value in plain.items()})
        obj["data"] = data
    obj.setdefault("type", "Opaque")
    return []


_PREPARE: dict[str, Callable[[Obj, Obj | None], list[Obj]]] = {
    "namespaces": _namespace,
    "secrets": _secret,
}


def prepare(resource: str, obj: Obj, old: Obj | None) -> list[Obj]:
    """Make `obj` what the server would keep, in place.

    Args:
        resource: Name of the resource.
        obj: The object, defaulted and admitted.
        old: The object before (None on create).

    Returns:
        Causes of an Invalid refusal, usually none.
    """
    step = _PREPARE.get(resource)
    return step(obj, old) if step else []
