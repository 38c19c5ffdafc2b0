# SPDX-License-Identifier: Apache-2.0
"""The Node object: who the node is, what it offers, which images are on it.

Images "on the node" are those pods have run; they are listed in `status.images`, as on any node. To remove some, write
their names, separated by commas, into the node's annotation `labkit.dev/remove-images`; the node drops those that no
pod uses, records an event, and removes the annotation:

    kubectl annotate node NAME labkit.dev/remove-images=docker.io/istio/pilot:1.2.0,docker.io/istio/mixer:1.2.0
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import platform
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from labkit.ground.errors import LabError
from meshbox import failures, images
from meshbox.contracts import ApiError, Obj, Objects
from meshbox.healing import KEEPER_LOST
from meshbox.images import Image, ImageName
from meshbox.node.services import Timing, image_id, now
from meshbox.settings import SandboxSettings

__all__ = ["REMOVE_IMAGES", "Registration", "capacity"]

REMOVE_IMAGES = "labkit.dev/remove-images"
"""Annotation of the Node with the images to remove from it."""

log = logging.getLogger(__name__)

_LEASE_SECONDS = 40
_MOST_PODS = 250
_STATUS_EVERY = 30


def capacity() -> dict[str, str]:
    """This machine's cores and memory, as a Node tells them."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024
    disk = os.statvfs("/")
    return {
        "cpu": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory}Ki",
        "ephemeral-storage": f"{disk.f_blocks * disk.f_frsize // 1024}Ki",
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
        "pods": str(_MOST_PODS),
    }


