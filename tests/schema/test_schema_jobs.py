# SPDX-License-Identifier: Apache-2.0
"""What a real server says of the policies of Jobs, and of endpoints' hints."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.api.builtin import validate_builtin

INDEXES = "error parsing succeededIndexes"


def said(version: str, kind: str, obj: dict[str, Any]) -> list[str]:
    found = validate_builtin(version, kind, {"metadata": {"name": "x"}, **obj}).errors
    return [f"{one['field'].removeprefix('spec.')}: {one['message']}" for one in found]


def rule(**given: Any) -> dict[str, Any]:
    return {"successPolicy": {"rules": [given]}}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"maxFailedIndexes": 4, "backoffLimitPerIndex": 1}, [
         "maxFailedIndexes: Invalid value: 4: must be less than or equal to completions"]),
        ({"maxFailedIndexes": 1}, ["backoffLimitPerIndex: Required value: when maxFailedIndexes is specified"]),
        ({"completionMode": "NonIndexed", "backoffLimitPerIndex": 1}, [
         "backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"]),
        ({"managedBy": ""}, ["managedBy: Required value"]),
        ({"successPolicy": {}}, [
         "successPolicy.rules: Required value: at least one rules must be specified when the successPolicy is "
         "specified"]),
        (rule(), ["successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be "
         "specified"]),
        (rule(succeededIndexes="0-1,2", succeededCount=3), []),
        (rule(succeededIndexes="0-1", succeededCount=3), [
         "successPolicy.rules[0].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of "
         "indexes in the specified succeededIndexes field)"]),
        (rule(succeededIndexes="1-3"), [
         f'successPolicy.rules[0].succeededIndexes: Invalid value: "1-3": {INDEXES}: too large index: "3"']),
        (rule(succeededIndexes="a"), [
         f'successPolicy.rules[0].succeededIndexes: Invalid value: "a": {INDEXES}: cannot convert string to integer '
         'for index: "a"']),
        (rule(succeededCount=4), [
         "successPolicy.rules[0].succeededCount: Invalid value: 4: must be less than or equal to 3 (the number of "
         "specified completions)"]),
        ({"podReplacementPolicy": "TerminatingOrFailed", "podFailurePolicy": {"rules": [
            {"action": "FailIndex", "onExitCodes": {"containerName": "d", "operator": "In", "values": [1]}}]}}, [
         'podFailurePolicy.rules[0].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set',
         'podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: "d": must be one of the container or '
         "initContainer names in the pod template",
         'podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed"']),
    ],
)  # fmt: skip
def test_jobs(spec: dict[str, Any], words: list[str]) -> None:
    template = {"spec": {"containers": [{"name": "c", "image": " i"}], "restartPolicy": "Never"}}
    whole = {"completionMode": "Indexed", "completions": 3, "template": template, **spec}
    assert said("batch/v1", "Job", {"spec": whole}) == words


def test_endpoints() -> None:
    endpoint = {"addresses": ["a"], "nodeName": "", "hints": {"forZones": [{"name": "z"}] * 2}}
    ports = [{"name": "", "protocol": "TCP"}] * 2
    named = [one.split(": ")[:2] for one in said("discovery.k8s.io/v1", "EndpointSlice", {
        "addressType": "FQDN", "endpoints": [endpoint], "ports": ports})]  # fmt: skip
    assert named == [
        ["endpoints[0].addresses[0]", "Invalid value"],
        ["endpoints[0].nodeName", "Invalid value"],
        ["endpoints[0].hints.forZones[1].name", "Duplicate value"],
        ["ports[1].name", "Duplicate value"],
    ]
