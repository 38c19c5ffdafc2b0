# SPDX-License-Identifier: Apache-2.0
"""Images, from the pod's point of view: pulled, present, or not to be had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from meshbox import images
from meshbox.images import Image, ImageName
from meshbox.node.backoff import BackOff
from meshbox.node.services import NodeServices

if TYPE_CHECKING:
    from meshbox.typed.containers import Container

__all__ = ["Puller", "pull"]

_ERROR_SHOWN = 1.0
"""Seconds that ErrImagePull is shown before it becomes ImagePullBackOff."""


class Puller(Protocol):
    """The container that wants its image."""

    spec: Container

    def waiting(self, reason: str, message: str) -> None:
        """Show why it waits."""

    def normal(self, reason: str, message: str) -> None:
        """Record what went well."""

    def warning(self, reason: str, message: str) -> None:
        """Record what went wrong."""

    async def pause(self, seconds: float) -> bool:
        """Wait; False if the container is not wanted any more."""


async def pull(services: NodeServices, container: Puller) -> tuple[Image, ImageName] | None:
    """The container's image by its pull policy; one that is not to be had is tried again and again.

    Returns:
        The image and its name; None if the container is not wanted any more.
    """
    reference = str(container.spec.get("image", ""))
    tries = BackOff(services.timing.backoff, services.timing.backoff_limit)
    tries.wait()
    while True:
        try:
            name = ImageName.parse(reference)
        except ValueError as error:
            message = f'Failed to apply default image tag "{reference}": couldn\'t parse image name: {error}'
            container.waiting("InvalidImageName", message)
            container.warning("InspectFailed", message)
        else:
            policy = container.spec.get("imagePullPolicy") or ("Always" if name.tag == "latest" else "IfNotPresent")
            present = services.present(reference)
            if policy == "Never" and not present:
                message = f'Container image "{reference}" is not present with pull policy of Never'
                container.waiting("ErrImageNeverPull", message)
                container.warning("ErrImageNeverPull", message)
            elif image := _found(services, container, reference, present and policy != "Always"):
                return image, name
            elif not await _failed(container, reference, tries.wait()):
                return None
            else:
                continue
        if not await container.pause(tries.wait()):
            return None


def _found(services: NodeServices, container: Puller, reference: str, present: bool) -> Image | None:
    if not present:
        container.normal("Pulling", f'Pulling image "{reference}"')
    image = services.pull(reference)
    if image is not None and present:
        container.normal("Pulled", f'Container image "{reference}" already present on machine')
    elif image is not None:
        took = "" if services.settings.legacy else f" in 1ms (1ms including waiting). Image size: {image.size} bytes."
        container.normal("Pulled", f'Successfully pulled image "{reference}"{took}')
    return image


async def _failed(container: Puller, reference: str, wait: float) -> bool:
    alike = images.near(reference)
    nearest = f" (alike: {', '.join(alike)})" if alike else ""
    problem = f"not found: the sandbox pulls nothing, and plays no such image{nearest}; `labkit image list` shows all, "
    problem = (
        f'failed to pull and unpack image "{reference}": {problem}`labkit image add` runs a program of yours as it'
    )
    container.warning("Failed", f'Failed to pull image "{reference}": {problem}')
    container.warning("Failed", "Error: ErrImagePull")
    container.waiting("ErrImagePull", problem)
    shown = min(wait / 2, _ERROR_SHOWN)
    if not await container.pause(shown):
        return False
    container.normal("BackOff", f'Back-off pulling image "{reference}"')
    container.warning("Failed", "Error: ImagePullBackOff")
    container.waiting("ImagePullBackOff", f'Back-off pulling image "{reference}": ErrImagePull: {problem}')
    return await container.pause(wait - shown)
