# SPDX-License-Identifier: Apache-2.0
"""What may be asked of the Gateway API and is not done here: a learner is told at once, and not left to wonder."""

from __future__ import annotations

from meshbox.contracts import View
from meshbox.mesh.gateway_api.classes import CONTROLLER, Classes
from meshbox.mesh.gateway_api.tls import idle_options
from meshbox.mesh.kinds import GATEWAY_API, KUBERNETES_GATEWAYS, LISTENER_SETS

__all__ = ["unplayed"]

_KINDS = {
    f"udproutes.{GATEWAY_API}": "UDPRoute",
    "xbackendtrafficpolicies.gateway.networking.x-k8s.io": "XBackendTrafficPolicy",
    "xmeshes.gateway.networking.x-k8s.io": "XMesh",
}
_ASK = "option gateway.istio.io/tls-terminate-mode: OPTIONAL_MUTUAL of a listener does"
_FIELDS = (("defaultScope",), ("tls", "backend"))
"""The fields of a Gateway's `spec` that nothing comes of."""


def unplayed(resource: str, obj: View) -> list[str]:
    """What of an object has no effect in the sandbox, as warnings.

    Args:
        resource: Its resource.
        obj: The object.
    """
    if kind := _KINDS.get(resource):
        return [f"{kind} has no effect in the sandbox"]
    if resource == LISTENER_SETS:
        return _options(obj)
    if resource != KUBERNETES_GATEWAYS or Classes(()).controller_of(obj) != CONTROLLER:
        return []
    found = _options(obj)
    for path in _FIELDS:
        value = obj.get("spec") or {}
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            found.append(f"spec.{'.'.join(path)} has no effect in the sandbox")
    frontend = ((obj.get("spec") or {}).get("tls") or {}).get("frontend") or {}
    ports = [(f"perPort[{number}].tls", one.get("tls")) for number, one in enumerate(frontend.get("perPort") or [])]
    for where, tls in (("default", frontend.get("default")), *ports):
        if ((tls or {}).get("validation") or {}).get("mode") == "AllowInsecureFallback":
            field = f"spec.tls.frontend.{where}.validation.mode"
            found.append(
                f"{field}: AllowInsecureFallback has no effect: Istio lets in nobody without a certificate; {_ASK}"
            )
    return found


def _options(obj: View) -> list[str]:
    return [
        f"spec.listeners[{number}].tls.options[{name}]: {why}"
        for number, listener in enumerate((obj.get("spec") or {}).get("listeners") or [])
        for name, why in idle_options(listener)
    ]
