# SPDX-License-Identifier: Apache-2.0
"""What no table tells of what runs pods: Deployment, ReplicaSet, DaemonSet, StatefulSet, CronJob, Job."""

from __future__ import annotations

import re
import zoneinfo
from typing import Any

from labkit.ground.names import at_most, dns1123_label
from meshbox.api.builtin.internal import internal
from meshbox.api.builtin.pod import pod_template
from meshbox.api.builtin.rules import Context, call, job_of
from meshbox.api.builtin.schedules import problem
from meshbox.api.builtin.well_formed import (
    as_dict,
    as_list,
    int_or_percent,
    label_selector,
    matches,
    selector_text,
)
from meshbox.api.problems import Cause, duplicate, forbidden, invalid, not_supported, required
from meshbox.api.table_files import at_steps
from meshbox.contracts import Obj

__all__: list[str] = []

_SELECTOR_OPTIONAL = ("extensions/v1beta1", "apps/v1beta1", "v1")
"""Versions that take an absent selector from the template's labels."""
_KINDS = {"deployment": "ReplicaSet", "daemonset": "DaemonSet", "statefulset": "StatefulSet"}
"""What is meant by the word for it."""
_MISFIT = "`selector` does not match template `labels`"


def _own_labels(spec: Obj) -> Any:
    return as_dict(as_dict(spec.get("template")).get("metadata")).get("labels")


def _shown_selector(selector: Obj) -> Obj:
    shown = {name: selector[name] for name in ("matchLabels", "matchExpressions") if selector.get(name)}
    if "matchExpressions" in shown:
        # As Go prints them: what has no omitempty is there, what has it is not if it is empty.
        shown["matchExpressions"] = [
            {"key": "", "operator": "", **{name: value for name, value in as_dict(one).items() if value}}
            for one in shown["matchExpressions"]
        ]
    return shown


def _selected_template(obj: Obj, causes: list[Cause], context: Context, what: str, *, detail: str = "") -> None:
    """Selector, template and their fit, which all workloads share; `detail` is what a malformed selector is called."""
    spec, version = as_dict(obj.get("spec")), context.version
    selector, own = spec.get("selector"), _own_labels(spec)
    if selector is None and version in _SELECTOR_OPTIONAL:
        selector = {"matchLabels": as_dict(own)}
    if version == "v1" and isinstance(selector, dict):
        selector = {"matchLabels": selector}
    before = len(causes)
    if selector is None:
        causes.append(required("spec.selector"))
    else:
        label_selector(selector, "spec.selector", causes)
        if len(causes) > before:
            causes.append(invalid("spec.selector", _shown_selector(selector), detail))
            return
        if not _shown_selector(selector):
            causes.append(invalid("spec.selector", {}, f"empty selector is invalid for {what}"))
    if not matches(selector, own):
        causes.append(invalid("spec.template.metadata.labels", own and selector_text(own), _MISFIT))
    _always(spec, causes, context, what)


def _always(spec: Obj, causes: list[Cause], context: Context, what: str) -> None:
    """A template of pods that are to run for ever."""
    template = as_dict(spec.get("template"))
    pod_template(template, "spec.template", causes, context)
    policy = as_dict(template.get("spec")).get("restartPolicy")
    if policy not in (None, "", "Always"):
        causes.append(not_supported("spec.template.spec.restartPolicy", policy, ["Always"]))
    if as_dict(template.get("spec")).get("activeDeadlineSeconds") is not None:
        words = f"activeDeadlineSeconds in {_KINDS.get(what, what)} is not Supported"
        causes.append(forbidden("spec.template.spec.activeDeadlineSeconds", words))


@call("deployment")
def _deployment(obj: Obj, _path: str, causes: list[Cause], context: Context) -> None:
    # The server calls a ReplicaSet a deployment, too.
    _selected_template(obj, causes, context, "deployment", detail="invalid label selector")


@call("controlled")
def _controlled(template: Obj, _path: str, causes: list[Cause], context: Context) -> None:
    """The template of a ReplicationController."""
    spec = as_dict(context.whole.get("spec"))
    selector, own = as_dict(spec.get("selector")), _own_labels(spec)
    if any(as_dict(own).get(key) != value for key, value in selector.items()):
        causes.append(invalid("spec.template.metadata.labels", own, _MISFIT))
    _always(spec, causes, context, "ReplicationController")


