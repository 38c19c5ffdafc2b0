# SPDX-License-Identifier: Apache-2.0
"""Tables of what runs pods: Deployments, ReplicaSets, DaemonSets, StatefulSets, Jobs, autoscalers, budgets."""

from __future__ import annotations

from typing import Any

from labkit.ground.labels import written
from meshbox.api.tables.formats import (
    NONE,
    UNKNOWN,
    age,
    clip,
    dig,
    human_duration,
    items,
    label_text,
    timestamp,
)
from meshbox.api.tables.printer_columns import At, Cells, table
from meshbox.contracts import Obj

__all__: list[str] = []

_TEMPLATE = "+Containers, +Images, +Selector"


def _number(obj: Obj, *path: str) -> int:
    return int(dig(obj, *path) or 0)


def _containers(pod_spec: Any) -> Cells:
    containers = items(pod_spec, "containers")
    return {
        "Containers": ",".join(c.get("name", "") for c in containers),
        "Images": ",".join(c.get("image", "") for c in containers),
    }


def _template(obj: Obj) -> Cells:
    return _containers(dig(obj, "spec", "template", "spec")) | {
        "Selector": written(dig(obj, "spec", "selector")) or NONE
    }


@table(
    "deployments.apps",
    "deployments.extensions",
    shows=f"Name, Ready, Up-to-date, Available, Age, {_TEMPLATE}",
)
def _deployment(obj: Obj, at: At) -> Cells:
    return _template(obj) | {
        "Ready": f"{_number(obj, 'status', 'readyReplicas')}/{_number(obj, 'spec', 'replicas')}",
        "Up-to-date": _number(obj, "status", "updatedReplicas"),
        "Available": _number(obj, "status", "availableReplicas"),
        "Selector": written(dig(obj, "spec", "selector")),
    }


@table(
    "replicasets.apps",
    "replicasets.extensions",
    shows=f"Name, Desired:integer, Current:integer, Ready:integer, Age, {_TEMPLATE}",
)
def _replica_set(obj: Obj, at: At) -> Cells:
    return _template(obj) | _replicas(obj)


def _replicas(obj: Obj) -> Cells:
    return {
        "Desired": _number(obj, "spec", "replicas"),
        "Current": _number(obj, "status", "replicas"),
        "Ready": _number(obj, "status", "readyReplicas"),
    }


@table("scale", shows="Name, Desired:integer, Available:integer, Age")
def _scale(obj: Obj, at: At) -> Cells:
    return {"Desired": _number(obj, "spec", "replicas"), "Available": _number(obj, "status", "replicas")}


@table("replicationcontrollers", shows=f"Name, Desired:integer, Current:integer, Ready:integer, Age, {_TEMPLATE}")
def _replication_controller(obj: Obj, at: At) -> Cells:
    return _template(obj) | _replicas(obj) | {"Selector": label_text(dig(obj, "spec", "selector"))}


@table(
    "daemonsets.apps",
    "daemonsets.extensions",
    shows="Name, Desired:integer, Current:integer, Ready:integer, Up-to-date:integer, Available:integer, "
    f"Node Selector, Age, {_TEMPLATE}",
)
def _daemon_set(obj: Obj, at: At) -> Cells:
    return _template(obj) | {
        "Desired": _number(obj, "status", "desiredNumberScheduled"),
        "Current": _number(obj, "status", "currentNumberScheduled"),
        "Ready": _number(obj, "status", "numberReady"),
        "Up-to-date": _number(obj, "status", "updatedNumberScheduled"),
        "Available": _number(obj, "status", "numberAvailable"),
        "Node Selector": label_text(dig(obj, "spec", "template", "spec", "nodeSelector")),
    }


@table("statefulsets.apps", shows="Name, Ready, Age, +Containers, +Images")
def _stateful_set(obj: Obj, at: At) -> Cells:
    return _template(obj) | {
        "Ready": f"{_number(obj, 'status', 'readyReplicas')}/{_number(obj, 'spec', 'replicas')}",
    }


@table("controllerrevisions.apps", shows="Name, Controller, Revision, Age")
def _controller_revision(obj: Obj, at: At) -> Cells:
    owner: Obj = next((o for o in items(obj, "metadata", "ownerReferences") if o.get("controller")), {})
    group = owner.get("apiVersion", "").rpartition("/")[0]
    kind = f"{owner.get('kind', '')}.{group}" if group else owner.get("kind", "")
    return {
        "Controller": f"{kind.lower()}/{owner['name']}" if owner else NONE,
        "Revision": _number(obj, "revision"),
    }


_JOB_STATES = {
    "Complete": "Complete",
    "Failed": "Failed",
    "": "Terminating",
    "Suspended": "Suspended",
    "FailureTarget": "FailureTarget",
    "SuccessCriteriaMet": "SuccessCriteriaMet",
}


