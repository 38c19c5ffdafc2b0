# SPDX-License-Identifier: Apache-2.0
"""The fields of Istio's objects and their types, as far as proxies are concerned.

Istio 1.2's CustomResourceDefinitions have no schema: its webhook itself decoded objects and refused unknown fields.
Today the CRDs' schemas do that; the same tables keep what slipped past them from the translation.

A field is written `name:type`. A type is a scalar (`string`, `bool`, `int`, `uint`, `double`, `duration`, `any`), a
message, or `(A|B)` for an enumeration; `*` before it makes a list, `%` a map from strings. `+` after a field marks one
that came after Istio 1.2, `-` one that is gone.
"""

from __future__ import annotations

from typing import Any

from labkit.ground import duration
from labkit.ground.reading.json_text import json_kind

__all__ = ["decoding_problem", "messages"]

_TABLES = {
    "VirtualService": "hosts:*string gateways:*string http:*HTTPRoute tls:*TLSRoute tcp:*TCPRoute exportTo:*string",
    "HTTPRoute": "name:string+ match:*HTTPMatchRequest route:*HTTPRouteDestination redirect:HTTPRedirect "
    "directResponse:HTTPDirectResponse+ delegate:Delegate+ rewrite:HTTPRewrite websocketUpgrade:bool- timeout:duration "
    "retries:HTTPRetry fault:HTTPFaultInjection mirror:Destination mirrors:*HTTPMirrorPolicy+ mirrorPercent:uint+ "
    "mirror_percent:uint+ mirrorPercentage:Percent+ corsPolicy:CorsPolicy appendHeaders:%string- "
    "removeResponseHeaders:*string- appendResponseHeaders:%string- removeRequestHeaders:*string- "
    "appendRequestHeaders:%string- headers:Headers",
    "HTTPMatchRequest": "name:string+ uri:StringMatch scheme:StringMatch method:StringMatch authority:StringMatch "
    "headers:%StringMatch port:uint sourceLabels:%string gateways:*string queryParams:%StringMatch ignoreUriCase:bool+ "
    "withoutHeaders:%StringMatch+ sourceNamespace:string+ statPrefix:string+",
    "StringMatch": "exact:string prefix:string regex:string",
    "HTTPRouteDestination": "destination:Destination weight:int headers:Headers removeResponseHeaders:*string- "
    "appendResponseHeaders:%string- removeRequestHeaders:*string- appendRequestHeaders:%string-",
    "RouteDestination": "destination:Destination weight:int",
    "Destination": "host:string subset:string port:PortSelector",
    "PortSelector": "number:uint name:string-",
    "HTTPRedirect": "uri:string authority:string port:uint+ derivePort:(FROM_PROTOCOL_DEFAULT|FROM_REQUEST_PORT)+ "
    "scheme:string+ redirectCode:uint",
    "HTTPDirectResponse": "status:uint body:HTTPBody",
    "HTTPBody": "string:string bytes:string",
    "Delegate": "name:string namespace:string",
    "HTTPRewrite": "uri:string authority:string uriRegexRewrite:RegexRewrite+",
    "RegexRewrite": "match:string rewrite:string",
    "HTTPRetry": "attempts:int perTryTimeout:duration retryOn:string retryRemoteLocalities:bool+ "
    "retryIgnorePreviousHosts:bool+ backoff:duration+",
    "HTTPFaultInjection": "delay:Delay abort:Abort",
    "Delay": "percent:int fixedDelay:duration exponentialDelay:duration percentage:Percent",
    "Abort": "percent:int- httpStatus:int grpcStatus:string http2Error:string percentage:Percent",
    "Percent": "value:double",
    "HTTPMirrorPolicy": "destination:Destination percentage:Percent",
    "CorsPolicy": "allowOrigin:*string allowOrigins:*StringMatch+ allowMethods:*string allowHeaders:*string "
    "exposeHeaders:*string maxAge:duration allowCredentials:bool "
    "unmatchedPreflights:(UNSPECIFIED|FORWARD|IGNORE)+",
    "Headers": "request:HeaderOperations response:HeaderOperations",
    "HeaderOperations": "set:%string add:%string remove:*string",
    "TLSRoute": "match:*TLSMatchAttributes route:*RouteDestination",
    "TLSMatchAttributes": "sniHosts:*string destinationSubnets:*string port:uint sourceLabels:%string "
    "gateways:*string sourceSubnet:string- sourceNamespace:string+",
    "TCPRoute": "match:*L4MatchAttributes route:*RouteDestination",
    "L4MatchAttributes": "destinationSubnets:*string port:uint sourceSubnet:string sourceLabels:%string "
    "gateways:*string sourceNamespace:string+",
    "DestinationRule": "host:string trafficPolicy:TrafficPolicy subsets:*Subset exportTo:*string "
    "workloadSelector:WorkloadSelector+",
    "Subset": "name:string labels:%string trafficPolicy:TrafficPolicy",
    "TrafficPolicy": "loadBalancer:LoadBalancer connectionPool:ConnectionPool outlierDetection:OutlierDetection "
    "tls:ClientTLS portLevelSettings:*PortTrafficPolicy tunnel:any+ proxyProtocol:any+ retryBudget:any+",
    "PortTrafficPolicy": "port:PortSelector loadBalancer:LoadBalancer connectionPool:ConnectionPool "
    "outlierDetection:OutlierDetection tls:ClientTLS",
    "LoadBalancer": "simple:(UNSPECIFIED|ROUND_ROBIN|LEAST_CONN|LEAST_REQUEST|RANDOM|PASSTHROUGH) "
    "consistentHash:ConsistentHash localityLbSetting:any+ warmupDurationSecs:duration+ warmup:any+",
    "ConsistentHash": "httpHeaderName:string httpCookie:HTTPCookie useSourceIp:bool httpQueryParameterName:string+ "
    "minimumRingSize:uint ringHash:any+ maglev:any+",
    "HTTPCookie": "name:string path:string ttl:duration attributes:any+",
    "ConnectionPool": "tcp:TCPSettings http:HTTPSettings",
    "TCPSettings": "maxConnections:int connectTimeout:duration tcpKeepalive:TcpKeepalive "
    "maxConnectionDuration:duration+ idleTimeout:duration+",
    "TcpKeepalive": "probes:uint time:duration interval:duration",
    "HTTPSettings": "http1MaxPendingRequests:int http2MaxRequests:int maxRequestsPerConnection:int maxRetries:int "
    "idleTimeout:duration h2UpgradePolicy:(DEFAULT|DO_NOT_UPGRADE|UPGRADE)+ useClientProtocol:bool+ "
    "maxConcurrentStreams:int+",
    "OutlierDetection": "consecutiveErrors:int consecutive5xxErrors:uint+ consecutiveGatewayErrors:uint+ "
    "splitExternalLocalOriginErrors:bool+ consecutiveLocalOriginFailures:uint+ interval:duration "
    "baseEjectionTime:duration maxEjectionPercent:int minHealthPercent:int",
    "ClientTLS": "mode:(DISABLE|SIMPLE|MUTUAL|ISTIO_MUTUAL) clientCertificate:string privateKey:string "
    "caCertificates:string subjectAltNames:*string sni:string credentialName:string+ insecureSkipVerify:bool+ "
    "caCrl:string+",
    "Gateway": "servers:*Server selector:%string",
    "Server": "port:Port bind:string hosts:*string tls:ServerTLS defaultEndpoint:string name:string+",
    "Port": "number:uint protocol:string name:string targetPort:uint+",
    "ServerTLS": "httpsRedirect:bool mode:(PASSTHROUGH|SIMPLE|MUTUAL|AUTO_PASSTHROUGH|ISTIO_MUTUAL|OPTIONAL_MUTUAL) "
    "serverCertificate:string privateKey:string caCertificates:string credentialName:string subjectAltNames:*string "
    "minProtocolVersion:(TLS_AUTO|TLSV1_0|TLSV1_1|TLSV1_2|TLSV1_3) cipherSuites:*string "
    "maxProtocolVersion:(TLS_AUTO|TLSV1_0|TLSV1_1|TLSV1_2|TLSV1_3) verifyCertificateSpki:*string "
    "verifyCertificateHash:*string credentialNames:*string+ tlsCertificates:*any+ caCrl:string+ "
    "caCertCredentialName:string+",
    "ServiceEntry": "hosts:*string addresses:*string ports:*Port location:(MESH_EXTERNAL|MESH_INTERNAL) "
    "resolution:(NONE|STATIC|DNS|DNS_ROUND_ROBIN|DYNAMIC_DNS) endpoints:*WorkloadEntry exportTo:*string "
    "subjectAltNames:*string workloadSelector:WorkloadSelector+",
    "WorkloadEntry": "address:string ports:%uint labels:%string network:string locality:string weight:uint "
    "serviceAccount:string+",
    "WorkloadSelector": "labels:%string matchLabels:%string+",
    "Sidecar": "workloadSelector:WorkloadSelector ingress:*IstioIngressListener egress:*IstioEgressListener "
    "outboundTrafficPolicy:OutboundTrafficPolicy inboundConnectionPool:ConnectionPool+",
    "IstioIngressListener": "port:Port bind:string captureMode:(DEFAULT|IPTABLES|NONE) defaultEndpoint:string "
    "tls:ServerTLS+ connectionPool:ConnectionPool+",
    "IstioEgressListener": "port:Port bind:string captureMode:(DEFAULT|IPTABLES|NONE) hosts:*string",
    "OutboundTrafficPolicy": "mode:(REGISTRY_ONLY|ALLOW_ANY) egressProxy:Destination+",
    "EnvoyFilter": "workloadLabels:%string- filters:*any- workloadSelector:WorkloadSelector configPatches:*any "
    "priority:int+ targetRefs:*any+",
    "ProxyConfig": "selector:WorkloadSelector concurrency:int environmentVariables:%string image:any",
    "Policy": "targets:*TargetSelector peers:*PeerMethod peerIsOptional:bool origins:*OriginMethod "
    "originIsOptional:bool principalBinding:(USE_PEER|USE_ORIGIN)",
    "TargetSelector": "name:string ports:*PolicyPort labels:%string",
    "PolicyPort": "number:uint name:string",
    "PeerMethod": "mtls:MutualTls jwt:any",
    "MutualTls": "allowTls:bool mode:(STRICT|PERMISSIVE)",
    "OriginMethod": "jwt:any",
    "PeerAuthentication": "selector:WorkloadSelector mtls:PeerMtls portLevelMtls:%PeerMtls",
    "PeerMtls": "mode:(UNSET|DISABLE|PERMISSIVE|STRICT)",
    "RequestAuthentication": "selector:WorkloadSelector targetRef:any targetRefs:*any jwtRules:*JWTRule",
    "JWTRule": "issuer:string audiences:*string jwksUri:string jwks:string jwks_uri:string fromHeaders:*JWTHeader "
    "fromParams:*string fromCookies:*string outputPayloadToHeader:string forwardOriginalToken:bool "
    "outputClaimToHeaders:*any timeout:duration spaceDelimitedClaims:*string",
    "JWTHeader": "name:string prefix:string",
    "AuthorizationPolicy": "selector:WorkloadSelector targetRef:any targetRefs:*any rules:*Rule "
    "action:(ALLOW|DENY|AUDIT|CUSTOM) provider:any",
    "Rule": "from:*RuleFrom to:*RuleTo when:*Condition",
    "RuleFrom": "source:Source",
    "Source": "principals:*string notPrincipals:*string requestPrincipals:*string notRequestPrincipals:*string "
    "namespaces:*string notNamespaces:*string ipBlocks:*string notIpBlocks:*string remoteIpBlocks:*string "
    "notRemoteIpBlocks:*string serviceAccounts:*string notServiceAccounts:*string trustDomains:*string "
    "notTrustDomains:*string",
    "RuleTo": "operation:Operation",
    "Operation": "hosts:*string notHosts:*string ports:*string notPorts:*string methods:*string notMethods:*string "
    "paths:*string notPaths:*string",
    "Condition": "key:string values:*string notValues:*string",
    "Telemetry": "selector:WorkloadSelector targetRef:any targetRefs:*any tracing:*any metrics:*any accessLogging:*any",
}
_TABLES["MeshPolicy"] = _TABLES["Policy"]

