# SPDX-License-Identifier: Apache-2.0
"""Things that are each about a host, found by a host's name."""

from __future__ import annotations

from typing import Generic, TypeVar

from labkit.ground.routing import most_specific

__all__ = ["ByHost"]

_T = TypeVar("_T")


class ByHost(Generic[_T]):
    """Things that are each about a host: a look for those of one host passes by those of the others."""

    def __init__(self) -> None:
        self._names: dict[str, list[_T]] = {}
        self._wildcards: dict[str, list[_T]] = {}

    def add(self, pattern: str, thing: _T) -> None:
        """One more, after those that are there."""
        (self._wildcards if pattern.startswith("*") else self._names).setdefault(pattern, []).append(thing)

    def of(self, host: str) -> list[_T]:
        """Those about the most specific pattern that speaks for `host`, in the order in which they came."""
        if host in self._names:
            return self._names[host]
        best = most_specific(self._wildcards, host)
        return [] if best is None else self._wildcards[best]
