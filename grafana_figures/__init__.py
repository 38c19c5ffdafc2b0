# SPDX-License-Identifier: Apache-2.0
"""Grafana's dashboards, drawn with plotly: their JSON and their numbers as the release has them.

Figures are plain dictionaries, so that the workshop's stand-in for Grafana can serve them without pandas and plotly;
in a notebook a panel shows itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from grafana_figures.dashboard import Dashboard, Drawn, Source, dashboards_in, slug
from grafana_figures.panel import Panel, Pen
from grafana_figures.promql import Api, seconds
from grafana_figures.theme import DARK, LIGHT
from grafana_figures.variables import ALL, Choices, resolve
from labkit.ground.errors import SettingError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ALL", "Dashboard", "Drawn", "Grafana", "Panel", "Source", "from_folder"]


def from_folder(files: Mapping[str, str]) -> list[Dashboard]:
    """The dashboards in files: name → content."""
    return dashboards_in(files)


class Grafana:
    """Draws dashboards.

    Args:
        prometheus: Address of Prometheus, e.g. "http://127.0.0.1:9090".
        dashboards: The dashboards.
        sources: The datasources; none means one Prometheus.
        interval: How often Prometheus takes samples, e.g. "5s"; "" for what the datasource says. `$__rate_interval` is
            four times this, and points of a graph are no closer.
        theme: "dark" or "light".
    """

    def __init__(
        self,
        prometheus: str,
        dashboards: Iterable[Dashboard],
        *,
        sources: Sequence[Source] = (),
        interval: str = "",
        theme: str = "dark",
    ) -> None:
        if theme not in ("dark", "light"):
            raise SettingError(f"there is no theme {theme!r}", next_step='take "dark" or "light"')
        if interval and not seconds(interval) > 0:
            raise SettingError(f"{interval!r} is no interval", next_step="write it as 5s or 1m")
        self.api = Api(prometheus)
        self.sources = tuple(sources) or (Source("Prometheus", "prometheus", prometheus, default=True),)
        self.dashboards = tuple(dashboards)
        own = next((one.interval for one in self.sources if one.kind == "prometheus"), 15.0)
        self.interval = seconds(interval) or own
        self.theme = DARK if theme == "dark" else LIGHT

    def dashboard(self, name: str) -> Dashboard:
        """The dashboard with this title, uid or slug; a part of the title will do where only one has it.

        Raises:
            SettingError: there is none, or several; the message names those there are.
        """
        exact = [one for one in self.dashboards if name in (one.title, one.uid) or slug(name) == one.slug]
        found = exact or [one for one in self.dashboards if slug(name) in one.slug]
        if len(found) != 1:
            titles = ", ".join(one.title for one in found or self.dashboards)
            problem = f"{len(found)} dashboards are called" if found else "no dashboard is called"
            raise SettingError(f"{problem} {name!r}", next_step=f"there are: {titles}")
        return found[0]

    def variables(
        self,
        name: str,
        chosen: Mapping[str, str | Sequence[str]] | None = None,
        *,
        window: str = "",
        end: pd.Timestamp | float | None = None,
    ) -> Choices:
        """The variables of a dashboard: options, and what is chosen.

        Args:
            name: As `dashboard`.
            chosen: Name → value, or values; `ALL` for all.
            window: As `draw`.
            end: As `draw`.

        Raises:
            ClusterError: a variable is chosen that the dashboard does not have.
        """
        dashboard = self.dashboard(name)
        raw = list((dashboard.raw.get("templating") or {}).get("list") or ())
        names = [str(one.get("name")) for one in raw]
        unknown = [one for one in chosen or {} if one not in names]
        if unknown:
            raise SettingError(
                f"{dashboard.title} has no variable {unknown[0]!r}",
                next_step=f"it has: {', '.join(names)}" if names else "it has none",
            )
        kinds = {one.name: one.kind for one in self.sources}
        try:
            return resolve(raw, self.api, dashboard.window(window, _seconds(end)), chosen or {}, kinds)
        finally:
            self.api.close()

    def draw(
        self,
        name: str,
        chosen: Mapping[str, str | Sequence[str]] | None = None,
        *,
        window: str = "",
        end: pd.Timestamp | float | None = None,
        only: Iterable[int] = (),
        most_points: int = 300,
    ) -> Drawn:
        """Draw a dashboard.

        Args:
            name: Its title, a part of it, its uid or slug.
            chosen: Variables: name → value, or values; what is left out is as the dashboard has it.
            window: How far back, e.g. "5m"; "" for the dashboard's own.
            end: The last moment; None for now.
            only: Numbers of the panels to draw; all if empty.
            most_points: Of a line, where the panel does not say.

        Returns:
            All panels; one that cannot be drawn has its `reason`.

        Raises:
            SettingError: there is no such dashboard or variable.
        """
        dashboard = self.dashboard(name)
        time = dashboard.window(window, _seconds(end))
        choices = self.variables(name, chosen, window=window, end=time.end)
        return dashboard.draw(self.pen(dashboard, choices, time.start, time.end, most_points), only)

    def pen(self, dashboard: Dashboard, choices: Choices, start: float, end: float, most_points: int = 300) -> Pen:
        """What `dashboard` is drawn with between two moments, in seconds since 1970."""
        return Pen(
            api=self.api,
            window=dashboard.window(f"{end - start}s", end),
            choices=choices,
            scrape=self.interval,
            sources={one.name: one.kind for one in self.sources},
            theme=self.theme,
            link=self.link,
            most_points=most_points,
        )

    def link(self, address: str) -> str:
        """Where a link in a dashboard leads; "" here, since a figure in a notebook has no other pages."""
        return ""


def _seconds(moment: pd.Timestamp | float | None) -> float | None:
    if moment is None or isinstance(moment, (int, float)):
        return moment
    return float(moment.timestamp())
