# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI documents: what kubectl looks for is there, and every reference leads somewhere."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from meshbox.api import openapi

GVK = "x-kubernetes-group-version-kind"
CRD: dict[str, Any] = {
    "metadata": {"name": "foos.a.io", "uid": "1", "resourceVersion": "5"},
    "spec": {
        "group": "a.io",
        "scope": "Cluster",
        "names": {"plural": "foos", "kind": "Foo"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "description": "A foo.",
                        "properties": {"spec": {"type": "object", "description": "What it is."}},
                    }
                },
            },
            {"name": "v2", "served": False},
        ],
    },
}


@pytest.mark.parametrize(
    "gv", ["v1", "apps/v1", "batch/v1", "autoscaling/v2", "apiextensions.k8s.io/v1", "extensions/v1beta1"]
)
def test_every_reference_leads_somewhere(gv: str) -> None:
    found = openapi.document(gv)
    schemas = found["components"]["schemas"]
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(found)))
    assert references
    assert references <= schemas.keys()
    assert found["paths"]


def test_kubectl_finds_a_kind_and_its_types() -> None:
    found = openapi.document("apps/v1")
    gvk = {"group": "apps", "version": "v1", "kind": "Deployment"}
    path = found["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"]
    assert path["get"][GVK] == gvk
    [schema] = [one for one in found["components"]["schemas"].values() if one.get(GVK) == [gvk]]
    reference = schema["properties"]["spec"]["allOf"][0]["$ref"].rsplit("/", 1)[1]
    assert reference.endswith(".DeploymentSpec")
    spec = found["components"]["schemas"][reference]
    said = {"type": "integer", "format": "int32", "description": "How many pods there should be."}
    assert spec["properties"]["replicas"] == said
    assert spec["required"] == ["selector", "template"]


def test_patches_take_field_validation_and_kubectls_own_merge_keys() -> None:
    path = openapi.document("v1")["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]
    assert [one["name"] for one in path["patch"]["parameters"]] == ["fieldValidation"]
    assert "requestBody" not in path["patch"]


def test_custom_kinds_are_described_by_their_own_schema() -> None:
    found = openapi.document("a.io/v1", [CRD])
    gvk = {"group": "a.io", "version": "v1", "kind": "Foo"}
    assert found["paths"]["/apis/a.io/v1/foos"]["get"][GVK] == gvk
    schema = found["components"]["schemas"]["io.a.v1.Foo"]
    assert schema[GVK] == [gvk]
    assert schema["description"] == "A foo."
    assert schema["properties"]["spec"] == {"type": "object", "description": "What it is."}
    assert sorted(schema["properties"]) == ["apiVersion", "kind", "metadata", "spec"]
    assert openapi.document("a.io/v2", [CRD])["paths"] == {}


def test_an_address_changes_with_the_document_only() -> None:
    paths = openapi.index(["v1", "a.io/v1"], [CRD])["paths"]
    others = [".well-known/openid-configuration", "api", "apis", "openid/v1/jwks", "version"]
    assert sorted(paths) == sorted(["api/v1", "apis/a.io/v1", *others])
    changed = copy.deepcopy(CRD)
    changed["metadata"]["resourceVersion"] = "6"
    again = openapi.index(["v1", "a.io/v1"], [changed])["paths"]
    assert again["api/v1"] == paths["api/v1"]
    assert again["apis/a.io/v1"] != paths["apis/a.io/v1"]
    body, name = openapi.encoded("a.io/v1", [CRD])
    assert paths["apis/a.io/v1"]["serverRelativeURL"] == f"/openapi/v3/apis/a.io/v1?hash={name}"
    assert openapi.encoded("a.io/v1", [CRD])[0] is body
    changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = "Another foo."
    assert b"Another foo." in openapi.encoded("a.io/v1", [changed])[0]
