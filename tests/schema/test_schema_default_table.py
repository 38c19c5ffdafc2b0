# SPDX-License-Identifier: Apache-2.0
"""The table of defaults: that it can be read whole, and what its lines mean."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.api import defaults
from meshbox.api.resource_table import BUILTIN
from meshbox.api.table_files import table
from meshbox.contracts import Obj
from tests.schema.whole import _settings


def test_every_line_of_the_table_means_something() -> None:
    names = {f"{row.plural}.{row.group}".strip(".") for row in BUILTIN}
    assert len(table("defaults.txt")) > 30
    for resource in table("defaults.txt"):
        name, _, version = resource.partition("@")
        assert name in names
        assert version in ("", "new") or version.split("/")[-1].startswith("v1beta")
        for line in defaults._lines(resource):
            assert line.verb in ("=", "?=", "drop") or line.name in defaults._CALLS, (resource, line)


@pytest.mark.parametrize(
    ("resource", "obj", "legacy", "wanted"),
    [
        ("storageclasses.storage.k8s.io", {"reclaimPolicy": ""}, False,
            {"reclaimPolicy": "", "volumeBindingMode": "Immediate"}),
        ("flowschemas.flowcontrol.apiserver.k8s.io", {"spec": {"matchingPrecedence": 0}}, False,
            {"spec": {"matchingPrecedence": 1000}}),
        ("endpoints", {"subsets": [{"ports": [{"port": 1}, None]}, {}]}, False,
            {"subsets": [{"ports": [{"port": 1, "protocol": "TCP"}, None]}, {}]}),
        ("ingressclasses.networking.k8s.io", {}, False, {"spec": {}}),
        ("ingressclasses.networking.k8s.io", {"spec": {"parameters": {}}}, False,
            {"spec": {"parameters": {"scope": "Cluster"}}}),
        ("poddisruptionbudgets.policy", {"spec": {}}, True, {"spec": {"minAvailable": 1}}),
        ("poddisruptionbudgets.policy", {"spec": {}}, False, {"spec": {}}),
        ("leases.coordination.k8s.io", {"spec": {"strategy": "a", "holderIdentity": "b"}}, False,
            {"spec": {"holderIdentity": "b"}}),
        ("leases.coordination.k8s.io", {"spec": "x"}, False, {"spec": "x"}),
    ],
)  # fmt: skip
def test_lines_fill_in(resource: str, obj: Any, legacy: bool, wanted: Any) -> None:
    defaults.apply_defaults(resource, obj, _settings(legacy))
    assert obj == wanted


def test_new_objects_and_old_versions_have_headings_of_their_own() -> None:
    budget: Obj = {"status": {}}
    defaults.fill_in("poddisruptionbudgets.policy@new", budget)
    counts = ("currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods")
    assert budget == {"status": dict.fromkeys(counts, 0)}
    old: Obj = {"spec": {"rollbackTo": {"revision": 1}, "strategy": {"type": "Recreate"}}}
    defaults.fill_in("deployments.apps@extensions/v1beta1", old)
    assert old == {
        "spec": {
            "strategy": {"type": "Recreate"},
            "progressDeadlineSeconds": 2147483647,
            "revisionHistoryLimit": 2147483647,
        }
    }


def test_what_is_filled_in_is_each_objects_own() -> None:
    first, second = ({"webhooks": [{}]} for _ in range(2))
    for one in (first, second):
        defaults.apply_defaults("validatingwebhookconfigurations.admissionregistration.k8s.io", one, _settings(False))
    assert first == second
    first["webhooks"][0]["namespaceSelector"]["a"] = "b"
    assert second["webhooks"][0]["namespaceSelector"] == {}
