# SPDX-License-Identifier: Apache-2.0
"""Who may call whom, today and in Istio 1.2. Made by tools/generate_typed_istio.py."""

from __future__ import annotations

from typing import TypedDict

from labkit.ground.typed.destination_rules import WorkloadSelector
from labkit.ground.typed.metadata import ObjectMeta


class PeerMtls(TypedDict, total=False):
    mode: str


class PeerAuthenticationSpec(TypedDict, total=False):
    mtls: PeerMtls
    portLevelMtls: dict[str, PeerMtls]
    selector: WorkloadSelector


class PeerAuthentication(TypedDict, total=False):
    apiVersion: str
    kind: str
    metadata: ObjectMeta
    spec: PeerAuthenticationSpec


class JWTHeader(TypedDict, total=False):
    name: str
    prefix: str


class ClaimToHeader(TypedDict, total=False):
    claim: str
    header: str


class JWTRule(TypedDict, total=False):
    audiences: list[str]
    forwardOriginalToken: bool
    fromCookies: list[str]
    fromHeaders: list[JWTHeader]
    fromParams: list[str]
    issuer: str
    jwks: str
    jwksUri: str
    jwks_uri: str
    outputClaimToHeaders: list[ClaimToHeader]
    outputPayloadToHeader: str
    spaceDelimitedClaims: list[str]
    timeout: str


class PolicyTargetReference(TypedDict, total=False):
    group: str
    kind: str
    name: str
    namespace: str


class RequestAuthenticationSpec(TypedDict, total=False):
    jwtRules: list[JWTRule]
    selector: WorkloadSelector
    targetRef: PolicyTargetReference
    targetRefs: list[PolicyTargetReference]


class RequestAuthentication(TypedDict, total=False):
    apiVersion: str
    kind: str
    metadata: ObjectMeta
    spec: RequestAuthenticationSpec


class ExtensionProvider(TypedDict, total=False):
    name: str


class Source(TypedDict, total=False):
    ipBlocks: list[str]
    namespaces: list[str]
    notIpBlocks: list[str]
    notNamespaces: list[str]
    notPrincipals: list[str]
    notRemoteIpBlocks: list[str]
    notRequestPrincipals: list[str]
    notServiceAccounts: list[str]
    notTrustDomains: list[str]
    principals: list[str]
    remoteIpBlocks: list[str]
    requestPrincipals: list[str]
    serviceAccounts: list[str]
    trustDomains: list[str]


class RuleFrom(TypedDict, total=False):
    source: Source


class Operation(TypedDict, total=False):
    hosts: list[str]
    methods: list[str]
    notHosts: list[str]
    notMethods: list[str]
    notPaths: list[str]
    notPorts: list[str]
    paths: list[str]
    ports: list[str]


class RuleTo(TypedDict, total=False):
    operation: Operation


class Condition(TypedDict, total=False):
    key: str
    notValues: list[str]
    values: list[str]


Rule = TypedDict(
    "Rule",
    {
        "from": list[RuleFrom],
        "to": list[RuleTo],
        "when": list[Condition],
    },
    total=False,
)


class AuthorizationPolicySpec(TypedDict, total=False):
    action: str
    provider: ExtensionProvider
    rules: list[Rule]
    selector: WorkloadSelector
    targetRef: PolicyTargetReference
    targetRefs: list[PolicyTargetReference]


class AuthorizationPolicy(TypedDict, total=False):
    apiVersion: str
    kind: str
    metadata: ObjectMeta
    spec: AuthorizationPolicySpec


class OriginMethod(TypedDict, total=False):
    jwt: object


class MutualTls(TypedDict, total=False):
    allowTls: bool
    mode: str


class PeerMethod(TypedDict, total=False):
    jwt: object
    mtls: MutualTls


class PolicyPort(TypedDict, total=False):
    name: str
    number: int


class TargetSelector(TypedDict, total=False):
    labels: dict[str, str]
    name: str
    ports: list[PolicyPort]


class PolicySpec(TypedDict, total=False):
    originIsOptional: bool
    origins: list[OriginMethod]
    peerIsOptional: bool
    peers: list[PeerMethod]
    principalBinding: str
    targets: list[TargetSelector]


class Policy(TypedDict, total=False):
    apiVersion: str
    kind: str
    metadata: ObjectMeta
    spec: PolicySpec


class MeshPolicy(TypedDict, total=False):
    apiVersion: str
    kind: str
    metadata: ObjectMeta
    spec: PolicySpec
