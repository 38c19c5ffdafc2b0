# SPDX-License-Identifier: Apache-2.0
"""Tables of custom resources: the columns that their CRD asks for."""

from __future__ import annotations

import json
from typing import Any

from meshbox.api.tables.formats import age, dig, items, timestamp
from meshbox.api.tables.jsonpath import JSONPathError, find
from meshbox.api.tables.printer_columns import At, column
from meshbox.contracts import Obj

__all__ = ["custom_cells", "custom_columns"]

_AGE: Obj = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def _path(definition: Obj) -> str:
    # apiextensions.k8s.io/v1beta1 spells it in capitals.
    return str(definition.get("jsonPath") or definition.get("JSONPath") or "")


def _definitions(crd: Obj, version: str) -> list[Obj]:
    """The additionalPrinterColumns of `version` (default: the stored one); of the whole CRD in v1beta1's older form."""
    versions = items(crd, "spec", "versions")
    chosen: Obj = next(
        (v for v in versions if v.get("name") == version),
        next((v for v in versions if v.get("storage")), {}),
    )
    own = items(chosen, "additionalPrinterColumns") or items(crd, "spec", "additionalPrinterColumns")
    readable = []
    for definition in own:
        try:
            find(_path(definition), {})
        except JSONPathError:
            # As the API server does: the columns before the one that cannot be read.
            break
        readable.append(definition)
    return readable or [_AGE]


def custom_columns(crd: Obj, version: str) -> tuple[list[Obj], list[Obj]]:
    """The printer columns of `version`: as the CRD has them, and as a Table's column definitions (Name first)."""
    definitions = _definitions(crd, version)
    return definitions, [
        column("Name"),
        *(
            column(
                d.get("name", ""),
                d.get("type") or "string",
                priority=d.get("priority") or 0,
                format=d.get("format") or "",
                description=d.get("description")
                or f"Custom resource definition column (in JSONPath format): {_path(d)}",
            )
            for d in definitions
        ),
    ]


def custom_cells(obj: Obj, definitions: list[Obj], at: At) -> list[Any]:
    """The cells of one custom resource; null where the object has no such field."""
    cells: list[Any] = [dig(obj, "metadata", "name")]
    for definition in definitions:
        found = find(_path(definition), obj)
        cells.append(_cell(found[0], definition.get("type") or "string", at) if found else None)
    return cells


def _cell(value: Any, type_: str, at: At) -> Any:
    if type_ == "string":
        return _text(value)
    if type_ == "date" and isinstance(value, str):
        return age(value, at.now) if timestamp(value) else "<invalid>"
    if type_ == "boolean" and isinstance(value, bool):
        return value
    if type_ in ("integer", "number") and isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if type_ == "integer" else float(value)
    return None


def _text(value: Any) -> str:
    if value is None:
        return "<no value>"
    if isinstance(value, str):
        return value
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    # Go's encoder, which a real server uses here, escapes what HTML would read.
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")
