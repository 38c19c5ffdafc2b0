"""What is kept from one snapshot of the objects to the next: most changes leave most of it as it was."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

from meshbox.contracts import Obj

__all__ = ["Identity", "Memo"]

_T = TypeVar("_T", bound=Hashable)


class Memo:
    """Results kept from one snapshot to the next; what two snapshots in a row did not ask for is forgotten."""

    def __init__(self) -> None:
        self._now: dict[Any, Any] = {}
        self._before: dict[Any, Any] = {}

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
        if key not in self._now:
            self._now[key] = self._before[key] if key in self._before else build()
        return self._now[key]

    def same(self, value: _T) -> _T:
        """`value`, or the equal one that is known: what is made of known parts is quick to compare."""
        kept: _T = self(value, lambda: value)
        return kept


class Identity:
    """Some objects, equal to others where each is the very same: a key that need not look into them."""

    def __init__(self, objects: Iterable[Obj]) -> None:
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
