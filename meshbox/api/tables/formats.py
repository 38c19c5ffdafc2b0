# SPDX-License-Identifier: Apache-2.0
"""How Kubernetes writes ages, labels, selectors and lists into a table's cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from meshbox.api.table_files import at_steps

__all__ = [
    "NONE",
    "UNKNOWN",
    "age",
    "clip",
    "creation_time",
    "dig",
    "human_duration",
    "items",
    "label_text",
    "timestamp",
]

NONE = "<none>"
UNKNOWN = "<unknown>"

_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400


def dig(obj: Any, *path: str) -> Any:
    """What is at `path` below `obj`; None where a step is absent, null or no mapping."""
    return at_steps(obj, path)


def items(obj: Any, *path: str) -> list[Any]:
    """The list at `path` below `obj`, empty where there is none."""
    found = dig(obj, *path)
    return found if isinstance(found, list) else []


def timestamp(text: Any) -> datetime | None:
    """The time that `text` (RFC 3339) says; None for an absent or malformed one."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def human_duration(seconds: float) -> str:
    """`seconds` in kubectl's two or three significant figures: 45s, 3m20s, 5h12m, 2d3h, 1y30d."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 2 * _MINUTE:
        return f"{max(whole, 0)}s"
    if whole < 10 * _MINUTE:
        return _two_units(whole, _MINUTE, "m", 1, "s")
    if whole < 3 * _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < 8 * _HOUR:
        return _two_units(whole, _HOUR, "h", _MINUTE, "m")
    if whole < 2 * _DAY:
        return f"{whole // _HOUR}h"
    if whole < 8 * _DAY:
        return _two_units(whole, _DAY, "d", _HOUR, "h")
    if whole < 2 * _YEAR:
        return f"{whole // _DAY}d"
    if whole < 8 * _YEAR:
        return _two_units(whole, _YEAR, "y", _DAY, "d")
    return f"{whole // _YEAR}y"


def _two_units(whole: int, big: int, big_name: str, small: int, small_name: str) -> str:
    rest = whole % big // small
    return f"{whole // big}{big_name}" + (f"{rest}{small_name}" if rest else "")


def age(text: Any, now: datetime) -> str:
    """How long ago the time `text` (RFC 3339) was."""
    moment = timestamp(text)
    return UNKNOWN if moment is None else human_duration((now - moment).total_seconds())


def creation_time(obj: Any) -> Any:
    """`metadata.creationTimestamp` of `obj`."""
    return dig(obj, "metadata", "creationTimestamp")


def label_text(labels: Any) -> str:
    """Labels as ``a=b,c=d``, sorted."""
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE


def clip(texts: Iterable[str], most: int, *, joint: str = ",", empty: str = "") -> str:
    """The first `most` of `texts`, and how many more there are."""
    everything: Sequence[str] = list(texts)
    shown = joint.join(everything[:most])
    if len(everything) > most:
        return f"{shown} + {len(everything) - most} more..."
    return shown or empty
