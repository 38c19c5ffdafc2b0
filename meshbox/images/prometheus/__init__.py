# SPDX-License-Identifier: Apache-2.0
"""The image of Prometheus: the real program, told about this cluster over HTTP and kept from foreign web pages."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from meshbox.images.context import ContainerContext, Image, Launch

__all__ = ["IMAGES"]


_LIBRARIES = ("yaml", "bcrypt")
_find = importlib.util.find_spec


def _prometheus(context: ContainerContext) -> Launch:
    # Pods are forked from a Python that knows the standard library and labkit only.
    libraries = {str(Path(spec.origin).parents[1]) for name in _LIBRARIES if (spec := _find(name)) and spec.origin}
    env = {
        "LABKIT_CLOCKS": "istio" if context.settings.real_clocks else "quick",
        "LABKIT_LIBRARIES": ":".join(sorted(libraries)),
        "LABKIT_METRICS": "mixer" if context.settings.legacy else "sidecars",
        # Go collects once the heap has grown by so many percent: at 100, its own, this one holds some 14 MiB more.
        "GOGC": context.env.get("GOGC", "40"),
    }
    return Launch(entry="meshbox.images.prometheus.server:main", argv=context.argv, env=env)


IMAGES = (
    Image(
        repositories=("prom/prometheus", "prometheus/prometheus"),
        entrypoint=("/bin/prometheus",),
        programs={"prometheus": _prometheus},
        size=320_000_000,
        stands_in="the real Prometheus; service discovery is handed to it over HTTP",
    ),
)