_PROTO_NAMES = {
    "LoadBalancer": "LoadBalancerSettings",
    "ConnectionPool": "ConnectionPoolSettings",
    "TCPSettings": "ConnectionPoolSettings_TCPSettings",
    "HTTPSettings": "ConnectionPoolSettings_HTTPSettings",
    "ClientTLS": "TLSSettings",
    "ServerTLS": "Server_TLSOptions",
    "Delay": "HTTPFaultInjection_Delay",
    "Abort": "HTTPFaultInjection_Abort",
    "HeaderOperations": "Headers_HeaderOperations",
    "ConsistentHash": "LoadBalancerSettings_ConsistentHashLB",
    "HTTPCookie": "LoadBalancerSettings_ConsistentHashLB_HTTPCookie",
    "PortTrafficPolicy": "TrafficPolicy_PortTrafficPolicy",
    "WorkloadEntry": "ServiceEntry_Endpoint",
    "PeerMethod": "PeerAuthenticationMethod",
    "OriginMethod": "OriginAuthenticationMethod",
    "PolicyPort": "PortSelector",
}
_AUTHENTICATION = {"Policy", "MeshPolicy", "TargetSelector", "PolicyPort", "PeerMethod", "MutualTls", "OriginMethod"}

_Fields = dict[str, tuple[str, str]]


