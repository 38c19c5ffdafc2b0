# SPDX-License-Identifier: Apache-2.0
"""Where requests go. Made by tools/generate_typed_istio.py."""

from __future__ import annotations

from typing import TypedDict

from labkit.ground.typed.metadata import ObjectMeta


class StringMatch(TypedDict, total=False):
    exact: str
    prefix: str
    regex: str


class CorsPolicy(TypedDict, total=False):
    allowCredentials: bool | None
    allowHeaders: list[str]
    allowMethods: list[str]
    allowOrigin: list[str]
    allowOrigins: list[StringMatch]
    exposeHeaders: list[str]
    maxAge: str
    unmatchedPreflights: str


class Delegate(TypedDict, total=False):
    name: str
    namespace: str


class HTTPBody(TypedDict, total=False):
    bytes: str
    string: str


class HTTPDirectResponse(TypedDict, total=False):
    body: HTTPBody
    status: int


class Percent(TypedDict, total=False):
    value: float


class Abort(TypedDict, total=False):
    grpcStatus: str
    http2Error: str
    httpStatus: int
    percent: int
    percentage: Percent


class Delay(TypedDict, total=False):
    exponentialDelay: str
    fixedDelay: str
    percent: int
    percentage: Percent


class HTTPFaultInjection(TypedDict, total=False):
    abort: Abort
    delay: Delay


class HeaderOperations(TypedDict, total=False):
    add: dict[str, str]
    remove: list[str]
    set: dict[str, str]


class Headers(TypedDict, total=False):
    request: HeaderOperations
    response: HeaderOperations


class HTTPMatchRequest(TypedDict, total=False):
    authority: StringMatch
    gateways: list[str]
    headers: dict[str, StringMatch]
    ignoreUriCase: bool
    method: StringMatch
    name: str
    port: int
    queryParams: dict[str, StringMatch]
    scheme: StringMatch
    sourceLabels: dict[str, str]
    sourceNamespace: str
    statPrefix: str
    uri: StringMatch
    withoutHeaders: dict[str, StringMatch]


class PortSelector(TypedDict, total=False):
    name: str
    number: int


class Destination(TypedDict, total=False):
    host: str
    port: PortSelector
    subset: str


class HTTPMirrorPolicy(TypedDict, total=False):
    destination: Destination
    percentage: Percent


class HTTPRedirect(TypedDict, total=False):
    authority: str
    derivePort: str
    port: int
    redirectCode: int
    scheme: str
    uri: str


class HTTPRetry(TypedDict, total=False):
    attempts: int
    backoff: str
    perTryTimeout: str
    retryIgnorePreviousHosts: bool | None
    retryOn: str
    retryRemoteLocalities: bool | None


class RegexRewrite(TypedDict, total=False):
    match: str
    rewrite: str


class HTTPRewrite(TypedDict, total=False):
    authority: str
    uri: str
    uriRegexRewrite: RegexRewrite


class HTTPRouteDestination(TypedDict, total=False):
    appendRequestHeaders: dict[str, str]
    appendResponseHeaders: dict[str, str]
    destination: Destination
    headers: Headers
    removeRequestHeaders: list[str]
    removeResponseHeaders: list[str]
    weight: int


class HTTPRoute(TypedDict, total=False):
    appendHeaders: dict[str, str]
    appendRequestHeaders: dict[str, str]
    appendResponseHeaders: dict[str, str]
    corsPolicy: CorsPolicy
    delegate: Delegate
    directResponse: HTTPDirectResponse
    fault: HTTPFaultInjection
    headers: Headers
    match: list[HTTPMatchRequest]
    mirror: Destination
    mirrorPercent: int | None
    mirrorPercentage: Percent
    mirror_percent: int | None
    mirrors: list[HTTPMirrorPolicy]
    name: str
    redirect: HTTPRedirect
    removeRequestHeaders: list[str]
    removeResponseHeaders: list[str]
    retries: HTTPRetry
    rewrite: HTTPRewrite
    route: list[HTTPRouteDestination]
    timeout: str
    websocketUpgrade: bool


class L4MatchAttributes(TypedDict, total=False):
    destinationSubnets: list[str]
    gateways: list[str]
    port: int
    sourceLabels: dict[str, str]
    sourceNamespace: str
    sourceSubnet: str


class RouteDestination(TypedDict, total=False):
    destination: Destination
    weight: int


class TCPRoute(TypedDict, total=False):
    match: list[L4MatchAttributes]
    route: list[RouteDestination]


class TLSMatchAttributes(TypedDict, total=False):
    destinationSubnets: list[str]
    gateways: list[str]
    port: int
    sniHosts: list[str]
    sourceLabels: dict[str, str]
    sourceNamespace: str
    sourceSubnet: str


class TLSRoute(TypedDict, total=False):
    match: list[TLSMatchAttributes]
    route: list[RouteDestination]


class VirtualServiceSpec(TypedDict, total=False):
    exportTo: list[str]
    gateways: list[str]
    hosts: list[str]
    http: list[HTTPRoute]
    tcp: list[TCPRoute]
    tls: list[TLSRoute]


class VirtualService(TypedDict, total=False):
    apiVersion: str
    kind: str
    metadata: ObjectMeta
    spec: VirtualServiceSpec
