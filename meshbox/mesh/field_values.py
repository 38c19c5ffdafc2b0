# SPDX-License-Identifier: Apache-2.0
"""Small values of Istio's objects: durations and percentages."""

from __future__ import annotations

from typing import Any

from labkit.ground import duration as durations
from labkit.ground.errors import LabError

__all__ = [
    "ConfigError",
    "duration",
    "fractional_percent",
    "nanoseconds",
    "percentage",
]


class ConfigError(LabError):
    """An Istio object holds something that has no meaning for a proxy."""


def nanoseconds(text: Any) -> int:
    """The nanoseconds in a duration such as "7s", "0.5s" or "1h30m" (Go's notation).

    Raises:
        ConfigError: it is not a duration.
    """
    try:
        return durations.from_go(text if isinstance(text, str) else "")
    except ValueError:
        next_step = 'write it with a unit, such as "5s" or "250ms"'
        raise ConfigError(f"{text!r} is not a duration", next_step=next_step) from None


def duration(value: Any) -> str:
    """A duration of Istio's, or seconds, in the form of Envoy's JSON ("0.3s")."""
    return durations.to_protobuf(round(value * 10**9) if isinstance(value, int | float) else nanoseconds(value))


def percentage(percent: Any, old: Any = None, default: float = 100.0) -> float:
    """The percentage in ``{"value": 12.5}``, else in the `old` whole number, else `default`."""
    if isinstance(percent, dict):
        return float(percent.get("value", 0.0))
    if old is not None:
        return float(old)
    return default


def fractional_percent(percent: float) -> dict[str, Any]:
    """A percentage as Envoy's FractionalPercent."""
    return {"numerator": round(percent * 10000), "denominator": "MILLION"}
