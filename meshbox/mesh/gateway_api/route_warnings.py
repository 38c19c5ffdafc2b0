# SPDX-License-Identifier: Apache-2.0
"""What of routes and their policies has no effect, though the schema takes it: whoever applies it is told at once."""

from __future__ import annotations

from collections.abc import Iterator

from meshbox.contracts import Objects, View
from meshbox.mesh.kinds import BACKEND_TLS_POLICIES, GRPC_ROUTES, HTTP_ROUTES, TCP_ROUTES, TLS_ROUTES

__all__ = ["route_warnings"]

_ROUTES = (HTTP_ROUTES, GRPC_ROUTES, TLS_ROUTES, TCP_ROUTES)
_ALPHA = "PILOT_ENABLE_ALPHA_GATEWAY_API"


def route_warnings(objects: Objects, resource: str, obj: View) -> Iterator[str]:
    """Warnings for whoever writes an object.

    Args:
        objects: The cluster's objects.
        resource: What it is.
        obj: The object.
    """
    spec = obj.get("spec") or {}
    if resource in _ROUTES and (spec.get("useDefaultGateways") or "None") != "None":
        yield "spec.useDefaultGateways has no effect: Istio does not play it; name the Gateway in spec.parentRefs"
    if resource in (HTTP_ROUTES, GRPC_ROUTES):
        for number, rule in enumerate(spec.get("rules") or []):
            if rule.get("sessionPersistence"):
                where = f"spec.rules[{number}].sessionPersistence"
                yield f"{where} has no effect: Istio does not play it; use consistentHash in a DestinationRule"
    if resource == TCP_ROUTES and not _alpha(objects):
        yield f"Istio plays TCPRoute only where istiod has {_ALPHA}=true; the sandbox plays it without"
    validation = spec.get("validation") or {}
    if resource == BACKEND_TLS_POLICIES and validation and not validation.get("subjectAltNames"):
        name = validation.get("hostname")
        why = f"Istio asks for {name}, and takes whoever the CA vouches for"
        yield f"spec.validation.hostname: {why}; name it in subjectAltNames to have it compared"
    if resource == BACKEND_TLS_POLICIES and spec.get("options"):
        yield "spec.options has no effect: Istio knows none"


def _alpha(objects: Objects) -> bool:
    """Whether istiod is told to play what is not yet stable."""
    istiod = objects.find("deployments.apps", "istiod", "istio-system") or {}
    pod = ((istiod.get("spec") or {}).get("template") or {}).get("spec") or {}
    return any(
        variable.get("name") == _ALPHA and variable.get("value") == "true"
        for container in pod.get("containers") or []
        for variable in container.get("env") or []
    )
