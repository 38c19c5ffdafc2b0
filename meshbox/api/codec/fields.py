# SPDX-License-Identifier: Apache-2.0
"""The fields of protobuf messages: numbers, names in JSON and types, read from data/protobuf.json.

How a field is written there is told by what writes it, `tools/generate_protobuf_tables.py`.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import NamedTuple

__all__ = ["Field", "Shown", "fields_of", "is_message", "message_of", "shown_fields"]

_DELETE_OPTIONS = "apimachinery.pkg.apis.meta.v1.DeleteOptions"


class Field(NamedTuple):
    """What a number stands for in a message."""

    name: str
    """Its name in JSON; "" where its own fields stand in its place, "=" where it stands in the message's place."""
    type: str
    """A scalar's or a message's."""
    mark: str
    """"[]" a list, "{}" a map, "*" a zero was set, "+" a zero is shown ("+*": as null), "" a zero means not set."""


class Shown(NamedTuple):
    """A field as it stands in JSON, which also shows the fields of embedded messages."""

    message: str
    """Its type, where that is a message."""
    go_type: str
    """How Go prints its type, where that has a name of its own."""
    within: str
    """The embedded structs on the way to it, e.g. "VolumeSource."."""


@cache
def _tables() -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    tables = json.loads(resources.files("meshbox.api").joinpath("data/protobuf.json").read_text(encoding="utf-8"))
    return tables["kinds"], tables["messages"], tables["named"]


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


@cache
def shown_fields(message: str) -> dict[str, Shown]:
    """The fields of a message by their names in JSON."""
    named = dict(text.split(":", 1) for text in _tables()[2].get(message, "").split())
    found = {}
    for field in fields_of(message).values():
        if field.name:
            inner = field.type if is_message(field.type) else ""
            found[field.name] = Shown(inner, named.get(field.name, ""), "")
        else:
            within = field.type.rpartition(".")[2] + "."
            found |= {name: one._replace(within=within + one.within) for name, one in shown_fields(field.type).items()}
    return found
