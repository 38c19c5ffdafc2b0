# SPDX-License-Identifier: Apache-2.0
"""Validation of what runs pods: Deployment, ReplicaSet, DaemonSet, StatefulSet, Job, CronJob, autoscalers, budgets."""

from __future__ import annotations

from typing import Any

from labkit.ground.names import at_most, dns1123_label, path_segment
from meshbox.api.builtin.pod import pod_spec, pod_template
from meshbox.api.builtin.well_formed import (
    as_dict,
    as_list,
    int_or_percent,
    label_selector,
    matches,
    named,
    non_negative,
    selector_text,
    supported,
)
from meshbox.api.problems import Cause, forbidden, invalid, not_supported, required
from meshbox.contracts import Obj

__all__ = ["WORKLOADS"]

_SELECTOR_OPTIONAL = ("extensions/v1beta1", "apps/v1beta1", "v1")
"""Versions that take an absent selector from the template's labels."""


def _pod(obj: Obj, _version: str, causes: list[Cause]) -> None:
    pod_spec(as_dict(obj.get("spec")), "spec", causes)


def _pod_template_kind(obj: Obj, _version: str, causes: list[Cause]) -> None:
    pod_template(obj.get("template"), "template", causes)


def _selected_template(obj: Obj, version: str, causes: list[Cause], what: str) -> Obj:
    """Selector, template and their fit, which all workloads share."""
    spec = as_dict(obj.get("spec"))
    selector, template = spec.get("selector"), as_dict(spec.get("template"))
    own = as_dict(as_dict(template.get("metadata")).get("labels"))
    if selector is None and version in _SELECTOR_OPTIONAL:
        selector = {"matchLabels": own}
    if version == "v1" and isinstance(selector, dict):
        selector = {"matchLabels": selector}
    if selector is None:
        causes.append(required("spec.selector"))
    else:
        label_selector(selector, "spec.selector", causes)
        if not as_dict(selector.get("matchLabels")) and not as_list(selector.get("matchExpressions")):
            detail = f"empty selector is invalid for {what}"
            causes.append(invalid("spec.selector", selector_text(selector), detail))
    if not matches(selector, own):
        detail = "`selector` does not match template `labels`"
        causes.append(invalid("spec.template.metadata.labels", selector_text(own), detail))
    claims = {as_dict(as_dict(one).get("metadata")).get("name") for one in as_list(spec.get("volumeClaimTemplates"))}
    pod_template(template, "spec.template", causes, frozenset(name for name in claims if name))
    policy = as_dict(template.get("spec")).get("restartPolicy")
    if policy in ("OnFailure", "Never"):
        causes.append(not_supported("spec.template.spec.restartPolicy", policy, ["Always"]))
    if as_dict(template.get("spec")).get("activeDeadlineSeconds") is not None:
        causes.append(
            forbidden("spec.template.spec.activeDeadlineSeconds", f"activeDeadlineSeconds in {what} is not supported")
        )
    non_negative(spec, ("replicas", "minReadySeconds", "revisionHistoryLimit"), "spec", causes)
    return spec


def _deployment(obj: Obj, version: str, causes: list[Cause]) -> None:
    spec = _selected_template(obj, version, causes, "deployment")
    strategy = as_dict(spec.get("strategy"))
    kind, rolling = strategy.get("type") or "RollingUpdate", strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            detail = "may not be specified when strategy `type` is 'Recreate'"
            causes.append(forbidden("spec.strategy.rollingUpdate", detail))
    elif kind == "RollingUpdate":
        _rolling(as_dict(rolling), "spec.strategy.rollingUpdate", causes)
    else:
        causes.append(not_supported("spec.strategy", kind, ["Recreate", "RollingUpdate"]))
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None:
        non_negative(spec, ("progressDeadlineSeconds",), "spec", causes)
        if deadline <= (spec.get("minReadySeconds") or 0):
            detail = "must be greater than minReadySeconds"
            causes.append(invalid("spec.progressDeadlineSeconds", deadline, detail))


def _rolling(rolling: Obj, path: str, causes: list[Cause]) -> None:
    counts = {}
    for name in ("maxUnavailable", "maxSurge"):
        value = rolling.get(name)
        counts[name] = 1 if value is None else int_or_percent(value, f"{path}.{name}", causes)
    if counts == {"maxUnavailable": 0, "maxSurge": 0}:
        detail = "may not be 0 when `maxSurge` is 0"
        causes.append(invalid(f"{path}.maxUnavailable", rolling["maxUnavailable"], detail))
    if counts["maxUnavailable"] > 100 and isinstance(rolling.get("maxUnavailable"), str):
        causes.append(invalid(f"{path}.maxUnavailable", rolling["maxUnavailable"], "must not be greater than 100%"))


def _replica_set(obj: Obj, version: str, causes: list[Cause]) -> None:
    _selected_template(obj, version, causes, "replicaset")


def _replication_controller(obj: Obj, version: str, causes: list[Cause]) -> None:
    _selected_template(obj, version, causes, "replication controller")


def _daemon_set(obj: Obj, version: str, causes: list[Cause]) -> None:
    spec = _selected_template(obj, version, causes, "daemonset")
    kind = as_dict(spec.get("updateStrategy")).get("type")
    supported(kind, "spec.updateStrategy", ("RollingUpdate", "OnDelete"), causes)


