# SPDX-License-Identifier: Apache-2.0
"""The fields of the built-in kinds and their types: from data/kinds.json, and from data/legacy.txt those of old.

The latter has the kinds of Istio 1.2's time, each line with their version, that of the same kinds today ("-" where
there are none) and the kinds; and below an old version the fields that only it has. A type is written as in Go:
"string", "int32", "[]V1Container", "{}string" (a map); "!" at the end means required.
"""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any

from meshbox.api.table_files import table

__all__ = [
    "OBJECT_META",
    "all_kinds",
    "enum_of",
    "fields_of",
    "go_name",
    "kind_type",
    "known_kinds",
    "known_types",
    "modern_kinds",
    "named_texts",
]

OBJECT_META = "V1ObjectMeta"


@functools.cache
def _tables() -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    text = resources.files("meshbox.api").joinpath("data/kinds.json").read_text(encoding="utf-8")
    tables: dict[str, Any] = json.loads(text)
    return tables["kinds"], {**tables["types"], **_added("types")}


@functools.cache
def modern_kinds() -> dict[tuple[str, str], str]:
    """Version and kind of old → "group/version/Kind" of today, or the name of a type."""
    found: dict[tuple[str, str], str] = {}
    for version, modern, *kinds in map(str.split, table("legacy.txt")["kinds"]):
        found |= {(version, kind): kind if modern == "-" else f"{modern}/{kind}" for kind in kinds}
    return found


@functools.cache
def _added(version: str) -> dict[str, dict[str, str]]:
    """Fields that a version has and today's does not, and their types, by the type that has them."""
    added = (line.split() for line in table("legacy.txt").get(version, ()))
    return {name: dict(field.split("=") for field in fields) for name, *fields in added}


def kind_type(api_version: str, kind: str) -> str:
    """The type of a kind, e.g. "V1Deployment"; "" where the kind is not known.

    Kinds of old versions answer with a type of their own, e.g. "V1Deployment@extensions/v1beta1", whose types may have
    more fields.
    """
    kinds, _ = _tables()
    found = kinds.get(f"{api_version}/{kind}")
    if found:
        return found
    modern = modern_kinds().get((api_version, kind))
    if modern is None:
        return "V1DeleteOptions" if kind == "DeleteOptions" else ""
    model = kinds.get(modern, modern)
    return f"{model}@{api_version}" if _added(api_version) else model


@functools.cache
def _enums() -> dict[str, list[str]]:
    text = resources.files("meshbox.api").joinpath("data/enums.json").read_text(encoding="utf-8")
    found: dict[str, list[str]] = json.loads(text)
    return found


def enum_of(type_name: str, field: str) -> list[str]:
    """The words that a field of a type may hold; none where it may hold others."""
    return _enums().get(f"{type_name.partition('@')[0]}.{field}", [])


def all_kinds() -> list[tuple[str, str]]:
    """Group and version, and kind, of all that have tables."""
    kinds, _ = _tables()
    return [(name.rsplit("/", 1)[0], name.rsplit("/", 1)[1]) for name in kinds]


def known_types() -> frozenset[str]:
    """The names of all types that have fields."""
    return frozenset(_tables()[1])


def known_kinds(api_version: str) -> list[str]:
    """The kinds of a group and version that have tables."""
    kinds, _ = _tables()
    modern = [name.rsplit("/", 1)[1] for name in kinds if name.rsplit("/", 1)[0] == api_version]
    return modern + [kind for version, kind in modern_kinds() if version == api_version]


@functools.cache
def named_texts() -> frozenset[str]:
    """The names of types that are texts, "RestartPolicy" for one."""
    every = (written.strip("[]{}!") for fields in _tables()[1].values() for written in fields.values())
    return frozenset(one.removeprefix("string:") for one in every if one.startswith("string:"))


@functools.cache
def fields_of(type_name: str) -> dict[str, str] | None:
    """Field names and types of a type; None where it is not a type with fields.

    Args:
        type_name: e.g. "V1PodSpec", or "V1PodSpec@extensions/v1beta1" for the type as an old version has it.
    """
    _, types = _tables()
    model, _, version = type_name.partition("@")
    fields = types.get(model)
    if fields is None or not version:
        return fields
    merged = {**fields, **_added(version).get(model, {})}
    return {name: _versioned(written, version, types) for name, written in merged.items()}


def _versioned(written: str, version: str, types: dict[str, dict[str, str]]) -> str:
    bare = written.rstrip("!").lstrip("[]{}")
    return written.replace(bare, f"{bare}@{version}") if bare in types else written


def go_name(type_name: str) -> str:
    """A type as Go prints it: "[]V1Container" is "[]v1.Container", "{}string" is "map[string]string"."""
    if type_name.startswith("[]"):
        return "[]" + go_name(type_name[2:])
    if type_name.startswith("{}"):
        return "map[string]" + go_name(type_name[2:])
    model, _, version = type_name.rstrip("!").partition("@")
    if model.startswith("string:"):
        return f"v1.{model[7:]}"
    special = {
        "Quantity": "resource.Quantity",
        "IntOrString": "intstr.IntOrString",
        "Time": "v1.Time",
        "bytes": "[]uint8",
    }
    if model in special:
        return special[model]
    for start in ("V1", "V2", "CoreV1", "EventsV1", "RbacV1", "DiscoveryV1", "StorageV1", "AuthenticationV1"):
        if model.startswith(start) and model[len(start) :][:1].isupper():
            own_version = "v2" if start == "V2" else "v1"
            return f"{version.rsplit('/', 1)[-1] if version else own_version}.{model[len(start) :]}"
    for group in ("Admissionregistration", "Apiextensions", "Apiregistration", "Flowcontrol"):
        model = model.removeprefix(f"{group}V1")
    return f"v1.{model}" if model[:1].isupper() else model
