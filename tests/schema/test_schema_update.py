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
    assert refused.partition("negative)\n")[2] == (
        '@@ -5,7 +5,9 @@\n     {\n       "Name": "a",\n       "Image": "b",\n'
        '-      "Command": null,\n+      "Command": [\n+        "x"\n+      ],\n'
        '       "Args": null,\n       "WorkingDir": "",\n       "Ports": null,\n'
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
            {"spec": {}},
            {"spec": {"podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "x"}]}]}}},
            [
                'spec.podFailurePolicy: Invalid value: {"Rules":[{"Action":"Ignore","OnExitCodes":null,'
                '"OnPodConditions":[{"Type":"x","Status":""}]}]}: field is immutable'
            ],
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
            ['roleRef: Invalid value: {"APIGroup":"","Kind":"Role","Name":"b"}: cannot change roleRef'],
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


@pytest.mark.parametrize(
    ("kind", "api_version", "path", "old", "new", "words"),
    [
        ("StorageClass", "storage.k8s.io/v1", "reclaimPolicy", "Delete", "Retain",
         "Forbidden: updates to reclaimPolicy are forbidden."),
        ("StorageClass", "storage.k8s.io/v1", "volumeBindingMode", "Immediate", "WaitForFirstConsumer",
         'Invalid value: "WaitForFirstConsumer": field is immutable'),
        ("PriorityClass", "scheduling.k8s.io/v1", "value", 1, 2, "Forbidden: may not be changed in an update."),
        ("IngressClass", "networking.k8s.io/v1", "spec.controller", "a/b", "a/c",
         'Invalid value: "a/c": field is immutable'),
        ("RuntimeClass", "node.k8s.io/v1", "handler", "a", "b", 'Invalid value: "b": field is immutable'),
        ("Node", "v1", "spec.providerID", "a", "b",
         'Forbidden: node updates may not change providerID except from "" to valid'),
        ("ResourceQuota", "v1", "spec.scopes", ["BestEffort"], ["Terminating"],
         'Invalid value: ["Terminating"]: field is immutable'),
        ("Job", "batch/v1", "spec.successPolicy", {"rules": [{"succeededCount": 1}]}, None,
         "Invalid value: null: field is immutable"),
    ],
)  # fmt: skip
def test_fields_that_never_change(kind: str, api_version: str, path: str, old: Any, new: Any, words: str) -> None:
    def at(value: Any) -> Any:
        for step in reversed(path.split(".")):
            value = {step: value}
        return value

    assert changed(api_version, kind, at(old), at(old)) == []
    assert changed(api_version, kind, at(old), at(new)) == [f"{path}: {words}"]


@pytest.mark.parametrize("kind", ["PersistentVolume", "PersistentVolumeClaim"])
def test_a_mode_of_volumes_is_told_without_the_spec_that_it_is_in(kind: str) -> None:
    old, new = ({"spec": {"volumeMode": mode}} for mode in ("Block", "Filesystem"))
    assert changed("v1", kind, old, old) == []
    assert changed("v1", kind, old, new)[-1] == 'volumeMode: Invalid value: "Filesystem": field is immutable'


def test_a_volume_keeps_what_it_is_made_from() -> None:
    old = {"spec": {"hostPath": {"path": "/a"}, "capacity": {"storage": "1Gi"}}}
    assert changed("v1", "PersistentVolume", old, {"spec": {**old["spec"], "capacity": {"storage": "2Gi"}}}) == []
    [said] = changed("v1", "PersistentVolume", old, {"spec": {"hostPath": {"path": "/b"}}})
    begin = "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n@@ -2,7"
    assert said.startswith(begin)
    assert '   "HostPath": {\n-    "Path": "/a",\n+    "Path": "/b",\n' in said


def test_a_bound_claim_may_grow_and_not_shrink_below_what_it_holds() -> None:
    def claim(size: str, phase: str = "Bound") -> dict[str, Any]:
        status = {"phase": phase, "capacity": {"storage": "2Gi"}}
        return {"spec": {"volumeName": "v", "resources": {"requests": {"storage": size}}}, "status": status}

    assert changed("v1", "PersistentVolumeClaim", claim("2Gi"), claim("3Gi")) == []
    assert changed("v1", "PersistentVolumeClaim", claim("2Gi"), claim("1Gi")) == [
        "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"
    ]
    [said] = changed("v1", "PersistentVolumeClaim", claim("2Gi", "Pending"), claim("3Gi", "Pending"))
    assert said.startswith("spec: Forbidden: spec is immutable after creation except resources.requests")
    assert '     "Requests": {\n-      "storage": "2Gi"\n+      "storage": "3Gi"\n' in said
    more = claim("2Gi")
    more["spec"]["resources"]["requests"]["other"] = "1"
    [said] = changed("v1", "PersistentVolumeClaim", claim("2Gi"), more)
    assert '+      "other": "1"' in said
    bare = {"spec": {"volumeName": "v"}, "status": {"phase": "Pending"}}
    nothing = changed("v1", "PersistentVolumeClaim", claim("2Gi", "Pending") | {"status": {}}, bare)
    assert nothing[-1] == "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"


def test_a_job_that_has_not_begun_may_go_elsewhere() -> None:
    def job(suspend: bool, **spec: Any) -> dict[str, Any]:
        return {"spec": {"suspend": suspend, "template": {"spec": {"containers": [], **spec}}}}

    assert changed("batch/v1", "Job", job(True), job(True, nodeSelector={"a": "b"})) == []
    [said] = changed("batch/v1", "Job", job(False), job(False, nodeSelector={"a": "b"}))
    assert said.startswith("spec.template: Invalid value: ")
    assert said.endswith(": field is immutable")
    indexed = {"spec": {"completionMode": "Indexed", "completions": 2, "parallelism": 2}}
    assert changed("batch/v1", "Job", indexed, {"spec": {**indexed["spec"], "completions": 3}}) == [
        "spec.completions: Invalid value: 3: can only be modified in tandem with spec.parallelism"
    ]


def test_a_pod_may_tolerate_more_and_not_less() -> None:
    mark = {"key": "a", "operator": "Exists", "tolerationSeconds": 5}
    assert changed("v1", "Pod", pod(tolerations=[mark]), pod(tolerations=[{**mark, "tolerationSeconds": 6}])) == []
    assert changed("v1", "Pod", pod(tolerations=[mark]), pod(tolerations=[])) == [
        "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
    ]
    gates = [{"name": "x.example.com/g"}]
    assert changed("v1", "Pod", pod(schedulingGates=gates), pod()) == []
    assert changed("v1", "Pod", pod(), pod(schedulingGates=gates)) == [
        "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate "
        "'x.example.com/g'"
    ]
