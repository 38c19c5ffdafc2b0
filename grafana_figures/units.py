# SPDX-License-Identifier: Apache-2.0
"""Grafana's units: a number as its panels write it, and round ticks for an axis."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["ticks", "written"]

_COUNTED = {
    "ops": "ops/s",
    "reqps": "req/s",
    "rps": "rd/s",
    "wps": "wr/s",
    "iops": "io/s",
    "cps": "c/s",
    "c/s": "c/s",
    "qps": "queries/s",
    "opm": "ops/m",
    "rpm": "rd/m",
    "wpm": "wr/m",
    "pps": "p/s",
}
_TIME = (("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("min", 60.0), ("hour", 3600.0), ("day", 86400.0))
_TIME_UNITS = {"ns": 1e-9, "µs": 1e-6, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_COUNTS = ("", "K", "Mil", "Bil", "Tri")
_SI = ("", "k", "M", "G", "T", "P")
_IEC = ("", "Ki", "Mi", "Gi", "Ti", "Pi")
_SIZES = {
    "bytes": ("B", 1024),
    "decbytes": ("B", 1000),
    "bits": ("b", 1024),
    "decbits": ("b", 1000),
    "kbytes": ("B", 1024),
    "mbytes": ("B", 1024),
    "Bps": ("B/s", 1000),
    "binBps": ("B/s", 1024),
    "bps": ("b/s", 1000),
    "binbps": ("b/s", 1024),
}
_WORTH = {"kbytes": 1024.0, "mbytes": 1048576.0}
_NAMED = {"percent": "%", "celsius": "°C", "currencyUSD": "$", "hertz": "Hz", "watt": "W", "velocityms": "m/s"}


@dataclass(frozen=True)
class _Scale:
    """What a number is divided by, and what is written after it."""

    divisor: float
    suffix: str


def _scale(size: float, unit: str) -> _Scale:
    """The scale in which a number of this size, without its sign, reads best."""
    if unit == "percentunit":
        return _Scale(0.01, "%")
    if unit in _TIME_UNITS:
        seconds = size * _TIME_UNITS[unit]
        # The smallest unit stays for 0; otherwise the largest of which there is at least one.
        fitting = [(name, worth) for name, worth in _TIME if seconds >= worth * 0.9995]
        name, worth = (fitting or _TIME)[-1 if fitting else 0] if size else (unit, _TIME_UNITS[unit])
        return _Scale(worth / _TIME_UNITS[unit], f" {name}")
    if unit in _SIZES:
        name, base = _SIZES[unit]
        own = _WORTH.get(unit, 1.0)
        power = _power(size * own, base, len(_SI))
        return _Scale(float(base) ** power / own, f" {(_IEC if base == 1024 else _SI)[power]}{name}")
    if unit in _COUNTED or unit == "short":
        power = _power(size, 1000, len(_COUNTS))
        suffix = " ".join(part for part in (_COUNTS[power], _COUNTED.get(unit, "")) if part)
        return _Scale(1000.0**power, f" {suffix}" if suffix else "")
    if unit in ("", "none", "string"):
        return _Scale(1.0, "")
    if unit.startswith(("suffix:", "prefix:", "si:")):
        return _Scale(1.0, f" {unit.partition(':')[2]}")
    named = _NAMED.get(unit, unit)
    return _Scale(1.0, named if named == "%" else f" {named}")


def _power(size: float, base: int, most: int) -> int:
    if size < base * 0.9995:
        return 0
    return min(most - 1, int(math.log(size / 0.9995, base)))


def written(value: float | None, unit: str = "", decimals: int | None = None) -> str:
    """`value` as Grafana writes it, e.g. "3.67 ops/s", "12.5 ms" or "1.5 MiB".

    Args:
        value: The number; None and NaN are written "–".
        unit: Grafana's name of the unit, e.g. "ops", "percentunit"; one it does not know is written after the number.
        decimals: How many; None for as many as three digits need.
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    scale = _scale(abs(value), unit)
    return _number(value / scale.divisor, decimals) + scale.suffix


def _number(scaled: float, decimals: int | None) -> str:
    if decimals is not None:
        return f"{scaled:.{decimals}f}"
    size = abs(scaled)
    places = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 or not size else 3
    text = f"{scaled:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def ticks(low: float, high: float, unit: str = "", count: int = 5) -> tuple[list[float], list[str]]:
    """Round values between `low` and `high`, about `count` of them, and what is written at each."""
    if not high > low:
        high = low + 1.0
    divisor = _scale(max(abs(low), abs(high)), unit).divisor
    step = _round_step((high - low) / divisor / count) * divisor
    first = math.ceil(low / step - 1e-9)
    values = [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]
    places = max(0, -math.floor(math.log10(step / divisor) + 1e-9))
    suffix = _scale(max(abs(low), abs(high)), unit).suffix
    return values, [f"{value / divisor:.{places}f}{suffix}" if value else f"0{suffix}" for value in values]


def _round_step(step: float) -> float:
    size: float = 10.0 ** math.floor(math.log10(step))
    return next(nice * size for nice in (1, 2, 5, 10) if nice * size >= step * 0.75)
