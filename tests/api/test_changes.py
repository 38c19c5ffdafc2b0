# SPDX-License-Identifier: Apache-2.0
"""Changes to objects that exist: each line was played on a Kubernetes 1.35.4, which said and stored the same.

Its code may have been 500 (docs/kubernetes-differences.md).
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from meshbox.api.objects import ObjectStore
from meshbox.api.options import WriteOptions
from meshbox.contracts import ApiError, Obj
from meshbox.controllers.job import JobSelector
from meshbox.settings import SandboxSettings

KINDS = {
    "deployments.apps": ("apps/v1", "Deployment"),
    "daemonsets.apps": ("apps/v1", "DaemonSet"),
    "statefulsets.apps": ("apps/v1", "StatefulSet"),
    "jobs.batch": ("batch/v1", "Job"),
    "cronjobs.batch": ("batch/v1", "CronJob"),
    "secrets": ("v1", "Secret"),
    "configmaps": ("v1", "ConfigMap"),
    "serviceaccounts": ("v1", "ServiceAccount"),
    "resourcequotas": ("v1", "ResourceQuota"),
    "persistentvolumeclaims": ("v1", "PersistentVolumeClaim"),
    "leases.coordination.k8s.io": ("coordination.k8s.io/v1", "Lease"),
    "poddisruptionbudgets.policy": ("policy/v1", "PodDisruptionBudget"),
    "networkpolicies.networking.k8s.io": ("networking.k8s.io/v1", "NetworkPolicy"),
    "ingressclasses.networking.k8s.io": ("networking.k8s.io/v1", "IngressClass"),
    "priorityclasses.scheduling.k8s.io": ("scheduling.k8s.io/v1", "PriorityClass"),
}

C = {"name": "c", "image": "i"}
RUNS: Obj = {
    "selector": {"matchLabels": {"a": "b"}},
    "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [C]}},
}
JOB: Obj = {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [C]}}}}
STORAGE: Obj = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
FROM: Obj = {"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"a": "b"}}}]}]}
NOBODY: Obj = {"ingress": [{"from": [{"podSelector": {"matchLabels": {"a": None}}}]}]}
BUDGET: Obj = {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}
SECRETS: Obj = {"secrets": [{"name": "a"}]}
_REST = "updates to statefulset spec for fields other than"


@pytest.fixture
def store(objects: ObjectStore, settings: SandboxSettings) -> ObjectStore:
    objects.add_admission(JobSelector(settings))
    return objects


def containers(*given: Any) -> Obj:
    return {"spec": {"template": {"spec": {"containers": list(given)}}}}


def changed(store: ObjectStore, resource: str, before: Obj, how: Any, change: Obj) -> Obj:
    """The object after a change: a patch, "put" or "apply"."""
    version, kind = KINDS[resource]
    head = {"apiVersion": version, "kind": kind, "metadata": {"name": "x"}}
    store.create(resource, {**head, **copy.deepcopy(before)}, options=WriteOptions("a", validation="Strict"))
    options = WriteOptions("b", validation="Strict")
    if how == "put":
        return store.update(resource, {**head, **copy.deepcopy(change)}, options=options)
    if how == "apply":
        return store.apply(resource, "x", {**head, **copy.deepcopy(change)}, options=options)
    return store.patch(resource, "x", copy.deepcopy(change), kind=how, options=options)


REFUSED: list[tuple[str, Obj, str, Obj, str]] = [
    (
        "secrets",
        {"metadata": {"name": "x", "labels": {"a": "b"}}},
        "strategic",
        {"metadata": {"labels": []}},
        "cannot restore map from slice",
    ),
    (
        "deployments.apps",
        {"spec": RUNS},
        "strategic",
        {"spec": {"replicas": 1.5}},
        "cannot convert float64 to int32",
    ),
    ("secrets", {"type": "Opaque"}, "strategic", {"type": 7}, "cannot convert int64 to v1.SecretType"),
    ("resourcequotas", {"spec": {}}, "strategic", {"spec": {"hard": []}}, "cannot restore map from slice"),
    (
        "leases.coordination.k8s.io",
        {"spec": {}},
        "strategic",
        {"spec": {"renewTime": 7}},
        "json: cannot unmarshal number into Go value of type string",
    ),
    (
        "deployments.apps",
        {"spec": RUNS},
        "strategic",
        containers({"image": "j"}),
        "map: map[image:j] does not contain declared merge key: name",
    ),
    ("deployments.apps", {"spec": RUNS}, "strategic", containers("j"), "] [j]]"),
    (
        "deployments.apps",
        {"spec": RUNS},
        "apply",
        containers({"image": "j"}),
        'Deployment.apps "x" is invalid: spec.template.spec.containers[1].name: Required value',
    ),
    (
        "deployments.apps",
        {"spec": RUNS},
        "merge",
        {"spec": {"selector": {"matchExpressions": [{"values": ["b"], "operator": "In", "key": "a"}]}}},
        'Deployment.apps "x" is invalid: spec.selector: Invalid value: {"matchLabels":{"a":"b"},'
        '"matchExpressions":[{"key":"a","operator":"In","values":["b"]}]}: field is immutable',
    ),
    (
        "deployments.apps",
        {"spec": RUNS},
        "merge",
        {"spec": {"selector": {"matchLabels": None}}},
        "spec.selector: Invalid value: {}: field is immutable]",
    ),
    (
        "daemonsets.apps",
        {"spec": RUNS},
        "merge",
        {"spec": {"selector": {"matchLabels": {"a": "c"}}}},
        'DaemonSet.apps "x" is invalid: [spec.selector: Invalid value: {"matchLabels":{"a":"c"}}: field is '
        'immutable, spec.template.metadata.labels: Invalid value: {"a":"b"}: '
        "`selector` does not match template `labels`]",
    ),
    (
        "secrets",
        {"type": "Opaque"},
        "put",
        {"type": "kubernetes.io/tls"},
        'Secret "x" is invalid: [type: Invalid value: "kubernetes.io/tls": field is immutable, '
        "data[tls.crt]: Required value, data[tls.key]: Required value]",
    ),
    (
        "ingressclasses.networking.k8s.io",
        {"spec": {"controller": "a.b/c"}},
        "put",
        {"spec": {}},
        'IngressClass.networking.k8s.io "x" is invalid: [spec.controller: Invalid value: "": field is immutable, '
        "spec.controller: Required value]",
    ),
    (
        "priorityclasses.scheduling.k8s.io",
        {"value": 1},
        "merge",
        {"preemptionPolicy": "a"},
        'PriorityClass.scheduling.k8s.io "x" is invalid: preemptionPolicy: Invalid value: "a": field is immutable',
    ),
    (
        "statefulsets.apps",
        {"spec": {**RUNS, "serviceName": "s"}},
        "merge",
        {"spec": {"serviceName": "A_"}},
        f'StatefulSet.apps "x" is invalid: spec: Forbidden: {_REST}',
    ),
    (
        "statefulsets.apps",
        {"spec": {**RUNS, "volumeClaimTemplates": [{"metadata": {"name": "v"}, "spec": STORAGE}]}},
        "merge",
        {"spec": {"volumeClaimTemplates": [{"metadata": {"name": "v"}}]}},
        f'StatefulSet.apps "x" is invalid: spec: Forbidden: {_REST}',
    ),
    (
        "persistentvolumeclaims",
        {"spec": {**STORAGE, "volumeName": "v", "storageClassName": "m"}},
        "merge",
        {"spec": {"volumeMode": "Block"}},
        ', volumeMode: Invalid value: "Block": field is immutable]',
    ),
    ("configmaps", {}, "apply", {"kind": "Secret"}, "invalid object type: /v1, Kind=Secret"),
    ("configmaps", {}, "apply", {"apiVersion": "v2"}, "invalid object type: /v2, Kind=ConfigMap"),
    (
        "jobs.batch",
        JOB,
        "put",
        JOB,
        'Job.batch "x" is invalid: [spec.selector: Required value, spec.template.metadata.labels: Invalid value: '
        "null: `selector` does not match template `labels`, spec.selector: Invalid value: null: field is immutable",
    ),
    (
        "jobs.batch",
        JOB,
        "merge",
        {"spec": {"template": {"metadata": {"labels": {"job-name": None, "batch.kubernetes.io/job-name": None}}}}},
        "Job.batch \"x\" is invalid: [spec.template.metadata.labels[job-name]: Required value: must be 'x', "
        "spec.template.metadata.labels[batch.kubernetes.io/job-name]: Required value: must be 'x', ",
    ),
    (
        "cronjobs.batch",
        {"spec": {"schedule": "* * * * *", "jobTemplate": JOB}},
        "merge",
        {"spec": {"jobTemplate": {"spec": {"selector": {"matchLabels": {"a": "b"}}, "manualSelector": True}}}},
        'CronJob.batch "x" is invalid: [spec.jobTemplate.spec.selector: Invalid value: {"matchLabels":{"a":"b"}}: '
        "`selector` will be auto-generated, spec.jobTemplate.spec.manualSelector: Unsupported value: true: "
        'supported values: "nil", "false"]',
    ),
]
"""Resource, object, how it is changed, the change, and a part of what the server says."""


@pytest.mark.parametrize(("resource", "before", "how", "change", "words"), REFUSED)
def test_a_change_is_refused(store: ObjectStore, resource: str, before: Obj, how: str, change: Obj, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        changed(store, resource, before, how, change)
    assert words in caught.value.message


STORED: list[tuple[str, Obj, str, Obj, tuple[Any, ...], Any]] = [
    (
        "deployments.apps",
        {"spec": RUNS},
        "merge",
        containers({**C, "resources": {"limits": {"cpu": None}}, "env": None}),
        ("spec", "template", "spec", "containers", 0, "resources"),
        {},
    ),
    (
        "poddisruptionbudgets.policy",
        {"spec": BUDGET},
        "strategic",
        {"spec": {"selector": {"matchLabels": {"c": "d"}}}},
        ("spec", "selector"),
        {"matchLabels": {"c": "d"}},
    ),
    (
        "networkpolicies.networking.k8s.io",
        {"spec": FROM},
        "strategic",
        {"spec": NOBODY},
        ("spec", "ingress", 0, "from", 0, "podSelector"),
        {"matchLabels": {"a": ""}},
    ),
    (
        "networkpolicies.networking.k8s.io",
        {"spec": FROM},
        "merge",
        {"spec": NOBODY},
        ("spec", "ingress", 0, "from", 0, "podSelector"),
        {},
    ),
    (
        "serviceaccounts",
        {},
        "strategic",
        {"secrets": [{"name": "a"}, {"name": "a"}, {"$patch": "delete", "name": "b"}]},
        ("secrets",),
        [{"name": "a"}, {"name": "a"}],
    ),
    (
        "serviceaccounts",
        SECRETS,
        "strategic",
        {"secrets": [{"$patch": "delete", "name": "a"}, {"name": "b"}]},
        ("secrets",),
        [{"name": "b"}],
    ),
    (
        "jobs.batch",
        {"metadata": {"name": "x", "labels": {"a": "b"}}, "spec": {**JOB["spec"], "selector": None}},
        "merge",
        {"metadata": {"labels": {"a": None}}},
        ("metadata", "labels", "job-name"),
        "x",
    ),
    (
        "persistentvolumeclaims",
        {"spec": STORAGE},
        "merge",
        {"spec": {"storageClassName": "m"}},
        ("spec", "storageClassName"),
        "m",
    ),
]
"""Resource, object, how it is changed, the change, a field, and what is stored there."""


@pytest.mark.parametrize(("resource", "before", "how", "change", "field", "wanted"), STORED)
def test_a_change_is_stored(
    store: ObjectStore, resource: str, before: Obj, how: str, change: Obj, field: tuple[Any, ...], wanted: Any
) -> None:
    found: Any = changed(store, resource, before, how, change)
    for step in field:
        found = found[step]
    assert found == wanted
