# SPDX-License-Identifier: Apache-2.0
"""What a Grafana pod is given: dashboards and datasources, from the files mounted into it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from grafana_figures import Grafana
from grafana_figures.dashboard import Dashboard, Source, dashboards_in, sources_in
from labkit.ground.errors import LabError

__all__ = ["Pod"]

DASHBOARDS = "/var/lib/grafana/dashboards"
DATASOURCES = "/etc/grafana/provisioning/datasources"
_NOBODY = "http://127.0.0.1:9090"
_LOOK_AGAIN = 2.0


class _Linked(Grafana):
    """Grafana whose tables lead to its own pages."""

    def link(self, address: str) -> str:
        """The address of a dashboard, as seen from any page: the page completes it."""
        return address if address.startswith("/") and not address.startswith("//") else ""


class Pod:
    """The dashboards of a pod, read again when a file changes.

    Args:
        mounts: Path inside the container → where it really is.
    """

    def __init__(self, mounts: Mapping[str, str]) -> None:
        self._mounts = {path: Path(real) for path, real in mounts.items()}
        self._grafana: _Linked | None = None
        self._stamp: tuple[tuple[str, int, int], ...] = ()
        self._looked = 0.0

    @classmethod
    def of_environment(cls, environ: Mapping[str, str] = os.environ) -> Pod:
        """The pod that this process runs in: LABKIT_MOUNTS is JSON, path → where it really is."""
        return cls(json.loads(environ.get("LABKIT_MOUNTS") or "{}"))

    @property
    def grafana(self) -> Grafana:
        """What draws the dashboards as they are now."""
        now = time.monotonic()
        if self._grafana is None or now - self._looked > _LOOK_AGAIN:
            files = sorted({*self._files(DASHBOARDS, ".json"), *self._files(DATASOURCES, ".yaml")})
            stamp = tuple((str(file), stat.st_mtime_ns, stat.st_size) for file in files for stat in [file.stat()])
            if self._grafana is None or stamp != self._stamp:
                self._grafana = self._read()
                self._stamp = stamp
            self._looked = now
        return self._grafana

    def _files(self, inside: str, suffix: str) -> Iterator[Path]:
        """The files below a path inside the container: below a mount, mounts themselves, or mounted one by one."""
        for path, real in self._mounts.items():
            if not (path + "/").startswith(inside + "/"):
                continue
            if real.is_dir():
                # ConfigMaps are mounted as links to a folder whose name begins with "..".
                yield from (file for file in real.glob(f"*{suffix}") if file.is_file())
            elif real.is_file() and path.endswith(suffix):
                yield real

    def _read(self) -> _Linked:
        found: dict[str, Dashboard] = {}
        for file in self._files(DASHBOARDS, ".json"):
            try:
                for dashboard in dashboards_in({file.name: file.read_text(encoding="utf-8")}):
                    found[dashboard.uid] = dashboard
            except LabError as error:
                # One broken file must not take the other dashboards away.
                print(f"{file.name} is left out: {error.message}", file=sys.stderr, flush=True)
        sources: list[Source] = []
        for file in self._files(DATASOURCES, ".yaml"):
            sources += sources_in(file.read_text(encoding="utf-8"))
        url = next((one.url for one in sources if one.kind == "prometheus"), _NOBODY)
        return _Linked(url, sorted(found.values(), key=lambda one: one.title), sources=sources)
