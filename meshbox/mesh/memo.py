# SPDX-License-Identifier: Apache-2.0
"""What is kept from one snapshot of the objects to the next: most changes leave most of it as it was."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple, TypeVar

from meshbox.contracts import View

__all__ = ["Identity", "Known", "Memo"]

_T = TypeVar("_T", bound=Hashable)


class _Kept(NamedTuple):
    value: Any
    parts: list[Any]


class Memo:
    """Results kept from one snapshot to the next; what two snapshots in a row did not ask for is forgotten."""

    def __init__(self) -> None:
        self._now: dict[Any, _Kept] = {}
        self._before: dict[Any, _Kept] = {}
        self._asking: list[list[Any]] = []

    def turn(self) -> None:
        """Begin a new snapshot."""
        self._before, self._now = self._now, {}

    def settle(self) -> None:
        """A snapshot has been computed: what it did not ask for is forgotten now, and not with the next one."""
        self._before = {}

    def size(self) -> int:
        """How many results are kept. (No `__len__`: an empty one is not the same as none.)"""
        return len(self._now) + len(self._before)

    def __call__(self, key: Any, build: Callable[[], Any]) -> Any:
        """What `build` made for `key`, which must hold everything that `build` looks at."""
        if self._asking:
            self._asking[-1].append(key)
        if key in self._before:
            self._carry(key)
        elif key not in self._now:
            parts: list[Any] = []
            self._asking.append(parts)
            try:
                value = build()
            finally:
                self._asking.pop()
            self._now[key] = _Kept(value, parts)
        return self._now[key].value

    def _carry(self, key: Any) -> None:
        """Keep a result with all that was asked for while it was made: its next version is made of most of that."""
        kept = self._before.pop(key, None)
        if kept is not None:
            self._now[key] = kept
            for part in kept.parts:
                self._carry(part)

    def same(self, value: _T) -> _T:
        """`value`, or the equal one that is known: what is made of known parts is quick to compare."""
        kept: _T = self(value, lambda: value)
        return kept


class Identity:
    """Some objects, equal to others where each is the very same: a key that need not look into them."""

    def __init__(self, objects: Iterable[View]) -> None:
        # Kept as well, so that no other object can come to lie where one of them was.
        self._objects = tuple(objects)
        self._hash = hash(tuple(map(id, self._objects)))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Identity)
            and len(self._objects) == len(other._objects)
            and all(map(operator.is_, self._objects, other._objects))
        )


class Known:
    """A value that is hashed once: a key for many, equal to others that hold an equal one."""

    def __init__(self, value: Hashable) -> None:
        self.value = value
        self._hash = hash(value)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Known) and self.value == other.value)
