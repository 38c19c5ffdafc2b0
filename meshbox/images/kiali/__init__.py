# SPDX-License-Identifier: Apache-2.0
"""The image of Kiali: its real console over an API of our own, computed from Prometheus and the Kubernetes API."""

from __future__ import annotations

import json

from labkit.ground import config
from meshbox.images import libraries
from meshbox.images.context import ContainerContext, Image, Launch

__all__ = ["IMAGES"]

CONSOLE = "kiali-ui-1.31.0"
"""The folder below $LABKIT_HOME/tools where `labkit setup` leaves the console."""


def _kiali(context: ContainerContext) -> Launch:
    mounts = {path: str(context.path(path)) for path in context.mounts}
    env = {
        **libraries.lent("yaml"),
        "LABKIT_MOUNTS": json.dumps(mounts),
        "LABKIT_CONSOLE": str(config.home() / "tools" / CONSOLE / "build"),
        "LABKIT_RELEASE": context.settings.release,
        "LABKIT_CLOCKS": "istio" if context.settings.real_clocks else "quick",
    }
    return Launch(entry="meshbox.images.kiali.server:main", argv=context.argv, env=env)


IMAGES = (
    Image(
        repositories=("kiali/kiali",),
        entrypoint=("/opt/kiali/kiali",),
        programs={"kiali": _kiali},
        size=150_000_000,
        stands_in="Kiali's real console over an API of the workshop's own",
    ),
)
