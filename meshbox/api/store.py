# SPDX-License-Identifier: Apache-2.0
"""All objects in memory, each with its JSON, behind the journal that makes them last; and who watches them."""

from __future__ import annotations

import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from msgspec import Struct

from labkit import __version__
from meshbox import failures
from meshbox.api import recovery, refusals, setting_aside
from meshbox.api.journal import Journal
from meshbox.api.journal import format as journal_format
from meshbox.api.loading import Loaded, delete_payload, load, put_payload
from meshbox.api.setting_aside import Aside
from meshbox.contracts import Obj
from meshbox.values import clone, dumps

__all__ = ["Change", "Entry", "Key", "Store"]

Key = tuple[str, str]
"""Namespace ("" for cluster-scoped objects) and name."""

HISTORY = 1500
"""Changes a watch may be behind before it is told to list again (410 Gone)."""

HISTORY_BYTES = 4 << 20
"""Bytes of JSON that these changes may hold together: a few hundred versions of a big Endpoints object, each with its
tree, would be most of this process's memory."""

AT_REST = 100, 256 << 10
"""Changes that are kept after many objects have gone and nothing is being written, and bytes of JSON in them."""


class Entry:
    """An object as it is kept: never changed in place, replaced instead."""

    __slots__ = ("obj", "raw", "version")

    def __init__(self, obj: Obj, raw: bytes, version: int) -> None:
        self.obj = obj
        self.raw = raw
        self.version = version


class Change(Struct, frozen=True):
    """One write. `previous` is the object before it (None for ADDED)."""

    version: int
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    resource: str
    entry: Entry
    previous: Obj | None


