# SPDX-License-Identifier: Apache-2.0
"""What a real server says of autoscalers, events, classes, Nodes and policies with fields that seldom are set."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.api.builtin import validate_builtin

SCALED = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}, "maxReplicas": 1}
AVERAGE = {"target": {"type": "AverageValue"}, "metric": {"name": "m"}}
EVENT = {"involvedObject": {"namespace": "n"}, "reportingComponent": "c", "reportingInstance": "i", "action": "a",
         "reason": "r", "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal"}  # fmt: skip


def metric(kind: str, **source: Any) -> dict[str, Any]:
    return {"spec": {**SCALED, "metrics": [{"type": kind, kind[:1].lower() + kind[1:]: source}]}}


@pytest.mark.parametrize(
    ("kind", "obj", "words"),
    [
        ("autoscaling/v2 HorizontalPodAutoscaler", metric("Pods", **AVERAGE), [
         "spec.metrics[0].pods.target.averageValue: Required value: must specify a positive target averageValue"]),
        ("autoscaling/v2 HorizontalPodAutoscaler", metric("External", **AVERAGE), [
         "spec.metrics[0].external.target.averageValue: Required value: must set either a target value for metric or a "
         "per-pod target"]),
        ("autoscaling/v2 HorizontalPodAutoscaler", metric("Object", target={"type": "Value", "value": "1"},
         metric={"name": "m"}, describedObject={"kind": "Pod", "name": "p"}), []),
        ("autoscaling/v2 HorizontalPodAutoscaler", metric("ContainerResource", name="thing", container="c",
         target={"type": "AverageValue", "averageValue": "1"}), [
         'spec.metrics[0].containerResource.name: Invalid value: "thing": must be a standard resource type or fully '
         "qualified",
         'spec.metrics[0].containerResource.name: Invalid value: "thing": must be a standard resource for containers']),
        ("v1 Event", EVENT, []),
        ("v1 Event", {**EVENT, "action": None, "reason": "r" * 129}, [
         "action: Required value", 'reason: Invalid value: "": can have at most 128 characters']),
        ("v1 Event", {"involvedObject": {"namespace": "n"}}, []),
        ("events.k8s.io/v1 Event", {**EVENT, "eventTime": None, "type": "", "series": {"count": 1}}, [
         "eventTime: Required value", 'series.count: Invalid value: "": should be at least 2',
         "series.lastObservedTime: Required value", 'type: Invalid value: "": has invalid value: ']),
        ("storage.k8s.io/v1 StorageClass", {"provisioner": "p", "allowedTopologies": [{}, {"matchLabelExpressions": [
            {"key": "a", "values": []}]}]}, [
         'allowedTopologies[0].matchLabelExpressions: Duplicate value: ""',
         "allowedTopologies[1].matchLabelExpressions[0].values: Required value"]),
        ("storage.k8s.io/v1 CSIDriver", {"spec": {"fsGroupPolicy": "Some", "tokenRequests": [{"audience": "a"}, {
            "audience": "a", "expirationSeconds": 1}]}}, [
         'spec.fsGroupPolicy: Unsupported value: "Some": supported values: "File", "None", "ReadWriteOnceWithFSType"',
         'spec.tokenRequests[1].audience: Duplicate value: "a"',
         "spec.tokenRequests[1].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes"]),
        ("v1 Node", {"spec": {"podCIDRs": ["10.0.0.0/24", "10.1.0.0/24"]}, "status": {"capacity": {"cpu": "-1"}}}, [
         'spec.podCIDRs: Invalid value: ["10.0.0.0/24","10.1.0.0/24"]: may specify no more than one CIDR for each IP '
         "family",
         'status.capacity.cpu: Invalid value: "-1": must be greater than or equal to 0']),
        ("node.k8s.io/v1 RuntimeClass", {"handler": "h", "overhead": {"podFixed": {"cpu": "-1"}}}, [
         'overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0']),
        ("networking.k8s.io/v1 Ingress", {"spec": {"defaultBackend": {"resource": {"kind": "a/b", "name": "n"}}}}, [
         'spec.defaultBackend.resource.kind: Invalid value: "a/b": may not contain \'/\'']),
        ("admissionregistration.k8s.io/v1 ValidatingAdmissionPolicyBinding", {"spec": {"policyName": "p",
            "validationActions": ["Deny"], "paramRef": {"parameterNotFoundAction": "Deny"}}}, [
         "spec.paramRef: Required value: one of name or selector must be specified"]),
    ],
)  # fmt: skip
def test_words(kind: str, obj: dict[str, Any], words: list[str]) -> None:
    version, name = kind.split()
    stored = "v1" if name == "Event" else version
    whole = {"metadata": {"name": "x", "namespace": "n"}, **obj}
    found = validate_builtin(stored, name, whole, version).errors
    assert [f"{one['field']}: {one['message']}" for one in found] == words
