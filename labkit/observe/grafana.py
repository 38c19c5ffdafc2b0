# SPDX-License-Identifier: Apache-2.0
"""The dashboards of the cluster in use, drawn in the notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import grafana_figures
from grafana_figures import ALL, Dashboard, Drawn, Source
from grafana_figures.dashboard import dashboards_in, sources_in
from grafana_figures.variables import Choices
from labkit import cluster
from labkit.ground.errors import ClusterError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ALL", "Grafana", "dashboards", "datasources"]


def dashboards(namespace: str = "istio-system") -> list[Dashboard]:
    """The dashboards in the ConfigMaps of a namespace, by title.

    Raises:
        ClusterError: there is none.
    """
    found = [
        dashboard
        for item in cluster.get("configmaps", namespace=namespace)
        for dashboard in dashboards_in(item.get("data") or {})
    ]
    if not found:
        raise ClusterError(
            f"no ConfigMap of the namespace {namespace} has a dashboard",
            next_step="in 1.2.2 they come with istio-demo.yaml, in 1.30.3 with samples/addons/grafana.yaml",
        )
    return sorted(found, key=lambda dashboard: dashboard.title)


def datasources(namespace: str = "istio-system") -> list[Source]:
    """The datasources that Grafana's ConfigMap tells it of; none if there is no such ConfigMap."""
    for item in cluster.get("configmaps", namespace=namespace):
        text = (item.get("data") or {}).get("datasources.yaml")
        if text:
            return sources_in(text)
    return []


class Grafana(grafana_figures.Grafana):
    """Draws dashboards; see `grafana_figures.Grafana` for what it does.

    Args:
        prometheus: Address of Prometheus, e.g. "http://127.0.0.1:9090".
        dashboards: The dashboards; None for those of the cluster.
        sources: The datasources; None for those of the cluster, or one Prometheus where `dashboards` are given.
        interval: How often Prometheus takes samples, e.g. "5s"; "" for what the datasource says. `$__rate_interval` is
            four times this, and points of a graph are no closer.
        theme: "light", whose frame takes JupyterLab's own theme, or "dark", as Grafana's pages are.

    Raises:
        ClusterError: the cluster has no dashboard.
    """

    def __init__(
        self,
        prometheus: str,
        dashboards: Iterable[Dashboard] | None = None,
        *,
        sources: Sequence[Source] | None = None,
        interval: str = "",
        theme: str = "light",
    ) -> None:
        if sources is None:
            sources = datasources() if dashboards is None else ()
        # What came with a cluster goes with it.
        self._of_cluster = dashboards is None
        found = _all() if dashboards is None else dashboards
        super().__init__(prometheus, found, sources=sources, interval=interval, theme=theme)

    def variables(
        self,
        name: str,
        chosen: Mapping[str, str | Sequence[str]] | None = None,
        *,
        window: str = "",
        end: pd.Timestamp | float | None = None,
    ) -> Choices:
        """As `grafana_figures.Grafana.variables`.

        Raises:
            NoTargetError: choosing another cluster has failed meanwhile.
        """
        if self._of_cluster:
            cluster.require_no_refusal()
        return super().variables(name, chosen, window=window, end=end)

    def until(
        self,
        name: str,
        condition: Callable[[Drawn], object],
        chosen: Mapping[str, str | Sequence[str]] | None = None,
        *,
        window: str = "",
        timeout: float = 120.0,
    ) -> Drawn:
        """Draw a dashboard again and again until something holds of it.

        Args:
            name: As for `draw`; so are `chosen` and `window`.
            condition: What must hold.
            chosen: Variables.
            window: How far back.
            timeout: Seconds.

        Raises:
            NotReadyError: It does not hold within `timeout`.
        """
        found: list[Drawn] = []

        def look() -> str | None:
            found[:] = [self.draw(name, chosen, window=window)]
            return None if condition(found[0]) else "not so yet"

        cluster.wait_for(cluster.Condition(f"the dashboard {name!r} to show it", look), timeout=timeout)
        return found[0]


def _all() -> list[Dashboard]:
    return dashboards()