class Store:
    """Objects by resource name and key.

    Args:
        path: The journal's file.
        expected: Whether there must be a journal already, since this cluster had been up before.
        recover: Take what is sound out of a damaged journal, instead of refusing it.
        command: What starts this sandbox, for messages: "meshbox up".

    Attributes:
        version: The resourceVersion of the last write.
        aside: The objects that were set aside since this process began.
        foreign: Whether objects may be there that another version of labkit wrote, or that were damaged.

    Raises:
        SandboxError: the journal cannot be used, or is damaged.
    """

    def __init__(
        self, path: Path, *, expected: bool = False, recover: bool = False, command: str = "meshbox up"
    ) -> None:
        self._path = path
        self._journal = Journal(path, expected=expected, command=command)
        self._objects: dict[str, dict[Key, Entry]] = {}
        # Controllers ask for all of a namespace at each step; they are kept in order for that.
        self._keys: dict[str, list[Key]] = {}
        self._listeners: dict[str, list[Callable[[Change], None]]] = {}
        self._history: deque[Change] = deque()
        self._history_bytes = 0
        self.version = 0
        self.aside: list[Aside] = []
        self.foreign = False
        try:
            self._load(recover)
        except BaseException:
            self._journal.close()
            raise
        # What happened before this process is not known in order: watches from then must list again.
        self._forgotten = self.version

    def _load(self, recover: bool) -> None:
        reading = self._journal.open(recover=recover)
        loaded = load(reading)
        for (resource, key), (obj, raw, version) in loaded.objects.items():
            self._objects.setdefault(resource, {})[key] = Entry(obj, raw, version)
        self._keys = {resource: sorted(table) for resource, table in self._objects.items()}
        self.version = loaded.version
        for one in loaded.aside:
            self._put_aside(one)
        self.foreign = reading.header.by != __version__
        if reading.damages:
            self._recover(loaded)
        elif reading.format != journal_format.FORMAT or loaded.aside:
            # A file of the former format, or with something that the next start would stumble over again.
            self._journal.rewrite(self._payloads(), by=reading.header.by)

    def _recover(self, loaded: Loaded) -> None:
        stamp = time.strftime("%Y-%m-%dT%H-%M-%S")
        kept = self._path.with_name(f"{self._path.name}.damaged-{stamp}")
        # Nobody may see a version twice: each lost write had one.
        self.version += loaded.reading.lost + 1
        self.foreign = True
        self._journal.rewrite(self._payloads(), kept, by="-")
        recovery.tell(self._path.with_name(f"recovered-{stamp}.txt"), recovery.report(loaded, self._path, kept))

    def adopt(self) -> None:
        """All objects were checked: those of another labkit are as good as our own from now on."""
        if self.foreign:
            self._journal.rewrite(self._payloads())
            self.foreign = False

    def _put_aside(self, one: Aside) -> None:
        self.aside.append(setting_aside.keep(self._path.parent / setting_aside.FOLDER, one))

    def set_aside(self, resource: str, key: Key, why: str) -> None:
        """Take an object out that nothing can be done with, and keep it in a file.

        Args:
            resource: Of the object.
            key: Of the object; nothing is done where there is none.
            why: What is wrong with it, for the learner.
        """
        entry = self.entry(resource, key)
        if entry is not None:
            self._put_aside(Aside(resource, *key, why, entry.raw, entry.obj))
            self.remove(resource, key)

    def flush(self) -> None:
        """Return once all that was written before is on the disk."""
        self._journal.flush()

    def entry(self, resource: str, key: Key) -> Entry | None:
        """The object under `key`, or None."""
        return self._objects.get(resource, {}).get(key)

    def entries(self, resource: str, namespace: str | None = None) -> list[Entry]:
        """All objects of `resource` (in `namespace`), ordered by namespace and name."""
        table, keys = self._objects.get(resource, {}), self._keys.get(resource, [])
        if namespace is not None:
            # No text is between one and the same with the least character behind it.
            keys = keys[bisect_left(keys, (namespace, "")) : bisect_left(keys, (f"{namespace}\0", ""))]
        return [table[key] for key in keys]

    def put(self, resource: str, key: Key, obj: Obj) -> Entry:
        """Create or replace; sets `metadata.resourceVersion`. The store owns `obj` from here on.

        Raises:
            ApiError: 507 where it could not be saved; nothing is changed then.
        """
        version = self.version + 1
        obj["metadata"]["resourceVersion"] = str(version)
        raw = dumps(obj)
        self._append(put_payload(resource, key, version, raw), resource, key)
        self.version = version
        entry = Entry(obj, raw, version)
        table = self._objects.setdefault(resource, {})
        before = table.get(key)
        table[key] = entry
        if before is None:
            insort(self._keys.setdefault(resource, []), key)
        change: Literal["ADDED", "MODIFIED"] = "ADDED" if before is None else "MODIFIED"
        self._publish(Change(version, change, resource, entry, before.obj if before else None))
        return entry

    def remove(self, resource: str, key: Key) -> Entry:
        """Remove the object under `key`; returns its last state, with the resourceVersion of the removal.

        Raises:
            ApiError: 507 where that could not be saved; nothing is changed then.
        """
        version = self.version + 1
        self._append(delete_payload(resource, key, version), resource, key)
        self.version = version
        before = self._objects[resource].pop(key)
        del self._keys[resource][bisect_left(self._keys[resource], key)]
        last = {**before.obj, "metadata": {**before.obj["metadata"], "resourceVersion": str(version)}}
        entry = Entry(last, dumps(last), version)
        self._publish(Change(version, "DELETED", resource, entry, before.obj))
        return entry

    def _append(self, payload: bytes, resource: str, key: Key) -> None:
        try:
            self._journal.append(payload)
        except OSError as error:
            raise refusals.not_saved(resource, key[1], self._path, error) from error

    def resources(self) -> list[str]:
        """Every resource that objects are kept of."""
        return list(self._objects)

    def rewrite(self, resource: str, change: Callable[[Obj], Obj]) -> int:
        """Change how objects of `resource` are kept (another storage version) without it being a write.

        Args:
            resource: Of which resource.
            change: Gives the object to keep for a copy of the one there is; what it returns as it got it stays.

        Returns:
            How many were changed.
        """
        table, count = self._objects.get(resource, {}), 0
        for key, entry in list(table.items()):
            copied = clone(entry.obj)
            obj = change(copied)
            if obj is not copied:
                table[key] = Entry(obj, dumps(obj), entry.version)
                count += 1
        return count

    def compact(self) -> None:
        """Write the journal anew from what is in memory; it stays as it is where that fails."""
        self._journal.compact(self._payloads())

    def _publish(self, change: Change) -> None:
        self._history.append(change)
        self._history_bytes += len(change.entry.raw)
        self._forget(HISTORY, HISTORY_BYTES)
        for listener in list(self._listeners.get(change.resource, ())):
            # What is written is written: who listens badly must keep neither its writer nor the others from knowing.
            try:
                listener(change)
            except Exception as error:
                failures.in_log(f"a change of {change.resource} was not heard")(error)
        if self._journal.wants_compaction:
            self.compact()

    def forget_most(self) -> None:
        """Keep only the last changes: a storm of objects is remembered whole in them after it has gone.

        Watches that run have seen the others; one that begins again from before them is told so, and lists anew.
        """
        self._forget(*AT_REST)

    def _forget(self, most: int, most_bytes: int) -> None:
        while len(self._history) > most or (self._history_bytes > most_bytes and len(self._history) > 1):
            oldest = self._history.popleft()
            self._history_bytes -= len(oldest.entry.raw)
            self._forgotten = oldest.version

    def _payloads(self) -> Iterator[bytes]:
        yield b'{"version":%d}' % self.version
        for resource, table in self._objects.items():
            for key, entry in table.items():
                yield put_payload(resource, key, entry.version, entry.raw)

    def since(self, resource: str, version: int) -> list[Change] | None:
        """Changes of `resource` after `version`; None where they are no longer known."""
        if version < self._forgotten:
            return None
        return [change for change in self._history if change.version > version and change.resource == resource]

    def listen(self, resource: str, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call `listener` on every change of `resource` until what is returned is called."""
        listeners = self._listeners.setdefault(resource, [])
        listeners.append(listener)

        def stop() -> None:
            if listener in listeners:
                listeners.remove(listener)

        return stop

    def count(self) -> int:
        """How many objects there are."""
        return sum(map(len, self._objects.values()))

    def listeners(self, resource: str) -> int:
        """How many listen to changes of `resource`."""
        return len(self._listeners.get(resource, ()))

    def close(self) -> None:
        """Close the journal; nothing can be written afterwards."""
        self._journal.close()
