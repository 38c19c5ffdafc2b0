# SPDX-License-Identifier: Apache-2.0
"""Which pods stand behind a Service, on which ports."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, cast

from msgspec import Struct

from labkit.ground.int_or_string import target_port
from labkit.ground.labels import written
from meshbox.controllers.meta import Context
from meshbox.controllers.pods import is_finished, is_ready, is_terminating

if TYPE_CHECKING:
    from meshbox.typed.jobs import ObjectReference
    from meshbox.typed.pods import Pod
    from meshbox.typed.services import Service

__all__ = ["Backend", "Port", "backends", "publishes_not_ready"]


class Port(Struct, frozen=True, order=True):
    """A port of a Service as one of its pods serves it."""

    name: str
    number: int
    protocol: str
    app_protocol: str = ""


class Backend(Struct, frozen=True):
    """One pod behind a Service.

    Args:
        pod: The pod.
        ip: Its address.
        ports: The Service's ports that it serves, in the Service's order.
        ready: Whether its Ready condition is true.
        terminating: Whether it is being deleted.
    """

    pod: Pod
    ip: str
    ports: tuple[Port, ...]
    ready: bool
    terminating: bool

    def target(self) -> ObjectReference:
        """The reference to the pod."""
        meta = self.pod["metadata"]
        return {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}

    def hostname(self, service: Service) -> str:
        """The name under which a headless Service's DNS shows the pod."""
        spec = self.pod["spec"]
        if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
            return str(spec["hostname"])
        return ""


def publishes_not_ready(service: Service) -> bool:
    """Whether pods of the Service count from the moment they have an address."""
    annotations = service["metadata"].get("annotations") or {}
    return (
        bool(service["spec"].get("publishNotReadyAddresses"))
        or annotations.get("service.alpha.kubernetes.io/tolerate-unready-endpoints") == "true"
    )


def backends(context: Context, service: Service) -> list[Backend]:
    """The pods that the Service selects and that have an address, by address."""
    selector = written({"matchLabels": service["spec"]["selector"]})
    found = []
    for pod in cast("list[Pod]", context.objects.view("pods", service["metadata"]["namespace"], labels=selector)):
        ip = (pod.get("status") or {}).get("podIP")
        if not ip or is_finished(pod):
            continue
        ports = []
        for port in service["spec"].get("ports") or ():
            number = target_port(port, pod["spec"])
            if number is not None:
                ports.append(
                    Port(port.get("name", ""), number, port.get("protocol", "TCP"), port.get("appProtocol", ""))
                )
        if not ports and service["spec"].get("ports"):
            continue
        found.append(Backend(pod, ip, tuple(ports), is_ready(pod), is_terminating(pod)))
    return sorted(found, key=lambda backend: ipaddress.ip_address(backend.ip))