def _parsed(text: str) -> _Fields:
    found: _Fields = {}
    for word in text.split():
        name, kind = word.split(":", 1)
        since = kind[-1] if kind[-1] in "+-" else ""
        found[name] = (kind.rstrip("+-"), since)
    return found


_MESSAGES = {name: _parsed(text) for name, text in _TABLES.items()}


def messages(*, legacy: bool = False) -> dict[str, dict[str, str]]:
    """The fields of each message and the type of each: what the tables say; `legacy`: only Istio 1.2's."""
    return {
        name: {field: kind for field, (kind, since) in fields.items() if not (legacy and since == "+")}
        for name, fields in _MESSAGES.items()
    }


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


def decoding_problem(kind: str, spec: Any, *, legacy: bool) -> str:
    """Why `spec` cannot be read as a `kind`, in the decoder's words; empty where it can."""
    if kind not in _MESSAGES:
        return ""
    return _message(kind, {} if spec is None else spec, legacy)


def _message(name: str, value: Any, legacy: bool) -> str:
    group = "v1alpha1" if name in _AUTHENTICATION else "v1alpha3"
    go_name = "Policy" if name == "MeshPolicy" else _PROTO_NAMES.get(name, name)
    if not isinstance(value, dict):
        return f"json: cannot unmarshal {json_kind(value)} into Go value of type {group}.{go_name}"
    fields = _MESSAGES[name]
    for key, content in value.items():
        field = fields.get(key)
        if field is None:
            # The decoder also took the names of the .proto files.
            field = next((f for other, f in fields.items() if _snake(other) == key), None)
        if field is None or (legacy and field[1] == "+"):
            return f"unknown field {key!r} in {group}.{go_name}".replace("'", '"')
        if content is None:
            continue
        problem = _value(field[0], content, legacy)
        if problem:
            return problem
    return ""


