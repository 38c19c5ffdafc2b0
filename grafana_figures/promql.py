# SPDX-License-Identifier: Apache-2.0
"""What panels ask Prometheus: samples of a time window."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from labkit.ground.duration import PROMETHEUS_UNITS
from labkit.ground.errors import ClusterError
from labkit.ground.prometheus import PrometheusApi, Result

__all__ = ["Api", "Sample", "Window", "seconds"]

_FRESH = 5.0
"""Seconds for which a list of metrics is believed."""


def seconds(text: str, default: float = 0.0) -> float:
    """Seconds of a duration such as "15s", "1min" or ">5m"; `default` if it is none."""
    number = text.strip().lstrip("><").strip()
    unit = number.lstrip("0123456789.")
    factor = PROMETHEUS_UNITS.get({"min": "m", "hour": "h", "day": "d"}.get(unit, unit))
    try:
        return float(number[: len(number) - len(unit)]) * factor / 1000 if factor else default
    except ValueError:
        return default


@dataclass(frozen=True)
class Window:
    """The time that a dashboard shows.

    Args:
        start: First moment, in seconds since 1970.
        end: Last moment, likewise.
    """

    start: float
    end: float

    @property
    def length(self) -> float:
        """Seconds."""
        return self.end - self.start


@dataclass(frozen=True)
class Sample:
    """One series of an answer.

    Args:
        labels: Its labels, `__name__` among them if it has one.
        points: Time in seconds since 1970, and value; None stands for NaN and infinities, which JSON cannot carry.
    """

    labels: Mapping[str, str]
    points: tuple[tuple[float, float | None], ...]


class Api(PrometheusApi):
    """Prometheus, as panels ask it; arguments as those of `PrometheusApi`."""

    def __init__(self, url: str, timeout: float = 20.0) -> None:
        super().__init__(url, timeout)
        self._names: frozenset[str] = frozenset()
        self._names_until = 0.0

    def names(self) -> frozenset[str]:
        """Every metric that Prometheus knows, as it was at most a few seconds ago; raises as `query`."""
        if time.monotonic() > self._names_until:
            self._names = frozenset(self.get("label/__name__/values"))
            self._names_until = time.monotonic() + _FRESH
        return self._names

    def query(self, expression: str, at: float) -> list[Sample]:
        """An instant query.

        Raises:
            ClusterError: no answer, or the PromQL is refused; the message carries Prometheus' own words. Or all that
                comes back is native histograms.
        """
        return _samples(self.instant(expression, at))

    def range(self, expression: str, start: float, end: float, step: float) -> list[Sample]:
        """A range query; as `query`."""
        return _samples(self.over(expression, start, end, step))


def _samples(found: Result) -> list[Sample]:
    if found.histograms and not found.series:
        raise ClusterError(found.warnings[-1])
    return [
        Sample(labels, tuple((at, value if math.isfinite(value) else None) for at, value in points))
        for labels, points in found
    ]
