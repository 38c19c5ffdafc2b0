# SPDX-License-Identifier: Apache-2.0
"""The control planes of both releases. What they do is done by the sandbox's mesh; these say that they are there."""

from __future__ import annotations

from meshbox.images.context import ContainerContext, Image, Launch, Runner

__all__ = ["IMAGES"]

_PROGRAMS = "meshbox.images.istio.components"


def _runner(entry: str) -> Runner:
    def run(context: ContainerContext) -> Launch:
        # Not at the top: pods' own processes load this module, and need none of what settings bring.
        from meshbox.settings import PAGES_PORT

        # The mesh, which does its work, also tells what was done.
        mesh = {
            "LABKIT_MESH": f"{context.settings.plan.node}:{PAGES_PORT}",
            "LABKIT_MESH_TOKEN": context.settings.xds_token,
        }
        return Launch(entry=f"{_PROGRAMS}:{entry}", argv=context.argv, env=mesh)

    return run


def _image(name: str, program: str, entry: str, *arguments: str, size: int) -> Image:
    return Image(
        repositories=tuple(f"{owner}/{name}" for owner in ("istio", "istio-release", "release", "istio-testing")),
        entrypoint=(f"/usr/local/bin/{program}", *arguments),
        programs={program: _runner(entry)},
        modules=(_PROGRAMS,),
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
