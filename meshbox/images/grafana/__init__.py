# SPDX-License-Identifier: Apache-2.0
"""The image of Grafana: the same dashboards at the same addresses, drawn by the helper's own code.

It runs as a program of its own, since a container's image may not know the helper.
"""

from __future__ import annotations

import json
import sys

from meshbox.images.context import ContainerContext, Image, Launch

__all__ = ["IMAGES"]


def _grafana(context: ContainerContext) -> Launch:
    mounts = {path: str(context.path(path)) for path in context.mounts}
    argv = (sys.executable, "-m", "grafana_figures.server")
    # A thread per connection would otherwise get memory of its own, and keep it.
    return Launch(argv=argv, env={"LABKIT_MOUNTS": json.dumps(mounts), "MALLOC_ARENA_MAX": "1"})


IMAGES = (
    Image(
        repositories=("grafana/grafana", "grafana/grafana-oss"),
        entrypoint=("/run.sh",),
        programs={"run.sh": _grafana, "grafana-server": _grafana, "grafana": _grafana},
        size=240_000_000,
        stands_in="draws the release's own dashboards with plotly",
    ),
)
