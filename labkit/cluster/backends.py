# SPDX-License-Identifier: Apache-2.0
"""Which pod, and which of its ports, a port-forward leads to: kubectl's own rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labkit.ground.int_or_string import target_port
from labkit.ground.labels import written

__all__ = ["Backend", "BackendError", "find"]

Obj = dict[str, Any]

_KINDS = {
    **dict.fromkeys(("pod", "pods", "po"), "pods"),
    **dict.fromkeys(("svc", "service", "services"), "services"),
    **dict.fromkeys(("deploy", "deployment", "deployments"), "deployments"),
}


class BackendError(Exception):
    """Why there is none, in kubectl's words."""


@dataclass(frozen=True)
class Backend:
    """A port of a pod.

    Args:
        namespace: The pod's.
        pod: Its name.
        port: The port.
        uid: The pod's: its name may be another's one day.
    """

    namespace: str
    pod: str
    port: int
    uid: str = ""


def find(get: Callable[..., Any], namespace: str, resource: str, port: int) -> Backend:
    """The backend behind a port of "pod/NAME", "svc/NAME" or "deploy/NAME" now.

    Args:
        get: Reads an object by the parts of its path, or a list of them.
        namespace: Where.
        resource: What.
        port: The Service's port, or the pod's.

    Raises:
        BackendError: there is none, in kubectl's words.
    """
    kind, _, name = resource.rpartition("/")
    plural = _KINDS.get(kind or "pod")
    if plural is None:
        raise BackendError(f'error: the server doesn\'t have a resource type "{kind}" to forward a port to')
    root = ("apis", "apps", "v1") if plural == "deployments" else ("api", "v1")
    found = get(*root, "namespaces", namespace, plural, name)
    if plural == "pods":
        return _running(namespace, found, port)
    spec = found["spec"]
    selector = spec.get("selector") or {}
    labels = selector if plural == "services" else selector.get("matchLabels") or {}
    if not labels:
        raise BackendError(f"error: {resource} is defined without a selector")
    chosen = written({"matchLabels": labels})
    pods = get("api", "v1", "namespaces", namespace, "pods", labelSelector=chosen)["items"]
    pod = max(pods, key=_fitness, default=None)
    if pod is None:
        raise BackendError(f"error: unable to forward port because no pod is running behind {resource}")
    target = _target(found, pod, port) if plural == "services" else port
    return _running(namespace, pod, target)


def _fitness(pod: Obj) -> tuple[bool, bool, bool, str]:
    """How well a pod is suited: alive, running, ready, and the youngest of such."""
    status = pod.get("status") or {}
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or [])
    meta = pod["metadata"]
    return not meta.get("deletionTimestamp"), status.get("phase") == "Running", ready, meta["creationTimestamp"]


def _running(namespace: str, pod: Obj, port: int) -> Backend:
    phase = (pod.get("status") or {}).get("phase")
    if phase != "Running":
        raise BackendError(f"error: unable to forward port because pod is not running. Current status={phase}")
    return Backend(namespace, pod["metadata"]["name"], port, pod["metadata"].get("uid", ""))


def _target(service: Obj, pod: Obj, port: int) -> int:
    spec, name = service["spec"], service["metadata"]["name"]
    found = next((one for one in spec.get("ports") or [] if one["port"] == port), None)
    if found is None:
        raise BackendError(f"error: Service {name} does not have a service port {port}")
    if spec.get("clusterIP") == "None":
        return port
    if (number := target_port(found, pod["spec"])) is not None:
        return number
    raise BackendError(f'error: pod {pod["metadata"]["name"]} has no port named "{found["targetPort"]}"')
