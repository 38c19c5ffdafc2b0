# SPDX-License-Identifier: Apache-2.0
"""Istio's validation webhooks: what they refuse, and in which words."""

from __future__ import annotations

from collections.abc import Callable

import yaml

from meshbox.contracts import AdmissionRequest, ApiError, Obj, Objects
from meshbox.mesh import unplayed, webhooks
from meshbox.mesh.istio_validation import security, traffic, virtual_service
from meshbox.mesh.istio_validation.fields import decoding_problem
from meshbox.mesh.istio_validation.problems import Problems
from meshbox.mesh.pilot_metrics import MeshMonitor

__all__ = ["check", "denial", "validate"]

_CHECKS: dict[str, Callable[[Obj, Problems], None]] = {
    "VirtualService": virtual_service.check,
    "DestinationRule": traffic.destination_rule,
    "Gateway": traffic.gateway,
    "ServiceEntry": traffic.service_entry,
    "Sidecar": traffic.sidecar,
    "EnvoyFilter": traffic.envoy_filter,
    "Policy": security.policy,
    "MeshPolicy": security.policy,
    "PeerAuthentication": security.peer_authentication,
    "RequestAuthentication": security.request_authentication,
    "AuthorizationPolicy": security.authorization_policy,
    "Telemetry": security.telemetry,
}
_GROUPS = ("networking.istio.io", "security.istio.io", "authentication.istio.io", "telemetry.istio.io")


def check(obj: Obj, *, legacy: bool) -> Problems:
    """What is wrong with an object of Istio's; nothing for kinds that are not looked at."""
    problems = Problems(legacy=legacy)
    kind = obj.get("kind", "")
    problems.decoding = decoding_problem(kind, obj.get("spec"), legacy=legacy)
    if problems.decoding:
        problems.error(problems.decoding)
    elif kind in _CHECKS:
        _CHECKS[kind](obj, problems)
    return problems


def denial(obj: Obj, problems: Problems) -> str:
    """Why the webhook denies `obj`, with which these are the problems; empty where it does not."""
    if problems.decoding:
        shown = yaml.safe_dump(obj.get("spec") or {}, default_flow_style=False)
        return f"error decoding configuration: YAML decoding error: {shown} {problems.decoding}"
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
        said = [*problems.warnings, *(unplayed.warnings(request.object) if not legacy else ())]
        request.warnings.extend(w for w in said if w not in request.warnings)
        if why:
            # A webhook's denial carries no reason, so that kubectl says "Error from server: …".
            raise ApiError(400, "", f'admission webhook "{name}" denied the request: {why}')
