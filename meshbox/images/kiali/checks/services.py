# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the ports of Services: no protocol in their names, no container that listens."""

from __future__ import annotations

from collections.abc import Iterator

from meshbox.images.kiali.checks.findings import Finding
from meshbox.images.kiali.mesh import Json, Mesh, has_proxy, selects

__all__ = ["ports"]

_PROTOCOLS = ("grpc", "http", "http2", "https", "mongo", "mysql", "redis", "tcp", "tls", "udp")


def ports(service: Json, mesh: Mesh) -> Iterator[Finding]:
    """What is wrong with a Service's ports."""
    spec, namespace = service["spec"], service["metadata"]["namespace"]
    selector, listed = spec.get("selector"), list(enumerate(spec.get("ports") or []))
    behind = [pod for pod in mesh.pods(namespace) if selects(selector, pod["metadata"].get("labels") or {})]
    if any(has_proxy(pod) for pod in behind):
        for index, port in listed:
            # The name only: `appProtocol` counts since 1.44.
            if port.get("protocol") != "UDP" and str(port.get("name", "")).partition("-")[0] not in _PROTOCOLS:
                yield Finding("KIA0601", f"spec/ports[{index}]")
    # The first of them only, and by its own labels, not its pods'.
    deployments = [one.object for one in mesh.workloads(namespace) if one.kind == "Deployment"]
    chosen = (one for one in deployments if selects(selector, one["metadata"].get("labels") or {}))
    deployment = next(chosen, None)
    if deployment:
        yield from (
            Finding("KIA0701", f"spec/ports[{index}]") for index, port in listed if not _listens(deployment, port)
        )


def _listens(deployment: Json, port: Json) -> bool:
    """Whether a container says that it listens on what a port of a Service leads to, by number or by name."""
    target = port.get("targetPort") or port.get("port")
    key = "name" if isinstance(target, str) else "containerPort"
    containers = deployment["spec"]["template"]["spec"].get("containers") or []
    return any(own.get(key) == target for one in containers for own in one.get("ports") or [])
