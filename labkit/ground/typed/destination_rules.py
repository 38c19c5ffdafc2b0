# SPDX-License-Identifier: Apache-2.0
"""How a host is called. Made by tools/generate_typed_istio.py."""

from __future__ import annotations

from typing import TypedDict

from labkit.ground.typed.metadata import ObjectMeta
from labkit.ground.typed.virtual_services import PortSelector


class HTTPSettings(TypedDict, total=False):
    h2UpgradePolicy: str
    http1MaxPendingRequests: int
    http2MaxRequests: int
    idleTimeout: str
    maxConcurrentStreams: int
    maxRequestsPerConnection: int
    maxRetries: int
    useClientProtocol: bool


class TcpKeepalive(TypedDict, total=False):
    interval: str
    probes: int
    time: str


class TCPSettings(TypedDict, total=False):
    connectTimeout: str
    idleTimeout: str
    maxConnectionDuration: str
    maxConnections: int
    tcpKeepalive: TcpKeepalive


class ConnectionPool(TypedDict, total=False):
    http: HTTPSettings
    tcp: TCPSettings


class HTTPCookieAttributes(TypedDict, total=False):
    name: str
    value: str


class HTTPCookie(TypedDict, total=False):
    attributes: list[HTTPCookieAttributes]
    name: str
    path: str
    ttl: str


class MagLev(TypedDict, total=False):
    tableSize: int


class RingHash(TypedDict, total=False):
    minimumRingSize: int


class ConsistentHash(TypedDict, total=False):
    httpCookie: HTTPCookie
    httpHeaderName: str
    httpQueryParameterName: str
    maglev: MagLev
    minimumRingSize: int
    ringHash: RingHash
    useSourceIp: bool


Distribute = TypedDict(
    "Distribute",
    {
        "from": str,
        "to": dict[str, int],
    },
    total=False,
)


Failover = TypedDict(
    "Failover",
    {
        "from": str,
        "to": str,
    },
    total=False,
)


class LocalityLoadBalancerSetting(TypedDict, total=False):
    distribute: list[Distribute]
    enabled: bool | None
    failover: list[Failover]
    failoverPriority: list[str]


class LoadBalancerWarmup(TypedDict, total=False):
    aggression: float | None
    duration: str
    minimumPercent: float | None


class LoadBalancer(TypedDict, total=False):
    consistentHash: ConsistentHash
    localityLbSetting: LocalityLoadBalancerSetting
    simple: str
    warmup: LoadBalancerWarmup
    warmupDurationSecs: str


class OutlierDetection(TypedDict, total=False):
    baseEjectionTime: str
    consecutive5xxErrors: int | None
    consecutiveErrors: int
    consecutiveGatewayErrors: int | None
    consecutiveLocalOriginFailures: int | None
    interval: str
    maxEjectionPercent: int
    minHealthPercent: int
    splitExternalLocalOriginErrors: bool


class ClientTLS(TypedDict, total=False):
    caCertificates: str
    caCrl: str
    clientCertificate: str
    credentialName: str
    insecureSkipVerify: bool | None
    mode: str
    privateKey: str
    sni: str
    subjectAltNames: list[str]


class PortTrafficPolicy(TypedDict, total=False):
    connectionPool: ConnectionPool
    loadBalancer: LoadBalancer
    outlierDetection: OutlierDetection
    port: PortSelector
    tls: ClientTLS


class TrafficPolicyProxyProtocol(TypedDict, total=False):
    version: str


class TrafficPolicyRetryBudget(TypedDict, total=False):
    minRetryConcurrency: int
    percent: float | None


class TrafficPolicyTunnel(TypedDict, total=False):
    protocol: str
    targetHost: str
    targetPort: int


class TrafficPolicy(TypedDict, total=False):
    connectionPool: ConnectionPool
    loadBalancer: LoadBalancer
    outlierDetection: OutlierDetection
    portLevelSettings: list[PortTrafficPolicy]
    proxyProtocol: TrafficPolicyProxyProtocol
    retryBudget: TrafficPolicyRetryBudget
    tls: ClientTLS
    tunnel: TrafficPolicyTunnel


class Subset(TypedDict, total=False):
    labels: dict[str, str]
    name: str
    trafficPolicy: TrafficPolicy


class WorkloadSelector(TypedDict, total=False):
    labels: dict[str, str]
    matchLabels: dict[str, str]


class DestinationRuleSpec(TypedDict, total=False):
    exportTo: list[str]
    host: str
    subsets: list[Subset]
    trafficPolicy: TrafficPolicy
    workloadSelector: WorkloadSelector


class DestinationRule(TypedDict, total=False):
    apiVersion: str
    kind: str
    metadata: ObjectMeta
    spec: DestinationRuleSpec
