# SPDX-License-Identifier: Apache-2.0
"""Whatever JSON comes, validation answers with problems: it never raises, and pruning twice is pruning once.

LABKIT_LONG=1 tries many more examples.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshbox.addresses import AddressPlan
from meshbox.api.builtin import prune_builtin, validate_update
from meshbox.api.builtin.decoding import decode
from meshbox.api.builtin.types import fields_of, kind_type, known_kinds
from meshbox.api.custom_schema import CustomSchema
from meshbox.api.defaults import apply_defaults
from meshbox.api.problems import Problems
from meshbox.api.table_files import table
from meshbox.settings import SandboxSettings
from tests.conftest import TOKEN
from tests.schema.whole import problems_of

from .test_schema_custom import SCHEMA

EXAMPLES = 3000 if os.environ.get("LABKIT_LONG") else 60
quick = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

VERSIONS = ("v1", "apps/v1", "batch/v1", "autoscaling/v2", "policy/v1", "networking.k8s.io/v1", "extensions/v1beta1")
VERSIONS += ("rbac.authorization.k8s.io/v1", "admissionregistration.k8s.io/v1", "apiextensions.k8s.io/v1")
VERSIONS += ("autoscaling/v2beta1", "apiextensions.k8s.io/v1beta1", "discovery.k8s.io/v1")
KINDS = sorted((version, kind) for version in VERSIONS for kind in known_kinds(version))
KINDS += [("v1", "Pod"), ("apps/v1", "Deployment"), ("v1", "Service"), ("batch/v1", "CronJob")] * 5

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["1Gi", "25%", "-1", "a.b/c", "Always", "None", "YQ==", "2026-01-01T00:00:00Z", "*"])
)
anything = st.recursive(
    leaves, lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=4), below, max_size=3)
)


@st.composite
def shaped(draw: st.DrawFn, type_name: str, depth: int = 0) -> Any:
    """Something that looks like a kind: its own field names, with values that fit often and surprise sometimes."""
    fields = fields_of(type_name) or {}
    chosen = draw(st.lists(st.sampled_from(sorted(fields)), max_size=6, unique=True)) if fields else []
    obj = {name: draw(_value(fields[name].rstrip("!"), depth)) for name in chosen}
    if draw(st.integers(0, 60)) == 60:
        obj[draw(st.text(max_size=4))] = draw(anything)
    return obj


def _value(written: str, depth: int) -> st.SearchStrategy[Any]:
    if depth > 6:
        return leaves
    if written.startswith("[]"):
        fitting = st.lists(st.deferred(lambda: _value(written[2:], depth + 1)), max_size=3)
    elif written.startswith("{}"):
        fitting = st.dictionaries(st.text(max_size=4), st.deferred(lambda: _value(written[2:], depth + 1)), max_size=3)
    elif fields_of(written) is not None:
        fitting = st.deferred(lambda: shaped(written, depth + 1))
    else:
        known = {
            "bool": st.booleans(),
            "int32": st.integers(-2, 70000),
            "int64": st.integers(-2, 70000),
            "Quantity": st.sampled_from(["1", "-1", "100m", "1e9999", "0.5Gi"]),
            "IntOrString": st.sampled_from([0, 1, 80, "web", "50%", ""]),
            "bytes": st.sampled_from(["", "YQ=="]),
        }
        fitting = known.get(written.partition(":")[0], st.text(max_size=6) | st.sampled_from(["Always", "In", "None"]))
    # Few surprises: an object with one too many does not get past decoding.
    return st.integers(0, 60).flatmap(lambda chance: anything if chance == 60 else fitting)


SETTINGS = [
    SandboxSettings("test", Path("/nonexistent"), release, AddressPlan(231), token=TOKEN)
    for release in ("1.2.2", "1.30.3")
]


@quick
@given(st.sampled_from(KINDS), st.data())
def test_built_in_kinds_take_anything(which: tuple[str, str], data: st.DataObject) -> None:
    api_version, kind = which
    obj = data.draw(shaped(kind_type(api_version, kind)) | anything)
    before = copy.deepcopy(obj)
    problems = problems_of(api_version, kind, obj)
    assert isinstance(problems, Problems)
    assert repr(obj) == repr(before)
    assert all(cause["reason"] and cause["message"] for cause in problems.errors)
    assert isinstance(problems.detail() if problems.errors else "", str)
    assert isinstance(validate_update(api_version, kind, data.draw(anything), obj), Problems)
    if not problems.decode:
        other = data.draw(shaped(kind_type(api_version, kind)))
        if not problems_of(api_version, kind, other).decode:
            assert isinstance(validate_update(api_version, kind, other, obj), Problems)
    prune_builtin(api_version, kind, obj)
    pruned = copy.deepcopy(obj)
    prune_builtin(api_version, kind, obj)
    assert repr(obj) == repr(pruned)
    assert problems_of(api_version, kind, obj).unknown == []


@quick
@given(
    st.sampled_from(sorted(name for name in table("defaults.txt") if "@" not in name) + ["pods"] * 5),
    st.sampled_from(SETTINGS),
    st.data(),
)
def test_defaults_take_anything(resource: str, chosen: SandboxSettings, data: st.DataObject) -> None:
    kinds = {"pods": "V1Pod", "deployments.apps": "V1Deployment", "services": "V1Service", "jobs.batch": "V1Job"}
    obj = data.draw(shaped(kinds[resource]) if resource in kinds else anything)
    if isinstance(obj, dict):
        apply_defaults(resource, obj, chosen)
        once = copy.deepcopy(obj)
        apply_defaults(resource, obj, chosen)
        assert repr(obj) == repr(once)


@st.composite
def things(draw: st.DrawFn) -> Any:
    """Something like an object of the test schema."""
    properties = SCHEMA["properties"]["spec"]["properties"]
    names = draw(st.lists(st.sampled_from([*sorted(properties), "strange"]), max_size=8, unique=True))
    spec = {name: draw(anything) for name in names}
    meta = draw(
        st.fixed_dictionaries({}, optional={"name": leaves, "labels": anything, "strange": anything}) | anything
    )
    return {"apiVersion": "a.io/v1", "kind": "Thing", "metadata": meta, "spec": draw(st.just(spec) | anything)}


@quick
@given(things() | anything, things() | anything, st.booleans())
def test_custom_kinds_take_anything(obj: Any, old: Any, preserve: bool) -> None:
    schema = CustomSchema(SCHEMA, preserve_unknown=preserve)
    assert isinstance(schema.admit(copy.deepcopy(obj), old), Problems)
    problems = schema.admit(obj)
    assert isinstance(problems, Problems)
    admitted = copy.deepcopy(obj)
    again = schema.admit(obj)
    assert repr(obj) == repr(admitted)
    assert again.unknown == []
    assert again.errors == problems.errors


@quick
@given(shaped("V1JSONSchemaProps"), things(), things() | st.none())
def test_a_schema_that_decodes_can_be_anything(schema: Any, obj: Any, old: Any) -> None:
    if decode(schema, "V1JSONSchemaProps"):
        return
    for chosen in (schema, {"type": "object", "properties": {"spec": schema}}, {"additionalProperties": schema}):
        made = CustomSchema(chosen, preserve_unknown=False)
        assert isinstance(made.admit(copy.deepcopy(obj), old), Problems)
