# SPDX-License-Identifier: Apache-2.0
"""What pods and their containers are refused for, in the API server's words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.schema.whole import problems_of

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
LABEL_VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def said(api_version: str, kind: str, obj: Any) -> list[str]:
    problems = problems_of(api_version, kind, obj)
    assert problems.decode == ""
    assert problems.unknown == []
    return [f"{cause['field']}: {cause['message']}" for cause in problems.errors]


def pod(container: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "a", "image": "b", **(container or {})}], **spec}}


@pytest.mark.parametrize(
    ("container", "wanted"),
    [
        ({"name": ""}, ["spec.containers[0].name: Required value"]),
        ({"name": "A_b"}, [f'spec.containers[0].name: Invalid value: "A_b": {LABEL}']),
        ({"name": "a.b"}, ['spec.containers[0].name: Invalid value: "a.b": must not contain dots']),
        ({"image": ""}, ["spec.containers[0].image: Required value"]),
        (
            {"image": " b"},
            ['spec.containers[0].image: Invalid value: " b": must not have leading or trailing whitespace'],
        ),
        (
            {"ports": [{"containerPort": 70000}, {"name": "web"}]},
            [
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, "
                "inclusive",
                "spec.containers[0].ports[1].containerPort: Required value",
            ],
        ),
        (
            {"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a", "protocol": "tcp"}]},
            [
                'spec.containers[0].ports[1].name: Duplicate value: "a"',
                'spec.containers[0].ports[1].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", '
                '"UDP"',
            ],
        ),
        (
            {"ports": [{"containerPort": 1, "name": "http--1-and-much-more"}]},
            [
                'spec.containers[0].ports[0].name: Invalid value: "http--1-and-much-more": must be no more than 15 '
                "characters",
                'spec.containers[0].ports[0].name: Invalid value: "http--1-and-much-more": must not contain '
                "consecutive hyphens",
            ],
        ),
        (
            {"imagePullPolicy": "Sometimes"},
            [
                'spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", '
                '"IfNotPresent", "Never"'
            ],
        ),
        (
            {"volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "data"}]},
            [
                'spec.containers[0].volumeMounts[0].name: Not found: "data"',
                'spec.containers[0].volumeMounts[1].name: Not found: "data"',
                "spec.containers[0].volumeMounts[1].mountPath: Required value",
            ],
        ),
        ({"livenessProbe": {}}, ["spec.containers[0].livenessProbe: Required value: must specify a handler type"]),
        (
            {"readinessProbe": {"tcpSocket": {"port": 0}, "exec": {"command": ["a"]}, "periodSeconds": -1}},
            [
                "spec.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
                "spec.containers[0].readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal "
                "to 0",
            ],
        ),
        (
            {"livenessProbe": {"httpGet": {"port": "no port", "scheme": "FTP"}, "successThreshold": 2}},
            [
                'spec.containers[0].livenessProbe.httpGet.port: Invalid value: "no port": must contain only '
                "alpha-numeric characters (a-z, 0-9), and hyphens (-)",
                'spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: "FTP": supported values: "HTTP", '
                '"HTTPS"',
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ],
        ),
        (
            {"env": [{"value": "x"}, {"name": "A", "valueFrom": {}}]},
            [
                "spec.containers[0].env[0].name: Required value",
                'spec.containers[0].env[1].valueFrom: Invalid value: "": must specify one of: `fieldRef`, '
                "`resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            ],
        ),
        (
            {"env": [{"name": "A", "value": "x", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]},
            ['spec.containers[0].env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty'],
        ),
        (
            {"envFrom": [{}]},
            [
                'spec.containers[0].envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`',
            ],
        ),
        (
            {"resources": {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"cpu": "1500m", "memory": "1024Mi"}}},
            [
                'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu '
                "limit of 1500m"
            ],
        ),
        (
            {"resources": {"limits": {"cpu": "-1"}}},
            [
                f'spec.containers[0].resources.{kind}[cpu]: Invalid value: "-1": must be greater than or equal to 0'
                for kind in ("limits", "requests")
            ],
        ),
    ],
)
def test_containers(container: dict[str, Any], wanted: list[str]) -> None:
    assert said("v1", "Pod", pod(container)) == wanted


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"containers": []}, ["spec.containers: Required value"]),
        (
            {"restartPolicy": "always"},
            ['spec.restartPolicy: Unsupported value: "always": supported values: "Always", "OnFailure", "Never"'],
        ),
        (
            {"initContainers": [{"name": "a", "image": "b", "readinessProbe": {"exec": {"command": ["x"]}}}]},
            [
                'spec.initContainers[0].name: Duplicate value: "a"',
                "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without "
                "restartPolicy=Always",
            ],
        ),
        (
            {"volumes": [{"name": "a"}, {"name": "a", "secret": {}, "configMap": {"name": "x"}}]},
            [
                "spec.volumes[1].secret.secretName: Required value",
                "spec.volumes[1].configMap: Forbidden: may not specify more than 1 volume type",
                'spec.volumes[1].name: Duplicate value: "a"',
            ],
        ),
        ({"volumes": [{"name": "a", "hostPath": {}}]}, ["spec.volumes[0].hostPath.path: Required value"]),
        (
            {"nodeSelector": {"disk": "fast one"}},
            [f'spec.nodeSelector: Invalid value: "fast one": {LABEL_VALUE}'],
        ),
        (
            {"tolerations": [{"operator": "Equal", "value": "x"}]},
            [
                'spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, '
                'which means "match all values and all keys"'
            ],
        ),
        (
            {
                "affinity": {
                    "podAntiAffinity": {
                        "preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {"topologyKey": "k"}}]
                    }
                }
            },
            [
                "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid "
                "value: 0: must be in the range 1-100"
            ],
        ),
    ],
)
def test_pods(spec: dict[str, Any], wanted: list[str]) -> None:
    assert said("v1", "Pod", pod(**spec)) == wanted