def _value(kind: str, value: Any, legacy: bool) -> str:
    if kind.startswith("*"):
        if not isinstance(value, list):
            return f"json: cannot unmarshal {json_kind(value)} into Go value of type []json.RawMessage"
        return next((p for item in value if (p := _value(kind[1:], item, legacy))), "")
    if kind.startswith("%"):
        if not isinstance(value, dict):
            return f"json: cannot unmarshal {json_kind(value)} into Go value of type map[string]json.RawMessage"
        return next((p for item in value.values() if item is not None and (p := _value(kind[1:], item, legacy))), "")
    if kind.startswith("("):
        known = kind[1:-1].split("|")
        return "" if value in known or isinstance(value, int) else f"unknown value {_quoted(value)} for enum"
    if kind in _MESSAGES:
        return _message(kind, value, legacy)
    return _duration(value, legacy) if kind == "duration" else _scalar(kind, value)


def _scalar(kind: str, value: Any) -> str:
    if kind == "any":
        return ""
    if kind == "bool":
        fits = isinstance(value, bool)
    elif kind == "string":
        fits = isinstance(value, str)
    elif kind == "double":
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        fits = isinstance(value, int) and not isinstance(value, bool)
        if fits and kind == "uint" and value < 0:
            return f"json: cannot unmarshal number {value} into Go value of type uint32"
        if fits and (abs(value) >= 2**32 or (kind == "int" and not -(2**31) <= value < 2**31)):
            return f"json: cannot unmarshal number {value} into Go value of type {kind}32"
    if fits:
        return ""
    go_type = {"int": "int32", "uint": "uint32", "double": "float64"}.get(kind, kind)
    shown = f"number {value}" if isinstance(value, float) else json_kind(value)
    return f"json: cannot unmarshal {shown} into Go value of type {go_type}"


def _duration(value: Any, legacy: bool) -> str:
    if not isinstance(value, str):
        return f"json: cannot unmarshal {json_kind(value)} into Go value of type string"
    try:
        duration.from_go(value)
    except ValueError as error:
        # The Go that Istio 1.2 was built with did not quote.
        words = str(error).replace('"', "") if legacy else str(error)
        return f"bad Duration: {words}"
    return ""


def _quoted(value: Any) -> str:
    return f'"{value}"'
