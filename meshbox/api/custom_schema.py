# SPDX-License-Identifier: Apache-2.0
"""The schema of a custom resource, whole: pruned, defaulted, validated, and asked by its CEL rules."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from meshbox.api.builtin.decoding import decode, prune
from meshbox.api.builtin.types import OBJECT_META
from meshbox.api.go_words import printed
from meshbox.api.problems import Cause, Problems, invalid
from meshbox.api.schema.embedded import coerced, embedded_problems
from meshbox.api.schema.node import TYPE_AND_META, Node
from meshbox.api.schema.validate import ABSENT, list_problems, validate
from meshbox.values import clone

__all__ = ["CustomSchema", "schema_of"]

_BLOCKING = frozenset(
    ("FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid")
)

_MOST_REPLICAS = 2**31 - 1


class CustomSchema:
    """The schema of one version of a CustomResourceDefinition; made ready when the first object comes.

    Args:
        schema: Its ``openAPIV3Schema``; an empty one allows anything. It is not changed.
        preserve_unknown: Whether unknown fields are kept (``spec.preserveUnknownFields`` of v1beta1 CRDs).
        scale: Its ``subresources.scale``: the fields that it names have to hold what a Scale can.
    """

    def __init__(
        self, schema: dict[str, Any], *, preserve_unknown: bool, scale: Mapping[str, Any] | None = None
    ) -> None:
        self.written = schema
        """The schema as it was given."""
        self._scale = scale or {}
        self._preserve = preserve_unknown

    @functools.cached_property
    def _node(self) -> Node:
        return Node(self.written)

    def fit(self, obj: dict[str, Any]) -> None:
        """Drop, in place, what an object of another version has and this one does not, and write defaults into it."""
        if self._preserve:
            return
        rest = {name: value for name, value in obj.items() if name not in TYPE_AND_META}
        self._node.prune(rest, "", [])
        self._node.drop_nulls(rest)
        self._node.fill(rest)
        for name in obj.keys() - rest.keys() - TYPE_AND_META:
            del obj[name]
        obj.update(rest)

    def admit(self, obj: Any, old: Any = None, *, applied: bool = False, without_status: bool = False) -> Problems:
        """Prune `obj`, also of nulls, write defaults into it, all in place, and validate it.

        `metadata` is pruned and checked for types; its names and labels are the caller's matter.

        Args:
            obj: Anything that JSON can be.
            old: The object as it is stored, on update: what has not changed since is not refused.
            applied: Whether `obj` was merged by the server: a null that somebody applies stays one.
            without_status: Whether the request cannot change the status: what it says of it is only looked at for
                fields that there are not.
        """
        problems = Problems()
        if not isinstance(obj, dict):
            problems.decode = "json: cannot unmarshal array into Go value of type map[string]interface {}"
            return problems
        try:
            self._admit(obj, old, problems, applied=applied, without_status=without_status)
        except RecursionError:
            problems.decode = "json: exceeded max depth"
        return problems

    def _admit(self, obj: dict[str, Any], old: Any, problems: Problems, *, applied: bool, without_status: bool) -> None:
        meta = obj.get("metadata")
        if meta is not None:
            found = decode({"metadata": meta}, "Metadata")
            problems.decode = found.decode
            problems.unknown += found.unknown
            prune(meta, OBJECT_META)
        node = self._node
        own = {name: obj[name] for name in TYPE_AND_META if name in obj}
        rest = {name: value for name, value in obj.items() if name not in TYPE_AND_META}
        if not self._preserve:
            unknown: list[str] = []
            node.prune(rest, "", unknown)
            unknown.sort()
            problems.decode = problems.decode or coerced(node, rest, unknown)
            problems.unknown += [f'unknown field "{path}"' for path in unknown]
            if without_status:
                rest.pop("status", None)
                if isinstance(old, dict) and "status" in old:
                    rest["status"] = clone(old["status"])
            if not applied:
                node.drop_nulls(rest)
            node.fill(rest)
            for name in [name for name in obj if name not in own and name not in rest]:
                del obj[name]
            obj.update(rest)
        if problems.decode:
            return
        before = old if isinstance(old, dict) else ABSENT
        validate(node, obj, "", problems.errors, before)
        _scalable(self._scale, obj, problems.errors)
        embedded_problems(node, obj, problems.errors)
        list_problems(node, obj, "", problems.errors)
        if node.has_rules:
            # Rules are the slow part, and cel-python is slow to import.
            from meshbox.api.cel import BLOCKED, rule_problems

            if any(cause["reason"] in _BLOCKING for cause in problems.errors):
                problems.errors.append(BLOCKED)
            else:
                rule_problems(node, obj, "", problems.errors, before)


_known: dict[tuple[str, str], tuple[Any, CustomSchema]] = {}


def schema_of(crd: Any, version: str) -> CustomSchema | None:
    """The schema of a version, made ready once; None where it has none.

    Args:
        crd: The CustomResourceDefinition. It is not changed.
        version: e.g. "v1".
    """
    key = crd["metadata"]["name"], version
    if (known := _known.get(key)) is not None and known[0] is crd:
        return known[1]
    spec = crd["spec"]
    definition: dict[str, Any] = next((one for one in spec["versions"] if one["name"] == version), {})
    openapi = (definition.get("schema") or {}).get("openAPIV3Schema")
    if openapi is None:
        return None
    scale = (definition.get("subresources") or spec.get("subresources") or {}).get("scale")
    schema = CustomSchema(openapi, preserve_unknown=bool(spec.get("preserveUnknownFields")), scale=scale)
    _known[key] = crd, schema
    return schema


_GO_TYPES = {str: "string", bool: "bool", int: "int64", float: "float64", dict: "map[string]interface {}"}


def _scalable(scale: Mapping[str, Any], obj: dict[str, Any], causes: list[Cause]) -> None:
    """Whether the fields that a Scale shows hold what it can show."""
    for field, wanted, kind in (
        ("specReplicasPath", int, "int64"),
        ("statusReplicasPath", int, "int64"),
        ("labelSelectorPath", str, "string"),
    ):
        path = str(scale.get(field) or "")
        value: Any = obj
        for step in path.strip(".").split(".") if path else ():
            if value is not None and not isinstance(value, dict):
                given = _GO_TYPES.get(type(value), "[]interface {}")
                detail = (
                    f"{path} accessor error: {printed(value)} is of the type {given}, expected map[string]interface{{}}"
                )
                causes.append(invalid(path, wanted(), detail))
                value = None
            value = value.get(step) if value is not None else None
        if not path or value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, wanted):
            given = _GO_TYPES.get(type(value), "[]interface {}")
            detail = f"{path} accessor error: {printed(value)} is of the type {given}, expected {kind}"
            causes.append(invalid(path, wanted(), detail))
        elif isinstance(value, int) and value < 0:
            causes.append(invalid(path, value, "should be a non-negative integer"))
        elif isinstance(value, int) and value > _MOST_REPLICAS:
            causes.append(invalid(path, value, f"should be less than or equal to {_MOST_REPLICAS}"))
