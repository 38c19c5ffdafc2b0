# SPDX-License-Identifier: Apache-2.0
"""Kept objects as a client asked to see them: in its version, as a list, a Table, or only their metadata."""

from __future__ import annotations

from meshbox.api.conversion import from_hub
from meshbox.api.resources import Served
from meshbox.api.responses import Form
from meshbox.api.store import Entry
from meshbox.api.tables import to_table
from meshbox.contracts import Obj
from meshbox.values import dumps

__all__ = ["View"]


class View:
    """How one request wants to see objects of one resource.

    Args:
        served: The group and version of the request.
        form: From its Accept header.
        include: `includeObject` of a Table.
        legacy: Whether Table columns are those of Kubernetes 1.14.
    """

    def __init__(self, served: Served, form: Form, include: str, *, legacy: bool) -> None:
        self._served = served
        self._form = form
        self._include = include
        self._legacy = legacy
        self._headed = False

    def one(self, obj: Obj) -> Obj:
        """A single object (a hub one, not changed)."""
        if self._form.kind == "Table":
            return self._table([obj], {"resourceVersion": obj["metadata"].get("resourceVersion", "")})
        if self._form.kind == "PartialObjectMetadata":
            return self._partial(obj)
        return from_hub(self._served, obj)

    def scale(self, scale: Obj) -> Obj:
        """The Scale of an object; those of custom resources have no columns of their own."""
        if self._form.kind != "Table" or self._served.resource.crd is not None:
            return scale
        shown = to_table("scale", [scale], crd=None, include=self._include, legacy=self._legacy)
        if self._include == "Object":
            shown["rows"][0]["object"] = scale
        return {**shown, "metadata": {"resourceVersion": scale["metadata"].get("resourceVersion", "")}}

    def many(self, entries: list[Entry], meta: Obj) -> bytes:
        """A list of objects, as JSON."""
        if self._form.kind == "Table":
            return dumps(self._table([entry.obj for entry in entries], meta))
        if self._form.kind == "PartialObjectMetadataList":
            items = [self._partial(entry.obj) for entry in entries]
            head = {"kind": "PartialObjectMetadataList", "apiVersion": f"meta.k8s.io/{self._form.version}"}
            return dumps({**head, "metadata": meta, "items": items})
        kind = self._served.resource.list_kind
        head_bytes = dumps({"kind": kind, "apiVersion": self._served.api_version, "metadata": meta})
        return head_bytes[:-1] + b',"items":[' + b",".join(map(self._item, entries)) + b"]}"

    def _item(self, entry: Entry) -> bytes:
        """An object in a list, which says for all built-in ones of what kind they are."""
        raw, resource = self._raw(entry), self._served.resource
        if resource.crd is not None:
            return raw
        head = dumps({"kind": resource.kind, "apiVersion": self._served.api_version})[:-1] + b","
        return b"{" + raw[len(head) :] if raw.startswith(head) else raw

    def event(self, kind: str, entry: Entry) -> bytes:
        """One event of a watch, as a line of JSON."""
        if self._form.kind == "Table":
            shown = self._table([entry.obj], {"resourceVersion": str(entry.version)})
            if self._headed:
                shown["columnDefinitions"] = []
            self._headed = True
            raw = dumps(shown)
        elif self._form.kind.startswith("PartialObjectMetadata"):
            raw = dumps(self._partial(entry.obj))
        else:
            raw = self._raw(entry)
        return b'{"type":"%s","object":%s}\n' % (kind.encode(), raw)

    def bookmark(self, version: int, *, initial_events_end: bool) -> bytes:
        """A BOOKMARK event: how far the stream is."""
        meta: Obj = {"resourceVersion": str(version), "creationTimestamp": None}
        if initial_events_end:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        obj: Obj = {"kind": self._served.resource.kind, "apiVersion": self._served.api_version, "metadata": meta}
        if self._form.kind == "Table":
            partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta}
            table = self._table([], {"resourceVersion": str(version)})
            obj = {**table, "rows": [{"cells": [], "object": partial}]}
        elif self._form.kind:
            obj = {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{self._form.version}", "metadata": meta}
        return b'{"type":"BOOKMARK","object":%s}\n' % dumps(obj)

    def _raw(self, entry: Entry) -> bytes:
        return entry.raw if self._served.hub else dumps(from_hub(self._served, entry.obj))

    def _partial(self, obj: Obj) -> Obj:
        version = f"meta.k8s.io/{self._form.version}"
        return {"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": obj["metadata"]}

    def _table(self, objects: list[Obj], meta: Obj) -> Obj:
        resource = self._served.resource
        shown = objects
        if self._include == "Object":
            shown = [from_hub(self._served, obj) for obj in objects]
        table = to_table(
            resource.name,
            objects,
            crd=resource.crd,
            include=self._include,
            version=self._served.version if resource.crd else "",
            legacy=self._legacy,
        )
        if self._include == "Object":
            for row, obj in zip(table["rows"], shown, strict=True):
                row["object"] = obj
        table["metadata"] = meta
        return table
