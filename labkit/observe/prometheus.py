# SPDX-License-Identifier: Apache-2.0
"""Prometheus' query API: PromQL in, tidy tables and charts out, and an answer to why an answer is empty."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit import cluster
from labkit.ground import duration as durations
from labkit.ground.errors import ClusterError, NotReadyError, SettingError
from labkit.ground.prometheus import PrometheusApi
from labkit.observe.samples import table_of

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

__all__ = ["Explanation", "Prometheus", "chart", "duration"]


_HISTOGRAM = re.compile(r"_(bucket|count|sum)\b")

_ANSWERED = "max_over_time((timestamp(up) and up == 1)[2s:250ms])"
"""When the last scrapes began that were answered, also where one since was not: on a busy machine many are too slow."""

_LATELY = "max_over_time(istio_requests_total[5m])"
"""Also what was missed by the last scrape: its series has ended for now."""


def duration(text: str) -> float:
    """Seconds of a Prometheus duration such as "5m", "1h30m" or "250ms".

    Raises:
        SettingError: `text` is none.
    """
    try:
        return durations.from_prometheus(text) / 1000
    except ValueError:
        said = f"{text!r} is not a duration"
        raise SettingError(said, next_step="write it as Prometheus does: 30s, 5m, 1h30m") from None


@dataclass(frozen=True)
class Explanation:
    """Why an expression returns nothing.

    Args:
        expression: The PromQL.
        reasons: What was found, one sentence each.
        closest: Series that come closest, as PromQL selectors; at most five.
    """

    expression: str
    reasons: tuple[str, ...]
    closest: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"nothing for {self.expression}", *(f"  - {reason}" for reason in self.reasons)]
        lines += [f"  close: {selector}" for selector in self.closest]
        return "\n".join(lines)


class Prometheus(PrometheusApi):
    """Prometheus' HTTP API.

    Args:
        url: Its address, e.g. "http://127.0.0.1:9090".
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)

    def get(self, path: str, parameters: Mapping[str, str] | list[tuple[str, str]] | None = None) -> Any:
        """The `data` of one answer of /api/v1.

        Raises:
            NoTargetError: choosing a cluster has failed: the address may be the one of a cluster chosen before.
            ClusterError: it cannot be reached or refuses; a mistake in PromQL carries Prometheus' own words.
        """
        cluster.require_no_refusal()
        return super().get(path, parameters)

    def query(self, expression: str, at: pd.Timestamp | None = None) -> pd.DataFrame:
        """An instant query.

        Args:
            expression: PromQL.
            at: When; None for now.

        Returns:
            A DataFrame, a row a series, or a sample of a range such as `up[1m]`: index `time` (datetime64[ns, UTC]), a
            column (str) a label, `value` (float64). A label called `time` or `value` is the column `exported_time` or
            `exported_value`. `attrs` hold `promql`, `unit` ("" for none, or if unclear) and `warnings` (list of str):
            what Prometheus says of the question, and what of the answer is not in the table.

        Raises:
            ClusterError: Prometheus cannot be reached, the PromQL is wrong, or the answer is a text.
        """
        return table_of(self.instant(expression, at.timestamp() if at is not None else None), expression)

    def range(
        self, expression: str, window: str = "5m", step: str = "5s", end: pd.Timestamp | None = None
    ) -> pd.DataFrame:
        """A range query.

        Args:
            expression: PromQL.
            window: How far back, e.g. "5m".
            step: Distance of the points, e.g. "5s"; Prometheus gives at most 11 000 of them.
            end: The last point; None for now.

        Returns:
            As `query`, a row a point.
        """
        last = end.timestamp() if end is not None else time.time()
        span, distance = duration(window), duration(step)
        return table_of(self.over(expression, last - span, last, distance), expression)

    def value(self, expression: str) -> float:
        """The one number that `expression` returns; 0.0 if it returns nothing.

        Raises:
            ClusterError: it returns several series, or native histograms.
        """
        found = self.instant(expression)
        if found.histograms:
            raise ClusterError(
                f"{expression} returns a native histogram, not one number",
                next_step="ask for its histogram_quantile(0.9, …), histogram_avg(…) or histogram_count(…)",
            )
        table = table_of(found, expression)
        if len(table) > 1:
            raise ClusterError(
                f"{expression} returns {len(table)} series, not one number", next_step="wrap it in sum(…)"
            )
        return float(table["value"].iloc[0]) if len(table) else 0.0

    def wait_for(self, expression: str, condition: Callable[[float], bool], timeout: float = 30.0) -> float:
        """Query until `condition` holds for `value(expression)`; the value.

        Args:
            expression: PromQL that returns one number.
            condition: What must hold.
            timeout: Seconds.

        Raises:
            NotReadyError: not within `timeout`; the message says the last value, and why if there was none.
        """
        deadline = time.monotonic() + timeout
        while not condition(value := self.value(expression)):
            if time.monotonic() > deadline:
                why = "" if value else f"\n{self.explain(expression)}"
                raise NotReadyError(
                    f"{expression} is {value:g} after {timeout:g} s{why}",
                    next_step="send some requests, and remember that a sample is as old as the last scrape",
                )
            time.sleep(0.1)
        return value

    def counts(self, expression: str) -> pd.Series:
        """What counters say now.

        Args:
            expression: PromQL; its series are told apart by one label or by several.

        Returns:
            The values (float64) by that label (index of that name; of several labels a MultiIndex); "all" where there
            is none.
        """
        table = self.query(expression)
        labels = [column for column in table.columns if column != "value"]
        if not labels:
            return table.assign(series="all").set_index("series")["value"]
        return table.set_index(labels)["value"].sort_index()

    def settled(self, expression: str, *, timeout: float = 120.0) -> pd.Series:
        """As `counts`, once they stand still: each proxy was asked again since, and nothing has changed by that.

        Args:
            expression: PromQL that returns counters.
            timeout: Seconds. On Istio's own clock it takes a quarter of a minute, or twice that.

        Raises:
            NotReadyError: They still grow then, or Prometheus cannot ask all proxies.
            ClusterError: Prometheus cannot be reached, or the PromQL is wrong.
        """
        from labkit.observe.settling import settled

        jobs = self.jobs()
        mesh = set(jobs.index[jobs["mesh"]]) or set(jobs.index)
        # An Envoy tells histograms anew every five seconds at most; Istio has it asked less often.
        held = float(jobs["seconds"][list(mesh)].max()) if _HISTOGRAM.search(expression) else 0.0
        bring = {labels.get("instance", "") for labels, _ in self.instant(f"count by (instance) ({_LATELY})")}
        targets = [("state", "active")]
        return settled(
            lambda: self.counts(expression),
            self._scrapes,
            lambda: self.get("targets", targets),
            mesh,
            bring,
            "the counters",
            timeout,
            held,
        )

    def _scrapes(self) -> tuple[float, dict[tuple[str, str], float]]:
        """Prometheus' time, and when the last scrape of each job and instance began that was answered."""
        clock, found = 0.0, dict[tuple[str, str], float]()
        # The last part is there in any case: each sample has the time of the question.
        for labels, points in self.instant(f"{_ANSWERED} or vector(0)"):
            clock, began = points[0]
            if "job" in labels:
                place = labels["job"], labels.get("instance", "")
                found[place] = min(began, found.get(place, began))
        return clock, found

    def jobs(self) -> pd.DataFrame:
        """Whom Prometheus asks, and how often.

        Returns:
            A DataFrame, a row a job: index `job` (str), `every` (str, as its configuration has it), `seconds`
            (float64, the same), `mesh` (bool: whether it brings istio_requests_total).
        """
        import pandas as pd
        import yaml

        found = yaml.safe_load(self.get("status/config")["yaml"]).get("scrape_configs") or []
        bring = {labels["job"] for labels, _ in self.instant(f"count by (job) ({_LATELY})") if "job" in labels}
        rows = [(one["job_name"], one["scrape_interval"], one["job_name"] in bring) for one in found]
        table = pd.DataFrame(rows, columns=["job", "every", "mesh"]).astype({"mesh": "bool"})
        table.insert(2, "seconds", table["every"].map(duration).astype("float64"))
        return table.set_index("job")

    def clock(self) -> float:
        """Seconds between two scrapes of what brings the mesh's counters: the slowest job of those that do."""
        jobs = self.jobs()
        return float(jobs["seconds"][jobs["mesh"] | ~jobs["mesh"].any()].max())

    def together(self, expressions: Mapping[str, str]) -> pd.DataFrame:
        """Several expressions side by side.

        Args:
            expressions: PromQL by the name of its column; all with the same labels.

        Returns:
            A DataFrame, a row a value of these labels, as `counts` has them: a column (float64) an expression.
        """
        import pandas as pd

        return pd.DataFrame({name: self.counts(expression) for name, expression in expressions.items()})

    def label_values(self, label: str, selector: str = "") -> list[str]:
        """The values that `label` has, of the series that `selector` picks, sorted."""
        return sorted(self.get(f"label/{label}/values", {"match[]": selector} if selector else None))

    def explain(self, expression: str) -> Explanation:
        """Why `expression` returns nothing: no such metric, no traffic yet, a wrong label, or too few samples.

        Only what is the reason: of `a or b` both, of `a unless b` what `a` lacks.
        """
        from grafana_figures.expressions import selector_of
        from grafana_figures.reasons import causes

        reasons: list[str] = []
        closest: list[str] = []
        try:
            asked = causes(expression, lambda part: not self.instant(part).series)
        except SettingError as error:
            return Explanation(expression, (error.message,))
        for cause in asked:
            if isinstance(cause, str):
                reasons.append(cause)
                continue
            found, near = self._explain_selector(*selector_of(cause))
            reasons += found
            closest += near
        if not reasons and (histograms := self.instant(expression)).histograms:
            reasons = [histograms.warnings[-1]]
        if not reasons:
            reasons = ["every metric in it has series: a window such as [5s] may hold fewer than two samples yet"]
        return Explanation(expression, tuple(dict.fromkeys(reasons)), tuple(dict.fromkeys(closest))[:5])

    def _explain_selector(self, name: str, matchers: list[tuple[str, str, str]]) -> tuple[list[str], list[str]]:
        from grafana_figures.expressions import written

        if not name:
            few = self._count("", matchers)
            return ([] if few else [f"no series has {written('', matchers)[1:-1]}"]), []
        if not self._count(name, []):
            names = self.label_values("__name__")
            near = difflib.get_close_matches(name, names, 1, 0.6)
            hint = f"; did you mean {near[0]}?" if near else ""
            if name.startswith("istio_") and not any(known.startswith("istio_") for known in names):
                hint = ": no sidecar has reported anything; send requests through the mesh first"
            return [f"there is no metric {name}{hint}"], near
        if self._count(name, matchers):
            return [], []
        reasons, closest = [], []
        for label, operator, wanted in matchers:
            if self._count(name, [(label, operator, wanted)]):
                continue
            values = self.label_values(label, written(name, []))
            if not values:
                reasons.append(f"{name} has no label {label}")
                continue
            near = difflib.get_close_matches(wanted, values, 3, 0.4) or values[:3]
            asked = written("", [(label, operator, wanted)])[1:-1]
            reasons.append(f"no series of {name} has {asked}; there are {', '.join(values[:8])}")
            closest += [written(name, [(label, "=", value)]) for value in near]
        return reasons or [f"each label of {name} matches some series, but no series matches all of them"], closest

    def _count(self, name: str, matchers: list[tuple[str, str, str]]) -> int:
        from grafana_figures.expressions import written

        return len(self.get("series", [("match[]", written(name, matchers))]))


