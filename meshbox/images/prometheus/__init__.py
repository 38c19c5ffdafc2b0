# SPDX-License-Identifier: Apache-2.0
"""The image of Prometheus: the real program, told about this cluster over HTTP and kept from foreign web pages."""

from __future__ import annotations

from meshbox.images import libraries
from meshbox.images.context import ContainerContext, Image, Launch

__all__ = ["IMAGES"]


def _prometheus(context: ContainerContext) -> Launch:
    env = {
        "LABKIT_CLOCKS": "istio" if context.settings.real_clocks else "quick",
        **libraries.lent("yaml", "bcrypt"),
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
