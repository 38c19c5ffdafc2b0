# SPDX-License-Identifier: Apache-2.0
"""What the parts of the node share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from msgspec import Struct

import meshbox
from meshbox.contracts import Objects, View
from meshbox.images import Image, ImageName
from meshbox.node.processes import Processes
from meshbox.settings import SandboxSettings

__all__ = ["SHIM", "NodeServices", "Timing", "image_id", "now"]

SHIM = Path(meshbox.__file__).parent / "images" / "shim"
"""The folder of what makes programs in pods find Services: a sitecustomize for Python, and bin/curl."""


def now() -> str:
    """The time, as objects carry it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def image_id(image: ImageName) -> str:
    """The image's name by digest; the digest is of its name, as there is no content."""
    digest = image.digest or "sha256:" + hashlib.sha256(f"{image.repository}:{image.tag}".encode()).hexdigest()
    return f"{image.registry}/{image.repository}@{digest}"


class Timing(Struct, frozen=True):
    """The node's clocks, in seconds; the defaults are Kubernetes' own.

    Args:
        backoff: Wait before the second restart of a container, or the second pull of an image; doubles each time.
        backoff_limit: The longest such wait. After twice this time without a restart the first wait counts again.
        retry: Wait before a volume or a reference that is missing is looked for again.
        heartbeat: Between renewals of the node's lease.
        eager: Whether a container that starts is probed at once and often until it is ready, beside its probe's own
            clock. Those clocks are made for images that take minutes to start; stand-ins take milliseconds.
    """

    backoff: float = 10.0
    backoff_limit: float = 300.0
    retry: float = 0.5
    heartbeat: float = 10.0
    eager: bool = True


class NodeServices(Struct, frozen=True):
    """What a pod's worker needs of its node.

    Args:
        objects: The cluster's objects.
        settings: The sandbox.
        timing: The clocks.
        processes: Starts processes.
        pull: Finds an image and lists it on the node; None if there is no such image.
        present: Whether an image is on the node.
        allocatable: What the node offers: resource → quantity.
        dns_file: The file with the cluster's names.
    """

    objects: Objects
    settings: SandboxSettings
    timing: Timing
    processes: Processes
    pull: Callable[[str], Image | None]
    present: Callable[[str], bool]
    allocatable: dict[str, str]
    dns_file: Path

    def event(
        self,
        pod: View,
        type: Literal["Normal", "Warning"],
        reason: str,
        message: str,
        field_path: str = "",
    ) -> None:
        """Record an event about `pod`, or about its container at `field_path`."""
        self.objects.event(pod, type, reason, message, "kubelet", field_path=field_path)
