# SPDX-License-Identifier: Apache-2.0
"""GatewayClasses: which Gateways are Istio's to play, and the classes that istiod makes itself."""

from __future__ import annotations

from collections.abc import Iterable

from meshbox.contracts import Obj, View

__all__ = ["BUILTIN", "CONTROLLER", "REMOTE", "Classes", "made"]

CONTROLLER = "istio.io/gateway-controller"
REMOTE = "istio.io/unmanaged-gateway"
"""Of Gateways that are played by somebody else's control plane."""

BUILTIN = {"istio": CONTROLLER, "istio-remote": REMOTE}
"""The classes that istiod makes, and takes as its own even while they are missing."""

_DESCRIPTIONS = {
    CONTROLLER: "The default Istio GatewayClass",
    REMOTE: "Remote to this cluster. Does not deploy or affect configuration.",
}


class Classes:
    """Who plays each class.

    Args:
        classes: The GatewayClasses.
    """

    def __init__(self, classes: Iterable[View]) -> None:
        self._known: dict[str, str] = BUILTIN | {
            one["metadata"]["name"]: one["spec"]["controllerName"] for one in classes
        }

    def controller_of(self, gateway: View) -> str:
        """The name of the controller that plays a Gateway; "" where nobody is known to."""
        return self._known.get(gateway["spec"]["gatewayClassName"], "")


def made(name: str) -> Obj:
    """A class as istiod makes it."""
    controller = BUILTIN[name]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": name},
        "spec": {"controllerName": controller, "description": _DESCRIPTIONS[controller]},
    }