@table(
    "jobs.batch",
    shows=f"Name, Status, Completions, Duration, Age, {_TEMPLATE}",
    legacy=f"Name, Completions, Duration, Age, {_TEMPLATE}",
)
def _job(obj: Obj, at: At) -> Cells:
    succeeded, wanted = _number(obj, "status", "succeeded"), dig(obj, "spec", "completions")
    parallelism = _number(obj, "spec", "parallelism")
    if wanted is not None:
        completions = f"{succeeded}/{wanted}"
    else:
        completions = f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"
    began, ended = timestamp(dig(obj, "status", "startTime")), timestamp(dig(obj, "status", "completionTime"))
    true = {c.get("type") for c in items(obj, "status", "conditions") if c.get("status") == "True"}
    if dig(obj, "metadata", "deletionTimestamp"):
        true.add("")
    return _template(obj) | {
        "Status": next((name for condition, name in _JOB_STATES.items() if condition in true), "Running"),
        "Completions": completions,
        "Duration": human_duration(((ended or at.now) - began).total_seconds()) if began else "",
    }


_CRON = f"Suspend:boolean, Active:integer, Last Schedule, Age, {_TEMPLATE}"


@table("cronjobs.batch", shows=f"Name, Schedule, Timezone, {_CRON}", legacy=f"Name, Schedule, {_CRON}")
def _cron_job(obj: Obj, at: At) -> Cells:
    last = dig(obj, "status", "lastScheduleTime")
    suspend = dig(obj, "spec", "suspend")
    job = dig(obj, "spec", "jobTemplate") or {}
    return _template(job) | {
        "Schedule": dig(obj, "spec", "schedule") or "",
        "Timezone": dig(obj, "spec", "timeZone") or NONE,
        "Suspend": "<unset>" if suspend is None else str(suspend),
        "Active": len(items(obj, "status", "active")),
        "Last Schedule": age(last, at.now) if last else NONE,
    }


@table("podtemplates", shows="Name, Containers, Images, Pod Labels")
def _pod_template(obj: Obj, at: At) -> Cells:
    return _containers(dig(obj, "template", "spec")) | {
        "Pod Labels": label_text(dig(obj, "template", "metadata", "labels"))
    }


@table(
    "poddisruptionbudgets.policy",
    shows="Name, Min Available, Max Unavailable, Allowed Disruptions:integer, Age",
)
def _pod_disruption_budget(obj: Obj, at: At) -> Cells:
    least, most = dig(obj, "spec", "minAvailable"), dig(obj, "spec", "maxUnavailable")
    return {
        "Min Available": "N/A" if least is None else str(least),
        "Max Unavailable": "N/A" if most is None else str(most),
        "Allowed Disruptions": _number(obj, "status", "disruptionsAllowed"),
    }


@table(
    "horizontalpodautoscalers.autoscaling",
    shows="Name, Reference, Targets, MinPods, MaxPods, Replicas, Age",
)
def _horizontal_pod_autoscaler(obj: Obj, at: At) -> Cells:
    target = dig(obj, "spec", "scaleTargetRef") or {}
    least = dig(obj, "spec", "minReplicas")
    return {
        "Reference": f"{target.get('kind', '')}/{target.get('name', '')}",
        "Targets": clip(_metrics(obj, legacy=at.legacy), 2, joint=", ", empty=NONE),
        "MinPods": "<unset>" if least is None else str(least),
        "MaxPods": _number(obj, "spec", "maxReplicas"),
        "Replicas": _number(obj, "status", "currentReplicas"),
    }


def _metrics(obj: Obj, *, legacy: bool) -> list[str]:
    """Current and wanted value of each metric, in whichever version of the API the autoscaler is."""
    percent = dig(obj, "spec", "targetCPUUtilizationPercentage")
    if percent is not None:
        current = dig(obj, "status", "currentCPUUtilizationPercentage")
        text = f"{UNKNOWN if current is None else f'{current}%'}/{percent}%"
        return [text if legacy else f"cpu: {text}"]
    currents = items(obj, "status", "currentMetrics")
    texts = []
    for number, metric in enumerate(items(obj, "spec", "metrics")):
        source = metric.get("type", "")
        key = source[:1].lower() + source[1:]
        wanted = metric.get(key)
        if not isinstance(wanted, dict):
            texts.append("<unknown type>")
            continue
        now = dig(currents[number], key) if number < len(currents) else None
        texts.append(_metric(key, wanted, now or {}, legacy=legacy))
    return texts


def _metric(source: str, wanted: Obj, now: Obj, *, legacy: bool) -> str:
    # v2 keeps values below target and current; v2beta1 spells them targetX and currentX beside the name.
    target = wanted.get("target") or {
        key: wanted.get(f"target{key[0].upper()}{key[1:]}") for key in ("averageValue", "averageUtilization", "value")
    }
    current = now.get("current") or {
        key: now.get(f"current{key[0].upper()}{key[1:]}") for key in ("averageValue", "averageUtilization", "value")
    }
    average, value = target.get("averageValue"), target.get("value") or wanted.get("targetValue")
    if source in ("resource", "containerResource"):
        if average is None:
            percent, used = target.get("averageUtilization"), current.get("averageUtilization")
            text = f"{UNKNOWN if used is None else f'{used}%'}/{'<auto>' if percent is None else f'{percent}%'}"
        else:
            text = f"{current.get('averageValue') or UNKNOWN}/{average}"
        return text if legacy else f"{wanted.get('name', '')}: {text}"
    if source == "pods":
        return f"{current.get('averageValue') or UNKNOWN}/{average}"
    if average is not None:
        return f"{current.get('averageValue') or UNKNOWN}/{average} (avg)"
    return f"{current.get('value') or UNKNOWN}/{value}"
