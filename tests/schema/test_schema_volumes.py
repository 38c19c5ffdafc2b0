# SPDX-License-Identifier: Apache-2.0
"""What a real server says of broken volumes, mounts and references to fields."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.api.builtin import validate_builtin

FAR = "must be valid format starting with iqn, eui, or naa"
BYTES = "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the"
IMAGE = {"name": "c", "image": "i"}


def said(version: str, kind: str, spec: dict[str, Any]) -> list[str]:
    found = validate_builtin(version, kind, {"metadata": {"name": "x"}, "spec": spec}).errors
    return [f"{one['field'].removeprefix('spec.')}: {one['message']}" for one in found]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"awsElasticBlockStore": {"partition": 256}}, ["awsElasticBlockStore.volumeID: Required value",
         "awsElasticBlockStore.partition: Invalid value: 256: must be between 1 and 255, inclusive"]),
        ({"gcePersistentDisk": {}}, ["persistentDisk.pdName: Required value"]),
        ({"azureDisk": {"diskName": "d", "diskURI": "u", "kind": "Managed", "cachingMode": "Some"}}, [
         'azureDisk.cachingMode: Unsupported value: "Some": supported values: "None", "ReadOnly", "ReadWrite"',
         'azureDisk.diskURI: Unsupported value: "u": supported values: "/subscriptions/{sub-id}/resourcegroups/'
         '{group-name}/providers/microsoft.compute/disks/{disk-id}"']),
        ({"cephfs": {}}, ["cephfs.monitors: Required value"]),
        ({"cinder": {"secretRef": {}}}, ["cinder.volumeID: Required value", "cinder.secretRef.name: Required value"]),
        ({"fc": {"targetWWNs": ["a"]}}, ["fc.lun: Required value: lun is required if targetWWNs is specified"]),
        ({"fc": {}}, ["fc.targetWWNs: Required value: must specify either targetWWNs or wwids, but not both"]),
        ({"flocker": {"datasetName": "a/b"}}, ['flocker.datasetName: Invalid value: "a/b": must not contain \'/\'']),
        ({"gitRepo": {"directory": "/a/../b"}}, ["gitRepo.repository: Required value",
         'gitRepo.directory: Invalid value: "/a/../b": must be a relative path',
         'gitRepo.directory: Invalid value: "/a/../b": must not contain \'..\'']),
        ({"hostPath": {"path": "/a/.."}}, ['hostPath.path: Invalid value: "/a/..": must not contain \'..\'']),
        ({"iscsi": {"targetPortal": "p", "iqn": "iqn.x", "lun": 256, "chapAuthSession": True,
                    "initiatorName": "a"}}, [
         'iscsi.iqn: Invalid value: "iqn.x": must be valid format',
         "iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive", "iscsi.secretRef: Required value",
         f'iscsi.initiatorname: Invalid value: "a": {FAR}']),
        ({"nfs": {"server": "s"}}, ["nfs.path: Required value",
         'nfs.path: Invalid value: "": must be an absolute path']),
        ({"quobyte": {"registry": "r", "volume": "v"}}, [
         'quobyte.registry: Invalid value: "r": must be a host:port pair or multiple pairs separated by commas']),
        ({"emptyDir": {"sizeLimit": "-1"}}, [
         "emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity"]),
        ({"ephemeral": {}}, ["ephemeral.volumeClaimTemplate: Required value"]),
        ({"projected": {"sources": [{"serviceAccountToken": {"path": "/t", "expirationSeconds": 600}}]}}, [
         'projected.path: Invalid value: "/t": must be a relative path']),
        ({"projected": {"sources": [{"secret": {"name": "s", "items": [{"key": "a", "path": "a"}] * 2}}]}}, [
         'projected: Invalid value: "s": conflicting duplicate paths']),
        ({"downwardAPI": {"items": [{"path": "p", "resourceFieldRef": {"divisor": "1"}}]}}, [
         "downwardAPI.resourceFieldRef.containerName: Required value"]),
        ({"downwardAPI": {"items": [{"path": "p", "fieldRef": {"apiVersion": "v2", "fieldPath": "metadata.name"}}]}}, [
         'downwardAPI.fieldRef.fieldPath: Invalid value: "metadata.name": error converting fieldPath: unsupported pod '
         "version: v2"]),
    ],
)  # fmt: skip
def test_sources_of_a_pods_volumes(source: dict[str, Any], words: list[str]) -> None:
    spec = {"containers": [IMAGE], "volumes": [{"name": "v", **source}]}
    assert said("v1", "Pod", spec) == [f"volumes[0].{one}" for one in words]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"csi": {"driver": "d", "nodePublishSecretRef": {"name": "s"}}}, ["csi.volumeHandle: Required value",
         "csi.nodePublishSecretRef.namespace: Required value"]),
        ({"iscsi": {"targetPortal": "p", "iqn": "naa." + "0" * 32, "secretRef": {}}}, [
         "iscsi.secretRef.name: Required value"]),
        ({"local": {"path": "/a"}}, ["nodeAffinity: Required value: Local volume requires node affinity"]),
        ({"azureFile": {"secretNamespace": ""}}, ["azureFile.secretName: Required value",
         "azureFile.shareName: Required value", "azureFile.secretNamespace: Required value"]),
    ],
)  # fmt: skip
def test_sources_of_persistent_volumes(source: dict[str, Any], words: list[str]) -> None:
    assert (
        said("v1", "PersistentVolume", {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1"}, **source})
        == words
    )


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({"volumeDevices": [{"name": "v", "devicePath": "/a"}]}, [
         'volumeDevices[0].name: Invalid value: "v": can only use '
         "volume source type of PersistentVolumeClaim or Ephemeral for block mode"]),
        ({"volumeDevices": [{"name": "w", "devicePath": "/a/.."}] * 2}, ['volumeDevices[0].name: Not found: "w"',
         'volumeDevices[0].devicePath: Invalid value: "/a/..": can not contain backsteps (\'..\')',
         'volumeDevices[1].name: Invalid value: "w": must be unique', 'volumeDevices[1].name: Not found: "w"',
         'volumeDevices[1].devicePath: Invalid value: "/a/..": can not contain backsteps (\'..\')']),
        ({"volumeMounts": [{"name": "v", "mountPath": "/a", "subPathExpr": "/b", "mountPropagation": "Any"}]}, [
         'volumeMounts.subPathExpr: Invalid value: "/b": must be a relative path',
         'volumeMounts.mountPropagation: Unsupported value: "Any": supported values: "Bidirectional", '
         '"HostToContainer", "None"']),
        ({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "5"}}}]}, [
         f'env[0].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.memory": {BYTES} memory resource']),
    ],
)  # fmt: skip
def test_what_containers_take_of_them(container: dict[str, Any], words: list[str]) -> None:
    spec = {"containers": [{**IMAGE, **container}], "volumes": [{"name": "v", "emptyDir": {}}]}
    assert said("v1", "Pod", spec) == [f"containers[0].{one}" for one in words]
