# SPDX-License-Identifier: Apache-2.0
"""Probes that the injector leads to the proxy, which asks the application itself: the kubelet has no certificate."""

from __future__ import annotations

import json

from labkit.ground.int_or_string import named_port
from labkit.ground.numbers import whole
from meshbox.contracts import Obj

__all__ = ["rewrite_probes", "rewrites"]

_PROBES = (("readinessProbe", "readyz"), ("livenessProbe", "livez"), ("startupProbe", "startupz"))
_HOOKS = (("preStop", "prestopz"), ("postStart", "poststartz"))
_KINDS = ("httpGet", "tcpSocket", "grpc")
_PREFIX = "traffic.sidecar.istio.io/"


def rewrites(annotations: dict[str, str], default: object) -> bool:
    """Whether probes are led to the proxy: the annotation says so, else the installation."""
    said = annotations.get("sidecar.istio.io/rewriteAppHTTPProbers", "").lower()
    if said in ("1", "t", "true"):
        return True
    return False if said in ("0", "f", "false") else bool(default)


def rewrite_probes(containers: list[Obj], annotations: dict[str, str], port: int, *, legacy: bool = False) -> str:
    """Lead the probes of `containers` to the proxy's `port`, in place.

    Args:
        containers: All of the pod but the proxy.
        annotations: The pod's: ports that the proxy does not take are probed as they are.
        port: The proxy's status port.
        legacy: As Istio 1.2 does: readiness and liveness by HTTP only.

    Returns:
        Where the proxy asks the application, by path, as it is told in a variable; empty where nothing was led to it.
    """
    probers: Obj = {}
    for container in containers:
        path = f"/app-health/{container['name']}/"
        for key, word in _PROBES[:2] if legacy else _PROBES:
            if new := _led(container, container.get(key), path + word, annotations, port, probers, legacy):
                container[key] = new
        hooks, path = container.get("lifecycle") or {}, f"/app-lifecycle/{container['name']}/"
        for key, word in () if legacy else _HOOKS:
            if new := _led(container, hooks.get(key), path + word, annotations, port, probers, legacy):
                container["lifecycle"] = {**container["lifecycle"], key: new}
    return json.dumps(probers, separators=(",", ":")) if probers else ""


def _led(
    container: Obj, probe: Obj | None, path: str, annotations: dict[str, str], port: int, probers: Obj, legacy: bool
) -> Obj | None:
    kind = next((kind for kind in _KINDS if (probe or {}).get(kind) is not None), "")
    if probe is None or not kind or (legacy and kind != "httpGet"):
        return None
    action = probe[kind]
    number = named_port([container], action["port"])
    if number is None:
        number = whole(str(action["port"]))
    if number is None or number == port or not (legacy or _taken(number, annotations)):
        return None
    asked = {**action, "port": number}
    waits = {"timeoutSeconds": probe["timeoutSeconds"]} if probe.get("timeoutSeconds") else {}
    probers[path] = asked if legacy else {kind: asked, **waits}
    rest = {key: value for key, value in probe.items() if key not in _KINDS}
    return {**rest, "httpGet": {**(action if kind == "httpGet" else {}), "path": path, "port": port, "scheme": "HTTP"}}


def _taken(port: int, annotations: dict[str, str]) -> bool:
    """Whether the pod's annotations let the proxy take what comes to a port."""
    only = annotations.get(_PREFIX + "includeInboundPorts") or "*"
    if only != "*":
        return port in _ports(only)
    return port not in _ports(annotations.get(_PREFIX + "excludeInboundPorts", ""))


def _ports(text: str) -> set[int | None]:
    return {whole(part.strip()) for part in text.split(",")}
