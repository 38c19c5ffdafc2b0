# SPDX-License-Identifier: Apache-2.0
"""Envoy's fields, each in one sentence, with the page of Envoy's own documentation: `fields.tsv`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["explained", "page"]

_DOCS = "https://www.envoyproxy.io/docs/envoy/latest"
_ROWS = Path(__file__).with_name("fields.tsv").read_text("utf-8").splitlines()[1:]
_FIELDS = {name: (says, at) for name, says, at in (row.split("\t") for row in _ROWS)}
"""By name: what a field says, and the page."""


def page(field: str) -> str:
    """The address of the page on a field that is explained."""
    return f"{_DOCS}/{_FIELDS[field][1]}"


def explained(values: Iterable[Any]) -> dict[str, str]:
    """Fields that stand in these paths ("a.b.c") and values, with a sentence each, in their order."""
    found: dict[str, str] = {}

    def look(value: Any) -> None:
        if isinstance(value, str):
            return
        if isinstance(value, Mapping):
            for key, inner in value.items():
                if key in _FIELDS:
                    found.setdefault(key, _FIELDS[key][0])
                look(inner)
        elif isinstance(value, Iterable):
            for inner in value:
                look(inner)

    for value in values:
        look(dict.fromkeys(value.split(".")) if isinstance(value, str) else value)
    return found
