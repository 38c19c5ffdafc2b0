"""Schemas of every kind the sandbox's API serves: what it prunes, defaults and refuses, in the API server's words."""

from __future__ import annotations

from labkit.sandbox.api.builtin import validate_builtin, validate_update
from labkit.sandbox.api.schema_problems import Cause, Problems
from labkit.sandbox.contracts import Obj

__all__ = ["Cause", "CustomSchema", "Problems", "validate_builtin", "validate_update"]


class CustomSchema:
    """The schema of one version of a CustomResourceDefinition.

    Args:
        schema: Its ``openAPIV3Schema`` (an empty one allows anything).
        preserve_unknown: Whether unknown fields are kept (``spec.preserveUnknownFields`` of v1beta1 CRDs).
    """

    def __init__(self, schema: Obj, *, preserve_unknown: bool) -> None:
        self._schema = schema
        self._preserve = preserve_unknown

    def admit(self, obj: Obj, old: Obj | None = None) -> Problems:
        """Prune, default and validate `obj` in place; `old` is the stored object on update."""
        return Problems()
