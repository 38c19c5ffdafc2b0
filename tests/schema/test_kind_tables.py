# SPDX-License-Identifier: Apache-2.0
"""The tables of kinds are what their tool makes, and say of each number and text what it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mypy.api
import pytest

from meshbox.mesh.istio_validation.fields import messages
from tests.schema.whole import problems_of
from tools import generate_kind_tables, generate_typed_istio, generate_typed_kinds


def test_the_tables_are_what_their_tool_makes() -> None:
    assert generate_kind_tables.tables() == generate_kind_tables.TARGET.read_text(encoding="utf-8")


def test_the_types_are_what_their_tools_make() -> None:
    made = generate_typed_kinds.modules() | generate_typed_istio.modules()
    folders = {generate_typed_kinds.file_of(module).parent for module in made}
    kept = {path: path.read_text(encoding="utf-8") for folder in folders for path in folder.glob("[!_]*.py")}
    assert kept == {generate_typed_kinds.file_of(module): text for module, text in made.items()}


def _unknown(path: str, schema: dict[str, Any], message: str) -> Iterator[str]:
    fields = messages()[message]
    for name, inner in schema.get("properties", {}).items():
        if name not in fields:
            yield f"{path}.{name}"
        elif (kind := fields[name].lstrip("*%")) in messages():
            inner = inner.get("items") or inner.get("additionalProperties") or inner
            yield from _unknown(f"{path}.{name}", inner, kind)


@pytest.mark.parametrize("kind", [kind for kind in generate_typed_istio.schemas() if kind in messages()])
def test_the_mesh_knows_every_field_that_a_crd_has(kind: str) -> None:
    if kind != "EnvoyFilter":
        assert list(_unknown(kind, generate_typed_istio.schemas()[kind], kind)) == []


def test_a_misspelt_field_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "reading.py"
    file.write_text(
        "from labkit.ground.typed.virtual_services import HTTPRoute\n"
        "def found(rule: HTTPRoute) -> bool:\n"
        "    return bool(rule.get('timeout')) or bool(rule.get('timeuot'))\n"
    )
    said, _, code = mypy.api.run(["--config-file", "pyproject.toml", str(file)])
    assert code == 1
    assert [line.partition(": error: ")[2] for line in said.splitlines()[:-1]] == [
        'TypedDict "HTTPRoute" has no field "timeuot"  [typeddict-item]'
    ]


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
    said = problems_of("v1", kind, {"apiVersion": "v1", "kind": kind, **obj}).decode
    assert problem in said
    assert bool(said) == bool(problem)
