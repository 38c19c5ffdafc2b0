# SPDX-License-Identifier: Apache-2.0
"""What is kept from one snapshot of the objects to the next: most changes leave most of it as it was."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar
from weakref import KeyedRef

from meshbox.contracts import View

__all__ = ["Identity", "Known", "Memo", "place_of"]

_T = TypeVar("_T", bound=Hashable)
_O = TypeVar("_O")
_V = TypeVar("_V")


def place_of(obj: View) -> Hashable:
    """Namespace and name."""
    meta = obj["metadata"]
    return meta.get("namespace"), meta["name"]


class _Kept:
    """A result, and what was asked for while it was made: that lives as long as it does."""

    __slots__ = ("__weakref__", "parts", "value")

    def __init__(self, value: Any, parts: list[_Kept]) -> None:
        self.value, self.parts = value, parts


class Memo:
    """Results kept from one snapshot to the next; what two snapshots in a row did not ask for is forgotten.

    A result that is asked for again keeps all that it was made of, as its next version is made of most of that. So to
    find nothing changed takes one look, however much there is below.
    """

    def __init__(self) -> None:
        # By hand what a WeakValueDictionary does: this is asked thousands of times for one change.
        self._index: dict[Any, KeyedRef[Any, _Kept]] = {}
        self._now: dict[int, _Kept] = {}
        self._before: dict[int, _Kept] = {}
        self._asking: list[list[_Kept]] = []
        self._tables: dict[str, dict[Any, tuple[Any, Any, Any]]] = {}

    def turn(self) -> None:
        """Begin a new snapshot."""
        self._before, self._now = self._now, {}

    def settle(self) -> None:
        """A snapshot has been computed: what it did not ask for is forgotten now, and not with the next one."""
        self._before = {}

    def size(self) -> int:
        """How many results are kept. (No `__len__`: an empty one is not the same as none.)"""
        return len(self._index) + sum(map(len, self._tables.values()))

    def __call__(self, key: Any, build: Callable[[], Any]) -> Any:
        """What `build` made for `key`, which must hold everything that `build` looks at."""
        known = self._index.get(key)
        kept = known() if known is not None else None
        if kept is None:
            parts: list[_Kept] = []
            self._asking.append(parts)
            try:
                value = build()
            finally:
                self._asking.pop()
            kept = _Kept(value, parts)
            self._index[key] = KeyedRef(kept, self._forget, key)
        if self._asking:
            self._asking[-1].append(kept)
        else:
            self._now[id(kept)] = kept
        return kept.value

    def _forget(self, gone: KeyedRef[Any, _Kept]) -> None:
        if self._index.get(gone.key) is gone:
            del self._index[gone.key]

    def same(self, value: _T) -> _T:
        """`value`, or the equal one that is known: what is made of known parts is quick to compare."""
        kept: _T = self(value, lambda: value)
        return kept

    def each(
        self,
        name: str,
        objects: Iterable[_O],
        build: Callable[[_O, Any], _V],
        beside: Callable[[_O], Any] = lambda _: None,
        key: Callable[[Any], Hashable] = place_of,
    ) -> list[_V]:
        """What `build` makes of each object and of what is beside it, made anew only where one of the two is another.

        Where the result is equal to the one before, it is the very same: who compares results looks no further.

        Args:
            name: What is made; one list of objects a name.
            objects: The objects.
            build: Looks at nothing but its arguments.
            beside: What else a result depends on.
            key: What tells an object from the others and stays.
        """
        known, found, values = self._tables.get(name, {}), {}, []
        for obj in objects:
            where, around = key(obj), beside(obj)
            before = known.get(where)
            if before is None or before[0] is not obj or before[1] != around:
                value = build(obj, around)
                before = (obj, around, value if before is None or before[2] != value else before[2])
            found[where] = before
            values.append(before[2])
        self._tables[name] = found
        return values


class Identity:
    """Some objects, equal to others where each is the very same: a key that need not look into them."""

    def __init__(self, objects: Iterable[object]) -> None:
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
