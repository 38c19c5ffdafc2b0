"""The control planes of both releases. What they do is done by the sandbox's mesh; these say that they are there."""

from __future__ import annotations

from labkit.sandbox.images.context import Image

__all__ = ["IMAGES"]

_PROGRAMS = "labkit.sandbox.images.istio.components"


def _image(name: str, program: str, entry: str, *arguments: str, size: int) -> Image:
    return Image(
        repositories=tuple(f"{owner}/{name}" for owner in ("istio", "istio-release", "release", "istio-testing")),
        entrypoint=(f"/usr/local/bin/{program}", *arguments),
        programs={program: f"{_PROGRAMS}:{entry}"},
        size=size,
        stands_in="health, version and metrics pages; the sandbox's mesh does the work",
    )


IMAGES = (
    _image("pilot", "pilot-discovery", "pilot", size=315_000_000),
    _image("mixer", "mixs", "mixer", "server", size=83_000_000),
    _image("citadel", "istio_ca", "citadel", size=54_000_000),
    _image("galley", "galley", "galley", size=66_000_000),
    _image("sidecar_injector", "sidecar-injector", "injector", size=51_000_000),
)
