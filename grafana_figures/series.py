# SPDX-License-Identifier: Apache-2.0
"""Runs a panel's queries: PromQL with its variables filled in, and named series on a common clock."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from grafana_figures.model import Field, Spec, Target
from grafana_figures.promql import Api, Sample, Window, seconds
from grafana_figures.variables import Choices, macros

__all__ = ["Asked", "Clock", "Series", "ask", "clock", "named", "reduced"]

_NICE = (0.01, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800)
_LABEL = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")
_MOST_POINTS = 10_000
"""Prometheus gives at most 11 000."""


@dataclass(frozen=True)
class Series:
    """A line of a panel.

    Args:
        name: What the legend says.
        labels: The series' labels.
        ref: The query it comes from.
        points: Time in seconds since 1970, and value; None where there is no sample.
        field: How its values are shown.
    """

    name: str
    labels: Mapping[str, str]
    ref: str
    points: tuple[tuple[float, float | None], ...]
    field: Field

    @property
    def values(self) -> list[float | None]:
        """The values alone."""
        return [value for _, value in self.points]


@dataclass(frozen=True)
class Clock:
    """At which moments a panel's queries are evaluated."""

    window: Window
    step: float
    scrape: float

    def moments(self, step: float) -> list[float]:
        """The moments of a query whose points are `step` seconds apart; the same ones at every refresh."""
        first = math.floor(self.window.start / step)
        return [number * step for number in range(first, math.floor(self.window.end / step) + 1)]


@dataclass(frozen=True)
class Asked:
    """A query as it was sent, and the answer."""

    target: Target
    expression: str
    samples: tuple[Sample, ...]


def clock(spec: Spec, window: Window, scrape: float, most_points: int) -> Clock:
    """The clock of a panel.

    Args:
        spec: The panel; it may set a least distance, a number of points, and a time of its own.
        window: The dashboard's time.
        scrape: How often Prometheus takes samples, in seconds; the least distance where the panel sets none.
        most_points: How many points a line may have where the panel sets none.
    """
    options = spec.options
    own = seconds(str(options.get("length", "")))
    if own:
        window = Window(window.end - own, window.end)
    shift = seconds(str(options.get("shift", "")))
    if shift:
        window = Window(window.start - shift, window.end - shift)
    least = seconds(str(options.get("interval", "")), scrape) or scrape
    wanted = window.length / (options.get("most_points") or most_points)
    nice = next((step for step in _NICE if step >= wanted * 0.99), wanted)
    return Clock(window, max(least, nice), scrape)


def ask(spec: Spec, api: Api, time: Clock, choices: Choices) -> list[Asked]:
    """Run the queries of a panel that are not hidden.

    Raises:
        ClusterError: Prometheus does not answer or refuses one.
    """
    found = []
    for target in spec.targets:
        if target.hidden or not target.expression.strip():
            continue
        step = _step(target, time, choices)
        expression = choices.expand(target.expression, macros(time.window, step, time.scrape))
        if target.instant:
            samples = api.query(expression, time.window.end)
        else:
            moments = time.moments(step)
            samples = api.range(expression, moments[0], moments[-1], step)
        found.append(Asked(target, expression, tuple(samples)))
    return found


def _step(target: Target, time: Clock, choices: Choices) -> float:
    least = seconds(choices.expand(target.interval)) if target.interval else 0.0
    return max(max(time.step, least) * target.factor, time.window.length / _MOST_POINTS)


def named(asked: list[Asked], spec: Spec, time: Clock, choices: Choices) -> list[Series]:
    """The series of the answers, each with its name and every moment of the clock."""
    found = []
    for one in asked:
        moments = [] if one.target.instant else time.moments(_step(one.target, time, choices))
        for sample in one.samples:
            name = _name(one, sample, choices)
            by_moment = {round(at, 3): value for at, value in sample.points}
            points = tuple((at, by_moment.get(round(at, 3))) for at in moments) if moments else sample.points
            shown = spec.field_of(name, one.target.ref, [value for _, value in points])
            if not shown.hidden:
                found.append(Series(_renamed(shown, name, sample), sample.labels, one.target.ref, points, shown))
    return found


def _renamed(shown: Field, name: str, sample: Sample) -> str:
    wanted = re.sub(r"\$\{__field\.labels\.(\w+)\}", lambda match: sample.labels.get(match[1], ""), shown.name)
    return wanted.replace("${__series.name}", name).replace("${__field.displayName}", name) or name


def _name(asked: Asked, sample: Sample, choices: Choices) -> str:
    legend = asked.target.legend
    if legend and legend != "__auto":
        return _LABEL.sub(
            lambda match: sample.labels.get(match[1], match[1]), choices.expand(legend, form="text")
        ).strip()
    metric = sample.labels.get("__name__", "")
    inner = ", ".join(f'{name}="{value}"' for name, value in sample.labels.items() if name != "__name__")
    if inner or metric:
        return f"{metric}{{{inner}}}" if inner else metric
    return asked.expression.strip()


def reduced(values: list[float | None], how: str) -> float | None:
    """One number for many: "lastNotNull", "last", "mean", "max", "min", "sum", "first", "delta", "diff" or "count"."""
    there = [value for value in values if value is not None]
    if how == "last":
        return values[-1] if values else None
    if how == "count":
        return float(len(values))
    if not there:
        return None
    numbers = {
        "mean": math.fsum(there) / len(there),
        "max": max(there),
        "min": min(there),
        "sum": math.fsum(there),
        "first": there[0],
        "firstNotNull": there[0],
        "range": max(there) - min(there),
        "diff": there[-1] - there[0],
        "delta": math.fsum(max(0.0, b - a) for a, b in itertools.pairwise(there)),
    }
    return numbers.get(how, there[-1])
