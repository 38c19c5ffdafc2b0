# SPDX-License-Identifier: Apache-2.0
"""A mistake is named once."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from .conftest import MAPS, Cluster, config_map

SECRETS = "/api/v1/namespaces/default/secrets"
CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"


def secret(**fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": "one"}, "type": "Opaque", **fields}


@pytest.mark.parametrize(
    ("path", "before", "change", "fields"),
    [
        (MAPS, {**config_map("one", a="1"), "immutable": True}, {"data": {"a": "2"}}, ["data"]),
        (MAPS, {**config_map("one", a="1"), "immutable": True}, {"immutable": False}, ["immutable"]),
        (SECRETS, secret(), {"type": "other"}, ["type"]),
        (SECRETS, secret(immutable=True), {"data": {"a": base64.b64encode(b"x").decode()}}, ["data"]),
        (CLASSES, {"metadata": {"name": "one"}, "value": 5}, {"value": 6}, ["value"]),
    ],
)
async def test_what_may_not_change(
    cluster: Cluster, path: str, before: dict[str, Any], change: dict[str, Any], fields: list[str]
) -> None:
    assert (await cluster.request("POST", path, before)).status == 201
    headers = {"Content-Type": "application/merge-patch+json"}
    reply = await cluster.request("PATCH", f"{path}/one", change, headers=headers)
    assert (reply.status, reply.body["reason"]) == (422, "Invalid")
    assert [one["field"] for one in reply.body["details"]["causes"]] == fields