def _stateful_set(obj: Obj, version: str, causes: list[Cause]) -> None:
    named(as_dict(obj.get("metadata")).get("name"), "metadata.name", dns1123_label, causes, needed=False)
    spec = _selected_template(obj, version, causes, "statefulset")
    policy = spec.get("podManagementPolicy")
    if policy and policy not in ("OrderedReady", "Parallel"):
        detail = "must be 'OrderedReady' or 'Parallel'"
        causes.append(invalid("spec.podManagementPolicy", policy, detail))
    strategy = as_dict(spec.get("updateStrategy"))
    if strategy.get("type") not in (None, "", "RollingUpdate", "OnDelete"):
        causes.append(invalid("spec.updateStrategy", strategy, "must be 'RollingUpdate' or 'OnDelete'"))
    elif strategy.get("type") == "OnDelete" and strategy.get("rollingUpdate") is not None:
        detail = "only allowed for updateStrategy 'RollingUpdate'"
        causes.append(invalid("spec.updateStrategy.rollingUpdate", strategy["rollingUpdate"], detail))


def _job_spec(spec: Obj, path: str, causes: list[Cause]) -> None:
    counts = ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished")
    non_negative(spec, counts, path, causes)
    supported(spec.get("completionMode"), f"{path}.completionMode", ("NonIndexed", "Indexed"), causes)
    if spec.get("completionMode") == "Indexed" and spec.get("completions") is None:
        causes.append(required(f"{path}.completions", "when completion mode is Indexed"))
    template = as_dict(spec.get("template"))
    pod_template(template, f"{path}.template", causes)
    policy = as_dict(template.get("spec")).get("restartPolicy")
    if policy in (None, "", "Always"):
        causes.append(required(f"{path}.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"'))
    selector = spec.get("selector")
    if selector is not None:
        label_selector(selector, f"{path}.selector", causes)
        own = as_dict(as_dict(template.get("metadata")).get("labels"))
        if not matches(selector, own):
            detail = "`selector` does not match template `labels`"
            causes.append(invalid(f"{path}.template.metadata.labels", selector_text(own), detail))


def _job(obj: Obj, _version: str, causes: list[Cause]) -> None:
    _job_spec(as_dict(obj.get("spec")), "spec", causes)


def _cron_job(obj: Obj, _version: str, causes: list[Cause]) -> None:
    name = as_dict(obj.get("metadata")).get("name") or ""
    # The server leaves room for the 11 characters that it adds to the names of the Jobs.
    causes += [invalid("metadata.name", name, words) for words in at_most(name, 52)]
    spec = as_dict(obj.get("spec"))
    schedule = spec.get("schedule")
    if not schedule:
        causes.append(required("spec.schedule"))
    elif not schedule.startswith("@") and len(schedule.split()) != 5:
        fields = schedule.split()
        detail = f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]"
        causes.append(invalid("spec.schedule", schedule, detail))
    supported(spec.get("concurrencyPolicy"), "spec.concurrencyPolicy", ("Allow", "Forbid", "Replace"), causes)
    counts = ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit")
    non_negative(spec, counts, "spec", causes)
    _job_spec(as_dict(as_dict(spec.get("jobTemplate")).get("spec")), "spec.jobTemplate.spec", causes)


def _autoscaler(obj: Obj, _version: str, causes: list[Cause]) -> None:
    spec = as_dict(obj.get("spec"))
    least, most = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    if least is not None and least < 1:
        causes.append(invalid("spec.minReplicas", least, "must be greater than or equal to 1"))
    if most < 1:
        causes.append(invalid("spec.maxReplicas", most, "must be greater than 0"))
    if least is not None and most < least:
        causes.append(invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
    target = as_dict(spec.get("scaleTargetRef"))
    for name in ("kind", "name"):
        named(target.get(name), f"spec.scaleTargetRef.{name}", path_segment, causes)
    kinds = ("ContainerResource", "External", "Object", "Pods", "Resource")
    for index, one in enumerate(as_list(spec.get("metrics"))):
        where, metric = f"spec.metrics[{index}]", as_dict(one)
        kind = metric.get("type")
        if not kind:
            causes.append(required(f"{where}.type", "must specify a metric source type"))
        elif kind not in kinds:
            causes.append(not_supported(f"{where}.type", kind, kinds))
        elif metric.get(kind[0].lower() + kind[1:]) is None:
            field = kind[0].lower() + kind[1:]
            detail = "must populate information for the given metric source"
            causes.append(required(f"{where}.{field}", detail))


def _budget(obj: Obj, _version: str, causes: list[Cause]) -> None:
    spec = as_dict(obj.get("spec"))
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if least is not None and most is not None:
        causes.append(invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"))
    for name in ("minAvailable", "maxUnavailable"):
        if spec.get(name) is not None:
            int_or_percent(spec[name], f"spec.{name}", causes)
    label_selector(spec.get("selector"), "spec.selector", causes)


WORKLOADS: dict[str, Any] = {
    "CronJob": _cron_job,
    "DaemonSet": _daemon_set,
    "Deployment": _deployment,
    "HorizontalPodAutoscaler": _autoscaler,
    "Job": _job,
    "Pod": _pod,
    "PodDisruptionBudget": _budget,
    "PodTemplate": _pod_template_kind,
    "ReplicaSet": _replica_set,
    "ReplicationController": _replication_controller,
    "StatefulSet": _stateful_set,
}
"""Kind → its validation: called with the object, its apiVersion and where to add causes."""
