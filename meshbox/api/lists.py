# SPDX-License-Identifier: Apache-2.0
"""What a list or a read is asked for beside its selectors: a page of it, and how new it must be."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping

from labkit.ground import reading
from meshbox.api import refusals
from meshbox.api.objects import ObjectStore
from meshbox.api.options_read import invalid_options, whole_option
from meshbox.api.resources import Resource
from meshbox.api.store import Entry
from meshbox.contracts import ApiError, Obj

__all__ = ["check_version", "key_of", "no_version", "page", "too_new"]

_FORM = "meta.k8s.io/v1"
"""The form of a continue token, which names it: clients keep them, and some look inside."""

_MATCHES = ("", "Exact", "NotOlderThan")


def key_of(entry: Entry) -> tuple[str, str]:
    """Namespace and name: the order of a list."""
    meta = entry.obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def page(
    objects: ObjectStore, resource: Resource, namespace: str | None, query: Mapping[str, str]
) -> tuple[list[Entry], Obj]:
    """The objects that a list shows, and its `metadata`.

    Raises:
        ApiError: 400, 422 or 504 where what is asked for makes no sense, or is not there yet.
    """
    _check(query)
    check_version(query.get("resourceVersion", ""), objects.store.version)
    labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
    entries = objects.select(resource, namespace, labels=labels, fields=fields)
    # A list of custom resources says that nothing follows, too.
    meta: Obj = {"continue": ""} if resource.crd is not None else {}
    meta["resourceVersion"] = str(objects.store.version)
    text = query.get("limit", "")
    limit = max(0, whole_option(text)) if text else 0
    if token := query.get("continue", ""):
        version, after = _continuation(token)
        entries = [entry for entry in entries if key_of(entry) > after]
        meta["resourceVersion"] = str(version)
    if limit and len(entries) > limit:
        rest = len(entries) - limit
        entries = entries[:limit]
        last = {"v": _FORM, "rv": int(meta["resourceVersion"]), "start": "/".join(key_of(entries[-1])) + "\0"}
        text = json.dumps(last, separators=(",", ":"))
        meta["continue"] = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        if not labels and not fields:
            meta["remainingItemCount"] = rest
    return entries, meta


def _check(query: Mapping[str, str]) -> None:
    """Which options of a list do not go together."""
    match, version = query.get("resourceVersionMatch", ""), query.get("resourceVersion", "")
    field, causes = "resourceVersionMatch", []
    if match:
        if not version:
            causes.append((field, f"Forbidden: {field} is forbidden unless resourceVersion is provided"))
        if query.get("continue"):
            causes.append((field, f"Forbidden: {field} is forbidden when continue is provided"))
        if match not in _MATCHES:
            words = 'supported values: "Exact", "NotOlderThan", ""'
            causes.append((field, f"Unsupported value: {refusals.quoted(match)}: {words}"))
        if (match, version) == ("Exact", "0"):
            causes.append((field, f'Forbidden: {field} "exact" is forbidden for resourceVersion "0"'))
    if "sendInitialEvents" in query:
        causes.append(("sendInitialEvents", "Forbidden: sendInitialEvents is forbidden for list"))
    if causes:
        raise invalid_options(causes, "ListOptions")


def check_version(text: str, current: int) -> None:
    """Refuse a resourceVersion that is none, or that nobody has written yet.

    Raises:
        ApiError: 400 or 504.
    """
    if not text:
        return
    if words := no_version(text):
        raise refusals.bad_request(f"invalid resource version: resourceVersion: {words}")
    if int(text) > current:
        raise too_new(int(text), current)


def no_version(text: str) -> str:
    """Why `text` is no resourceVersion; "" where it is one."""
    number = text.isascii() and text.isdigit()
    if number and len(text) <= 20 and int(text) < 1 << 64:
        return ""
    why = "value out of range" if number else "invalid syntax"
    return f"Invalid value: {refusals.quoted(text)}: strconv.ParseUint: parsing {refusals.quoted(text)}: {why}"


def too_new(version: int, current: int) -> ApiError:
    """504 for a resourceVersion of another life of this cluster: only a new list can help."""
    words = "Too large resource version"
    causes = [{"reason": "ResourceVersionTooLarge", "message": words}]
    said = f"Timeout: {words}: {version}, current: {current}"
    return ApiError(504, "Timeout", said, {"causes": causes, "retryAfterSeconds": 1})


def _continuation(token: str) -> tuple[int, tuple[str, str]]:
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        content = reading.json_value(text.decode(errors="replace"))
    except binascii.Error:
        raise _no_continuation("illegal base64 data at input byte 0") from None
    except reading.ReadingError as error:
        raise _no_continuation(error.problem) from None
    if not isinstance(content, dict) or content.get("v") != _FORM:
        known = content.get("v", "") if isinstance(content, dict) else ""
        raise _no_continuation(f"server does not recognize this encoded version {refusals.quoted(known)}")
    start, version = content.get("start"), content.get("rv")
    if not isinstance(version, int) or version <= 0:
        raise _no_continuation(f"incorrect encoded start resourceVersion (version {_FORM})")
    if not isinstance(start, str) or "/" not in start:
        raise _no_continuation(f"encoded start key empty (version {_FORM})")
    namespace, _, name = start.removesuffix("\0").partition("/")
    return version, (namespace, name)


def _no_continuation(why: str) -> ApiError:
    return refusals.bad_request(f"invalid continue token: continue key is not valid: {why}")
