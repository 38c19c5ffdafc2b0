# SPDX-License-Identifier: Apache-2.0
"""Dashboards: where they come from, and what drawing one gives."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from grafana_figures import parse
from grafana_figures.model import Grid, Json, Spec
from grafana_figures.panel import Panel, Pen, draw
from grafana_figures.promql import Window, seconds
from grafana_figures.variables import Choices
from labkit.ground import reading
from labkit.ground.errors import ClusterError, SettingError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Dashboard", "Drawn", "Source", "dashboards_in", "slug", "sources_in"]

_AT_ONCE = 4


def slug(title: str) -> str:
    """A title as it stands in an address: "Istio Mesh Dashboard" → "istio-mesh-dashboard"."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


@dataclass(frozen=True)
class Source:
    """A datasource of Grafana's.

    Args:
        name: Its name.
        kind: "prometheus", "loki", …
        url: Where it is, as seen from Grafana.
        interval: How often it takes samples, in seconds.
        default: Whether panels without a datasource ask it.
    """

    name: str
    kind: str
    url: str
    interval: float = 15.0
    default: bool = False


class Drawn(Sequence[Panel]):
    """The panels of a dashboard as they were drawn, in its order."""

    def __init__(self, panels: Iterable[Panel], choices: Choices, window: Window) -> None:
        self._panels = tuple(panels)
        self.variables = choices
        self.window = window

    def __len__(self) -> int:
        return len(self._panels)

    def __getitem__(self, index: Any) -> Any:
        return self._panels[index]

    def __iter__(self) -> Iterator[Panel]:
        return iter(self._panels)

    def panel(self, title: str, number: int = 0) -> Panel:
        """The panel with this title.

        Args:
            title: As it is shown.
            number: Which of several with the same title, from 0.

        Raises:
            SettingError: there is none; the message names those there are.
        """
        found = [one for one in self._panels if one.title == title]
        if number >= len(found):
            titles = ", ".join(dict.fromkeys(one.title for one in self._panels if one.title and one.kind != "row"))
            raise SettingError(f"no panel {title!r}", next_step=f"there are: {titles}")
        return found[number]

    @property
    def missing(self) -> list[Panel]:
        """Those that could not be drawn; each has its `reason`."""
        return [one for one in self._panels if one.reason]

    @property
    def summary(self) -> pd.DataFrame:
        """A row a panel: title, kind, series (int64: lines, or rows of a table), value (float64), reason.

        The reason says why it could not be drawn, or why it shows no data if that is known.
        """
        import pandas as pd

        rows = [
            (one.title, one.kind or one.type, _lines(one), one.value, one.reason or one.note)
            for one in self._panels
            if one.kind not in ("row", "text")
        ]
        frame = pd.DataFrame(rows, columns=["title", "kind", "series", "value", "reason"])
        return frame.astype({"series": "int64", "value": "float64"})


def _lines(panel: Panel) -> int:
    return len(panel.series) or max((len(column.values) for column in panel.columns), default=0)


