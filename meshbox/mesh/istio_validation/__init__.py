"""Istio's validation webhooks: what they refuse, and in which words."""

from __future__ import annotations

from collections.abc import Callable

import yaml

from meshbox.contracts import AdmissionRequest, ApiError, Obj, Objects
from meshbox.mesh import webhooks
from meshbox.mesh.istio_validation import security, traffic, virtual_service
from meshbox.mesh.istio_validation.fields import decoding_problem
from meshbox.mesh.istio_validation.problems import Problems
from meshbox.mesh.pilot_metrics import MeshMonitor
from meshbox.settings import SandboxSettings

__all__ = ["check", "refusal", "validate"]

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
    decoding = decoding_problem(kind, obj.get("spec"), legacy=legacy)
    if decoding:
        problems.error(decoding)
    elif kind in _CHECKS:
        _CHECKS[kind](obj, problems)
    return problems


def refusal(obj: Obj, *, legacy: bool) -> tuple[str, list[str]]:
    """Why the webhook denies `obj` (empty where it does not), and its warnings."""
    decoding = decoding_problem(obj.get("kind", ""), obj.get("spec"), legacy=legacy)
    if decoding:
        shown = yaml.safe_dump(obj.get("spec") or {}, default_flow_style=False)
        return f"error decoding configuration: YAML decoding error: {shown} {decoding}", []
    problems = check(obj, legacy=legacy)
    if not problems.errors:
        return "", problems.warnings
    return f"configuration is invalid: {problems.text()}", problems.warnings


def validate(
    objects: Objects, settings: SandboxSettings, request: AdmissionRequest, monitor: MeshMonitor | None = None
) -> None:
    """Refuse the write in `request` if a stored webhook of Istio's would; `monitor` counts what it says.

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
            raise webhooks.unavailable(objects, webhook, legacy=settings.legacy)
        why, warnings = refusal(request.object, legacy=settings.legacy)
        if monitor is not None:
            monitor.validated(request, why)
        request.warnings.extend(w for w in warnings if w not in request.warnings)
        if why:
            # A webhook's denial carries no reason, so that kubectl says "Error from server: …".
            raise ApiError(400, "", f'admission webhook "{name}" denied the request: {why}')
