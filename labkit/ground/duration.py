# SPDX-License-Identifier: Apache-2.0
"""Durations: Go's ("1h2m3.5s"), in Kubernetes' and Istio's objects; Prometheus' ("1w2d"); protobuf's JSON ("3.5s")."""

from __future__ import annotations

import re

__all__ = ["PROMETHEUS_UNITS", "from_go", "from_prometheus", "to_go", "to_prometheus", "to_protobuf"]

_UNSHOWN = re.compile(r"[^ -~]")
_GO_PART = re.compile(r"([0-9]*)(\.?)([0-9]*)([^0-9.]*)")
_GO_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_MOST = 2**63 - 1

PROMETHEUS_UNITS = {
    "y": 31_536_000_000,
    "w": 604_800_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1000,
    "ms": 1,
}
"""Milliseconds in each unit, in the order in which a duration has them."""
_PROMETHEUS = re.compile("".join(f"(?:([0-9]+){unit})?" for unit in PROMETHEUS_UNITS))


def from_go(text: str) -> int:
    """Nanoseconds of a duration as Go's `time.ParseDuration` reads it: "300ms", "-1.5h", "1h2m3.5s", "0".

    Raises:
        ValueError: it is none; the words are Go's.
    """
    body = text[1:] if text[:1] in ("-", "+") else text
    if body == "0":
        return 0
    total, position = 0, 0
    while position < len(body):
        part = _GO_PART.match(body, position)
        assert part is not None
        whole, _, fraction, unit = part.groups()
        if not whole and not fraction:
            raise ValueError(f"time: invalid duration {_quoted(text)}")
        if not unit:
            raise ValueError(f"time: missing unit in duration {_quoted(text)}")
        if unit not in _GO_UNITS:
            raise ValueError(f"time: unknown unit {_quoted(unit)} in duration {_quoted(text)}")
        # What is too large has too many digits for Python's `int` as well.
        whole = whole.lstrip("0")
        total += (int(whole or "0") if len(whole) < 20 else 2**64) * _GO_UNITS[unit] + _fraction(
            fraction, _GO_UNITS[unit]
        )
        position = part.end()
    negative = text.startswith("-")
    if not body or total > _MOST + negative:
        raise ValueError(f"time: invalid duration {_quoted(text)}")
    return -total if negative else total


def _fraction(digits: str, unit: int) -> int:
    """Go's own arithmetic: as many digits as an int64 holds, times a float."""
    value, scale = 0, 1.0
    for digit in digits:
        if value > _MOST // 10:
            break
        value, scale = value * 10 + int(digit), scale * 10
    return int(float(value) * (unit / scale))


def _quoted(text: str) -> str:
    shown = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_UNSHOWN.sub(_bytes, shown)}"'


def _bytes(sign: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in sign[0].encode(errors="replace"))


def to_go(nanoseconds: int) -> str:
    """A duration as Go prints it: "1m20s", "5m0s", "1h0m0.5s", "250ms", "0s"."""
    size = abs(nanoseconds)
    sign = "-" if nanoseconds < 0 else ""
    if size < 10**9:
        unit = next((one for one in ("ms", "µs") if size >= _GO_UNITS[one]), "ns") if size else "s"
        return f"{sign}{_decimal(size, _GO_UNITS[unit])}{unit}"
    minutes, rest = divmod(size, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    before = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{before}{_decimal(rest, 10**9)}s"


def to_protobuf(nanoseconds: int) -> str:
    """A duration as protobuf's JSON, and so Envoy, has it: seconds with up to nine decimals, "0.3s"."""
    return f"{'-' if nanoseconds < 0 else ''}{_decimal(abs(nanoseconds), 10**9)}s"


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    fraction = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{fraction}" if fraction else str(whole)


def from_prometheus(text: str) -> int:
    """Milliseconds of a duration as Prometheus reads it: "250ms", "5m", "1h30m", "1w2d", "0".

    Units come from the largest to the smallest, each once, with whole numbers.

    Raises:
        ValueError: it is none; the words are Prometheus'.
    """
    if text == "0":
        return 0
    if not text:
        raise ValueError("empty duration string")
    found = _PROMETHEUS.fullmatch(text)
    if found is None:
        raise ValueError(f"not a valid duration string: {_quoted(text)}")
    numbers = [(number or "").lstrip("0") for number in found.groups()]
    if any(len(number) > 18 for number in numbers):
        raise ValueError("duration out of range")
    total = sum(int(number or 0) * size for number, size in zip(numbers, PROMETHEUS_UNITS.values(), strict=True))
    if total > _MOST // 10**6:
        raise ValueError("duration out of range")
    return total


def to_prometheus(milliseconds: int) -> str:
    """A duration as Prometheus takes it, in one unit, hours at most: "500ms", "90s", "2h"."""
    unit = next(one for one in ("h", "m", "s", "ms") if milliseconds % PROMETHEUS_UNITS[one] == 0)
    return f"{milliseconds // PROMETHEUS_UNITS[unit]}{unit}"
