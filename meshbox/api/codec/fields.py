# SPDX-License-Identifier: Apache-2.0
"""The fields of protobuf messages: numbers, names in JSON and types, read from data/protobuf.json.

How a field is written there is told by what writes it, `tools/generate_protobuf_tables.py`.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import NamedTuple

__all__ = ["Field", "fields_of", "is_message", "message_of"]

_DELETE_OPTIONS = "apimachinery.pkg.apis.meta.v1.DeleteOptions"


class Field(NamedTuple):
    """What a number stands for in a message."""

    name: str
    """Its name in JSON; "" where its own fields stand in its place, "=" where it stands in the message's place."""
    type: str
    """A scalar's or a message's."""
    mark: str
    """"[]" a list, "{}" a map, "*" a zero value was set, "+" a zero value is shown, "" a zero value means not set."""


@cache
def _tables() -> tuple[dict[str, str], dict[str, str]]:
    tables = json.loads(resources.files("meshbox.api").joinpath("data/protobuf.json").read_text(encoding="utf-8"))
    return tables["kinds"], tables["messages"]


def message_of(api_version: str, kind: str) -> str:
    """The message of a kind; "" where it has none."""
    if kind == "DeleteOptions":
        # Clients write it in the version of whatever they delete.
        return _DELETE_OPTIONS
    return _tables()[0].get(f"{api_version}/{kind}", "")


def is_message(name: str) -> bool:
    """Whether a type is a message with fields."""
    return name in _tables()[1]


@cache
def fields_of(message: str) -> dict[int, Field]:
    """The fields of a message by their numbers."""
    package = message.rpartition(".")[0]
    found = {}
    for text in _tables()[1][message].split():
        number, name, written = text.split(":")
        kind = written.lstrip("[]{}*+")
        own = f"{package}.{kind}"
        found[int(number)] = Field(name, own if is_message(own) else kind, written[: len(written) - len(kind)])
    return found
