# SPDX-License-Identifier: Apache-2.0
"""What a real server says of those fields of pods that seldom are set."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.api.builtin import validate_builtin

NAME = {"name": "c", "image": "i"}
CLAIM = '{"Name":"r","ResourceClaimName":null,"ResourceClaimTemplateName":null}'
KEYS = {"topologyKey": "k", "matchLabelKeys": ["a"]}
WHOLE_SECURITY = (
    '{"Capabilities":null,"Privileged":true,"SELinuxOptions":null,"WindowsOptions":null,"RunAsUser":null,'
    '"RunAsGroup":null,"RunAsNonRoot":null,"ReadOnlyRootFilesystem":null,"AllowPrivilegeEscalation":false,'
    '"ProcMount":null,"SeccompProfile":null,"AppArmorProfile":null}'
)


def said(spec: dict[str, Any]) -> list[str]:
    found = validate_builtin("v1", "Pod", {"metadata": {"name": "x"}, "spec": {"containers": [NAME], **spec}}).errors
    return [f"{one['field'].removeprefix('spec.')}: {one['message']}" for one in found]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"os": {"name": "mac"}}, ['os: Unsupported value: "mac": supported values: "linux", "windows"']),
        ({"os": {}}, ["os.name: Required value"]),
        ({"dnsPolicy": "None"}, ["dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"]),
        ({"schedulingGates": [{"name": "a"}] * 2}, ['schedulingGates[1]: Duplicate value: "a"']),
        ({"hostNetwork": True, "containers": [{**NAME, "ports": [{"containerPort": 80, "hostPort": 80},
            {"containerPort": 81, "hostPort": 80}]}]}, [
         'containers[0].ports[1].hostPort: Duplicate value: "TCP//80"',
         "containers[0].ports[1].hostPort: Invalid value: 80: must match `containerPort` when `hostNetwork` is true"]),
        ({"containers": [{**NAME, "env": [
            {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
            for name, path in (("A", "metadata.foo"), ("B", "status.phase"), ("C", "spec['x']"))]}]}, [
         'containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "metadata.foo": error converting '
         "fieldPath: field label not supported: metadata.foo",
         'containers[0].env[1].valueFrom.fieldRef.fieldPath: Unsupported value: "status.phase": supported values: '
         '"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", '
         '"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"',
         'containers[0].env[2].valueFrom.fieldRef.fieldPath: Invalid value: "spec[\'x\']": error converting '
         "fieldPath: field label does not support subscript: spec['x']"]),
        ({"hostUsers": False, "hostPID": True, "hostNetwork": True}, [
         "hostNetwork: Forbidden: when `hostUsers` is false", "HostPID: Forbidden: when `hostUsers` is false"]),
        ({"shareProcessNamespace": True, "hostPID": True, "securityContext": {}}, [
         "securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be "
         "enabled"]),
        ({"hostNetwork": True, "securityContext": {"sysctls": [{"name": "net.x", "value": "1"}]}}, [
         'securityContext.sysctls[0].name: Invalid value: "net.x": may not be specified when \'hostNetwork\' is true']),
        ({"securityContext": {"fsGroupChangePolicy": "", "appArmorProfile": {}, "seccompProfile": {
            "type": "RuntimeDefault", "localhostProfile": "a"}}}, [
         'securityContext.fsGroupChangePolicy: Unsupported value: "": supported values: "Always", "OnRootMismatch"',
         'securityContext.seccompProfile.localhostProfile: Invalid value: {"Type":"RuntimeDefault","LocalhostProfile":'
         '"a"}: can only be set when seccomp type is Localhost',
         "securityContext.appArmorProfile.type: Required value: type is required when appArmorProfile is set"]),
        ({"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": ""}}}, []),
        ({"topologySpreadConstraints": [{**KEYS, "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 1,
            "nodeTaintsPolicy": "No"}]}, [
         "topologySpreadConstraints[0].minDomains: Invalid value: 1: can only use minDomains if "
         "whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
         'topologySpreadConstraints[0].nodeTaintsPolicy: Unsupported value: "No": supported values: "Honor", "Ignore"',
         "topologySpreadConstraints[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not "
         "set"]),
        ({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {**KEYS, "labelSelector": {}, "mismatchLabelKeys": ["a"]}]}}}, [
         "affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys[0]: Invalid value: "
         '"a": exists in both matchLabelKeys and mismatchLabelKeys']),
        ({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "preference": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b c"]}]}}
        ]}}}, []),
        ({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a", "b"]}]}]}}}}, [
         "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0]."
         "values: Required value: must be only one value when `operator` is 'In' or 'NotIn' for node field selector"]),
        ({"resourceClaims": [{"name": "r"}], "containers": [{**NAME, "resources": {"claims": [{"name": "s"}]}}]}, [
         f"resourceClaims[0]: Invalid value: {CLAIM}: must specify one of: `resourceClaimName`, "
         "`resourceClaimTemplateName`",
         'containers[0].resources.claims[0]: Not found: "s": must be one of the names in pod.spec.resourceClaims: r']),
        ({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}, [
         'resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1']),
    ],
)  # fmt: skip
def test_pods(spec: dict[str, Any], words: list[str]) -> None:
    assert said(spec) == words


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "No"}, {"resourceName": "cpu"}]}, [
         'resizePolicy: Unsupported value: "No": supported values: "NotRequired", "RestartContainer"',
         'resizePolicy[1]: Duplicate value: "cpu"', "resizePolicy: Required value"]),
        ({"restartPolicyRules": [{"action": "Wait", "exitCodes": {"operator": "Is"}}]}, [
         "restartPolicy: Required value: must specify restartPolicy when restart rules are used",
         'restartPolicyRules[0].action: Unsupported value: "Wait": supported values: "Restart"',
         'restartPolicyRules[0].exitCodes.operator: Unsupported value: "Is": supported values: "In", "NotIn"']),
        ({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}}, [
         "lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than "
         "terminationGracePeriodSeconds (30)"]),
        ({"securityContext": {"procMount": "Unmasked", "appArmorProfile": {"type": "Localhost"}}}, [
         'securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`',
         "securityContext.appArmorProfile.localhostProfile: Required value: must be set when AppArmor type is "
         "Localhost"]),
        ({"securityContext": {"privileged": True, "allowPrivilegeEscalation": False}}, [
         f"securityContext: Invalid value: {WHOLE_SECURITY}: cannot set `allowPrivilegeEscalation` to false and "
         "`privileged` to true"]),
        ({"resources": {"requests": {"x.y/gpu": "1"}}}, [
         "resources.limits: Required value: Limit must be set for non overcommitable resources"]),
        ({"resources": {"requests": {"x.y/gpu": "1"}, "limits": {"x.y/gpu": "2"}}}, [
         'resources.requests: Invalid value: "1": must be equal to x.y/gpu limit of 2']),
    ],
)  # fmt: skip
def test_containers(container: dict[str, Any], words: list[str]) -> None:
    assert said({"containers": [{**NAME, **container}]}) == [f"containers[0].{one}" for one in words]
