# SPDX-License-Identifier: Apache-2.0
"""What an object asks for and does not get here, where it takes more than a look at one field (`unplayed.py`)."""

from __future__ import annotations

from collections.abc import Iterator

from meshbox.contracts import View
from meshbox.mesh import security_notices
from meshbox.mesh.envoy_filters import patches
from meshbox.mesh.inject.proxy_config import PROXY_CONFIGS
from meshbox.mesh.kinds import ENVOY_FILTERS, GATEWAYS, KUBERNETES_GATEWAYS, TRAFFIC_EXTENSIONS
from meshbox.mesh.proxy_fields import SIGNERS

__all__ = ["ambient", "notices"]

_SIDECARS = "pods come into the mesh by a sidecar (`istio-injection=enabled`)"
_AMBIENT = {
    "istio.io/dataplane-mode": f"the sandbox has no ambient mesh: {_SIDECARS}",
    "istio.io/use-waypoint": "the sandbox has no waypoints: sidecars do what they would",
}
"""Labels of the ambient mesh, with what is said to whoever writes them."""
_CLASSES = {
    "istio-waypoint": _AMBIENT["istio.io/use-waypoint"],
    "istio-east-west": _AMBIENT["istio.io/dataplane-mode"],
}


def ambient(resource: str, obj: View) -> Iterator[str]:
    """What an object asks of the ambient mesh, which is not played; "none" asks for nothing.

    Args:
        resource: What it is, as `Objects` names it.
        obj: It.
    """
    labels = obj["metadata"].get("labels") or {}
    for name, words in _AMBIENT.items():
        if labels.get(name, "none") != "none":
            yield f"label {name}: {labels[name]} has no effect: {words}"
    name = str((obj.get("spec") or {}).get("gatewayClassName")) if resource == KUBERNETES_GATEWAYS else ""
    if name in _CLASSES:
        yield f"gatewayClassName: {name} has no effect: {_CLASSES[name]}"


def notices(resource: str, obj: View, *, legacy: bool) -> Iterator[str]:
    """The words, for whoever wrote it.

    Args:
        resource: What it is, as `Objects` names it.
        obj: It.
        legacy: Whether Istio 1.2's rules apply.
    """
    yield from security_notices.unplayed(resource, obj)
    if legacy and resource == GATEWAYS:
        for index, server in enumerate((obj.get("spec") or {}).get("servers") or []):
            if ((server or {}).get("tls") or {}).get("credentialName"):
                # The demo profile's gateways have none; a learner takes what works here to a cluster where it does not.
                yield (
                    f"servers[{index}].tls.credentialName is served here; Istio 1.2's own gateways serve it only with "
                    "gateways.istio-ingressgateway.sds.enabled=true"
                )
    if resource == PROXY_CONFIGS:
        variables = (obj.get("spec") or {}).get("environmentVariables") or {}
        for name in filter(variables.get, SIGNERS):
            yield f"spec.environmentVariables.{name} has no effect in the sandbox: the mesh has one authority"
    if resource == TRAFFIC_EXTENSIONS:
        for index, match in enumerate((obj.get("spec") or {}).get("match") or []):
            if match.get("ports") and match.get("mode") != "SERVER":
                yield (
                    f"spec.match[{index}].ports: in the sandbox they count for what comes to an application, and "
                    "nothing that goes out has one of them"
                )
    if resource == ENVOY_FILTERS:
        for words in patches.unplayed(obj.get("spec"), legacy=legacy):
            yield f"{words} in the sandbox"
