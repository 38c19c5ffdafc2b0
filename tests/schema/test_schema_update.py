# SPDX-License-Identifier: Apache-2.0
"""What may not change in built-in objects, in the API server's words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from meshbox.api.builtin import validate_update


def pod(container: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "a", "image": "b", **(container or {})}], **spec}}


def changed(api_version: str, kind: str, old: Any, new: Any) -> list[str]:
    return [f"{one['field']}: {one['message']}" for one in validate_update(api_version, kind, old, new).errors]


def test_what_may_not_change_in_a_deployment(deployment: dict[str, Any]) -> None:
    new = copy.deepcopy(deployment)
    new["spec"]["replicas"] = 5
    assert changed("apps/v1", "Deployment", deployment, new) == []
    new["spec"]["selector"]["matchLabels"] = {"app": "other"}
    assert changed("apps/v1", "Deployment", deployment, new) == [
        'spec.selector: Invalid value: {"matchLabels":{"app":"other"}}: field is immutable'
    ]
    assert changed("extensions/v1beta1", "Deployment", deployment, new) == []


def test_a_pod_may_change_its_images_and_little_else() -> None:
    old, new = pod(nodeName="n"), pod({"image": "c"}, nodeName="n", activeDeadlineSeconds=5)
    assert changed("v1", "Pod", old, new) == []
    assert changed("v1", "Pod", pod(), pod(nodeName="n")) == []
    [refused] = changed("v1", "Pod", old, pod({"command": ["x"]}, nodeName="n"))
    assert refused.startswith(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
        "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing "
        "tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
    )
    assert changed("v1", "Pod", old, pod(nodeName="other"))[0].startswith("spec: Forbidden: pod updates")
    new["spec"]["containers"].append({"name": "b", "image": "b"})
    assert changed("v1", "Pod", old, new) == [
        "spec.containers: Forbidden: pod updates may not add or remove containers"
    ]


@pytest.mark.parametrize(
    ("api_version", "kind", "old", "new", "wanted"),
    [
        (
            "v1",
            "Service",
            {"spec": {"clusterIP": "10.0.0.1"}},
            {"spec": {"clusterIP": "10.0.0.2"}},
            ['spec.clusterIPs[0]: Invalid value: ["10.0.0.2"]: may not change once set'],
        ),
        ("v1", "Service", {"spec": {"clusterIP": "10.0.0.1"}}, {"spec": {}}, []),
        (
            "batch/v1",
            "Job",
            {"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}},
            {"spec": {"template": {"metadata": {"labels": {"a": "c"}}}}},
            ['spec.template: Invalid value: {"metadata":{"labels":{"a":"c"}}}: field is immutable'],
        ),
        (
            "v1",
            "ConfigMap",
            {"immutable": True, "data": {"a": "1"}},
            {"immutable": True, "data": {"a": "2"}},
            ["data: Forbidden: field is immutable when `immutable` is set"],
        ),
        (
            "v1",
            "Secret",
            {"type": "Opaque"},
            {"type": "kubernetes.io/tls"},
            ['type: Invalid value: "kubernetes.io/tls": field is immutable'],
        ),
        (
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            {"roleRef": {"kind": "Role", "name": "a"}},
            {"roleRef": {"kind": "Role", "name": "b"}},
            ['roleRef: Invalid value: {"kind":"Role","name":"b"}: cannot change roleRef'],
        ),
        (
            "apps/v1",
            "StatefulSet",
            {"spec": {"serviceName": "a", "replicas": 1}},
            {"spec": {"serviceName": "b", "replicas": 2}},
            [
                "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', "
                "'template', "
                "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
                "'minReadySeconds' "
                "are forbidden"
            ],
        ),
    ],
)
def test_other_immutable_fields(api_version: str, kind: str, old: Any, new: Any, wanted: list[str]) -> None:
    assert changed(api_version, kind, old, new) == wanted


def test_a_stored_version_must_stay() -> None:
    old = {"spec": {"group": "a.io"}, "status": {"storedVersions": ["v1", "v2"]}}
    new = {"spec": {"group": "a.io", "versions": [{"name": "v2"}]}}
    assert changed("apiextensions.k8s.io/v1", "CustomResourceDefinition", old, new) == [
        'status.storedVersions[0]: Invalid value: "v1": missing from spec.versions; v1 was previously a storage '
        "version, "
        "and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and "
        "removes "
        "v1 from status.storedVersions"
    ]
