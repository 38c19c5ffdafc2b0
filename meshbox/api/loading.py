# SPDX-License-Identifier: Apache-2.0
"""From the journal's records to objects, and back: what a record says, and whether that is an object."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from msgspec import Struct, field

from meshbox.api.builtin.typed import typed
from meshbox.api.journal.format import Reading
from meshbox.api.setting_aside import Aside
from meshbox.contracts import Obj

__all__ = ["Head", "Loaded", "delete_payload", "head_of", "load", "put_payload"]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_OBJECT = b',"object":'
"""Cannot be part of a JSON string, in which quotation marks are escaped: what is before it tells what the record is."""


class Head(msgspec.Struct):
    """What a record is about."""

    put: str = ""
    delete: str = ""
    namespace: str = ""
    name: str = ""
    version: int = 0

    @property
    def resource(self) -> str:
        """Of the object."""
        return self.put or self.delete

    @property
    def key(self) -> tuple[str, str]:
        """Of the object."""
        return self.namespace, self.name


_head = msgspec.json.Decoder(Head).decode


def put_payload(resource: str, key: tuple[str, str], version: int, raw: bytes) -> bytes:
    """The record of an object's state; `raw` is its JSON."""
    about = _encode(resource), _encode(key[0]), _encode(key[1])
    return b'{"put":%s,"namespace":%s,"name":%s,"version":%d,"object":%s}' % (*about, version, raw)


def delete_payload(resource: str, key: tuple[str, str], version: int) -> bytes:
    """The record of an object's end."""
    about = _encode(resource), _encode(key[0]), _encode(key[1])
    return b'{"delete":%s,"namespace":%s,"name":%s,"version":%d}' % (*about, version)


def head_of(payload: bytes) -> tuple[Head, bytes]:
    """What a record is about, and the JSON of the object (b"" without).

    Raises:
        ValueError: it is no record.
    """
    about, separator, raw = payload.partition(_OBJECT)
    head = _head(about + b"}" if separator else about)
    if bool(separator) != bool(head.put) or (head.put and head.delete) or (head.resource and not head.name):
        raise ValueError("it is neither the state of an object nor its end")
    return head, raw[:-1]


class Loaded(Struct):
    """What was brought back.

    Args:
        reading: Of the file.
        version: The highest resourceVersion there was.
        objects: Resource and key → the object, its JSON, its version.
        aside: Records that hold no object.
    """

    reading: Reading
    version: int = 0
    objects: dict[tuple[str, tuple[str, str]], tuple[Obj, bytes, int]] = field(default_factory=dict)
    aside: list[Aside] = field(default_factory=list)


def load(reading: Reading) -> Loaded:
    """The objects that the records leave. One that cannot be understood is in nobody else's way."""
    loaded = Loaded(reading)
    # Only the last state of each object is worth parsing.
    latest: dict[tuple[str, tuple[str, str]], tuple[bytes, int]] = {}
    for payload in reading.payloads():
        try:
            head, raw = head_of(payload)
        except (ValueError, RecursionError):
            loaded.aside.append(Aside("", "", "", "the record is none of an object", payload))
            continue
        if head.put:
            latest[head.put, head.key] = raw, head.version
        elif head.delete:
            latest.pop((head.delete, head.key), None)
        loaded.version = max(loaded.version, head.version)
    for (resource, key), (raw, version) in latest.items():
        obj, why = _object(raw, key)
        if why:
            loaded.aside.append(Aside(resource, *key, why, raw, obj if isinstance(obj, dict) else None))
        else:
            # One kept before objects had one form would differ from what is made of it from now on.
            bare = "spec" not in obj
            typed(obj, obj.get("apiVersion", ""), obj.get("kind", ""))
            if bare:
                # Whether it can do without one is asked later.
                obj.pop("spec", None)
            loaded.objects[resource, key] = obj, raw, version
    return loaded


def _object(raw: bytes, key: tuple[str, str]) -> tuple[Any, str]:
    """The object in `raw`, and why it is none ("" for one)."""
    try:
        obj = _decode(raw)
    except RecursionError:
        return None, "it is nested too deeply"
    except ValueError:
        try:
            # What the quick decoder does not take: numbers beyond 64 bits, half a pair of surrogates.
            obj = json.loads(raw)
        except (ValueError, RecursionError):
            return None, "it is no JSON"
    return obj, _problem(obj, key)


def _problem(obj: Any, key: tuple[str, str]) -> str:
    """Why `obj` is no object as every part of the sandbox takes for granted; "" for one."""
    if not isinstance(obj, dict):
        return "it is no object"
    meta = obj.get("metadata")
    if not isinstance(meta, dict):
        return "it has no metadata"
    if (meta.get("namespace") or "", meta.get("name")) != key:
        return "its metadata is that of another object"
    for field_ in ("uid", "resourceVersion"):
        if not isinstance(meta.get(field_), str):
            return f"metadata.{field_} is missing or no text"
    for field_ in ("labels", "annotations"):
        if not _texts(meta.get(field_)):
            return f"metadata.{field_} is no map of texts"
    owners, finalizers = meta.get("ownerReferences") or [], meta.get("finalizers") or []
    if not isinstance(finalizers, list) or not all(isinstance(one, str) for one in finalizers):
        return "metadata.finalizers is no list of texts"
    if not isinstance(owners, list) or not all(isinstance(one, dict) and one.keys() >= _OWNER for one in owners):
        return "metadata.ownerReferences is no list of references"
    return ""


_OWNER = {"apiVersion", "kind", "name", "uid"}


def _texts(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(isinstance(one, str) for one in value.values()))
