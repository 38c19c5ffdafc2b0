# SPDX-License-Identifier: Apache-2.0
"""How Go prints a JSON value in a message, and what it says where one does not fit the type of its field."""

from __future__ import annotations

import json
import re
from typing import Any

from meshbox.api.builtin.types import named_texts

__all__ = ["misfit", "printed", "syntax"]

_UNMARSHAL = re.compile(
    r"json: cannot unmarshal (?P<given>\w+)(?P<number> \S+)? into Go "
    r"(?:struct field|value)(?P<field>.*) of type (?P<type>\S+)$"
)
_KINDS = {"object": "map", "array": "slice", "number": "int64"}
_MAPS = frozenset({"v1.ResourceList"})
"""Maps that have names of their own."""


def printed(value: Any) -> str:
    """`value` as `%+v` prints it: ``map[spec:map[replicas:three]]``."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{printed(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(printed, value)) + "]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)


def syntax(value: Any) -> str:
    """`value` as `%#v` prints it, the syntax of Go: ``map[string]interface {}{"a":1}``."""
    if isinstance(value, dict):
        return (
            "map[string]interface {}{" + ", ".join(f"{json.dumps(k)}:{syntax(value[k])}" for k in sorted(value)) + "}"
        )
    if isinstance(value, list):
        return "[]interface {}{" + ", ".join(map(syntax, value)) + "}"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return "interface {}(nil)" if value is None else printed(value)


def misfit(unmarshal: str) -> str:
    """What is said of a value that a strategic merge patch sets, where decoding it would say `unmarshal`.

    The two ways differ: a patch is not decoded from text, but its maps are turned into the object.
    """
    match = _UNMARSHAL.search(unmarshal)
    if match is None:
        return f"error decoding from json: {unmarshal}" if unmarshal.startswith("illegal base64") else unmarshal
    given = "float64" if match["number"] else _KINDS.get(match["given"], match["given"])
    wanted = match["type"]
    if match["field"].endswith(("Time", "Timestamp")) and wanted == "string":
        # Times are decoded from text in a patch as well.
        return f"json: cannot unmarshal {match['given']} into Go value of type string"
    if wanted.startswith("[]"):
        return f"cannot restore slice from {given}"
    if wanted.startswith("map[") or wanted in _MAPS:
        return f"cannot restore map from {given}"
    is_text = wanted == "string" or wanted.partition(".")[2] in named_texts()
    if "." in wanted and not is_text:
        return f"cannot restore struct from: {given}"
    if (given, is_text) == ("int64", True) or (given == "float64" and wanted.startswith("int")):
        return f"cannot convert {given} to {wanted}"
    return f"unrecognized type: {'string' if is_text else wanted}"
