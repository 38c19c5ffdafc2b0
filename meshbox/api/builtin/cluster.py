# SPDX-License-Identifier: Apache-2.0
"""What no table tells of roles, certificates, nodes, events, scaling and the rest of a cluster's own objects."""

from __future__ import annotations

import base64
import re
from typing import Any

from labkit.ground.names import dns1123_subdomain, label_value, path_segment, qualified_name
from meshbox.api.builtin.internal import internal
from meshbox.api.builtin.rules import Context, call, check
from meshbox.api.builtin.well_formed import as_dict, as_list, label_selector
from meshbox.api.problems import Cause, duplicate, forbidden, invalid, required
from meshbox.contracts import Obj

__all__: list[str] = []

_PEM = b"-----BEGIN CERTIFICATE REQUEST-----"
_LEVELS = ("privileged", "baseline", "restricted")


@call("aggregated")
def _aggregated(selector: Any, path: str, causes: list[Cause], _context: Context) -> None:
    before = len(causes)
    label_selector(selector, path, causes)
    if len(causes) > before:
        causes.append(invalid(path, None, "invalid label selector."))


@call("pod_security")
def _pod_security(obj: Obj, _path: str, causes: list[Cause], _context: Context) -> None:
    labels, path = as_dict(as_dict(obj.get("metadata")).get("labels")), "metadata.labels"
    if any(label_value(text) for text in labels.values()):
        # The server asks this of labels that are sound.
        return
    for mode in ("enforce", "audit", "warn"):
        name = f"pod-security.kubernetes.io/{mode}"
        level, version = labels.get(name), labels.get(f"{name}-version")
        if level is not None and level not in _LEVELS:
            causes.append(invalid(f"{path}[{name}]", level, f"must be one of {', '.join(_LEVELS)}"))
        if version is not None and not re.fullmatch(r"latest|v1\.(0|[1-9][0-9]*)", version):
            causes.append(invalid(f"{path}[{name}-version]", version, 'must be "latest" or "v1.x"'))


@call("taints")
def _taints(taints: list[Any], path: str, causes: list[Cause], context: Context) -> None:
    seen: list[tuple[Any, Any]] = []
    for index, one in enumerate(taints):
        check("V1Taint", one, f"{path}[{index}]", causes, context)
        pair = one.get("key"), one.get("effect")
        if pair in seen:
            cause = duplicate(f"{path}[{index}]", internal("api.core.v1.Taint", one))
            causes.append({**cause, "message": f"{cause['message']}: taints must be unique by key and effect pair"})
        seen.append(pair)


_SYSTEM_PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


@call("priority")
def _priority(obj: Obj, _path: str, causes: list[Cause], _context: Context) -> None:
    name = as_dict(obj.get("metadata")).get("name") or ""
    value, error = _SYSTEM_PRIORITIES.get(name), ""
    if value is None:
        error = f"{name} is not a known system priority class"
    elif value != (obj.get("value") or 0):
        error = f"value of {name} PriorityClass must be {value}"
    elif obj.get("globalDefault"):
        error = f"globalDefault of {name} PriorityClass must be false"
    if name.startswith("system-") and error:
        detail = "priority class names with 'system-' prefix are reserved for system use only. "
        causes.append(forbidden("metadata.name", f"{detail}error: {error}"))
    if not name.startswith("system-") and (obj.get("value") or 0) > 10**9:
        detail = "maximum allowed value of a user defined priority is 1000000000"
        causes.append(forbidden("value", detail))


@call("certificate_request")
def _certificate_request(text: Any, path: str, causes: list[Cause], _context: Context) -> None:
    if _PEM not in base64.b64decode(text or ""):
        causes.append(invalid(path, text, "PEM block type must be CERTIFICATE REQUEST"))


@call("api_service")
def _api_service(obj: Obj, _path: str, causes: list[Cause], _context: Context) -> None:
    spec, name = as_dict(obj.get("spec")), as_dict(obj.get("metadata")).get("name") or ""
    group, version = spec.get("group") or "", spec.get("version") or ""
    if name and not path_segment(name) and name != f"{version}.{group}":
        detail = f'must be `spec.version+"."+spec.group`: "{version}.{group}"'
        causes.append(invalid("metadata.name", name, detail))


@call("local_bundle")
def _local_bundle(text: str, path: str, causes: list[Cause], _context: Context) -> None:
    causes.append(invalid(path, f"{len(base64.b64decode(text))} bytes", "local APIServices may not have a caBundle"))


@call("scaling_to_zero")
def _scaling_to_zero(spec: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    kinds = {as_dict(one).get("type") for one in as_list(spec.get("metrics"))}
    if spec.get("minReplicas") == 0 and not kinds & {"Object", "External"}:
        detail = "must specify at least one Object or External metric to support scaling to zero replicas"
        causes.append(forbidden(f"{path}.metrics", detail))


@call("api_group")
def _api_group(text: Any, path: str, causes: list[Cause], context: Context) -> None:
    text = text or ""
    # Only what is scaled has to have a group, and an old controller has none.
    scaled = as_dict(as_dict(context.whole.get("spec")).get("scaleTargetRef")).get("kind")
    old = "beta" in context.version or scaled == "ReplicationController" or "scaleTargetRef" not in path
    if text.count("/") > 1:
        causes.append(invalid(path, text, f"unexpected GroupVersion string: {text}"))
    elif not text.partition("/")[2] and not old:
        causes.append(invalid(path, text, "apiVersion must specify API group"))


_LONGEST = 128


@call("event")
def _event(event: Obj, _path: str, causes: list[Cause], context: Context) -> None:
    meta = as_dict(event.get("metadata"))
    namespace, involved = meta.get("namespace"), as_dict(event.get("involvedObject")).get("namespace") or ""
    new = context.version.startswith("events.k8s.io/")
    moment = event.get("eventTime") is not None
    if involved != namespace and (not moment or not involved) and (involved or namespace != "default"):
        causes.append(invalid("involvedObject.namespace", involved, "does not match event.namespace"))
    if moment or new:
        _reported(event, "reportingController" if new else "reportingComponent", causes)
    if new:
        _written_new(event, meta, causes)


def _reported(event: Obj, field: str, causes: list[Cause]) -> None:
    by = event.get("reportingComponent") or ""
    causes += [required(field)] if not by else []
    causes += [invalid(field, by, words) for words in qualified_name(by)]
    for name in ("reportingInstance", "action", "reason"):
        text = event.get(name) or ""
        if not text:
            causes.append(required(name))
        elif len(text) > _LONGEST:
            causes.append(invalid(name, "", f"can have at most {_LONGEST} characters"))


def _written_new(event: Obj, meta: Obj, causes: list[Cause]) -> None:
    """What is asked of those that are written as events.k8s.io/v1."""
    name, series, kind = meta.get("name") or "", event.get("series"), event.get("type") or ""
    causes += [invalid("metadata.name", name, words) for words in (dns1123_subdomain(name) if name else ())]
    if event.get("eventTime") is None:
        causes.append(required("eventTime"))
    if series is not None:
        if (series.get("count") or 0) < 2:
            causes.append(invalid("series.count", "", "should be at least 2"))
        if series.get("lastObservedTime") is None:
            causes.append(required("series.lastObservedTime"))
    if kind not in ("Normal", "Warning"):
        causes.append(invalid("type", "", f"has invalid value: {kind}"))
