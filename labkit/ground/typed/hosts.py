# SPDX-License-Identifier: Apache-2.0
"""Which hosts there are, and who sees them. Made by tools/generate_typed_istio.py."""

from __future__ import annotations

from typing import TypedDict

from labkit.ground.typed.destination_rules import ConnectionPool, WorkloadSelector
from labkit.ground.typed.metadata import ObjectMeta
from labkit.ground.typed.virtual_services import Destination


class Port(TypedDict, total=False):
    name: str
    number: int
    protocol: str
    targetPort: int


class ServerTLSTlsCertificates(TypedDict, total=False):
    caCertificates: str
    privateKey: str
    serverCertificate: str


class ServerTLS(TypedDict, total=False):
    caCertCredentialName: str
    caCertificates: str
    caCrl: str
    cipherSuites: list[str]
    credentialName: str
    credentialNames: list[str]
    httpsRedirect: bool
    maxProtocolVersion: str
    minProtocolVersion: str
    mode: str
    privateKey: str
    serverCertificate: str
    subjectAltNames: list[str]
    tlsCertificates: list[ServerTLSTlsCertificates]
    verifyCertificateHash: list[str]
    verifyCertificateSpki: list[str]


class Server(TypedDict, total=False):
    bind: str
    defaultEndpoint: str
    hosts: list[str]
    name: str
    port: Port
    tls: ServerTLS


class GatewaySpec(TypedDict, total=False):
    selector: dict[str, str]
    servers: list[Server]


class Gateway(TypedDict, total=False):
    apiVersion: str
    kind: str
    metadata: ObjectMeta
    spec: GatewaySpec


class WorkloadEntry(TypedDict, total=False):
    address: str
    labels: dict[str, str]
    locality: str
    network: str
    ports: dict[str, int]
    serviceAccount: str
    weight: int


class ServiceEntrySpec(TypedDict, total=False):
    addresses: list[str]
    endpoints: list[WorkloadEntry]
    exportTo: list[str]
    hosts: list[str]
    location: str
    ports: list[Port]
    resolution: str
    subjectAltNames: list[str]
    workloadSelector: WorkloadSelector


class ServiceEntry(TypedDict, total=False):
    apiVersion: str
    kind: str
    metadata: ObjectMeta
    spec: ServiceEntrySpec


class IstioEgressListener(TypedDict, total=False):
    bind: str
    captureMode: str
    hosts: list[str]
    port: Port


class IstioIngressListener(TypedDict, total=False):
    bind: str
    captureMode: str
    connectionPool: ConnectionPool
    defaultEndpoint: str
    port: Port
    tls: ServerTLS


class OutboundTrafficPolicy(TypedDict, total=False):
    egressProxy: Destination
    mode: str


class SidecarSpec(TypedDict, total=False):
    egress: list[IstioEgressListener]
    inboundConnectionPool: ConnectionPool
    ingress: list[IstioIngressListener]
    outboundTrafficPolicy: OutboundTrafficPolicy
    workloadSelector: WorkloadSelector


class Sidecar(TypedDict, total=False):
    apiVersion: str
    kind: str
    metadata: ObjectMeta
    spec: SidecarSpec
