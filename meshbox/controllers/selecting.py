# SPDX-License-Identifier: Apache-2.0
"""Who selects whom: which Services, ReplicaSets or budgets a changed pod concerns, without reading them all."""

from __future__ import annotations

from collections.abc import Callable

from labkit.ground.labels import matches
from meshbox.contracts import Event, Obj
from meshbox.reconcile import Key, object_key

__all__ = ["SelectorIndex"]


class SelectorIndex:
    """The selectors of all objects of one resource, learnt from its watch.

    Args:
        selector_of: The label selector of an object, None or empty where it selects nothing.
    """

    def __init__(self, selector_of: Callable[[Obj], Obj | None]) -> None:
        self._selector_of = selector_of
        self._selectors: dict[str | None, dict[str, Obj]] = {}
        self._members: dict[Key, set[Key]] = {}

    def keys(self, event: Event) -> list[Key]:
        """Learn from an event about a selecting object; returns its key."""
        namespace, name = object_key(event.object)
        known = self._selectors.setdefault(namespace, {})
        selector = None if event.type == "DELETED" else self._selector_of(event.object)
        if selector:
            known[name] = selector
        else:
            known.pop(name, None)
        if not known:
            # Namespaces come and go as well.
            del self._selectors[namespace]
        return [(namespace, name)]

    def selects(self, key: Key) -> bool:
        """Whether the object under `key` is known to select anything."""
        return key[1] in self._selectors.get(key[0], {})

    def selecting(self, obj: Obj) -> set[Key]:
        """Keys of the objects that select `obj`."""
        namespace = obj["metadata"].get("namespace")
        labels = obj["metadata"].get("labels")
        selectors = self._selectors.get(namespace, {})
        return {(namespace, name) for name, selector in selectors.items() if matches(selector, labels)}

    def member_keys(self, event: Event) -> set[Key]:
        """Keys of the objects that select the event's object, or did before it changed."""
        key = object_key(event.object)
        now = self.selecting(event.object)
        before = self._members.pop(key, set())
        if event.type != "DELETED" and now:
            self._members[key] = now
        return now | before
