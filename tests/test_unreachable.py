# SPDX-License-Identifier: Apache-2.0
"""Rules of a VirtualService that no request reaches, in Istio's words."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.ground.unreachable import unused

Json = dict[str, Any]


def prefix(path: str, **more: Any) -> Json:
    return {"uri": {"prefix": path}, **more}


@pytest.mark.parametrize(
    ("http", "said"),
    [
        ([{}], []),
        ([{"match": [prefix("/a")]}, {}], []),
        ([{}, {}], ["rule #1 not used (only the last rule can have no matches)"]),
        ([{}, {"name": "b", "match": [prefix("/a")]}], ['rule "b" not used (route without matches defined before)']),
        (
            [{"match": [prefix("/a")]}, {"match": [prefix("/a", name="again"), prefix("/b")]}],
            ['rule #1 match "again" is not used (duplicate/overlapping match in rule #0)'],
        ),
        (
            [{"name": "a", "match": [prefix("/a")]}, {"match": [prefix("/a")]}],
            [
                'rule #1 match #0 is not used (duplicate/overlapping match in rule "a")',
                "rule #1 not used (all matches used by prior rules)",
            ],
        ),
        # As Istio 1.30.3's webhook answers it.
        (
            [{"match": [prefix("/api/v1/product"), prefix("/api/v1/products", method={"exact": "GET"})]}],
            [
                "rule #0 match #1 of prefix /api/v1/products is not used "
                "(duplicate/overlapping match in rule #0 of prefix /api/v1/product on #0)"
            ],
        ),
        ([{"match": [prefix("/a")]}, {"match": [prefix("/ab", method={"exact": "POST"})]}], []),
        ([{"match": [prefix("/a")]}, {"match": [prefix("/ab", port=80)]}], []),
        ([{"match": [prefix("/a")]}, {"match": [prefix("/ab", headers={"x": {"exact": "1"}})]}], []),
        ([{"match": [prefix("/ab")]}, {"match": [prefix("/a")]}], []),
        ([{"match": [{"uri": {"exact": "/a"}}]}, {"match": [{"uri": {"exact": "/ab"}}]}], []),
    ],
)
def test_http(http: list[Json], said: list[str]) -> None:
    assert [str(one) for one in unused({"http": http})] == said


@pytest.mark.parametrize("section", ["tcp", "tls"])
def test_bytes(section: str) -> None:
    rules = [{"match": [{"port": 1}]}, {"match": [{"port": 1}]}, {"match": [{"port": 2}]}]
    assert [str(one) for one in unused({section: rules})] == [
        "rule #1 match #0 is not used (duplicate/overlapping match in rule #0)",
        "rule #1 not used (all matches used by prior rules)",
    ]
