"""Objects without an API server, as far as the mesh needs them."""

from __future__ import annotations

import asyncio
import copy
from collections import defaultdict
from typing import Any

from meshbox.contracts import Event

Obj = dict[str, Any]


class FakeWatch:
    def __init__(self, owner: FakeObjects, resource: str) -> None:
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._owner = owner
        self._resource = resource
        for obj in owner.stored[resource].values():
            self._queue.put_nowait(Event("ADDED", obj))
        owner.watches[resource].append(self)

    def put(self, event: Event) -> None:
        self._queue.put_nowait(event)

    def __aiter__(self) -> FakeWatch:
        return self

    async def __anext__(self) -> Event:
        event = await self._queue.get()
        if event is None:
            raise StopAsyncIteration
        return event

    def close(self) -> None:
        if self in self._owner.watches[self._resource]:
            self._owner.watches[self._resource].remove(self)
        self._queue.put_nowait(None)


class FakeObjects:
    """Stores what it is given; no admission, no defaulting."""

    def __init__(self) -> None:
        self.stored: dict[str, dict[tuple[str, str], Obj]] = defaultdict(dict)
        self.watches: dict[str, list[FakeWatch]] = defaultdict(list)
        self.events: list[tuple[str, str, str, str]] = []
        self._version = 0

    def put(self, resource: str, obj: Obj) -> Obj:
        """Create or replace."""
        obj = copy.deepcopy(obj)
        meta = obj["metadata"]
        self._version += 1
        meta.setdefault("creationTimestamp", f"2020-01-01T00:00:{len(self.stored[resource]) % 60:02d}Z")
        meta["resourceVersion"] = str(self._version)
        meta.setdefault("uid", f"uid-{self._version}")
        key = (meta.get("namespace") or "", meta["name"])
        kind = "MODIFIED" if key in self.stored[resource] else "ADDED"
        self.stored[resource][key] = obj
        for watch in self.watches[resource]:
            watch.put(Event(kind, obj))  # type: ignore[arg-type]
        return obj

    def remove(self, resource: str, name: str, namespace: str = "") -> None:
        obj = self.stored[resource].pop((namespace, name))
        for watch in self.watches[resource]:
            watch.put(Event("DELETED", obj))

    def find(self, resource: str, name: str, namespace: str | None = None) -> Obj | None:
        return copy.deepcopy(self.stored[resource].get((namespace or "", name)))

    def list(self, resource: str, namespace: str | None = None, *, labels: str = "", fields: str = "") -> list[Obj]:
        found = [o for (ns, _), o in self.stored[resource].items() if namespace in (None, ns)]
        return copy.deepcopy(found)

    view = list

    def create(self, resource: str, obj: Obj, namespace: str | None = None, *, manager: str = "") -> Obj:
        if namespace:
            obj = {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}
        return self.put(resource, obj)

    def update(self, resource: str, obj: Obj, *, subresource: str = "", manager: str = "") -> Obj:
        return self.put(resource, obj)

    def delete(self, resource: str, name: str, namespace: str | None = None, **_: Any) -> Obj:
        obj = self.stored[resource][namespace or "", name]
        self.remove(resource, name, namespace or "")
        return obj

    def watch(self, resource: str, namespace: str | None = None) -> FakeWatch:
        return FakeWatch(self, resource)

    def resources(self) -> Any:
        return [resource for resource, known in self.stored.items() if known]

    def event(self, involved: Obj, type: str, reason: str, message: str, component: str) -> None:
        self.events.append((involved["metadata"]["name"], type, reason, message))
