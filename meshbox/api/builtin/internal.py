# SPDX-License-Identifier: Apache-2.0
"""Objects as the API server itself holds them: what it prints where something in a template may not change.

Its own structs have no names for JSON, so all their fields are printed, by the names that they have in Go, whether they
are set or not. They are told by the tables of protobuf; what is otherwise in them is here, and in data/order.txt the
order of fields where that is not the one of their numbers, without later ones.
"""

from __future__ import annotations

import difflib
import json
import re
from typing import Any

from meshbox.api.codec.fields import Field, fields_of, is_message
from meshbox.api.table_files import table
from meshbox.contracts import Obj

__all__ = ["difference", "internal"]

_CORE = "api.core.v1."
_META = "apimachinery."
"""Whose types the server has no others for: they are printed as they are sent."""

_SHORT = re.compile(r"(api|aws|csi|dns|fc|fs|gce|gmsa|grpc|http|ip|iqn|iscsi|nfs|os|rbd|se|tcp|tty|uid)(?![a-z])")
_NAMES = {
    "cephfs": "CephFS",
    "chapAuthDiscovery": "DiscoveryCHAPAuth",
    "chapAuthSession": "SessionCHAPAuth",
    "storageos": "StorageOS",
}

_LATER = (("user", "int64"), ("defaultUser", "int64"), ("source", "api.core.v1.ClaimSource"))
"""Fields, by name and type, that the version that is played does not have."""

_OF_POD = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers")
"""Fields of a pod's spec that the server keeps in its security context, which each pod has there."""


def internal(message: str, value: Any) -> Any:
    """`value` as JSON of the server's own struct.

    Args:
        message: Its type in protobuf, e.g. "api.core.v1.PodTemplateSpec".
        value: As it is stored; None for a struct with nothing set.
    """
    if message == "string":
        return value or ""
    if not is_message(message):
        return value
    if message.startswith(_META):
        return _sent(message, value) if isinstance(value, dict) else value
    given: Obj = dict(value) if isinstance(value, dict) else {}
    if message == f"{_CORE}PodSpec":
        given["securityContext"] = {
            **{name: given.get(name) for name in _OF_POD},
            **(given.get("securityContext") or {}),
        }
    known = {one.name: one for one in fields_of(message).values() if (one.name, one.type) not in _LATER}
    order = table("order.txt").get(message.removeprefix(_CORE), ())
    made: Obj = {}
    for name in " ".join(order).split() or known:
        field = known.get(name) or Field(name, "bool", "*" if name in _OF_POD[3:] else "")
        if not name:
            made |= internal(field.type, given)
        elif name == "metadata":
            # Embedded, and with names for JSON.
            meta = given.get(name) or {}
            made |= {one.name: meta[one.name] for one in fields_of(field.type).values() if meta.get(one.name)}
        else:
            made[_NAMES.get(name) or _go_name(name)] = _value(field, given.get(name))
    return made


def _sent(message: str, value: Obj) -> Obj:
    """`value` in the order of its fields, without those that are left out while they are empty."""
    fields = fields_of(message).values()
    return {one.name: _value(one, value.get(one.name)) for one in fields if value.get(one.name) or "+" in one.mark}


def _go_name(name: str) -> str:
    short = _SHORT.match(name)
    end = short.end() if short else 1
    return name[:end].upper() + name[end:]


def _value(field: Field, value: Any) -> Any:
    if value is None:
        if field.mark.endswith(("[]", "{}", "*")) or field.type in ("bytes", "Time"):
            return None
        return {"string": "", "bool": False, "Quantity": "0"}.get(field.type, internal(field.type, None) or 0)
    if "[]" in field.mark:
        return [internal(field.type, one) for one in value]
    if "{}" in field.mark:
        return {key: internal(field.type, value[key]) for key in sorted(value)}
    return internal(field.type, value)


def difference(message: str, before: Any, after: Any) -> str:
    """The lines in which two values differ in the server's own form, each place with three lines around it."""
    old, new = (
        (json.dumps(internal(message, one), indent=2, ensure_ascii=False) + "\n").splitlines(keepends=True)
        for one in (before, after)
    )
    # Without the two lines that would name files.
    return "".join(list(difflib.unified_diff(old, new))[2:])
