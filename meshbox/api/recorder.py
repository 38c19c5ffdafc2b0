# SPDX-License-Identifier: Apache-2.0
"""Events about objects; the same one again is counted, not written twice."""

from __future__ import annotations

import time
from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from meshbox.api import metadata
from meshbox.api.event_budget import EventBudget
from meshbox.api.similar_events import COMBINED, SimilarEvents
from meshbox.contracts import ApiError, View

if TYPE_CHECKING:
    from meshbox.contracts import Objects

__all__ = ["Recorder"]

_REMEMBERED = 1024
_MODERN = "default-scheduler"
"""Who reports by the events' newer API: with one time, no source, and a series where it happens again."""

_LIMITED = ("-controller", "controllermanager", "horizontal-pod-autoscaler")
_COMBINED = (*_LIMITED, "kubelet")
"""Whose events are held back as Kubernetes' own recorders do. The kubelet and istiod speak for the sandbox as well."""


class _Told(Struct):
    """An event that was written, and how often it happened."""

    namespace: str
    name: str
    count: int = 1


class Recorder:
    """Writes core/v1 Events.

    Args:
        objects: Where to.
        host: The node, named as the events' source where a kubelet reports.
    """

    def __init__(self, objects: Objects, host: str) -> None:
        self._objects = objects
        self._host = host
        self._known: OrderedDict[tuple[str, ...], _Told] = OrderedDict()
        self._similar = SimilarEvents()
        self._budget = EventBudget()

    def record(
        self,
        involved: View,
        type: Literal["Normal", "Warning"],
        reason: str,
        message: str,
        component: str,
        field_path: str = "",
    ) -> None:
        """As `Objects.event`."""
        meta = involved["metadata"]
        about = (involved.get("kind", ""), meta.get("uid", ""), meta.get("namespace", ""), meta["name"], component)
        group: tuple[str, ...] = (*about, type, reason)
        identity = (*group, message, field_path)
        if component.endswith(_COMBINED) and self._similar.combined(group, message):
            identity, message = group, COMBINED + message
        if known := self._known.get(identity):
            # Those that are not written are counted.
            known.count += 1
        if component.endswith(_LIMITED) and not self._budget.take(about):
            return
        try:
            if known is None or not self._again(known, message):
                self._known[identity] = self._first(involved, type, reason, message, component, field_path)
            self._known.move_to_end(identity)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        except ApiError:
            # About something that is gone, in a namespace that is going, or on a full disk: nobody to tell.
            return

    def _again(self, known: _Told, message: str) -> bool:
        event = self._objects.find("events", known.name, known.namespace)
        if event is None:
            return False
        if event.get("eventTime"):
            event["series"] = {"count": known.count, "lastObservedTime": _moment()}
        else:
            event |= {"count": known.count, "lastTimestamp": metadata.now(), "message": message}
        self._objects.update("events", event)
        return True

    def _first(self, involved: View, kind: str, reason: str, message: str, component: str, field_path: str) -> _Told:
        meta = involved["metadata"]
        reference = {
            "kind": involved.get("kind", ""),
            "namespace": meta.get("namespace", ""),
            "name": meta["name"],
            "uid": meta.get("uid", ""),
            "apiVersion": involved.get("apiVersion", ""),
            "resourceVersion": meta.get("resourceVersion", ""),
            "fieldPath": field_path,
        }
        namespace = meta.get("namespace") or "default"
        source = {"component": component, "host": self._host} if component == "kubelet" else {"component": component}
        now = metadata.now()
        times: dict[str, Any] = {"firstTimestamp": now, "lastTimestamp": now, "count": 1, "eventTime": None}
        instance = self._host if component == "kubelet" else ""
        if component == _MODERN:
            source, instance = {}, f"{component}-{self._host}"
            action = "Binding" if kind == "Normal" else "Scheduling"
            times = {"firstTimestamp": None, "lastTimestamp": None, "eventTime": _moment(), "action": action}
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{meta['name']}.{time.time_ns():x}", "namespace": namespace},
            "involvedObject": {key: value for key, value in reference.items() if value},
            "type": kind,
            "reason": reason,
            "message": message,
            "source": source,
            **times,
            "reportingComponent": component,
            "reportingInstance": instance,
        }
        created = self._objects.create("events", event, namespace)
        return _Told(namespace, created["metadata"]["name"])


def _moment() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
