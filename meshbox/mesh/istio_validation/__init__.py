# SPDX-License-Identifier: Apache-2.0
"""Istio's validation webhooks: what they refuse, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from meshbox.contracts import AdmissionRequest, ApiError, Obj, Objects
from meshbox.mesh import webhooks
from meshbox.mesh.istio_validation import (
    authorization,
    destination_rule,
    extensions,
    gateway,
    rbac,
    security,
    service_entry,
    sidecar,
    telemetry,
    virtual_service,
)
from meshbox.mesh.istio_validation.fields import decoding_problem
from meshbox.mesh.istio_validation.problems import Problems
from meshbox.mesh.istio_validation.texts import quoted
from meshbox.mesh.pilot_metrics import MeshMonitor

__all__ = ["check", "denial", "looked_at", "validate"]

_CHECKS: dict[str, Callable[[Obj, Problems], None]] = {
    "VirtualService": virtual_service.check,
    "DestinationRule": destination_rule.check,
    "Gateway": gateway.check,
    "ServiceEntry": service_entry.check,
    "Sidecar": sidecar.check,
    "EnvoyFilter": extensions.envoy_filter,
    "Policy": security.policy,
    "MeshPolicy": security.policy,
    "ServiceRole": rbac.role,
    "ServiceRoleBinding": rbac.role_binding,
    "ClusterRbacConfig": rbac.config,
    "RbacConfig": rbac.config,
    "PeerAuthentication": security.peer_authentication,
    "RequestAuthentication": security.request_authentication,
    "AuthorizationPolicy": authorization.check,
    "Telemetry": telemetry.check,
    "WorkloadEntry": service_entry.workload_entry,
    "WorkloadGroup": service_entry.workload_group,
    "ProxyConfig": extensions.proxy_config,
    "WasmPlugin": extensions.wasm_plugin,
    "TrafficExtension": extensions.traffic_extension,
}
_GROUPS = (
    "networking.istio.io",
    "security.istio.io",
    "authentication.istio.io",
    "rbac.istio.io",
    "telemetry.istio.io",
    "extensions.istio.io",
)

_DRY_RUN = "istio.io/dry-run"
_ALWAYS, _PARENTS = "internal.istio.io/webhook-always-reject", "internal.istio.io/parents"
_MARKS = (_DRY_RUN, _ALWAYS, _PARENTS, gateway.SEMANTICS)
_BOOLEANS = ("1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False")


def looked_at(obj: Obj) -> dict[str, str]:
    """What of an object's metadata, besides its names, a check depends on."""
    meta = obj["metadata"]
    marks, labels = meta.get("annotations") or {}, meta.get("labels") or {}
    found = {name: str(marks[name]) for name in _MARKS if name in marks}
    if service_entry.AUTO_ALLOCATE in labels:
        found[service_entry.AUTO_ALLOCATE] = str(labels[service_entry.AUTO_ALLOCATE])
    return found


def check(obj: Obj, *, legacy: bool) -> Problems:
    """What is wrong with an object of Istio's; nothing for kinds that are not looked at."""
    problems = Problems(legacy=legacy)
    kind = obj.get("kind", "")
    problems.decoding = decoding_problem(kind, obj.get("spec"), legacy=legacy)
    if problems.decoding:
        problems.error(problems.decoding)
    elif kind in _CHECKS:
        refusal = "" if legacy else _metadata_problem(obj)
        if refusal:
            problems.error(refusal)
        else:
            # To today's decoder a list without anything is no list; Istio 1.2's kept it.
            _CHECKS[kind](obj if legacy else {**obj, "spec": _filled(obj.get("spec"))}, problems)
    return problems


def _filled(value: Any) -> Any:
    """A value without the empty lists in it."""
    if isinstance(value, dict):
        return {key: _filled(one) for key, one in value.items() if one != []}
    return [_filled(one) for one in value] if isinstance(value, list) else value


def _metadata_problem(obj: Obj) -> str:
    """Why an annotation refuses an object, whatever else it says."""
    meta = obj["metadata"]
    marks = meta.get("annotations") or {}
    name = f"{meta.get('namespace') or ''}/{meta.get('name') or ''}"
    if _DRY_RUN in marks:
        action, value = (obj.get("spec") or {}).get("action") or "ALLOW", marks[_DRY_RUN]
        if obj.get("kind") != "AuthorizationPolicy":
            return f"{name} has unsupported annotation {_DRY_RUN}, please remove the annotation"
        if action not in ("ALLOW", "DENY"):
            only = f"the annotation {_DRY_RUN} currently only supports action ALLOW/DENY"
            return f"{only}, found action {action} in {name}"
        if value not in _BOOLEANS:
            why = f"strconv.ParseBool: parsing {quoted(value)}: invalid syntax"
            return f"{name} has annotation {_DRY_RUN} with invalid value ({value}): {why}"
    if _ALWAYS in marks:
        return f"{quoted(_ALWAYS)} annotation found, rejecting"
    return f"{quoted(_PARENTS)} annotation found, this may not be set by users" if _PARENTS in marks else ""


def denial(obj: Obj, problems: Problems) -> str:
    """Why the webhook denies `obj`, with which these are the problems; empty where it does not."""
    if problems.decoding:
        shown = yaml.safe_dump(obj.get("spec") or {}, default_flow_style=False)
        where = f"YAML decoding error: {shown} " if problems.legacy else ""
        return f"error decoding configuration: {where}{problems.decoding}"
    return f"configuration is invalid: {problems.text()}" if problems.errors else ""


def validate(
    objects: Objects,
    request: AdmissionRequest,
    verdict: Callable[[Obj], Problems],
    monitor: MeshMonitor,
    *,
    legacy: bool,
) -> None:
    """Refuse the write in `request` if a stored webhook of Istio's would.

    Args:
        objects: The cluster's objects.
        request: The write.
        verdict: Says what is wrong with an object.
        monitor: Counts what is said.
        legacy: Whether Istio 1.2 speaks.

    Raises:
        ApiError: 400 as the API server passes on a webhook's denial; 500 where the webhook cannot be reached.
    """
    group = request.resource.partition(".")[2]
    if request.operation == "DELETE" or request.subresource or group not in _GROUPS:
        return
    for webhook in webhooks.matching(objects, webhooks.VALIDATING, request):
        name = str(webhook.get("name", ""))
        if not name.endswith("validation.istio.io"):
            continue
        if not webhooks.available(objects, webhook):
            if webhook.get("failurePolicy") == "Ignore":
                continue
            raise webhooks.unavailable(objects, webhook, legacy=legacy)
        problems = verdict(request.object)
        why = denial(request.object, problems)
        monitor.validated(request, why)
        if why:
            # A webhook's denial carries no reason, so that kubectl says "Error from server: …".
            raise ApiError(400, "", f'admission webhook "{name}" denied the request: {why}')
        request.warnings.extend(w for w in problems.warnings if w not in request.warnings)
