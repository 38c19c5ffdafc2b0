# SPDX-License-Identifier: Apache-2.0
"""Decoding of built-in objects: what Go's strict JSON decoder says."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from meshbox.api.builtin import prune_builtin
from meshbox.api.builtin.decoding import base64_error, quantity_error
from meshbox.api.builtin.typed import typed
from tests.schema.whole import problems_of


def pod_spec(**spec: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": spec}}}


@pytest.mark.parametrize(
    ("obj", "said"),
    [
        (
            pod_spec(containers="web"),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.template.spec.containers of type "
            "[]v1.Container",
        ),
        (
            pod_spec(containers=["web"]),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.template.spec.containers of type "
            "v1.Container",
        ),
        (
            pod_spec(containers=[{"env": [{"value": 1}]}]),
            "json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of "
            "type string",
        ),
        (
            pod_spec(containers=[{"imagePullPolicy": True}]),
            "json: cannot unmarshal bool into Go struct field Container.spec.template.spec.containers.imagePullPolicy "
            "of type v1.PullPolicy",
        ),
        (
            {"metadata": {"labels": {"a": 1}}},
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            {"metadata": {"labels": ["a"]}},
            "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            {"spec": {"replicas": "3"}},
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            {"spec": {"replicas": 1.5}},
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            {"spec": {"replicas": 2**31}},
            "json: cannot unmarshal number 2147483648 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            {"spec": {"replicas": float(10**20)}},
            "json: cannot unmarshal number 100000000000000000000 into Go struct field DeploymentSpec.spec.replicas "
            "of type int32",
        ),
        *(
            (
                pod_spec(containers=[{"resources": {"limits": {"cpu": given}}}]),
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            )
            for given in ([], {}, True)
        ),
        (
            {"metadata": {"creationTimestamp": 'é"'}},
            r'parsing time "\xc3\xa9\"" as "2006-01-02T15:04:05Z07:00": cannot parse "\xc3\xa9\"" as "2006"',
        ),
        ({"spec": 3}, "json: cannot unmarshal number into Go struct field Deployment.spec of type v1.DeploymentSpec"),
        ([], "json: cannot unmarshal array into Go value of type v1.Deployment"),
        (
            pod_spec(containers=[{"livenessProbe": {"httpGet": {"port": True}}}]),
            "json: cannot unmarshal bool into Go struct field HTTPGetAction.spec.template.spec.containers."
            "livenessProbe.ProbeHandler.httpGet.port of type int32",
        ),
        (pod_spec(containers=[{"resources": {"limits": {"cpu": "1Kim"}}}]), "unable to parse quantity's suffix"),
    ],
)
def test_a_wrong_type_is_named_as_go_does(obj: Any, said: str) -> None:
    assert problems_of("apps/v1", "Deployment", obj).decode == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], ""),
        ([104, None, 105], ""),
        ([256], "json: cannot unmarshal number 256 into Go struct field Secret.data of type uint8"),
        (["a"], "json: cannot unmarshal string into Go struct field Secret.data of type uint8"),
    ],
)
def test_bytes_are_also_a_list_of_numbers(given: Any, said: str) -> None:
    assert problems_of("v1", "Secret", {"data": {"a": given}}).decode == said


def test_the_first_wrong_type_is_told_and_nothing_else_is_checked() -> None:
    problems = problems_of("apps/v1", "Deployment", {"spec": {"replicas": "3", "paused": "no"}})
    assert "replicas" in problems.decode
    assert problems.errors == []


def test_unknown_fields_are_told_with_their_whole_path() -> None:
    obj = {"specc": 1, **pod_spec(containers=[{"name": "a", "imagee": "b"}, {"prots": []}], volumes=[{"hostpath": {}}])}
    assert problems_of("apps/v1", "Deployment", obj).unknown == [
        'unknown field "specc"',
        'unknown field "spec.template.spec.containers[0].imagee"',
        'unknown field "spec.template.spec.containers[1].prots"',
        'unknown field "spec.template.spec.volumes[0].hostpath"',
    ]


def test_case_counts() -> None:
    assert problems_of("v1", "ConfigMap", {"Data": {}}).unknown == ['unknown field "Data"']


def test_null_fits_everything() -> None:
    obj = {"metadata": None, "spec": {"replicas": None, "template": {"spec": {"containers": None, "volumes": [None]}}}}
    assert problems_of("apps/v1", "Deployment", obj).decode == ""


@pytest.mark.parametrize(
    ("api_version", "kind", "obj", "unknown"),
    [
        ("extensions/v1beta1", "Deployment", {"spec": {"rollbackTo": {"revision": 1}}}, []),
        ("apps/v1", "Deployment", {"spec": {"rollbackTo": {}}}, ['unknown field "spec.rollbackTo"']),
        (
            "autoscaling/v2beta1",
            "HorizontalPodAutoscaler",
            {"spec": {"metrics": [{"type": "Resource", "resource": {"name": "cpu", "targetAverageUtilization": 80}}]}},
            [],
        ),
        (
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            {"spec": {"metrics": [{"resource": {"targetAverageUtilization": 80}}]}},
            ['unknown field "spec.metrics[0].resource.targetAverageUtilization"'],
        ),
        ("apiextensions.k8s.io/v1beta1", "CustomResourceDefinition", {"spec": {"version": "v1", "validation": {}}}, []),
        (
            "apiextensions.k8s.io/v1beta1",
            "CustomResourceDefinition",
            {"spec": {"additionalPrinterColumns": [{"JSONPath": ".spec", "jsonpath": ""}]}},
            ['unknown field "spec.additionalPrinterColumns[0].jsonpath"'],
        ),
        ("networking.k8s.io/v1beta1", "Ingress", {"spec": {"backend": {"serviceName": "a", "servicePort": 80}}}, []),
    ],
)
def test_old_versions_have_their_own_fields(api_version: str, kind: str, obj: Any, unknown: list[str]) -> None:
    problems = problems_of(api_version, kind, obj)
    assert problems.decode == ""
    assert problems.unknown == unknown


def test_schemas_inside_a_definition_are_decoded_too() -> None:
    # What `items` holds is read by a decoder of its own, which drops what it does not know and does not tell.
    schema = {"type": "object", "properties": {"a": {"typo": "string", "items": {"tpye": "x"}}}}
    obj = {"spec": {"versions": [{"schema": {"openAPIV3Schema": schema}}]}}
    where = "spec.versions[0].schema.openAPIV3Schema.properties.a"
    assert problems_of("apiextensions.k8s.io/v1", "CustomResourceDefinition", obj).unknown == [
        f'unknown field "{where}.typo"',
    ]


def test_pruning_drops_exactly_what_is_unknown() -> None:
    obj = {"kind": "ConfigMap", "datta": {}, "data": {"any": "key"}, "metadata": {"name": "a", "nmae": "b"}}
    prune_builtin("v1", "ConfigMap", obj)
    assert obj == {"kind": "ConfigMap", "data": {"any": "key"}, "metadata": {"name": "a"}}
    assert not problems_of("v1", "ConfigMap", obj).unknown


@pytest.mark.parametrize("text", ["1", "0.5", "100m", "1Gi", "1e3", "-1", "+1", ".5", "5.", "12E6", "1E", 3, 0.1])
def test_quantities(text: Any) -> None:
    assert quantity_error(text) == ""


POD = {"name": "c", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi", "example.com/card": None}}}


@pytest.mark.parametrize(
    ("version", "kind", "given", "stored"),
    [
        (
            "v1",
            "Pod",
            {"spec": {"containers": [POD], "overhead": {"cpu": "1000m"}}},
            {
                "spec": {
                    "containers": [
                        {
                            "name": "c",
                            "resources": {"limits": {"cpu": "500m", "memory": "1Gi", "example.com/card": "0"}},
                        }
                    ],
                    "overhead": {"cpu": "1"},
                }
            },
        ),
        (
            "batch/v1",
            "CronJob",
            {
                "spec": {
                    "jobTemplate": {"spec": {"template": {"spec": {"volumes": [{"emptyDir": {"sizeLimit": 1e6}}]}}}}
                }
            },
            {
                "spec": {
                    "jobTemplate": {"spec": {"template": {"spec": {"volumes": [{"emptyDir": {"sizeLimit": "1M"}}]}}}}
                }
            },
        ),
        ("v1", "ResourceQuota", {"spec": {"hard": {"pods": 5}}}, {"spec": {"hard": {"pods": "5"}}}),
        (
            "v1",
            "LimitRange",
            {"spec": {"limits": [{"type": "Container", "max": {"cpu": "2000m"}}]}},
            {"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}},
        ),
        (
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            {"spec": {"metrics": [{"resource": {"target": {"averageValue": "0.1", "averageUtilization": 80}}}]}},
            {"spec": {"metrics": [{"resource": {"target": {"averageValue": "100m", "averageUtilization": 80}}}]}},
        ),
        (
            "v1",
            "PersistentVolumeClaim",
            {"spec": {"resources": {"requests": {"storage": "0.5Gi"}, "limits": None}}},
            {"spec": {"resources": {"requests": {"storage": "512Mi"}, "limits": None}}},
        ),
        # What is no quantity is for the decoder to refuse; texts, and objects of custom kinds, are left alone.
        (
            "v1",
            "Node",
            {"status": {"capacity": {"cpu": "many", "x": [1]}}},
            {"status": {"capacity": {"cpu": "many", "x": [1]}}},
        ),
        ("v1", "ConfigMap", {"data": {"cpu": "0.5"}}, {"data": {"cpu": "0.5"}}),
        (
            "shop.io/v1",
            "Basket",
            {"spec": {"resources": {"limits": {"cpu": "0.5"}}}},
            {"spec": {"resources": {"limits": {"cpu": "0.5"}}}},
        ),
    ],
)
def test_quantities_have_one_form(version: str, kind: str, given: Any, stored: Any) -> None:
    obj = copy.deepcopy(given)
    typed(obj, version, kind)
    assert _part(obj, stored) == stored
    typed(obj, version, kind)
    assert _part(obj, stored) == stored


def _part(obj: Any, like: Any) -> Any:
    """Of `obj`, what `like` has too."""
    if isinstance(like, dict):
        return {name: _part(obj.get(name), inner) for name, inner in like.items()}
    if isinstance(like, list):
        return [_part(one, inner) for one, inner in zip(obj, like, strict=True)]
    return obj


@pytest.mark.parametrize("text", ["", "abc", "1x", "1GI", "1.2.3", "1 Gi"])
def test_what_is_no_quantity(text: str) -> None:
    assert quantity_error(text).startswith("quantities must match")


@pytest.mark.parametrize("text", ["1Kim", "1ee3", "1mi", "--1"])
def test_quantities_with_a_strange_suffix(text: str) -> None:
    assert quantity_error(text) == "unable to parse quantity's suffix"


@pytest.mark.parametrize(
    ("text", "offset"),
    [("!!!!", 0), ("YQ", 0), ("YWJjYQ", 4), ("YQ=", 3), ("YQ=a", 2), ("YWJjé", 4), ("YQ==YQ==", 4), ("YWI=x", 4)],
)
def test_base64_is_refused_with_the_offset(text: str, offset: int) -> None:
    assert base64_error(text) == f"illegal base64 data at input byte {offset}"


@pytest.mark.parametrize("text", ["", "YQ==", "YWI=", "YWJj", "YW\nJj\r\n"])
def test_base64(text: str) -> None:
    assert base64_error(text) == ""
