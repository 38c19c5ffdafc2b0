# SPDX-License-Identifier: Apache-2.0
"""Objects in the form of Go's types: what vanishes, what stands though it is zero, and what is written in one way."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.api.builtin.typed import typed


@pytest.mark.parametrize(
    ("api_version", "kind", "given", "stored"),
    [
        # null, an empty list and an empty map are nothing; a label without a value is "".
        (
            "v1",
            "ConfigMap",
            {"metadata": {"labels": {"a": None}, "annotations": {}, "finalizers": []}, "data": None, "immutable": None},
            {"metadata": {"labels": {"a": ""}}},
        ),
        # A pointer to a zero was set; a plain zero was not.
        ("v1", "Secret", {"immutable": False, "type": ""}, {"metadata": {}, "immutable": False}),
        # Structs that are no pointers stand, and so do fields that JSON always shows.
        (
            "networking.k8s.io/v1",
            "NetworkPolicy",
            {"spec": {"ingress": [], "egress": [{"to": [{"namespaceSelector": {}}]}]}},
            {"metadata": {}, "spec": {"podSelector": {}, "egress": [{"to": [{"namespaceSelector": {}}]}]}},
        ),
        ("rbac.authorization.k8s.io/v1", "Role", {"rules": []}, {"metadata": {}, "rules": None}),
        # One form for quantities, times and base64.
        (
            "v1",
            "ResourceQuota",
            {"spec": {"hard": {"cpu": 0.5, "pods": None}}},
            {"metadata": {}, "spec": {"hard": {"cpu": "500m", "pods": "0"}}, "status": {}},
        ),
        (
            "coordination.k8s.io/v1",
            "Lease",
            {"spec": {"renewTime": "2026-01-02T03:04:05+01:00"}},
            {"metadata": {}, "spec": {"renewTime": "2026-01-02T02:04:05.000000Z"}},
        ),
        ("v1", "Secret", {"data": {"a": "YQ\n==", "b": None}}, {"metadata": {}, "data": {"a": "YQ==", "b": ""}}),
        ("v1", "Secret", {"data": {"a": [104, 105, None], "b": []}}, {"metadata": {}, "data": {"a": "aGkA", "b": ""}}),
        # Some pointers are shown though there is nothing.
        (
            "v1",
            "PersistentVolume",
            {"spec": {"azureFile": {"secretName": "s", "shareName": "h"}}},
            {
                "metadata": {},
                "spec": {"azureFile": {"secretName": "s", "shareName": "h", "secretNamespace": None}},
                "status": {},
            },
        ),
        # An item that is null is an empty one.
        ("v1", "ServiceAccount", {"secrets": [None]}, {"metadata": {}, "secrets": [{}]}),
    ],
)
def test_what_is_kept(api_version: str, kind: str, given: Any, stored: Any) -> None:
    typed(given, api_version, kind)
    assert given == stored
    typed(given, api_version, kind)
    assert given == stored


def test_decoding_tells_an_empty_list_from_none() -> None:
    obj: dict[str, Any] = {"spec": {"ipFamilies": [], "ports": None}}
    typed(obj, "v1", "Service", stored=False)
    assert obj["spec"] == {"ipFamilies": []}


def test_what_no_table_knows_is_left_alone() -> None:
    obj = {"spec": {"a": None, "b": []}}
    typed(obj, "shop.io/v1", "Basket")
    assert obj == {"spec": {"a": None, "b": []}}
    broken = {"metadata": "x", "spec": {"ports": {"a": 1}, "strange": None}}
    typed(broken, "v1", "Service")
    assert broken == {
        "metadata": "x",
        "spec": {"ports": {"a": 1}, "strange": None},
        "status": {"loadBalancer": {}},
    }
