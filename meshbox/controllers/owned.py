# SPDX-License-Identifier: Apache-2.0
"""Which dependents belong to which controller, and the adoption and release of them.

A decision is always made on objects read at that moment. What a watch has told is used for two things only: to know
whom a change concerns, and to find dependents that no longer match their controller's selector. Both are corrected by
the event that is still on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from labkit.ground.labels import matches, written
from meshbox.contracts import ApiError, Event, Obj, View
from meshbox.controllers.meta import MANAGER, Context, controller_of, owner_reference
from meshbox.controllers.selecting import SelectorIndex
from meshbox.reconcile import Key, object_key

__all__ = ["Owned", "OwnerKind"]


class OwnerKind:
    """A kind of controller object, and the selectors of all there are.

    Args:
        resource: Its resource, e.g. "replicasets.apps".
        api_version: e.g. "apps/v1".
        kind: e.g. "ReplicaSet".
        plain: Whether its selector is a map of labels.
    """

    def __init__(self, resource: str, api_version: str, kind: str, *, plain: bool = False) -> None:
        self.resource = resource
        self.api_version = api_version
        self.kind = kind
        self._plain = plain
        self._selectors = SelectorIndex(self.selector)

    def selector(self, owner: View) -> Obj | None:
        """What an object of this kind selects, as a selector object."""
        given = owner["spec"].get("selector")
        return {"matchLabels": given} if self._plain and given else given

    def keys(self, event: Event) -> list[Key]:
        """Learn from an event about an object of this kind; returns its key."""
        return self._selectors.keys(event)

    def adopters(self, orphan: Obj) -> set[Key]:
        """Keys of the objects of this kind that select `orphan`."""
        return self._selectors.selecting(orphan)

    def is_owner(self, reference: Obj) -> bool:
        """Whether an owner reference names an object of this kind."""
        group = self.api_version.rpartition("/")[0]
        return bool(reference["kind"] == self.kind and reference["apiVersion"].rpartition("/")[0] == group)


class Owned:
    """The dependents of one resource ("pods") that objects of one kind ("ReplicaSet") control.

    Args:
        context: Shared by all controllers.
        resource: The dependents' resource.
        owner: The kind that controls them.
    """

    def __init__(self, context: Context, resource: str, owner: OwnerKind) -> None:
        self._context = context
        self._resource = resource
        self._owner = owner
        self._names: dict[str, set[str]] = {}
        self._owner_of: dict[Key, tuple[str, Key]] = {}

    def keys(self, event: Event) -> Iterable[Key]:
        """Keys of the controllers that a dependent's event concerns: its controller, a former one, or adopters."""
        key = object_key(event.object)
        found: set[Key] = set()
        before = self._owner_of.pop(key, None)
        if before is not None:
            self._names[before[0]].discard(key[1])
            found.add(before[1])
        reference = controller_of(event.object)
        if reference is None:
            if event.type != "DELETED":
                found.update(self._owner.adopters(event.object))
        elif self._owner.is_owner(reference):
            owner_key = (key[0], reference["name"])
            found.add(owner_key)
            if event.type != "DELETED":
                self._owner_of[key] = (reference["uid"], owner_key)
                self._names.setdefault(reference["uid"], set()).add(key[1])
        if before is not None and not self._names[before[0]]:
            del self._names[before[0]]
        return found

    def owner_key(self, dependent: Key) -> Key | None:
        """The key of the controller that a dependent was last seen with."""
        known = self._owner_of.get(dependent)
        return known[1] if known else None

    def claim(
        self, owner: Obj, selector: Obj | None = None, *, adopts: Callable[[Obj], bool] = lambda _orphan: True
    ) -> list[Obj]:
        """The dependents of `owner`, after adopting orphans that match and releasing what no longer matches.

        They are the caller's own down to the fields of their metadata; what is deeper is for reading only.

        Args:
            owner: The controlling object; one that is being deleted neither adopts nor releases.
            selector: Which dependents it wants; default its `spec.selector`.
            adopts: Further condition on an orphan.
        """
        objects = self._context.objects
        meta = owner["metadata"]
        selector = (self._owner.selector(owner) or {}) if selector is None else selector
        ending = "deletionTimestamp" in meta
        claimed = []
        for candidate in objects.view(self._resource, meta["namespace"], labels=written(selector)):
            reference = controller_of(candidate)
            if reference is not None:
                if reference["uid"] == meta["uid"]:
                    claimed.append({**candidate, "metadata": {**candidate["metadata"]}})
            elif not ending and "deletionTimestamp" not in candidate["metadata"] and adopts(candidate):
                adopted = self._adopt(owner, candidate)
                if adopted is not None:
                    claimed.append(adopted)
        if not ending:
            seen = {item["metadata"]["name"] for item in claimed}
            for name in self._names.get(meta["uid"], set()) - seen:
                self._release(owner, name, selector)
        return claimed

    def _adopt(self, owner: Obj, orphan: Obj) -> Obj | None:
        meta = orphan["metadata"]
        references = [
            *(meta.get("ownerReferences") or ()),
            owner_reference(owner, self._owner.api_version, self._owner.kind),
        ]
        try:
            return self._context.objects.patch(
                self._resource,
                meta["name"],
                {"metadata": {"uid": meta["uid"], "ownerReferences": references}},
                meta["namespace"],
                manager=MANAGER,
            )
        except ApiError as error:
            # Not ours to adopt any more; whatever changed it will be told by an event.
            if error.code in (404, 409, 422):
                return None
            raise

    def _release(self, owner: Obj, name: str, selector: Obj) -> None:
        namespace, uid = owner["metadata"]["namespace"], owner["metadata"]["uid"]
        dependent = self._context.objects.find(self._resource, name, namespace)
        if dependent is None or matches(selector, dependent["metadata"].get("labels")):
            return
        references = dependent["metadata"].get("ownerReferences") or []
        rest = [reference for reference in references if reference["uid"] != uid]
        if len(rest) < len(references) and "deletionTimestamp" not in dependent["metadata"]:
            self._context.objects.patch(
                self._resource, name, {"metadata": {"ownerReferences": rest or None}}, namespace, manager=MANAGER
            )
