# SPDX-License-Identifier: Apache-2.0
"""What a container's process is told: its command line, its environment, its addresses."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from meshbox.addresses import LOW_PORT_SHIFT
from meshbox.doors import CAPTURE_SOCKET
from meshbox.images import ContainerContext, Image, ImageName
from meshbox.interception import Interception
from meshbox.node.environment import container_env, expand
from meshbox.node.services import SHIM, NodeServices

if TYPE_CHECKING:
    from meshbox.typed.containers import Container
    from meshbox.typed.pods import Pod

__all__ = ["has_sidecar", "make_context"]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROXY = "istio-proxy"
_CAPTURE_PORT = 15001


def has_sidecar(pod: Pod) -> bool:
    """Whether the pod's other containers sit behind an Envoy sidecar, which takes the ports at the pod IP.

    The proxies of Istio 1.2's own pods are none: they have templates of their own, and their arguments do not say
    "sidecar".
    """
    everyone = _running(pod)
    proxy = next((item for item in everyone if item["name"] == _PROXY), None)
    return proxy is not None and "sidecar" in (proxy.get("args") or []) and len(everyone) > 1


def _running(pod: Pod) -> list[Container]:
    spec = pod["spec"]
    return [*spec["containers"], *(item for item in spec.get("initContainers") or [] if item.get("restartPolicy"))]


def _answers_dns(pod: Pod) -> bool:
    """Whether the pod's sidecar answers the DNS questions of its other containers."""
    variables = [one for item in _running(pod) if item["name"] == _PROXY for one in item.get("env") or []]
    return any(one.get("name") == "ISTIO_META_DNS_CAPTURE" and one.get("value") == "true" for one in variables)


def _hostname(pod: Pod) -> str:
    """The name of the pod's host: the node's where it is in the node's network, else its own."""
    spec = pod["spec"]
    own = spec.get("hostname") or pod["metadata"]["name"][:63].rstrip("-.")
    return spec.get("nodeName") or own if spec.get("hostNetwork") else own


def make_context(
    services: NodeServices,
    pod: Pod,
    container: Container,
    image: Image,
    root: Path,
    mounts: Mapping[str, Path],
    identity: str,
    init: bool,
) -> ContainerContext:
    """Everything about the container that its image's runner may ask for.

    Raises:
        ConfigError: its environment refers to something that is missing.
    """
    settings, pod_ip = services.settings, pod["status"]["podIP"]
    local_ip = settings.plan.local(pod_ip) if pod_ip != settings.plan.node else pod_ip
    behind = has_sidecar(pod) and container["name"] != _PROXY
    bind = local_ip if behind else pod_ip
    base = {
        # The shim's curl stands before the machine's; the sandbox's own programs come last.
        "PATH": f"{SHIM / 'bin'}:{_PATH}:{Path(sys.executable).parent}",
        "HOSTNAME": _hostname(pod),
        "HOME": str(root / "root"),
        "TMPDIR": str(root / "tmp"),
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(SHIM),
        **image.env,
    }
    name = ImageName.parse(container["image"])
    own = {
        "LABKIT_SANDBOX": str(settings.home),
        "LABKIT_CONTAINER": identity,
        "LABKIT_IMAGE": str(name),
        "LABKIT_ROOT": str(root),
        "LABKIT_POD_IP": pod_ip,
        "LABKIT_LOCAL_IP": local_ip,
        "LABKIT_BIND": bind,
        "LABKIT_DNS": str(services.dns_file),
        "LABKIT_SHIM": str(SHIM),
        "LABKIT_NAMESPACE": pod["metadata"].get("namespace", "default"),
        "LABKIT_LOW_PORT_SHIFT": "0" if settings.plan.low_ports else str(LOW_PORT_SHIFT),
    }
    if behind:
        own["LABKIT_CAPTURE"] = f"{local_ip}:{_CAPTURE_PORT}"
        # The root of the sidecar stands beside this container's.
        own["LABKIT_CAPTURE_SOCKET"] = str(root.parent.parent / _PROXY / root.name / CAPTURE_SOCKET)
        if _answers_dns(pod):
            own["LABKIT_DNS_CAPTURE"] = "true"
        if exceptions := Interception.of(pod["spec"]).written():
            own["LABKIT_INTERCEPTION"] = exceptions
    env = container_env(services.objects, pod, container, base, services.allocatable) | own
    argv = image.command_line(
        [expand(part, env) for part in container.get("command") or []],
        [expand(part, env) for part in container.get("args") or []],
    )
    return ContainerContext(
        pod=pod,
        container=container,
        image=name,
        argv=argv,
        env=env,
        settings=settings,
        pod_ip=pod_ip,
        local_ip=local_ip,
        bind=bind,
        root=root,
        mounts=mounts,
        init=init,
    )
