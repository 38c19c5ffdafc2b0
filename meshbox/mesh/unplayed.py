# SPDX-License-Identifier: Apache-2.0
"""What VirtualServices and Sidecars ask for that is not done here: said at once, so that nobody looks for a mistake.

Objects that no webhook has seen are looked at as well, so nothing of their form is taken for granted.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshbox.contracts import Obj
from meshbox.mesh.redirects import CODES

__all__ = ["sidecar", "virtual_service", "warnings"]


def sidecar(spec: Obj) -> Iterator[str]:
    """The parts of a Sidecar without effect."""
    for where in ("egress", "ingress"):
        for index, listener in enumerate(_maps(spec.get(where))):
            path = f"{where}[{index}]"
            if listener.get("captureMode") == "NONE":
                yield f"{path}.captureMode NONE (all calls are captured) has no effect"
            if listener.get("bind"):
                yield f"{path}.bind (a port is listened on at every address) has no effect"
            if where == "ingress" and str(listener.get("defaultEndpoint") or "").startswith("unix:"):
                yield f"{path} (its defaultEndpoint is a Unix socket) has no effect"
            if where == "ingress" and listener.get("tls"):
                yield f"{path}.tls has no effect"


def virtual_service(spec: Obj) -> Iterator[str]:
    """The parts of a VirtualService without effect."""
    for index, rule in enumerate(_maps(spec.get("http"))):
        redirect = rule.get("redirect")
        code = redirect.get("redirectCode") if isinstance(redirect, dict) else None
        if code and code not in CODES:
            yield f"http[{index}].redirect.redirectCode {code} (301 is sent) has no effect"
    for where in ("tcp", "tls"):
        for index, rule in enumerate(_maps(spec.get(where))):
            if any(match.get("sourceSubnet") for match in _maps(rule.get("match"))):
                yield f"{where}[{index}].match.sourceSubnet has no effect"


def warnings(obj: Obj) -> list[str]:
    """What is said to whoever writes such an object."""
    spec = obj.get("spec")
    look = {"Sidecar": sidecar, "VirtualService": virtual_service}.get(str(obj.get("kind")))
    return [f"{text} in the sandbox" for text in look(spec)] if look and isinstance(spec, dict) else []


def _maps(items: object) -> list[Obj]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
