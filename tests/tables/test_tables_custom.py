# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from meshbox.api.tables import to_table
from meshbox.api.tables.jsonpath import JSONPathError, find
from meshbox.contracts import Obj

NOW = datetime(2026, 1, 1, 1, 0, tzinfo=UTC)
THING: Obj = {
    "metadata": {
        "name": "x",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "annotations": {"example.com/owner": "me"},
    },
    "spec": {"hosts": ["*", "a<b"], "port": 80, "share": 0.5, "on": True, "off": None, "map": {"b": 1, "a": [2]}},
    "status": {
        "conditions": [
            {"type": "Ready", "status": "True", "code": 5},
            {"type": "Synced", "status": "False", "code": 9},
        ]
    },
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.port", [80]),
        ("{.spec.port}", [80]),
        ("spec.port", [80]),
        (".spec.hosts[0]", ["*"]),
        (".spec.hosts[-1]", ["a<b"]),
        (".spec.hosts[5]", []),
        (".spec.hosts[*]", ["*", "a<b"]),
        (".spec.hosts[0:1]", ["*"]),
        (".spec.nothing.below", []),
        (".spec.port.below", []),
        (r".metadata.annotations.example\.com/owner", ["me"]),
        (".metadata.annotations['example.com/owner']", ["me"]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type=='Synced')].status", ["False"]),
        ('.status.conditions[?(@.type != "Ready")].type', ["Synced"]),
        (".status.conditions[?(@.code>6)].type", ["Synced"]),
        (".status.conditions[?(@.code<=5)].type", ["Ready"]),
        (".status.conditions[?(@.code)].type", ["Ready", "Synced"]),
        (".status.conditions[?(@.type>6)].type", []),
        ("..code", [5, 9]),
        (".status.conditions[*].code", [5, 9]),
        (".spec.map.*", [1, [2]]),
    ],
)
def test_paths(path: str, found: list[Any]) -> None:
    assert find(path, THING) == found


@pytest.mark.parametrize("path", [".spec.hosts[", ".a[?(@.b", ".a[x y]", ".a[?(b==1)]", ".a[?(@.b==nonsense)]"])
def test_paths_that_cannot_be_read(path: str) -> None:
    with pytest.raises(JSONPathError):
        find(path, THING)


def crd(*columns: Obj, **spec: Any) -> Obj:
    versions = [
        {"name": "v1", "storage": True, "additionalPrinterColumns": list(columns)},
        {
            "name": "v1beta1",
            "additionalPrinterColumns": [{"name": "Port", "type": "integer", "jsonPath": ".spec.port"}],
        },
    ]
    return {"spec": {"versions": versions, **spec}}


def col(path: str, type_: str = "string", **more: Any) -> Obj:
    return {"name": "C", "type": type_, "jsonPath": path, **more}


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        (col(".spec.hosts"), r'["*","a\u003cb"]'),
        (col(".spec.port"), "80"),
        (col(".spec.on"), "true"),
        (col(".spec.map"), '{"a":[2],"b":1}'),
        (col(".spec.missing"), None),
        (col(".spec.port", "integer"), 80),
        (col(".spec.share", "integer"), 0),
        (col(".spec.share", "number"), 0.5),
        (col(".spec.port", "number"), 80.0),
        (col(".spec.on", "boolean"), True),
        (col(".spec.on", "integer"), None),
        (col(".spec.off", "integer"), None),
        (col(".spec.hosts", "integer"), None),
        (col(".metadata.creationTimestamp", "date"), "60m"),
        (col(".metadata.name", "date"), "<invalid>"),
        (col(".spec.port", "date"), None),
        (col('.status.conditions[?(@.type=="Ready")].status'), "True"),
    ],
)
def test_cells(column: Obj, cell: Any) -> None:
    table = to_table("things.example.com", [THING], crd=crd(column), now=NOW)
    assert table["rows"][0]["cells"] == ["x", cell]


def test_the_name_comes_first_and_priorities_are_kept() -> None:
    shown = to_table("things.example.com", [], crd=crd(col(".a", priority=1, format="date")))["columnDefinitions"]
    assert [(c["name"], c["priority"], c["format"]) for c in shown] == [("Name", 0, "name"), ("C", 1, "date")]


def test_an_age_where_the_crd_asks_for_nothing() -> None:
    table = to_table("things.example.com", [THING], crd=crd(), now=NOW)
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Age"]
    assert table["rows"][0]["cells"] == ["x", "60m"]


def test_each_version_has_its_own_columns() -> None:
    table = to_table("things.example.com", [THING], crd=crd(col(".spec.on")), version="v1beta1", now=NOW)
    assert table["rows"][0]["cells"] == ["x", 80]


def test_the_columns_of_a_whole_crd_as_v1beta1_spells_them() -> None:
    old = {
        "spec": {
            "version": "v1alpha3",
            "additionalPrinterColumns": [
                {"JSONPath": ".spec.hosts", "name": "Hosts", "type": "string"},
                {"JSONPath": ".metadata.creationTimestamp", "name": "Age", "type": "date"},
            ],
        }
    }
    table = to_table("virtualservices.networking.istio.io", [THING], crd=old, version="v1alpha3", now=NOW)
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Hosts", "Age"]
    assert table["rows"][0]["cells"] == ["x", r'["*","a\u003cb"]', "60m"]


def test_columns_from_the_first_unreadable_one_on_are_left_out() -> None:
    table = to_table("things.example.com", [THING], crd=crd(col(".spec.port"), col(".a["), col(".spec.on")), now=NOW)
    assert table["rows"][0]["cells"] == ["x", "80"]
