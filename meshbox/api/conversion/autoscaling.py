# SPDX-License-Identifier: Apache-2.0
"""HorizontalPodAutoscalers: v1 knows one CPU target, v2beta1 names targets otherwise than v2."""

from __future__ import annotations

import json
from typing import Any

from labkit.ground import reading
from meshbox.contracts import Obj

__all__ = ["from_v2", "to_v2"]

_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
_V1_CPU = "targetCPUUtilizationPercentage"
_CURRENT_CPU = "currentCPUUtilizationPercentage"


def to_v2(obj: Obj, version: str) -> None:
    """From v1, v2beta1 or v2beta2, in place."""
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        return
    if version == "autoscaling/v1":
        _from_annotations(obj, spec)
    elif version == "autoscaling/v2beta1":
        _each_metric(spec, "metrics", _metric_to_v2)
        _each_metric(obj.get("status"), "currentMetrics", _current_to_v2)


def from_v2(obj: Obj, version: str) -> None:
    """To v1, v2beta1 or v2beta2, in place."""
    if version == "autoscaling/v1":
        _to_annotations(obj)
        if isinstance(obj.get("status"), dict):
            obj["status"].setdefault("currentReplicas", 0)
    elif version == "autoscaling/v2beta1":
        _each_metric(obj.get("spec"), "metrics", _metric_from_v2)
        _each_metric(obj.get("status"), "currentMetrics", _current_from_v2)


def _each_metric(part: Any, field: str, convert: Any) -> None:
    metrics = part.get(field) if isinstance(part, dict) else None
    if isinstance(metrics, list):
        part[field] = [convert(metric) if isinstance(metric, dict) else metric for metric in metrics]


def _cpu(percent: Any) -> Obj:
    return {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}},
    }


def _is_cpu(metric: Obj) -> bool:
    resource = metric.get("resource") or {}
    return resource.get("name") == "cpu" and "averageUtilization" in (resource.get("target") or {})


def _from_annotations(obj: Obj, spec: Obj) -> None:
    metrics = []
    if (percent := spec.pop(_V1_CPU, None)) is not None:
        metrics.append(_cpu(percent))
    meta = obj.get("metadata")
    annotations = meta.get("annotations") if isinstance(meta, dict) else None
    if isinstance(annotations, dict):
        try:
            others = reading.json_value(str(annotations.pop(_METRICS, "[]")))
        except reading.ReadingError:
            others = []
        metrics += [_metric_to_v2(one) for one in others if isinstance(one, dict)] if isinstance(others, list) else []
        annotations.pop(_CONDITIONS, None)
    spec["metrics"] = metrics or [_cpu(80)]
    status = obj.get("status")
    if isinstance(status, dict) and (current := status.pop(_CURRENT_CPU, None)) is not None:
        usage = {"name": "cpu", "current": {"averageUtilization": current}}
        status["currentMetrics"] = [{"type": "Resource", "resource": usage}]


def _to_annotations(obj: Obj) -> None:
    spec, status = obj["spec"], obj.get("status") or {}
    metrics = spec.pop("metrics", None) or []
    spec.pop("behavior", None)
    first = next((metric for metric in metrics if _is_cpu(metric)), None)
    if first is not None:
        spec[_V1_CPU] = first["resource"]["target"]["averageUtilization"]
    annotations = dict(obj["metadata"].get("annotations") or {})
    if others := [_metric_from_v2(metric) for metric in metrics if metric is not first]:
        annotations[_METRICS] = json.dumps(others, separators=(",", ":"))
    if conditions := status.pop("conditions", None):
        annotations[_CONDITIONS] = json.dumps(conditions, separators=(",", ":"))
    if annotations:
        obj["metadata"]["annotations"] = annotations
    for metric in status.pop("currentMetrics", None) or []:
        resource = metric.get("resource") or {}
        if resource.get("name") == "cpu" and "averageUtilization" in (resource.get("current") or {}):
            status[_CURRENT_CPU] = resource["current"]["averageUtilization"]


_KIND = {"Resource": "resource", "Pods": "pods", "Object": "object", "External": "external"}


def _source(metric: Obj) -> tuple[str, Obj]:
    field = _KIND.get(metric.get("type", ""), "")
    source = metric.get(field)
    return field, dict(source) if isinstance(source, dict) else {}


def _metric_to_v2(metric: Obj) -> Obj:
    field, source = _source(metric)
    if not source or "metric" in source or (isinstance(source.get("target"), dict) and field == "resource"):
        return metric
    if field == "object":
        target = {"type": "Value", "value": source.pop("targetValue", None)}
        if (average := source.pop("averageValue", None)) is not None:
            target = {"type": "AverageValue", "averageValue": average}
        described = source.pop("target", None)
        source = {"describedObject": described, "metric": _named(source, "selector"), "target": target}
    else:
        target = _target(source)
        if field == "resource":
            source["target"] = target
        else:
            selector = "metricSelector" if field == "external" else "selector"
            source = {"metric": _named(source, selector), "target": target}
    return {**metric, field: source}


def _named(source: Obj, selector: str) -> Obj:
    metric = {"name": source.get("metricName")}
    if source.get(selector) is not None:
        metric["selector"] = source[selector]
    return metric


def _target(source: Obj) -> Obj:
    for field, kind, name in (
        ("targetAverageUtilization", "Utilization", "averageUtilization"),
        ("targetAverageValue", "AverageValue", "averageValue"),
        ("targetValue", "Value", "value"),
    ):
        if (value := source.pop(field, None)) is not None:
            return {"type": kind, name: value}
    return {"type": "Utilization"}


def _metric_from_v2(metric: Obj) -> Obj:
    field, source = _source(metric)
    target = source.pop("target", None)
    if not isinstance(target, dict):
        return metric
    named = source.pop("metric", None) or {}
    if field != "resource":
        source["metricName"] = named.get("name")
        if "selector" in named:
            source["metricSelector" if field == "external" else "selector"] = named["selector"]
    if field == "object":
        source["target"] = source.pop("describedObject", None)
        if "averageValue" in target:
            source["averageValue"] = target["averageValue"]
        source["targetValue"] = target.get("value", "0")
        return {**metric, field: source}
    for name, theirs in (
        ("averageUtilization", "targetAverageUtilization"),
        ("averageValue", "targetAverageValue"),
        ("value", "targetValue"),
    ):
        if name in target:
            source[theirs] = target[name]
    return {**metric, field: source}


def _current_to_v2(metric: Obj) -> Obj:
    field, source = _source(metric)
    if field != "resource" or "current" in source:
        return metric
    current = {
        name: source.pop(theirs)
        for name, theirs in (
            ("averageUtilization", "currentAverageUtilization"),
            ("averageValue", "currentAverageValue"),
        )
        if theirs in source
    }
    return {**metric, field: {**source, "current": current}}


def _current_from_v2(metric: Obj) -> Obj:
    field, source = _source(metric)
    current = source.pop("current", None)
    if field != "resource" or not isinstance(current, dict):
        return metric
    theirs = {
        "currentAverageUtilization": current.get("averageUtilization"),
        "currentAverageValue": current.get("averageValue"),
    }
    return {**metric, field: {**source, **{name: value for name, value in theirs.items() if value is not None}}}
