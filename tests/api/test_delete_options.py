# SPDX-License-Identifier: Apache-2.0
"""What a deletion may be asked with, and what a Kubernetes 1.35.4 says of the rest."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Cluster

MAP = "/api/v1/namespaces/default/configmaps/a"
OPTIONS = 'DeleteOptions.meta.k8s.io "" is invalid'
CONFLICT = 'Operation cannot be fulfilled on ConfigMap "a": the'


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"preconditions": {"uid": "z"}}, 409, f"{CONFLICT} UID in the precondition (z) does not match the UID in rec"),
        (
            {"preconditions": {"resourceVersion": "z"}},
            409,
            f"{CONFLICT} ResourceVersion in the precondition (z) does n",
        ),
        (
            {"preconditions": {"uid": 7}},
            400,
            "json: cannot unmarshal number into Go struct field Preconditions.precond",
        ),
        (
            {"propagationPolicy": "Maybe"},
            422,
            f'{OPTIONS}: propagationPolicy: Unsupported value: "Maybe": supported values: "Foreground", "Background", '
            '"Orphan", "nil"',
        ),
        (
            {"propagationPolicy": "Orphan", "orphanDependents": True},
            422,
            f'{OPTIONS}: propagationPolicy: Invalid value: "Orphan": orphanDependents and deletionPropagation cannot',
        ),
        ({"dryRun": ["x"]}, 422, f'{OPTIONS}: dryRun: Unsupported value: ["x"]: supported values: "All"'),
    ],
)
async def test_refusals(cluster: Cluster, body: dict[str, Any], status: int, message: str) -> None:
    cluster.objects.create("configmaps", {"metadata": {"name": "a"}})
    reply = await cluster.request("DELETE", MAP, body)
    assert (reply.status, reply.body["message"][: len(message)]) == (status, message)


async def test_beside_a_body_the_query_counts_for_nothing(cluster: Cluster) -> None:
    cluster.objects.create("configmaps", {"metadata": {"name": "a"}})
    assert (await cluster.request("DELETE", f"{MAP}?dryRun=All")).status == 200
    assert cluster.objects.find("configmaps", "a") is not None
    assert (await cluster.request("DELETE", f"{MAP}?dryRun=All", {})).status == 200
    assert cluster.objects.find("configmaps", "a") is None


@pytest.mark.parametrize("version", ["v2", ""])
async def test_a_table_of_a_version_that_there_is_not(cluster: Cluster, version: str) -> None:
    headers = {"Accept": f"application/json;as=Table;v={version};g=meta.k8s.io"}
    reply = await cluster.request("GET", MAP.removesuffix("/a"), headers=headers)
    accepted = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    assert (reply.status, reply.body["message"]) == (406, f"only the following media types are accepted: {accepted}")


async def test_groups_without_a_user_are_nobodys(cluster: Cluster) -> None:
    reply = await cluster.request("GET", MAP, headers={"Impersonate-Group": "x"})
    assert (reply.status, reply.body["message"]) == (400, "requested [{Group x }] without impersonating a user")
