# SPDX-License-Identifier: Apache-2.0
"""What pods and their containers are about. Made by tools/generate_typed_kinds.py."""

from __future__ import annotations

from typing import TypedDict

from meshbox.typed.containers import ResourceRequirements


class PodCondition(TypedDict, total=False):
    lastProbeTime: str
    lastTransitionTime: str
    message: str
    observedGeneration: int
    reason: str
    status: str
    type: str


class ResourceHealth(TypedDict, total=False):
    health: str
    resourceID: str


class ResourceStatus(TypedDict, total=False):
    name: str
    resources: list[ResourceHealth]


class ContainerStateRunning(TypedDict, total=False):
    startedAt: str


class ContainerStateTerminated(TypedDict, total=False):
    containerID: str
    exitCode: int
    finishedAt: str
    message: str
    reason: str
    signal: int
    startedAt: str


class ContainerStateWaiting(TypedDict, total=False):
    message: str
    reason: str


class ContainerState(TypedDict, total=False):
    running: ContainerStateRunning
    terminated: ContainerStateTerminated
    waiting: ContainerStateWaiting


class LinuxContainerUser(TypedDict, total=False):
    gid: int
    supplementalGroups: list[int]
    uid: int


class ContainerUser(TypedDict, total=False):
    linux: LinuxContainerUser


class VolumeMountStatus(TypedDict, total=False):
    mountPath: str
    name: str
    readOnly: bool
    recursiveReadOnly: str


class ContainerStatus(TypedDict, total=False):
    allocatedResources: dict[str, str | int | float]
    allocatedResourcesStatus: list[ResourceStatus]
    containerID: str
    image: str
    imageID: str
    lastState: ContainerState
    name: str
    ready: bool
    resources: ResourceRequirements
    restartCount: int
    started: bool
    state: ContainerState
    stopSignal: str
    user: ContainerUser
    volumeMounts: list[VolumeMountStatus]


class ContainerExtendedResourceRequest(TypedDict, total=False):
    containerName: str
    requestName: str
    resourceName: str


class PodExtendedResourceClaimStatus(TypedDict, total=False):
    requestMappings: list[ContainerExtendedResourceRequest]
    resourceClaimName: str


class HostIP(TypedDict, total=False):
    ip: str


class PodIP(TypedDict, total=False):
    ip: str


class PodResourceClaimStatus(TypedDict, total=False):
    name: str
    resourceClaimName: str


class PodStatus(TypedDict, total=False):
    allocatedResources: dict[str, str | int | float]
    conditions: list[PodCondition]
    containerStatuses: list[ContainerStatus]
    ephemeralContainerStatuses: list[ContainerStatus]
    extendedResourceClaimStatus: PodExtendedResourceClaimStatus
    hostIP: str
    hostIPs: list[HostIP]
    initContainerStatuses: list[ContainerStatus]
    message: str
    nominatedNodeName: str
    observedGeneration: int
    phase: str
    podIP: str
    podIPs: list[PodIP]
    qosClass: str
    reason: str
    resize: str
    resourceClaimStatuses: list[PodResourceClaimStatus]
    resources: ResourceRequirements
    startTime: str
