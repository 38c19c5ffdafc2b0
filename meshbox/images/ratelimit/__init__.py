# SPDX-License-Identifier: Apache-2.0
"""Envoy's reference service of global rate limits, which Istio's task on rate limits runs beside a redis."""

from __future__ import annotations

from meshbox.images import libraries
from meshbox.images.context import ContainerContext, Image, Launch

__all__ = ["IMAGES"]


def _ratelimit(context: ContainerContext) -> Launch:
    # Its files are YAML, and are read anew when they change.
    return Launch(entry=f"{__name__}.server:main", argv=context.argv, env=libraries.lent("yaml"))


IMAGES = (
    Image(
        # The image has no entrypoint: who runs it names the program.
        repositories=("envoyproxy/ratelimit",),
        programs={"ratelimit": _ratelimit},
        size=45_000_000,
        stands_in="same limits over gRPC and JSON, counted in a redis, written in Python; configured by files",
    ),
)