class Registration:
    """Keeps the Node object and its Lease.

    Args:
        objects: The cluster's objects.
        settings: The sandbox.
        timing: The node's clocks.
        in_use: The images that pods on the node run, by full name.
    """

    def __init__(
        self, objects: Objects, settings: SandboxSettings, timing: Timing, in_use: Callable[[], Iterable[str]]
    ) -> None:
        self._objects = objects
        self._settings = settings
        self._timing = timing
        self._in_use = in_use
        self.allocatable = capacity()
        self._images: dict[str, Image] = {}
        self._beats = 0

    def register(self) -> None:
        """Create the Node, or take it over from an earlier run with the images on it."""
        name = self._settings.node_name
        node = self._objects.find("nodes", name)
        if node is None:
            node = self._objects.create("nodes", self._new(), manager="kubelet")
        for entry in (node.get("status") or {}).get("images") or []:
            for reference in entry.get("names") or []:
                # Anybody may write a node's status, names that are none of images included.
                with contextlib.suppress(ValueError):
                    if "@" not in reference and (image := images.find(reference)):
                        self._images[reference] = image
        self._write_status()
        self._event("Normal", "Starting", "Starting kubelet.")
        self._event("Normal", "NodeReady", f"Node {name} status is now: NodeReady")

    async def beat(self) -> None:
        """Renew the lease until cancelled."""
        while True:
            with failures.spared(self._not_beaten), contextlib.suppress(LabError):
                if self._objects.find("nodes", self._settings.node_name) is None:
                    self.register()
                self._renew()
                self._beats += 1
                if self._beats % _STATUS_EVERY == 0:
                    self._write_status()
            await asyncio.sleep(self._timing.heartbeat)

    def _not_beaten(self, error: BaseException) -> None:
        failures.report_here(self._objects, error, "the node's lease and status were not renewed", "kubelet")

    def keeper_lost(self) -> None:
        """Say that the pods' processes have ended all at once, and why: `labkit status` reads this event."""
        self._event("Warning", KEEPER_LOST, "the keeper of the pods' processes ended; all containers are started anew")

    def stopped(self) -> None:
        """Say that the node is no longer ready."""
        with contextlib.suppress(LabError):
            self._write_status(ready=False)

    def present(self, reference: str) -> bool:
        """Whether the image is on the node."""
        return str(ImageName.parse(reference)) in self._images

    def pull(self, reference: str) -> Image | None:
        """The image, now listed on the node; None if there is none of that name."""
        image = images.find(reference)
        name = str(ImageName.parse(reference))
        if image is not None and name not in self._images:
            self._images[name] = image
            # A few dozen images come together when a release is installed: one write for all.
            asyncio.get_running_loop().call_later(0.05, self._write_status)
        return image

    def changed(self) -> None:
        """Act on the annotation that asks to remove images, if the Node has it now."""
        node = self._objects.find("nodes", self._settings.node_name)
        asked = ((node or {}).get("metadata", {}).get("annotations") or {}).get(REMOVE_IMAGES)
        if asked is None:
            return
        # First, so that no change made below is taken for another request.
        patch = {"metadata": {"annotations": {REMOVE_IMAGES: None}}}
        self._objects.patch("nodes", self._settings.node_name, patch, manager="kubelet")
        used = set(self._in_use())
        for reference in filter(None, (part.strip() for part in asked.split(","))):
            self._remove(reference, used)
        self._write_status()

    def _remove(self, reference: str, used: set[str]) -> None:
        try:
            name = str(ImageName.parse(reference))
        except ValueError as error:
            self._event("Warning", "ImageRemovalFailed", str(error))
            return
        if name in used:
            self._event("Warning", "ImageRemovalFailed", f'Image "{name}" is used by a pod on this node')
        elif self._images.pop(name, None) is None:
            self._event("Warning", "ImageRemovalFailed", f'No such image on this node: "{name}"')
        else:
            self._event("Normal", "ImageRemoved", f'Removed image "{name}"')

    def _event(self, type: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        node = self._objects.find("nodes", self._settings.node_name)
        if node is not None:
            self._objects.event(node, type, reason, message, "kubelet")

    def _new(self) -> Obj:
        name = self._settings.node_name
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": machine}
        labels |= {f"beta.{key}": labels[key] for key in ("kubernetes.io/os", "kubernetes.io/arch")}
        annotations = {
            "node.alpha.kubernetes.io/ttl": "0",
            "volumes.kubernetes.io/controller-managed-attach-detach": "true",
        }
        cidr = str(self._settings.plan.pod_cidr)
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels, "annotations": annotations},
            "spec": {"podCIDR": cidr, "podCIDRs": [cidr], "providerID": f"labkit://{name}"},
        }

    def _write_status(self, ready: bool = True) -> None:
        try:
            node = self._objects.get("nodes", self._settings.node_name)
            old = node.get("status") or {}
            status = self._status(old.get("conditions") or [], ready)
            if status != old:
                self._objects.update("nodes", {**node, "status": status}, subresource="status", manager="kubelet")
        except LabError as error:
            log.warning("status of the node: %s", error)

    def _status(self, old: list[Obj], ready: bool) -> Obj:
        settings = self._settings
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        runtime = "docker://18.9.9" if settings.legacy else "containerd://2.1.0"
        info = {
            "architecture": machine,
            "bootID": _line("/proc/sys/kernel/random/boot_id"),
            "containerRuntimeVersion": f"{runtime}+labkit",
            "kernelVersion": platform.release(),
            "kubeProxyVersion": settings.kubernetes_version,
            "kubeletVersion": settings.kubernetes_version,
            "machineID": _line("/etc/machine-id"),
            "operatingSystem": "linux",
            "osImage": _os_image(),
            "systemUUID": _line("/etc/machine-id"),
        }
        addresses = [
            {"type": "InternalIP", "address": settings.plan.node},
            {"type": "Hostname", "address": settings.node_name},
        ]
        return {
            "addresses": addresses,
            "allocatable": self.allocatable,
            "capacity": self.allocatable,
            "conditions": _conditions(old, ready),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "images": [
                {"names": [image_id(ImageName.parse(name)), name], "sizeBytes": image.size}
                for name, image in sorted(self._images.items(), key=lambda item: (-item[1].size, item[0]))
            ],
            "nodeInfo": info,
        }

    def _renew(self) -> None:
        name = self._settings.node_name
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": name, "leaseDurationSeconds": _LEASE_SECONDS, "renewTime": moment}
        try:
            self._objects.patch(
                "leases.coordination.k8s.io", name, {"spec": spec}, "kube-node-lease", manager="kubelet"
            )
        except ApiError as error:
            if error.code != 404:
                raise
            lease = {"metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": spec}
            self._objects.create("leases.coordination.k8s.io", lease, "kube-node-lease", manager="kubelet")


def _conditions(old: list[Obj], ready: bool) -> list[Obj]:
    words = {
        "MemoryPressure": ("False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        "DiskPressure": ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        "PIDPressure": ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        "Ready": ("True", "KubeletReady", "kubelet is posting ready status"),
    }
    if not ready:
        words["Ready"] = ("False", "KubeletNotReady", "the sandbox is stopped")
    known, moment, out = {item["type"]: item for item in old}, now(), []
    for kind, (status, reason, message) in words.items():
        before = known.get(kind)
        since = before["lastTransitionTime"] if before and before["status"] == status else moment
        times = {"lastHeartbeatTime": moment, "lastTransitionTime": since}
        out.append({"type": kind, "status": status, **times, "reason": reason, "message": message})
    return out


def _line(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text().strip()
    return ""


def _os_image() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/etc/os-release").read_text().splitlines():
            if line.startswith("PRETTY_NAME="):
                value = line.partition("=")[2]
                return str(json.loads(value)) if value.startswith('"') else value
    return "Linux"
