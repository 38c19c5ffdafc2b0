# SPDX-License-Identifier: Apache-2.0
"""What `tests/api/test_changes.py` holds of changes is what a genuine kube-apiserver says and stores."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from meshbox.contracts import Obj
from tests.api.test_changes import KINDS, REFUSED, STORED

from .genuine_api import GenuineApi, genuine_api, needs_server

pytestmark = [pytest.mark.thorough, pytest.mark.genuine, needs_server]

FORMS = {
    "merge": "merge-patch+json",
    "strategic": "strategic-merge-patch+json",
    "apply": "apply-patch+yaml",
}
GLOBAL = frozenset({"IngressClass", "PriorityClass"})
"""Kinds that are in no namespace."""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GenuineApi]:
    with genuine_api(tmp_path_factory.mktemp("genuine")) as found:
        yield found


def changed(api: GenuineApi, resource: str, before: Obj, how: str, change: Obj) -> tuple[int, Any]:
    """What the server answers to a change, in a namespace of its own each time."""
    version, kind = KINDS[resource]
    head = {"apiVersion": version, "kind": kind, "metadata": {"name": "x"}}
    root, plural = "/api" if version == "v1" else "/apis", resource.partition(".")[0]
    place = f"{root}/{version}"
    if kind not in GLOBAL:
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "changes-"}}
        place += f"/namespaces/{api.ask('POST', '/api/v1/namespaces', space)[1]['metadata']['name']}"
    status, made = api.ask("POST", f"{place}/{plural}?fieldManager=a", {**head, **copy.deepcopy(before)})
    assert status == 201, made
    where = f"{place}/{plural}/x"
    try:
        if how == "put":
            return api.ask("PUT", where, {**head, **copy.deepcopy(change)})
        if how == "apply":
            return api.ask("PATCH", f"{where}?fieldManager=b&force=true", {**head, **copy.deepcopy(change)}, FORMS[how])
        return api.ask("PATCH", f"{where}?fieldManager=b", change, FORMS[how])
    finally:
        api.ask("DELETE", where)


@pytest.mark.parametrize(("resource", "before", "how", "change", "words"), REFUSED)
def test_a_change_is_refused(api: GenuineApi, resource: str, before: Obj, how: str, change: Obj, words: str) -> None:
    status, answer = changed(api, resource, before, how, change)
    assert status >= 400
    assert words in answer["message"]


@pytest.mark.parametrize(("resource", "before", "how", "change", "field", "wanted"), STORED)
def test_a_change_is_stored(
    api: GenuineApi, resource: str, before: Obj, how: str, change: Obj, field: tuple[Any, ...], wanted: Any
) -> None:
    status, found = changed(api, resource, before, how, change)
    assert status == 200, found
    for step in field:
        found = found[step]
    assert found == wanted
