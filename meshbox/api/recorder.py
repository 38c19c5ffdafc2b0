# SPDX-License-Identifier: Apache-2.0
"""Events about objects; the same one again is counted, not written twice."""

from __future__ import annotations

import time
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from meshbox.api import metadata
from meshbox.contracts import ApiError, View

if TYPE_CHECKING:
    from meshbox.contracts import Objects

__all__ = ["Recorder"]

_REMEMBERED = 1024
_LASTING = 3600.0
"""Seconds an event is kept after it was last seen, as in Kubernetes."""

_SWEEP_EVERY = 60.0
_MODERN = "default-scheduler"
"""Who reports by the events' newer API: with one time, no source, and a series where it happens again."""


class Recorder:
    """Writes core/v1 Events.

    Args:
        objects: Where to.
        host: The node, named as the events' source where a kubelet reports.
    """

    def __init__(self, objects: Objects, host: str) -> None:
        self._objects = objects
        self._host = host
        self._known: OrderedDict[tuple[str, ...], tuple[str, str]] = OrderedDict()
        self._swept = time.monotonic()

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
        namespace = meta.get("namespace") or "default"
        identity = (meta.get("uid", ""), namespace, meta["name"], type, reason, message, component, field_path)
        try:
            if not self._again(identity):
                self._first(involved, identity)
            if time.monotonic() > self._swept + _SWEEP_EVERY:
                self._sweep()
        except ApiError:
            # About something that is gone, in a namespace that is going, or on a full disk: nobody to tell.
            return

    def _sweep(self) -> None:
        """Delete what is too old to matter."""
        self._swept = time.monotonic()
        oldest = (datetime.now(UTC) - timedelta(seconds=_LASTING)).strftime("%Y-%m-%dT%H:%M:%SZ")
        for event in self._objects.list("events"):
            series = event.get("series") or {}
            seen = (
                series.get("lastObservedTime") or event.get("lastTimestamp") or event["metadata"]["creationTimestamp"]
            )
            if seen < oldest:
                self._objects.delete("events", event["metadata"]["name"], event["metadata"]["namespace"])

    def _again(self, identity: tuple[str, ...]) -> bool:
        known = self._known.get(identity)
        event = self._objects.find("events", known[1], known[0]) if known else None
        if event is None:
            return False
        if event.get("eventTime"):
            known_series = event.get("series") or {"count": 1}
            moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            event["series"] = {"count": known_series["count"] + 1, "lastObservedTime": moment}
        else:
            event["count"] = event.get("count", 1) + 1
            event["lastTimestamp"] = metadata.now()
        self._objects.update("events", event)
        self._known.move_to_end(identity)
        return True

    def _first(self, involved: View, identity: tuple[str, ...]) -> None:
        uid, namespace, name, kind, reason, message, component, field_path = identity
        reference = {
            "kind": involved.get("kind", ""),
            "namespace": involved["metadata"].get("namespace", ""),
            "name": name,
            "uid": uid,
            "apiVersion": involved.get("apiVersion", ""),
            "resourceVersion": involved["metadata"].get("resourceVersion", ""),
            "fieldPath": field_path,
        }
        source = {"component": component, "host": self._host} if component == "kubelet" else {"component": component}
        now = metadata.now()
        times: dict[str, Any] = {"firstTimestamp": now, "lastTimestamp": now, "count": 1, "eventTime": None}
        instance = self._host if component == "kubelet" else ""
        if component == _MODERN:
            source, instance = {}, f"{component}-{self._host}"
            moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            action = "Binding" if kind == "Normal" else "Scheduling"
            times = {"firstTimestamp": None, "lastTimestamp": None, "eventTime": moment, "action": action}
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{time.time_ns():x}", "namespace": namespace},
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
        self._known[identity] = (namespace, created["metadata"]["name"])
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