def chart(table: pd.DataFrame, title: str = "", unit: str | None = None) -> go.Figure:
    """A line a series over time; a pointer on it shows values with their unit.

    Args:
        table: What `Prometheus.range` returned.
        title: Above the chart; default the PromQL.
        unit: Of the value axis; None for the table's own.
    """
    import plotly.graph_objects as go

    from grafana_figures.lines import hover_name
    from grafana_figures.theme import series_color, series_dash
    from labkit.observe.looks import dress

    labels = [column for column in table.columns if column != "value"]
    shown = table.attrs.get("unit", "") if unit is None else unit
    figure = go.Figure()
    groups = table.groupby(labels, sort=True) if labels else [((), table)]
    for index, (names, part) in enumerate(groups):
        values = names if isinstance(names, tuple) else (names,)
        legend = ", ".join(str(value) for value in values) or "value"
        colour = series_color(index)
        figure.add_scatter(
            x=part.index,
            y=part["value"],
            name=legend,
            mode="lines+markers",
            line={"color": colour, "dash": series_dash(index)},
            marker={"color": colour},
            hovertemplate=f"%{{y:,.5~r}} {hover_name(shown)}".rstrip() + f"<extra>{hover_name(legend)}</extra>",
        )
    dress(
        figure,
        title or table.attrs.get("promql", ""),
        height=380,
        xaxis_title="time (UTC)",
        yaxis_title=shown or "value",
        legend_title=", ".join(labels),
        showlegend=True,
        hovermode="x unified" if len(figure.data) > 1 else "x",
    )
    return figure.update_yaxes(rangemode="tozero")
