# SPDX-License-Identifier: Apache-2.0
"""Tables: what ``kubectl get`` prints is made by the server."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from meshbox import failures
from meshbox.api.tables import cluster, network, pods, workloads
from meshbox.api.tables.custom import custom_cells, custom_columns
from meshbox.api.tables.formats import age, creation_time, dig
from meshbox.api.tables.printer_columns import At, Table, built_in, columns
from meshbox.contracts import ApiError, Obj

__all__ = ["to_table"]

# Importing them declares their tables.
_DECLARED = (cluster, network, pods, workloads)

_INCLUDES = ("None", "Metadata", "Object")
_PLAIN = Table(columns("Name, Age"), columns("Name, Created At:date"), lambda obj, at: {})


def to_table(
    resource: str,
    objects: list[Obj],
    *,
    crd: Obj | None,
    include: str = "Metadata",
    now: datetime | None = None,
    version: str = "",
    legacy: bool = False,
) -> Obj:
    """`objects` as a meta.k8s.io/v1 Table; the caller fills in `metadata` (resourceVersion, continue).

    Args:
        resource: kubectl's full name, e.g. "pods", "deployments.apps", "gateways.networking.istio.io".
        objects: What is to be printed, in order; they are not changed, and the table shares their metadata.
        crd: The CustomResourceDefinition of a custom resource; None for a built-in one.
        include: What each row carries besides its cells: "Metadata", "Object" or "None" ("" is "Metadata").
        now: The moment that ages are counted to; default: now.
        version: Which version of the custom resource is asked for, e.g. "v1beta1"; default: the stored one.
        legacy: Whether the columns are those of Kubernetes 1.14 instead of a current one.

    Raises:
        ApiError: 400 for an unknown `include`.
    """
    if include and include not in _INCLUDES:
        raise ApiError(
            400,
            "BadRequest",
            "Unable to convert to Table as requested: includeObject: Invalid value: "
            f"\"{include}\": must be 'Metadata', 'Object', 'None', or empty",
        )
    at = At(now or datetime.now(UTC), legacy)
    cells: Callable[[Obj], list[Any]]
    if crd is not None:
        definitions, shown = custom_columns(crd, version)

        def cells(obj: Obj) -> list[Any]:
            return custom_cells(obj, definitions, at)

    else:
        table = built_in(resource) or _PLAIN
        shown = table.columns(at)

        def cells(obj: Obj) -> list[Any]:
            return _built_in_cells(table, shown, obj, at)

    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": shown,
        "rows": [_row(resource, obj, _spared(resource, obj, cells, shown), include) for obj in objects],
    }


def _spared(resource: str, obj: Obj, cells: Callable[[Obj], list[Any]], shown: list[Obj]) -> list[Any]:
    """The cells of one row; an object that cannot be shown must not keep a learner from seeing all the others."""
    try:
        return cells(obj)
    except Exception as error:
        meta = obj.get("metadata") or {}
        failures.noted(error, f"{resource} {meta.get('namespace') or ''}/{meta.get('name')} cannot be shown")
        return [meta.get("name") if column["name"] == "Name" else "<invalid>" for column in shown]


def _built_in_cells(table: Table, shown: list[Obj], obj: Obj, at: At) -> list[Any]:
    created = creation_time(obj)
    common = {"Name": dig(obj, "metadata", "name"), "Age": age(created, at.now), "Created At": created}
    try:
        own = table.cells(obj, at)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        # A field of the wrong type in one object must not keep a learner from seeing all the others.
        own = {}
    by_name = common | own
    return [by_name.get(column["name"], "<invalid>") for column in shown]


def _row(resource: str, obj: Obj, cells: list[Any], include: str) -> Obj:
    row: Obj = {"cells": cells, "object": None}
    if resource == "pods":
        conditions = pods.row_conditions(obj)
        if conditions:
            row["conditions"] = conditions
    if include == "Object":
        row["object"] = obj
    elif include != "None":
        metadata = obj.get("metadata") or {}
        row["object"] = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
    return row
