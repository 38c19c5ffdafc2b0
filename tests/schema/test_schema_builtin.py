# SPDX-License-Identifier: Apache-2.0
"""What built-in kinds other than pods are refused for, in the API server's words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.schema.whole import problems_of


def said(api_version: str, kind: str, obj: Any) -> list[str]:
    problems = problems_of(api_version, kind, obj)
    assert problems.decode == ""
    assert problems.unknown == []
    return [f"{cause['field']}: {cause['message']}" for cause in problems.errors]


def test_a_good_deployment_is_not_refused(deployment: dict[str, Any]) -> None:
    assert said("apps/v1", "Deployment", deployment) == []


def test_a_selector_must_be_there_and_match(deployment: dict[str, Any]) -> None:
    del deployment["spec"]["selector"]
    assert said("apps/v1", "Deployment", deployment) == [
        "spec.selector: Required value",
        'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`',
    ]
    assert said("extensions/v1beta1", "Deployment", deployment) == []
    deployment["spec"]["selector"] = {}
    assert said("apps/v1", "Deployment", deployment) == [
        "spec.selector: Invalid value: {}: empty selector is invalid for deployment"
    ]
    expression = {"key": "app", "operator": "NotIn", "values": ["web"]}
    deployment["spec"]["selector"] = {"matchExpressions": [expression]}
    assert said("apps/v1", "Deployment", deployment) == [
        'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`'
    ]


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"replicas": -1}, ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]),
        (
            {"strategy": {"type": "Blue"}},
            [
                'spec.strategy: Unsupported value: {"Type":"Blue","RollingUpdate":null}: supported values: "Recreate", '
                '"RollingUpdate"'
            ],
        ),
        (
            {"strategy": {"type": "Recreate", "rollingUpdate": {}}},
            ["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
        ),
        (
            {"strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "0%"}}},
            ["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"],
        ),
        (
            {"progressDeadlineSeconds": 5, "minReadySeconds": 5},
            ["spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"],
        ),
    ],
)
def test_deployment_specs(deployment: dict[str, Any], spec: dict[str, Any], wanted: list[str]) -> None:
    deployment["spec"].update(spec)
    assert said("apps/v1", "Deployment", deployment) == wanted


def test_workloads_restart_their_pods(deployment: dict[str, Any]) -> None:
    deployment["spec"]["template"]["spec"]["restartPolicy"] = "Never"
    assert said("apps/v1", "Deployment", deployment) == [
        'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"'
    ]
    job = {"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}}
    assert said("batch/v1", "Job", job) == [
        'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'
    ]


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({}, ["spec.ports: Required value"]),
        ({"clusterIP": "None"}, []),
        (
            {"ports": [{"port": 80}, {"port": 80, "name": "a", "targetPort": "x_y"}]},
            [
                "spec.ports[0].name: Required value",
                'spec.ports[1].targetPort: Invalid value: "x_y": must contain only alpha-numeric characters (a-z, '
                "0-9), "
                "and hyphens (-)",
                'spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,'
                '"TargetPort":0,"NodePort":0}',
            ],
        ),
        (
            {"ports": [{"port": 80, "nodePort": 30080}]},
            ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        ),
        # Whether the port is one of those that may be had is asked of who gives them out.
        ({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}, []),
        (
            {"type": "Nodeport", "ports": [{"port": 80}]},
            [
                'spec.type: Unsupported value: "Nodeport": supported values: "ClusterIP", "ExternalName", '
                '"LoadBalancer", "NodePort"'
            ],
        ),
        ({"type": "ExternalName"}, ["spec.externalName: Required value"]),
        (
            {"ports": [{"port": 0}]},
            [
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        ),
    ],
)
def test_services(spec: dict[str, Any], wanted: list[str]) -> None:
    assert said("v1", "Service", {"spec": spec}) == wanted


def test_config_maps_and_secrets() -> None:
    key = (
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',"
    )
    found = said("v1", "ConfigMap", {"data": {"a/b": "1", "c": "2"}, "binaryData": {"c": "YQ=="}})
    assert found[0].startswith(f'data[a/b]: Invalid value: "a/b": {key}')
    assert found[1:] == ['data[c]: Invalid value: "c": duplicate of key present in binaryData']
    assert said("v1", "ConfigMap", {"data": {"a": "x" * 1048577}}) == [": Too long: may not be more than 1048576 bytes"]
    tls = {"type": "kubernetes.io/tls", "data": {"tls.crt": "eA=="}}
    assert said("v1", "Secret", tls) == ["data[tls.key]: Required value"]
    assert problems_of("v1", "Secret", {"data": {"a": "%"}}).decode == "illegal base64 data at input byte 0"


def test_definitions() -> None:
    names = {"plural": "foos", "kind": "Foo"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    spec = {"group": "a.io", "scope": "Namespaced", "names": names, "versions": [version]}
    crd = {"metadata": {"name": "foos.a.io"}, "spec": spec}
    gv = "apiextensions.k8s.io/v1"
    assert said(gv, "CustomResourceDefinition", crd) == []
    crd["metadata"]["name"] = "foo"
    spec.update(scope="Global", versions=[{"name": "v1", "served": True, "storage": False}])
    assert said(gv, "CustomResourceDefinition", crd) == [
        'metadata.name: Invalid value: "foo": must be spec.names.plural+"."+spec.group',
        'spec.scope: Unsupported value: "Global": supported values: "Cluster", "Namespaced"',
        "spec.versions[0].schema.openAPIV3Schema: Required value",
        'spec.versions: Invalid value: [{"Name":"v1","Served":true,"Storage":false,"Deprecated":false,'
        '"DeprecationWarning":null,"Schema":null,"Subresources":null,"AdditionalPrinterColumns":null,'
        '"SelectableFields":null}]: must have exactly one version marked as storage version',
        "status.storedVersions: Invalid value: null: must have at least one stored version",
    ]


@pytest.mark.parametrize(
    ("api_version", "kind", "obj", "wanted"),
    [
        (
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            {"roleRef": {"kind": "Rule"}, "subjects": [{"kind": "Robot", "name": "r2"}]},
            [
                'roleRef.kind: Unsupported value: "Rule": supported values: "Role", "ClusterRole"',
                "roleRef.name: Required value",
                'subjects[0].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group"',
            ],
        ),
        (
            "rbac.authorization.k8s.io/v1",
            "Role",
            {"rules": [{"apiGroups": [""], "resources": ["pods"]}]},
            ["rules[0].verbs: Required value: verbs must contain at least one value"],
        ),
        (
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
            {"webhooks": [{"name": "short", "clientConfig": {}}]},
            [
                'webhooks[0].name: Invalid value: "short": should be a domain with at least three segments '
                "separated by "
                "dots",
                "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
                "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
                "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
            ],
        ),
        (
            "autoscaling/v1",
            "HorizontalPodAutoscaler",
            {"spec": {"minReplicas": 3, "maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "a"}}},
            [
                "spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`",
                'spec.scaleTargetRef.apiVersion: Invalid value: "": apiVersion must specify API group',
            ],
        ),
        (
            "policy/v1",
            "PodDisruptionBudget",
            {"spec": {"minAvailable": 1, "maxUnavailable": "half"}},
            [
                'spec: Invalid value: {"MinAvailable":1,"Selector":null,"MaxUnavailable":"half",'
                '"UnhealthyPodEvictionPolicy":null}: minAvailable and maxUnavailable cannot be both set',
                'spec.maxUnavailable: Invalid value: "half": a valid percent string must be a numeric string '
                "followed by "
                "an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
            ],
        ),
        (
            "networking.k8s.io/v1",
            "Ingress",
            {"spec": {"rules": [{"http": {"paths": [{"path": "x", "backend": {}}]}}]}},
            [
                "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
            ],
        ),
        (
            "v1",
            "PersistentVolumeClaim",
            {"spec": {"accessModes": ["ReadWriteTwice"]}},
            [
                'spec.accessModes: Unsupported value: "ReadWriteTwice": supported values: "ReadOnlyMany", '
                '"ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"',
                "spec.resources[storage]: Required value",
            ],
        ),
    ],
)
def test_other_kinds(api_version: str, kind: str, obj: Any, wanted: list[str]) -> None:
    assert said(api_version, kind, obj) == wanted


def test_cron_jobs() -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "b"}]}}
    spec = {"schedule": "* * *", "concurrencyPolicy": "Wait", "jobTemplate": {"spec": {"template": template}}}
    assert said("batch/v1", "CronJob", {"metadata": {"name": "n" * 53}, "spec": spec}) == [
        'spec.schedule: Invalid value: "* * *": expected exactly 5 fields, found 3: [* * *]',
        'spec.concurrencyPolicy: Unsupported value: "Wait": supported values: "Allow", "Forbid", "Replace"',
        f'metadata.name: Invalid value: "{"n" * 53}": must be no more than 52 characters',
    ]


def test_detail_is_the_servers_message(deployment: dict[str, Any]) -> None:
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = ""
    problems = problems_of("apps/v1", "Deployment", deployment)
    assert problems.detail() == "spec.template.spec.containers[0].image: Required value"
    assert problems.errors == [
        {
            "reason": "FieldValueRequired",
            "message": "Required value",
            "field": "spec.template.spec.containers[0].image",
        }
    ]
    deployment["spec"]["replicas"] = -1
    detail = problems_of("apps/v1", "Deployment", deployment).detail()
    assert detail == (
        "[spec.replicas: Invalid value: -1: must be greater than or equal to 0, "
        "spec.template.spec.containers[0].image: Required value]"
    )