@dataclass(frozen=True)
class Dashboard:
    """A dashboard.

    Args:
        raw: Its JSON.
        folder: The folder it is in.
    """

    raw: Json = field(repr=False)
    folder: str = "istio"

    @property
    def title(self) -> str:
        """Its title."""
        return str(self.raw.get("title") or "Untitled")

    @property
    def uid(self) -> str:
        """Its identifier; made of the title where its JSON has none."""
        return str(self.raw.get("uid") or slug(self.title)[:40])

    @property
    def slug(self) -> str:
        """Its title as it stands in an address."""
        return slug(self.title)

    @property
    def path(self) -> str:
        """Its page below the first one; by its name where its JSON has no uid, since Grafana makes one up."""
        return f"d/{self.uid}/{self.slug}" if self.raw.get("uid") else f"dashboard/db/{self.slug}"

    @property
    def length(self) -> str:
        """The time it shows unless told otherwise, e.g. "5m"."""
        return str((self.raw.get("time") or {}).get("from") or "now-30m").removeprefix("now-").partition("/")[0]

    @property
    def refresh(self) -> str:
        """How often it wants to be drawn anew, e.g. "5s"; "" for never."""
        return str(self.raw.get("refresh") or "")

    @property
    def specs(self) -> list[Spec]:
        """Its panels, in order, those of collapsed rows behind their row."""
        found: list[Spec] = []
        for one in self._panels():
            spec = parse.panel(one)
            found += [spec, *spec.panels]
        return found

    def _panels(self) -> list[Json]:
        if "panels" in self.raw:
            return list(self.raw["panels"])
        # Grafana 4: rows of panels whose width is a span of 12.
        found: list[Json] = []
        y = 0
        for row in self.raw.get("rows") or ():
            found.append({"type": "row", "title": row.get("title", ""), "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
            x = 0
            for one in row.get("panels") or ():
                width = int(one.get("span") or 12) * 2
                x = 0 if x + width > 24 else x
                found.append({**one, "gridPos": {"x": x, "y": y + 1, "w": width, "h": 8}})
                x += width
            y += 9
        return found

    def window(self, length: str = "", end: float | None = None) -> Window:
        """The time up to `end`.

        Args:
            length: E.g. "5m"; "" for the dashboard's own.
            end: Seconds since 1970; None for now.

        Raises:
            SettingError: `length` is no duration.
        """
        size = seconds(length or self.length)
        if not size > 0:
            raise SettingError(f"{length!r} is no time range", next_step="write it as 5m, 1h or 30s")
        last = time.time() if end is None else end
        return Window(last - size, last)

    def draw(self, pen: Pen, only: Iterable[int] = ()) -> Drawn:
        """Draw its panels.

        Args:
            pen: With the time, and with choices for this dashboard.
            only: Numbers of the panels to draw; all if empty.
        """
        wanted = set(only)
        pairs = [pair for pair in _repeated(self.specs, pen.choices) if not wanted or pair[0].id in wanted]
        try:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                panels = list(pool.map(lambda pair: draw(pair[0], replace(pen, choices=pair[1])), pairs))
        finally:
            pen.api.close()
        return Drawn(panels, pen.choices, pen.window)


def _repeated(specs: list[Spec], choices: Choices) -> Iterator[tuple[Spec, Choices]]:
    """Each panel with its choices; a row or panel that repeats comes once for every value of its variable."""
    down = 0
    index = 0
    while index < len(specs):
        spec = specs[index]
        end = index + 1
        if spec.kind == "row":
            while end < len(specs) and specs[end].kind != "row":
                end += 1
        block = specs[index:end]
        index = end
        variable = choices.get(str(spec.options.get("repeat", "")))
        # A row whose variable has no value yet stays, and says so by being empty.
        if spec.kind != "row" or variable is None or not variable.values:
            for one in block:
                yield from _across(one, choices, down)
            continue
        height = max(one.grid.y + one.grid.h for one in block) - spec.grid.y
        for number, value in enumerate(variable.values):
            own = choices.with_one(variable.name, value)
            for one in block:
                yield from _across(one, own, down + number * height)
        down += max(0, len(variable.values) - 1) * height


def _across(spec: Spec, choices: Choices, down: int) -> Iterator[tuple[Spec, Choices]]:
    grid = replace(spec.grid, y=spec.grid.y + down)
    variable = choices.get(str(spec.options.get("repeat", ""))) if spec.kind != "row" else None
    if variable is None or not variable.values:
        yield replace(spec, grid=grid), choices
        return
    values = variable.values
    if spec.options.get("direction") == "v":
        places = [replace(grid, y=grid.y + number * grid.h) for number in range(len(values))]
    else:
        wide = max(4, 24 // len(values))
        per_row = 24 // wide
        places = [
            Grid(number % per_row * wide, grid.y + number // per_row * grid.h, wide, grid.h)
            for number in range(len(values))
        ]
    for value, place in zip(values, places, strict=True):
        yield replace(spec, grid=place), choices.with_one(variable.name, value)


def dashboards_in(files: Mapping[str, str], folder: str = "istio") -> list[Dashboard]:
    """The dashboards in the data of a ConfigMap, or in the files of a folder.

    Args:
        files: Name → content; what is no dashboard is left out.
        folder: Grafana's folder.

    Raises:
        ClusterError: a file named *.json is not JSON.
    """
    found = []
    for name, content in files.items():
        if not name.endswith(".json"):
            continue
        try:
            raw = reading.json_value(content)
        except reading.ReadingError as error:
            raise ClusterError(f"{name} is not JSON: {error}", next_step="look at its ConfigMap") from None
        if isinstance(raw, dict) and ("panels" in raw or "rows" in raw):
            found.append(Dashboard(raw, folder))
    return found


def sources_in(text: str) -> list[Source]:
    """The datasources of one of Grafana's provisioning files (YAML)."""
    content = reading.yaml_value(text)
    found = []
    for one in (content.get("datasources") if isinstance(content, dict) else None) or ():
        every = seconds(str((one.get("jsonData") or {}).get("timeInterval") or ""), 15.0)
        name, kind = str(one.get("name", "")), str(one.get("type", ""))
        found.append(Source(name, kind, str(one.get("url", "")), every, bool(one.get("isDefault"))))
    return found
