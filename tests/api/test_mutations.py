# SPDX-License-Identifier: Apache-2.0
"""Two hundred requests that nobody should send; six thousand are in tests/thorough."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.mutations import OWN, Mutator, manifests

from .conftest import Cluster

PYTHONS_WORDS = re.compile(
    r"Traceback|NoneType|'(str|int|dict|list)' object|unhashable|<class |has no attribute|b'|list indices"
)

UNDECLARED = "failed to create typed patch object"


async def plurals_of(cluster: Cluster) -> dict[tuple[str, str], tuple[str, bool]]:
    """What discovery says: apiVersion and kind → plural, and whether it is namespaced."""
    found = {}
    groups = (await cluster.request("GET", "/apis")).body["groups"]
    versions = ["v1", *(one["groupVersion"] for group in groups for one in group["versions"])]
    for version in versions:
        start = "/apis" if "/" in version else "/api"
        for one in (await cluster.request("GET", f"{start}/{version}")).body["resources"]:
            if "/" not in one["name"]:
                found[version, one["kind"]] = one["name"], one["namespaced"]
    return found


@pytest.mark.parametrize("release", ["1.2.2", "1.30.3"])
async def test_no_request_is_a_fault_of_the_server(
    cluster: Cluster, release: str, caplog: pytest.LogCaptureFixture
) -> None:
    known = manifests(OWN / release)
    for crd in [one for one in known if one["kind"] == "CustomResourceDefinition"]:
        version = crd["apiVersion"]
        assert (await cluster.request("POST", f"/apis/{version}/customresourcedefinitions", crd)).status in (201, 409)
    await cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": "fuzz"}})
    mutator = Mutator(20261125, known, await plurals_of(cluster))
    answers: dict[int, int] = {}
    for case in mutator.cases(200):
        reply = await cluster.request(case.method, case.path, case.body, headers=case.headers)
        # The one fault that is the client's: who applies a field that is not declared is told so with 500.
        assert reply.status < 500 or UNDECLARED in reply.text, f"{case}\n{reply.text[:500]}"
        assert not PYTHONS_WORDS.search(reply.text if reply.status >= 400 else ""), f"{case}\n{reply.text[:500]}"
        answers[reply.status] = answers.get(reply.status, 0) + 1
    # A sound request is still answered, and some of what was sent was sound.
    assert (await cluster.request("GET", "/api/v1/namespaces/fuzz")).status == 200
    assert answers.get(201, 0) > 10
    assert answers.get(400, 0) > 10
    assert "Traceback" not in caplog.text


def test_the_same_seed_makes_the_same_requests(tmp_path: Path) -> None:
    known = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"b": "c"}}]
    plurals = {("v1", "ConfigMap"): ("configmaps", True)}
    first, second = ([str(one) for one in Mutator(7, known, plurals).cases(50)] for _ in range(2))
    assert first == second
