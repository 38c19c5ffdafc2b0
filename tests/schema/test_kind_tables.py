"""The tables of kinds are what their tool makes, and say of each number and text what it is."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.api.builtin import validate_builtin
from tools import generate_kind_tables, generate_typed_kinds


def test_the_tables_are_what_their_tool_makes() -> None:
    assert generate_kind_tables.tables() == generate_kind_tables.TARGET.read_text(encoding="utf-8")


def test_the_types_are_what_their_tool_makes() -> None:
    folder = generate_typed_kinds.TARGET
    kept = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.py") if path.name != "__init__.py"}
    assert kept == generate_typed_kinds.modules()


@pytest.mark.parametrize(
    ("kind", "obj", "problem"),
    [
        ("Node", {"status": {"images": [{"names": ["a"], "sizeBytes": 3 * 2**30}]}}, ""),
        ("Node", {"status": {"images": [{"names": ["a"], "sizeBytes": 2**63}]}}, "int64"),
        ("Node", {"status": {"capacity": {"memory": 7}}}, ""),
        ("Node", {"status": {"nodeInfo": {"swap": {"capacity": 2**40}}}}, ""),
        ("Pod", {"spec": {"containers": [], "terminationGracePeriodSeconds": 2**40}}, ""),
        ("Pod", {"spec": {"containers": [], "priority": 2**40}}, "int32"),
    ],
)
def test_numbers_are_as_wide_as_in_kubernetes(kind: str, obj: dict[str, Any], problem: str) -> None:
    said = validate_builtin("v1", kind, {"apiVersion": "v1", "kind": kind, **obj}).decode
    assert problem in said
    assert bool(said) == bool(problem)
