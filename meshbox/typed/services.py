# SPDX-License-Identifier: Apache-2.0
"""Services and what stands behind them, and what pods are configured with. Made by tools/generate_typed_kinds.py."""

from __future__ import annotations

from typing import TypedDict

from labkit.ground.typed.metadata import Condition, ObjectMeta
from meshbox.typed.jobs import ObjectReference
from meshbox.typed.volumes import LocalObjectReference


class ServicePort(TypedDict, total=False):
    appProtocol: str
    name: str
    nodePort: int
    port: int
    protocol: str
    targetPort: int | str


class ClientIPConfig(TypedDict, total=False):
    timeoutSeconds: int


class SessionAffinityConfig(TypedDict, total=False):
    clientIP: ClientIPConfig


class ServiceSpec(TypedDict, total=False):
    allocateLoadBalancerNodePorts: bool
    clusterIP: str
    clusterIPs: list[str]
    externalIPs: list[str]
    externalName: str
    externalTrafficPolicy: str
    healthCheckNodePort: int
    internalTrafficPolicy: str
    ipFamilies: list[str]
    ipFamilyPolicy: str
    loadBalancerClass: str
    loadBalancerIP: str
    loadBalancerSourceRanges: list[str]
    ports: list[ServicePort]
    publishNotReadyAddresses: bool
    selector: dict[str, str]
    sessionAffinity: str
    sessionAffinityConfig: SessionAffinityConfig
    trafficDistribution: str
    type: str


class PortStatus(TypedDict, total=False):
    error: str
    port: int
    protocol: str


class LoadBalancerIngress(TypedDict, total=False):
    hostname: str
    ip: str
    ipMode: str
    ports: list[PortStatus]


class LoadBalancerStatus(TypedDict, total=False):
    ingress: list[LoadBalancerIngress]


class ServiceStatus(TypedDict, total=False):
    conditions: list[Condition]
    loadBalancer: LoadBalancerStatus


class Service(TypedDict, total=False):
    apiVersion: str
    kind: str
    metadata: ObjectMeta
    spec: ServiceSpec
    status: ServiceStatus


class EndpointAddress(TypedDict, total=False):
    hostname: str
    ip: str
    nodeName: str
    targetRef: ObjectReference


class CoreV1EndpointPort(TypedDict, total=False):
    appProtocol: str
    name: str
    port: int
    protocol: str


class EndpointSubset(TypedDict, total=False):
    addresses: list[EndpointAddress]
    notReadyAddresses: list[EndpointAddress]
    ports: list[CoreV1EndpointPort]


class Endpoints(TypedDict, total=False):
    apiVersion: str
    kind: str
    metadata: ObjectMeta
    subsets: list[EndpointSubset]


class EndpointConditions(TypedDict, total=False):
    ready: bool
    serving: bool
    terminating: bool


class ForNode(TypedDict, total=False):
    name: str


class ForZone(TypedDict, total=False):
    name: str


class EndpointHints(TypedDict, total=False):
    forNodes: list[ForNode]
    forZones: list[ForZone]


class Endpoint(TypedDict, total=False):
    addresses: list[str]
    conditions: EndpointConditions
    deprecatedTopology: dict[str, str]
    hints: EndpointHints
    hostname: str
    nodeName: str
    targetRef: ObjectReference
    zone: str


class DiscoveryV1EndpointPort(TypedDict, total=False):
    appProtocol: str
    name: str
    port: int
    protocol: str


class EndpointSlice(TypedDict, total=False):
    addressType: str
    apiVersion: str
    endpoints: list[Endpoint]
    kind: str
    metadata: ObjectMeta
    ports: list[DiscoveryV1EndpointPort]


class ConfigMap(TypedDict, total=False):
    apiVersion: str
    binaryData: dict[str, str]
    data: dict[str, str]
    immutable: bool
    kind: str
    metadata: ObjectMeta


class Secret(TypedDict, total=False):
    apiVersion: str
    data: dict[str, str]
    immutable: bool
    kind: str
    metadata: ObjectMeta
    stringData: dict[str, str]
    type: str


class ServiceAccount(TypedDict, total=False):
    apiVersion: str
    automountServiceAccountToken: bool
    imagePullSecrets: list[LocalObjectReference]
    kind: str
    metadata: ObjectMeta
    secrets: list[ObjectReference]


class NamespaceSpec(TypedDict, total=False):
    finalizers: list[str]


class NamespaceCondition(TypedDict, total=False):
    lastTransitionTime: str
    message: str
    reason: str
    status: str
    type: str


class NamespaceStatus(TypedDict, total=False):
    conditions: list[NamespaceCondition]
    phase: str


class Namespace(TypedDict, total=False):
    apiVersion: str
    kind: str
    metadata: ObjectMeta
    spec: NamespaceSpec
    status: NamespaceStatus
