# SPDX-License-Identifier: Apache-2.0
"""How many replicas a metric asks for: the arithmetic of HorizontalPodAutoscalers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from labkit.ground import quantity as quantities
from meshbox.contracts import Obj, PodUsage
from meshbox.controllers.meta import condition, parse_time

__all__ = ["CountError", "Proposal", "propose"]

_TOLERANCE = 0.1
"""How far a ratio may be from 1 before anything is done."""
_STARTING = 300.0
"""Seconds after its start in which the CPU that a pod uses may be that of its start."""
_FIRST_READY = 30.0


class CountError(Exception):
    """No count can be told; the message is the autoscaler's own."""


class Proposal(Struct, frozen=True):
    """What one metric asks for.

    Args:
        replicas: How many.
        status: For `status.currentMetrics`.
        name: What the metric is called in events.
    """

    replicas: int
    status: Obj
    name: str


def propose(
    metric: Obj, pods: list[Obj], used: Mapping[tuple[str, str], PodUsage], current: int, now: float
) -> Proposal:
    """How many replicas a Resource or ContainerResource metric asks for.

    Args:
        metric: One of `spec.metrics`.
        pods: The target's pods.
        used: What pods use, by namespace and name.
        current: The replicas that the target asks for.
        now: Seconds since the epoch.

    Raises:
        CountError: it cannot be told.
    """
    kind = metric["type"]
    field = "containerResource" if kind == "ContainerResource" else "resource"
    source = metric[field]
    name, container, target = source["name"], source.get("container", ""), source["target"]
    if not pods:
        raise CountError("no pods returned by selector while calculating replica count")
    values = _values(name, container, pods, used)
    if not values:
        raise CountError(
            f"unable to get metrics for resource {name}: no metrics returned from resource metrics API"
            if not used
            else "did not receive metrics for targeted pods (pods might be unready)"
        )
    groups = _Groups.of(pods, name, values, used, now)
    share = target.get("averageUtilization")
    where = {"name": name} if not container else {"name": name, "container": container}
    if share is not None:
        requests = {pod["metadata"]["name"]: _request(pod, name, container) for pod in pods}
        replicas, ratio = groups.count(values, requests, float(share), current)
        average = _average({key: values[key] for key in groups.sound}) if groups.sound else 0
        now_used = {"averageUtilization": int(ratio * share), "averageValue": _amount(name, average)}
        words = f"{name} {'container ' if container else ''}resource utilization (percentage of request)"
    else:
        wanted = float(quantities.parse(target["averageValue"]))
        replicas, ratio = groups.count(values, None, wanted, current)
        now_used = {"averageValue": _amount(name, ratio * wanted)}
        words = f"{name} {'container ' if container else ''}resource"
    return Proposal(replicas, {"type": kind, field: {**where, "current": now_used}}, words)


def _average(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)


def _amount(name: str, value: float) -> str:
    return f"{math.ceil(value * 1000)}m" if name == "cpu" else str(int(value))


def _values(name: str, container: str, pods: list[Obj], used: Mapping[tuple[str, str], PodUsage]) -> dict[str, float]:
    """What each pod (or its one container) uses, by its name."""
    found = {}
    for pod in pods if name in ("cpu", "memory") else ():
        meta = pod["metadata"]
        usage = used.get((meta["namespace"], meta["name"]))
        if usage is None:
            continue
        chosen = [amounts for one, amounts in usage.containers.items() if container in ("", one)]
        if chosen:
            found[meta["name"]] = float(sum(cores if name == "cpu" else memory for cores, memory in chosen))
    return found


def _request(pod: Obj, name: str, container: str) -> float:
    """What a pod asks for.

    Raises:
        CountError: one of its containers does not say.
    """
    total = 0.0
    spec = pod["spec"]
    sidecars = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    for one in [*(spec.get("containers") or ()), *sidecars]:
        if container not in ("", one["name"]):
            continue
        asked = ((one.get("resources") or {}).get("requests") or {}).get(name)
        if asked is None:
            raise CountError(f"missing request for {name} in container {one['name']} of Pod {pod['metadata']['name']}")
        total += float(quantities.parse(asked))
    return total


class _Groups(Struct, frozen=True):
    """Pods by whether their metrics count."""

    sound: tuple[str, ...]
    unready: tuple[str, ...]
    missing: tuple[str, ...]

    @classmethod
    def of(
        cls,
        pods: list[Obj],
        name: str,
        values: Mapping[str, float],
        used: Mapping[tuple[str, str], PodUsage],
        now: float,
    ) -> _Groups:
        groups: dict[str, list[str]] = {"sound": [], "unready": [], "missing": []}
        for pod in pods:
            meta, status = pod["metadata"], pod.get("status") or {}
            if "deletionTimestamp" in meta or status.get("phase") in ("Failed", "Succeeded"):
                continue
            if status.get("phase") == "Pending":
                kind = "unready"
            elif meta["name"] not in values:
                kind = "missing"
            elif name == "cpu" and _starting(status, used[meta["namespace"], meta["name"]], now):
                kind = "unready"
            else:
                kind = "sound"
            groups[kind].append(meta["name"])
        return cls(*(tuple(groups[kind]) for kind in ("sound", "unready", "missing")))

    def count(
        self, values: Mapping[str, float], requests: Mapping[str, float] | None, target: float, current: int
    ) -> tuple[int, float]:
        """The replicas wanted, and how many times the target is used.

        Raises:
            CountError: no pod's metrics count.
        """
        known = {name: values[name] for name in self.sound}
        if not known:
            raise CountError("did not receive metrics for targeted pods (pods might be unready)")
        ratio = _ratio(known, requests, target)
        rising = bool(self.unready) and ratio > 1
        if not rising and not self.missing:
            if abs(1 - ratio) <= _TOLERANCE:
                return current, ratio
            return math.ceil(round(ratio * len(known), 9)), ratio
        full = max(100.0, target)
        for name in self.missing:
            # What is not known must not make the change larger.
            if ratio < 1:
                known[name] = requests[name] * full / 100 if requests is not None else target
            elif ratio > 1:
                known[name] = 0.0
        if rising:
            known |= dict.fromkeys(self.unready, 0.0)
        again = _ratio(known, requests, target)
        if abs(1 - again) <= _TOLERANCE or (ratio < 1 < again) or (again < 1 < ratio):
            return current, ratio
        wanted = math.ceil(round(again * len(known), 9))
        if (again < 1 and wanted > current) or (again > 1 and wanted < current):
            return current, ratio
        return wanted, ratio


def _ratio(values: Mapping[str, float], requests: Mapping[str, float] | None, target: float) -> float:
    if requests is None:
        return _average(values) / target
    asked = sum(requests[name] for name in values)
    if not asked:
        raise CountError("no metrics returned matched known pods")
    return int(sum(values.values()) * 100 / asked) / target


def _starting(status: dict[str, Any], usage: PodUsage, now: float) -> bool:
    """Whether the CPU that a pod uses says nothing yet, or it was never ready."""
    ready, began = condition(status, "Ready"), parse_time(status.get("startTime"))
    if ready is None or not began:
        return True
    since = parse_time(ready.get("lastTransitionTime"))
    if began + _STARTING > now:
        return ready["status"] == "False" or usage.when < since + usage.window
    return ready["status"] == "False" and began + _FIRST_READY > since
