# SPDX-License-Identifier: Apache-2.0
"""Tables of what runs pods: Deployments, ReplicaSets, DaemonSets, StatefulSets, Jobs, autoscalers, budgets."""

from __future__ import annotations

from typing import Any

from labkit.ground.labels import written
from meshbox.api.tables.formats import NONE, UNKNOWN, age, clip, dig, human_duration, items, timestamp
from meshbox.api.tables.printer_columns import At, Cells, cells
from meshbox.contracts import Obj

__all__: list[str] = []


def _number(obj: Obj, *path: str) -> int:
    return int(dig(obj, *path) or 0)


def _containers(pod_spec: Any) -> Cells:
    containers = items(pod_spec, "containers")
    return {
        "Containers": ",".join(c.get("name", "") for c in containers),
        "Images": ",".join(c.get("image", "") for c in containers),
    }


@cells("template")
def _template(obj: Obj, at: At) -> Cells:
    return _containers(dig(obj, "spec", "template", "spec")) | {
        "Selector": written(dig(obj, "spec", "selector")) or NONE
    }


@cells("controller_revision")
def _controller_revision(obj: Obj, at: At) -> Cells:
    owner: Obj = next((o for o in items(obj, "metadata", "ownerReferences") if o.get("controller")), {})
    group = owner.get("apiVersion", "").rpartition("/")[0]
    kind = f"{owner.get('kind', '')}.{group}" if group else owner.get("kind", "")
    return {
        "Controller": f"{kind.lower()}/{owner['name']}" if owner else NONE,
    }


_JOB_STATES = {
    "Complete": "Complete",
    "Failed": "Failed",
    "": "Terminating",
    "Suspended": "Suspended",
    "FailureTarget": "FailureTarget",
    "SuccessCriteriaMet": "SuccessCriteriaMet",
}


@cells("job")
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
    return _template(obj, at) | {
        "Status": next((name for condition, name in _JOB_STATES.items() if condition in true), "Running"),
        "Completions": completions,
        "Duration": human_duration(((ended or at.now) - began).total_seconds()) if began else "",
    }


@cells("cron_job")
def _cron_job(obj: Obj, at: At) -> Cells:
    last = dig(obj, "status", "lastScheduleTime")
    job = dig(obj, "spec", "jobTemplate") or {}
    return _template(job, at) | {
        "Last Schedule": age(last, at.now) if last else NONE,
    }


@cells("pod_template")
def _pod_template(obj: Obj, at: At) -> Cells:
    return _containers(dig(obj, "template", "spec"))


@cells("horizontal_pod_autoscaler")
def _horizontal_pod_autoscaler(obj: Obj, at: At) -> Cells:
    target = dig(obj, "spec", "scaleTargetRef") or {}
    return {
        "Reference": f"{target.get('kind', '')}/{target.get('name', '')}",
        "Targets": clip(_metrics(obj, legacy=at.legacy), 2, joint=", ", empty=NONE),
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
