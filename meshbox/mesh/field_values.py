"""Small values of Istio's objects: durations, percentages, host names."""

from __future__ import annotations

from typing import Any

from labkit.ground import duration as durations
from labkit.ground.errors import LabError

__all__ = [
    "ConfigError",
    "duration",
    "fqdn",
    "fractional_percent",
    "host_matches",
    "nanoseconds",
    "percentage",
    "short_name",
]

DOMAIN = "svc.cluster.local"


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


def fqdn(host: str, namespace: str) -> str:
    """`host` as Istio completes it: a name without a dot is a Service in `namespace`."""
    if not host or "." in host or host == "*":
        return host.lower()
    return f"{host}.{namespace}.{DOMAIN}".lower()


def short_name(host: str) -> str:
    """The Service's own name in a fully qualified host; other hosts stay whole."""
    return host.split(".", 1)[0] if host.endswith("." + DOMAIN) else host


def host_matches(pattern: str, host: str) -> bool:
    """Whether `host`, which may itself be a wildcard, lies within `pattern` ("*", "*.example.com" or a name)."""
    if pattern == "*":
        return True
    if pattern.startswith("*"):
        return host.removeprefix("*").endswith(pattern[1:]) if host.startswith("*") else host.endswith(pattern[1:])
    return pattern == host