@call("deployment_strategy")
def _deployment_strategy(strategy: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    kind, rolling = strategy.get("type") or "RollingUpdate", strategy.get("rollingUpdate")
    where = f"{path}.rollingUpdate"
    if kind == "Recreate":
        if rolling is not None:
            causes.append(forbidden(where, "may not be specified when strategy `type` is 'Recreate'"))
    elif kind != "RollingUpdate":
        causes.append(
            not_supported(path, internal("api.apps.v1.DeploymentStrategy", strategy), ["Recreate", "RollingUpdate"])
        )
    elif rolling is not None:
        counts = _counts(rolling, where, causes)
        if counts == (0, 0):
            causes.append(
                invalid(f"{where}.maxUnavailable", rolling["maxUnavailable"], "may not be 0 when `maxSurge` is 0")
            )
        _most(rolling, "maxUnavailable", counts[0], where, causes)


def _counts(rolling: Obj, path: str, causes: list[Cause]) -> tuple[int, int]:
    values = [(rolling.get(name), f"{path}.{name}") for name in ("maxUnavailable", "maxSurge")]
    first, second = (1 if value is None else int_or_percent(value, where, causes) for value, where in values)
    return first, second


def _most(rolling: Obj, name: str, count: int, path: str, causes: list[Cause]) -> None:
    if count > 100 and isinstance(rolling.get(name), str):
        causes.append(invalid(f"{path}.{name}", rolling[name], "must not be greater than 100%"))


@call("daemon_set")
def _daemon_set(obj: Obj, _path: str, causes: list[Cause], context: Context) -> None:
    spec = as_dict(obj.get("spec"))
    selector, own = spec.get("selector"), _own_labels(spec)
    before = len(causes)
    label_selector(selector, "spec.selector", causes)
    if selector is None and context.version in _SELECTOR_OPTIONAL:
        selector = {"matchLabels": as_dict(own)}
    if len(causes) == before and not matches(selector, own):
        causes.append(invalid("spec.template.metadata.labels", own and selector_text(own), _MISFIT))
    if selector is not None and not _shown_selector(selector):
        causes.append(invalid("spec.selector", {}, "empty selector is invalid for daemonset"))
    _always(spec, causes, context, "daemonset")


@call("daemon_set_strategy")
def _daemon_set_strategy(strategy: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    kind, where = strategy.get("type"), f"{path}.rollingUpdate"
    rolling: Any = strategy.get("rollingUpdate")
    if kind not in ("RollingUpdate", "OnDelete"):
        given = {"type": kind, "rollingUpdate": rolling and {"maxSurge": 0, **rolling}}
        shown = internal("api.apps.v1.DaemonSetUpdateStrategy", given)
        causes.append(not_supported(path, shown, ["RollingUpdate", "OnDelete"]))
    elif kind == "RollingUpdate" and rolling is None:
        causes.append(required(where))
    elif kind == "RollingUpdate":
        before = len(causes)
        gone, more = _counts({"maxSurge": 0, **rolling}, where, causes)
        malformed = len(causes) > before and isinstance(rolling.get("maxUnavailable"), str)
        if gone and more:
            detail = "may not be set when maxUnavailable is non-zero"
            causes.append(invalid(f"{where}.maxSurge", rolling["maxSurge"], detail))
        elif malformed or not (gone or more):
            causes.append(required(f"{where}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
        _most(rolling, "maxUnavailable", gone, where, causes)
        _most(rolling, "maxSurge", more, where, causes)


@call("stateful_set")
def _stateful_set(obj: Obj, _path: str, causes: list[Cause], context: Context) -> None:
    spec = as_dict(obj.get("spec"))
    # Its pods mount the claims as if they were volumes.
    names = [
        as_dict(as_dict(one).get("metadata")).get("name") or "" for one in as_list(spec.get("volumeClaimTemplates"))
    ]
    template = as_dict(spec.get("template"))
    inner = as_dict(template.get("spec"))
    claims = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in dict.fromkeys(names)]
    others = [one for one in as_list(inner.get("volumes")) if as_dict(one).get("name") not in names]
    whole = {**spec, "template": {**template, "spec": {**inner, "volumes": [*claims, *others]}}}
    _selected_template({**obj, "spec": whole}, causes, context, "statefulset")


@call("job_template")
def _job_template(spec: Obj, path: str, causes: list[Cause], context: Context) -> None:
    template, where = as_dict(spec.get("template")), f"{path}.template"
    pod_template(template, where, causes, context)
    policy = as_dict(template.get("spec")).get("restartPolicy")
    if policy in (None, "", "Always"):
        causes.append(required(f"{where}.spec.restartPolicy", 'valid values: "OnFailure", "Never"'))
    elif policy not in ("OnFailure", "Never"):
        causes.append(not_supported(f"{where}.spec.restartPolicy", policy, ("OnFailure", "Never")))
    elif policy == "OnFailure" and spec.get("podFailurePolicy") is not None:
        detail = 'only "Never" is supported when podFailurePolicy is specified'
        causes.append(invalid(f"{where}.spec.restartPolicy", policy, detail))


@call("job_selector")
def _job_selector(spec: Obj, path: str, causes: list[Cause], context: Context) -> None:
    selector, own = spec.get("selector"), as_dict(as_dict(spec.get("template")).get("metadata")).get("labels")
    if selector is None and not context.old:
        # A new Job is given one.
        return
    if selector is None:
        causes.append(required(f"{path}.selector"))
    else:
        label_selector(selector, f"{path}.selector", causes)
    if selector is None or not matches(selector, own):
        causes.append(invalid(f"{path}.template.metadata.labels", own and selector_text(own), _MISFIT))


@call("keep_job_labels")
def _job_labels(job: Obj, _path: str, causes: list[Cause], context: Context) -> None:
    """Its pods bear its own labels, where nobody gave it other ones."""
    meta, spec = as_dict(job.get("metadata")), as_dict(job.get("spec"))
    if spec.get("manualSelector") or spec.get("selector") is None:
        return
    names = {"controller-uid": meta.get("uid"), "job-name": meta.get("name")}
    path = ("spec", "template", "metadata", "labels")
    own, before = as_dict(at_steps(job, path)), as_dict(at_steps(context.old, path))
    prefixed = {f"batch.kubernetes.io/{name}": value for name, value in names.items()}
    for name, value in {**names, **(prefixed if prefixed.keys() <= before.keys() else {})}.items():
        where, words = f"spec.template.metadata.labels[{name}]", f"must be '{value}'"
        if name not in own:
            causes.append(required(where, words))
        elif own[name] != value:
            causes.append(invalid(where, own, words))


@call("job_name")
def _job_name(obj: Obj, _path: str, causes: list[Cause], _context: Context) -> None:
    spec, name = as_dict(obj.get("spec")), as_dict(obj.get("metadata")).get("name") or ""
    count = spec.get("completions")
    if spec.get("completionMode") == "Indexed" and count:
        pod = f"{name}-{count - 1}"
        if dns1123_label(pod):
            causes.append(invalid("metadata.name", name, f"will not able to create pod with invalid DNS label: {pod}"))


@call("exit_codes")
def _exit_codes(codes: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    values, where = codes.get("values"), f"{path}.values"
    if not values:
        causes.append(invalid(where, values, "at least one value is required"))
        return
    for index, one in enumerate(values):
        if codes.get("operator") == "In" and not one:
            causes.append(invalid(f"{where}[{index}]", 0, "must not be 0 for the In operator"))
        if one in values[:index]:
            causes.append(duplicate(f"{where}[{index}]", one))
    if sorted(values) != values:
        causes.append(invalid(where, values, "must be ordered"))


@call("cron_job_name")
def _cron_job_name(obj: Obj, _path: str, causes: list[Cause], context: Context) -> None:
    name = as_dict(obj.get("metadata")).get("name") or ""
    # The server leaves room for the 11 characters that it adds to the names of the Jobs.
    causes += [invalid("metadata.name", name, words) for words in at_most(name, 52) if context.new]


@call("schedule")
def _schedule(text: str, path: str, causes: list[Cause], _context: Context) -> None:
    if detail := problem(text):
        causes.append(invalid(path, text, detail))


@call("time_zone")
def _time_zone(text: str, path: str, causes: list[Cause], _context: Context) -> None:
    if not text:
        causes.append(invalid(path, text, "timeZone must be nil or non-empty string"))
        return
    try:
        known = text.lower() != "local" and zoneinfo.ZoneInfo(text) is not None
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        known = False
    if not known:
        causes.append(invalid(path, text, f"unknown time zone {text}"))


@call("success_indexes")
def _success_indexes(text: str, path: str, causes: list[Cause], context: Context) -> None:
    _, problem = _indexes(text, job_of(context).get("completions") or 0)
    if problem:
        causes.append(invalid(path, text, f"error parsing succeededIndexes: {problem}"))


@call("success_count")
def _success_count(rule: Obj, path: str, causes: list[Cause], context: Context) -> None:
    count, text, where = rule.get("succeededCount"), rule.get("succeededIndexes"), f"{path}.succeededCount"
    if count is None:
        return
    whole = job_of(context).get("completions") or 0
    if count > whole:
        detail = f"must be less than or equal to {whole} (the number of specified completions)"
        causes.append(invalid(where, count, detail))
    listed = _indexes(text, whole)[0] if text is not None else count
    if count > listed:
        detail = (
            f"must be less than or equal to {listed} (the number of indexes in the specified succeededIndexes field)"
        )
        causes.append(invalid(where, count, detail))


def _indexes(text: str, most: int) -> tuple[int, str]:
    """How many indexes a text such as "0-2,5" lists, and what is wrong with it: then it lists none."""
    count, last = 0, -1
    for interval in text.split(",") if text else ():
        ends = interval.split("-")
        if len(ends) > 2:
            words = "violates the requirement that an index interval can have at most two parts separated by '-'"
            return 0, f'the fragment "{interval}" {words}'
        before = last
        for end in ends:
            if not re.fullmatch(r"[+]?[0-9]+", end):
                return 0, f'cannot convert string to integer for index: "{end}"'
            if int(end) >= most:
                return 0, f'too large index: "{end}"'
            if int(end) <= last:
                return 0, f"non-increasing order, previous: {last}, current: {int(end)}"
            last = int(end)
        count += last - int(ends[0]) + 1 if before < last else 0
    return count, ""


@call("container_name")
def _container_name(text: str, path: str, causes: list[Cause], context: Context) -> None:
    spec = as_dict(as_dict(job_of(context).get("template")).get("spec"))
    names = [as_dict(one).get("name") for kind in ("containers", "initContainers") for one in as_list(spec.get(kind))]
    if text not in names:
        detail = "must be one of the container or initContainer names in the pod template"
        causes.append(invalid(path, text, detail))
