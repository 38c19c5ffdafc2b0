# SPDX-License-Identifier: Apache-2.0
"""What a body says that it is, and where it belongs: its kind and apiVersion, its name and namespace."""

from __future__ import annotations

from typing import Any

from labkit.ground.reading.json_text import json_kind
from meshbox.api import refusals
from meshbox.api.resources import Registry, Served
from meshbox.contracts import ApiError, Obj

__all__ = ["check_type", "no_object", "place", "unreadable"]

_TYPE_META = (("APIVersion", "apiVersion"), ("Kind", "kind"))
_SHOWN = 30
"""Bytes of a body that a refusal shows."""


def _unrecognized(kind: str, why: str, body: bytes) -> ApiError:
    begin = body[:_SHOWN]
    shown = begin.decode(errors="replace") if body[:1] == b"{" else begin.hex() or "<empty>"
    return refusals.bad_request(
        f"the object provided is unrecognized (must be of type {kind}): {why} "
        f"({shown}{' ...' if len(body) > _SHOWN else ''})"
    )


def unreadable(served: Served | None, error: ApiError, body: bytes) -> ApiError:
    """What is said of a body that is no JSON (`error` says why) in a request for `served`."""
    _, _, why = error.message.partition(" JSON: ")
    if served is None or not why:
        return error
    return _unrecognized(served.resource.kind, f"couldn't get version/kind; json parse error: {why}", body)


def no_object(value: Any) -> ApiError:
    """What is wrong with a body that is JSON, but no object."""
    if value is None:
        return refusals.bad_request("the body of the request is not an object")
    fields = "; ".join(f'{name} string "json:\\"{key},omitempty\\""' for name, key in _TYPE_META)
    why = f"json: cannot unmarshal {json_kind(value)} into Go value of type struct {{ {fields} }}"
    return refusals.bad_request(f"the body of the request is not valid JSON: {why}")


def check_type(served: Served, obj: Obj, body: bytes, registry: Registry) -> None:
    """Fill in what a built-in object may leave out of its kind and apiVersion, in place, and check what it has.

    Args:
        served: What the request is about.
        obj: The object.
        body: Its bytes, which a refusal shows.
        registry: Which kinds there are.

    Raises:
        ApiError: 400 where it is of another kind or version.
    """
    wanted = served.resource.kind
    for field, value in obj.items():
        if field in ("kind", "apiVersion") and not isinstance(value, str | None):
            why = f"json: cannot unmarshal {json_kind(value)} into Go struct field .{field} of type string"
            raise _unrecognized(wanted, f"couldn't get version/kind; json parse error: {why}", body)
    if (obj.get("apiVersion") or "").count("/") > 1:
        raise _unrecognized(wanted, f"unexpected GroupVersion string: {obj['apiVersion']}", body)
    if served.resource.crd is not None:
        if not obj.get("kind"):
            raise _unrecognized(wanted, f"Object 'Kind' is missing in '{body.decode(errors='replace')}'", body)
        obj["apiVersion"] = obj.get("apiVersion") or ""
        return
    kind = obj["kind"] = obj.get("kind") or wanted
    version = obj["apiVersion"] = obj.get("apiVersion") or served.api_version
    if (kind, version) == (wanted, served.api_version):
        return
    bare = kind.removesuffix("List")
    of = {one.resource.kind: one for one in registry.all_served() if one.api_version == version}
    short = version.rpartition("/")[2]
    what = f"{kind} in version {refusals.quoted(short)} cannot be handled as a {wanted}"
    if bare not in of:
        words = f"no kind {refusals.quoted(kind)} is registered for version {refusals.quoted(version)}"
        raise refusals.bad_request(f'{what}: {words} in scheme "pkg/runtime/scheme.go:111"')
    if kind != wanted:
        inner = served.resource.group.partition(".")[0] or "core"
        raise refusals.bad_request(f"{what}: converting ({short}.{kind}) to ({inner}.{wanted}): unknown conversion")


def place(obj: Obj, name: str, namespace: str | None) -> None:
    """Check that an object is the one that the path of its request names, and put it into the namespace there.

    Args:
        obj: The object, changed in place; metadata of another type is left to whoever decodes it.
        name: That of the path.
        namespace: That of the path; None for objects that live in none.

    Raises:
        ApiError: 400 where it is another one.
    """
    if obj.get("metadata") is None:
        obj["metadata"] = {}
    meta = obj["metadata"]
    if not isinstance(meta, dict) or any(not isinstance(meta.get(one), str | None) for one in ("name", "namespace")):
        return
    if namespace is None:
        meta.pop("namespace", None)
    elif (meta.get("namespace") or namespace) != namespace:
        raise refusals.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    else:
        meta["namespace"] = namespace
    if not meta.get("name"):
        why = "was undeterminable: name must be provided"
        raise refusals.bad_request(f"the name of the object ({name} based on URL) {why}")
    if meta["name"] != name:
        raise refusals.bad_request(
            f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
        )
