# SPDX-License-Identifier: Apache-2.0
"""VirtualServices, as Istio's webhook looks at them."""

from __future__ import annotations

from labkit.ground.hosts import gateway_key, overlap, within
from labkit.ground.unreachable import unused
from meshbox.contracts import Obj
from meshbox.mesh.claims import claim_of
from meshbox.mesh.envoy import Json
from meshbox.mesh.field_values import nanoseconds
from meshbox.mesh.istio_validation.problems import Problems, quoted

__all__ = ["check"]


_METHODS = {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
_RETRY_ON = {
    "5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx", "refused-stream",
    "retriable-status-codes", "retriable-headers", "envoy-ratelimited", "http3-post-connect-failure", "cancelled",
    "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
}  # fmt: skip
_STATUSES = {*range(200, 209), 226, *range(300, 309), *range(400, 419), *range(421, 427), 428, 429, 431, 451,
             *range(500, 509), 510, 511, 100, 101, 102, 103}  # fmt: skip


def check(obj: Obj, problems: Problems) -> None:
    """Look at a VirtualService."""
    spec: Json = obj.get("spec") or {}
    gateways = spec.get("gateways") or []
    hosts = spec.get("hosts") or []
    delegate = not hosts and not problems.legacy
    if problems.legacy:
        problems.require(hosts, "virtual service must have at least one host")
    elif delegate:
        problems.require(not gateways, "delegate virtual service must have no gateways specified")
        problems.require(not spec.get("tls"), "delegate virtual service must have no tls route specified")
        problems.require(not spec.get("tcp"), "delegate virtual service must have no tcp route specified")
    _gateway_names(gateways, problems)
    _hosts(hosts, not gateways or "mesh" in gateways, problems)
    if not any(spec.get(section) for section in ("http", "tcp", "tls")):
        problems.error("http, tcp or tls must be provided in virtual service")
    for rule in spec.get("http") or []:
        _http(rule or {}, problems, delegate=delegate)
    for rule in spec.get("tls") or []:
        _tls(rule or {}, hosts, problems)
    for rule in spec.get("tcp") or []:
        _tcp(rule or {}, problems)
    exported(spec.get("exportTo"), problems)
    for one in unused(spec):
        problems.warn(f"virtualService {one}")


def exported(names: list[str] | None, problems: Problems) -> None:
    """An `exportTo`."""
    if not names or not problems.legacy:
        return
    if len(names) > 1:
        problems.error("exportTo should have only one entry (. or *) in the current release")
    elif names[0] not in (".", "*"):
        problems.error("only . or * is allowed in the exportTo in the current release")


def _hosts(hosts: list[str], in_mesh: bool, problems: Problems) -> None:
    valid = True
    for host in hosts:
        valid = problems.domain(host, ip=True) and valid
        if in_mesh and host == "*":
            problems.error("wildcard host * is not allowed for virtual services bound to the mesh gateway")
            valid = False
    if not valid:
        return
    for index, first in enumerate(hosts):
        for second in hosts[index + 1 :]:
            if overlap(first, second):
                problems.error(f"duplicate hosts in virtual service: {first} & {second}")


def _gateway_names(names: list[str], problems: Problems) -> None:
    for name in names:
        namespace, slash, rest = name.partition("/")
        if not slash:
            problems.domain(name, wildcard=False)
            if "." in name and not problems.legacy:
                better = f'prefer the <namespace>/<name> format: "{gateway_key(name, "")}"'
                problems.warn(f'using legacy gatewayName format "{name}"; {better}')
            continue
        if not namespace or not rest:
            problems.error("config namespace and gateway name cannot be empty")
        if namespace != "." or problems.legacy:
            problems.require(problems.label(namespace), f"invalid value for namespace: {quoted(namespace)}")
        problems.require(problems.label(rest), f"invalid value for gateway name: {quoted(rest)}")


def _http(rule: Json, problems: Problems, *, delegate: bool) -> None:
    _conflicts(rule, problems, delegate=delegate)
    for match in rule.get("match") or []:
        _match(match or {}, problems)
    _headers(rule, problems)
    _cors(rule.get("corsPolicy"), problems)
    _fault(rule.get("fault"), problems)
    _mirrors(rule, problems)
    _redirect(rule.get("redirect"), problems)
    _retries(rule.get("retries"), problems)
    _rewrite(rule.get("rewrite"), problems)
    _destinations(rule.get("route") or [], problems)
    response = rule.get("directResponse")
    if response is not None:
        status = response.get("status", 0)
        problems.require(200 <= status <= 600, f"HTTP status {status} is not in range 200-599")
        body = (response.get("body") or {}).get("string") or (response.get("body") or {}).get("bytes") or ""
        problems.require(
            len(body) <= 1 << 20, "large direct_responses may impact control plane performance, must be less than 1MB"
        )
    if rule.get("timeout") is not None:
        problems.duration(rule["timeout"])


def _conflicts(rule: Json, problems: Problems, *, delegate: bool) -> None:
    name = rule.get("name") or ""
    if rule.get("delegate"):
        problems.require(not delegate, "delegate HTTP route cannot contain delegate")
        problems.require(not rule.get("redirect"), f"root HTTP route {name} must not specify redirect")
        problems.require(not rule.get("route"), f"root HTTP route {name} must not specify route")
        return
    if rule.get("redirect"):
        problems.require(not rule.get("route"), "HTTP route cannot contain both route and redirect")
        problems.require(not rule.get("fault"), "HTTP route cannot contain both fault and redirect")
        problems.require(not rule.get("rewrite"), "HTTP route rule cannot contain both rewrite and redirect")
        problems.require(not rule.get("directResponse"), "HTTP route cannot contain both direct_response and redirect")
        if rule.get("websocketUpgrade"):
            problems.error("WebSocket upgrade is not allowed on redirect rules")
    elif rule.get("directResponse"):
        problems.require(not rule.get("route"), "HTTP route cannot contain both route and direct_response")
        problems.require(not rule.get("fault"), "HTTP route cannot contain both fault and direct_response")
        problems.require(not rule.get("rewrite"), "HTTP route rule cannot contain both rewrite and direct_response")
    elif not rule.get("route"):
        what = "HTTP route or redirect" if problems.legacy else "HTTP route, redirect or direct_response"
        problems.error(f"{what} is required")


def _match(match: Json, problems: Problems) -> None:
    for section in ("headers", "withoutHeaders"):
        for name, value in (match.get(section) or {}).items():
            if value is None and not problems.legacy:
                problems.error(f"header match {name} cannot be null")
            if problems.legacy or not claim_of(name):
                problems.header_name(name)
            problems.string_match(value, section)
    for section in ("uri", "scheme", "method", "authority"):
        problems.string_match(match.get(section), section)
    for value in (match.get("queryParams") or {}).values():
        problems.string_match(value, "queryParams")
    _source(match, problems)


def _source(match: Json, problems: Problems) -> None:
    if match.get("port"):
        problems.port(match["port"])
    problems.tags(match.get("sourceLabels"))
    _gateway_names(match.get("gateways") or [], problems)
    namespace = match.get("sourceNamespace")
    if namespace:
        problems.require(problems.label(namespace), f"sourceNamespace match {namespace} is invalid")


def _headers(rule: Json, problems: Problems) -> None:
    headers = rule.get("headers") or {}
    for side in ("request", "response"):
        operations = headers.get(side) or {}
        for kind in ("add", "set"):
            for name, value in (operations.get(kind) or {}).items():
                problems.header_name(name, operation=side)
                problems.header_value(value)
        for name in operations.get("remove") or []:
            problems.header_name(name, operation="response" if not problems.legacy else side)
    for section in ("appendHeaders", "appendRequestHeaders", "appendResponseHeaders"):
        for name in rule.get(section) or {}:
            problems.header_name(name)
    for section in ("removeRequestHeaders", "removeResponseHeaders"):
        problems.each(rule.get(section), problems.header_name)


def _cors(cors: Json | None, problems: Problems) -> None:
    if cors is None:
        return
    for origin in cors.get("allowOrigins") or []:
        if not any((origin or {}).get(kind) for kind in ("exact", "prefix", "regex")):
            problems.error("'' is not a valid match type for CORS allow origins")
        problems.string_match(origin, "corsPolicy.allowOrigins")
    for method in cors.get("allowMethods") or []:
        known = method in _METHODS or (method == "*" and not problems.legacy)
        problems.require(known, f"{quoted(method)} is not a supported HTTP method")
    for section in ("allowHeaders", "exposeHeaders"):
        for name in cors.get(section) or []:
            if name != "*":
                problems.header_name(name)
    age = cors.get("maxAge")
    if age is not None:
        before = len(problems.errors)
        problems.duration(age)
        if len(problems.errors) == before and nanoseconds(age) % 10**9:
            problems.error("max_age duration is accurate only to seconds precision")


def _fault(fault: Json | None, problems: Problems) -> None:
    if fault is None:
        return
    delay, abort = fault.get("delay"), fault.get("abort")
    if delay is None and abort is None:
        problems.error("HTTP fault injection must have an abort and/or a delay")
    if abort is not None:
        problems.fraction(abort.get("percentage"), abort.get("percent"))
        if abort.get("grpcStatus") is not None and problems.legacy:
            problems.error("gRPC abort fault injection not supported yet")
        if abort.get("http2Error") is not None:
            problems.error("HTTP/2 abort fault injection not supported yet")
        status = abort.get("httpStatus")
        if status is not None and problems.legacy:
            problems.require(0 <= status <= 600, f"HTTP status {status} is not in range 0-600")
            # Envoy takes less than Istio 1.2's webhook let through.
            if 0 <= status < 200:
                problems.error(f"HTTP status {status} is not in range 200-599")
        elif status is not None:
            problems.require(200 <= status <= 600, f"HTTP status {status} is not in range 200-599")
        elif abort.get("grpcStatus") is None:
            problems.warn("abort configured, but error type not set")
    if delay is not None:
        problems.fraction(delay.get("percentage"), delay.get("percent"))
        if delay.get("fixedDelay") is not None:
            problems.duration(delay["fixedDelay"])
        if delay.get("exponentialDelay") is not None:
            problems.error("exponentialDelay not supported yet")


def _mirrors(rule: Json, problems: Problems) -> None:
    destination(rule.get("mirror"), problems)
    percent = rule.get("mirrorPercent", rule.get("mirror_percent"))
    if percent is not None:
        problems.require(percent <= 100, f"mirror_percent must have a max value of 100 (it has {percent})")
        problems.warn('using deprecated setting "mirrorPercent", use "mirrorPercentage" instead')
    value = (rule.get("mirrorPercentage") or {}).get("value") or 0.0
    problems.require(value <= 100, f"mirror_percentage must have a max value of 100 (it has {value:f})")
    problems.require(value >= 0, f"mirror_percentage must have a min value of 0 (it has {value:f})")
    for mirror in rule.get("mirrors") or []:
        problems.require((mirror or {}).get("destination"), "destination is required for mirrors")
        destination((mirror or {}).get("destination"), problems)
        value = ((mirror or {}).get("percentage") or {}).get("value") or 0.0
        problems.require(value <= 100, f"mirror percentage must have a max value of 100 (it has {value:f})")
        problems.require(value >= 0, f"mirror percentage must have a min value of 0 (it has {value:f})")


def _redirect(redirect: Json | None, problems: Problems) -> None:
    if redirect is None:
        return
    asked = redirect.get("uri") or redirect.get("authority")
    if problems.legacy:
        problems.require(asked, "redirect must specify URI, authority, or both")
    else:
        asked = asked or redirect.get("port") or redirect.get("derivePort") or redirect.get("scheme")
        problems.require(asked, "redirect must specify URI, authority, scheme, or port")
    code = redirect.get("redirectCode") or 301
    problems.require(300 <= code <= 399, f"{code} is not a valid redirect code, must be 3xx")
    if redirect.get("scheme"):
        known = redirect["scheme"] in ("http", "https")
        problems.require(known, 'invalid redirect scheme, must be "http" or "https"')
    if redirect.get("port"):
        problems.port(redirect["port"])


def _retries(retries: Json | None, problems: Problems) -> None:
    if retries is None:
        return
    attempts = retries.get("attempts") or 0
    if problems.legacy:
        problems.require(attempts > 0, "attempts must be positive")
    else:
        problems.require(attempts >= 0, "attempts cannot be negative")
        if attempts == 0 and any(retries.get(key) for key in ("perTryTimeout", "retryOn", "retryRemoteLocalities")):
            problems.error("http retry policy configured when attempts are set to 0 (disabled)")
    for key in ("perTryTimeout", "backoff"):
        if retries.get(key) is not None:
            problems.duration(retries[key])
    for policy in (retries.get("retryOn") or "").split(",") if retries.get("retryOn") else []:
        known = policy in _RETRY_ON or (policy.isdigit() and int(policy) in _STATUSES)
        problems.require(known, f"{quoted(policy)} is not a valid retryOn policy")


def _rewrite(rewrite: Json | None, problems: Problems) -> None:
    if rewrite is None:
        return
    regex = rewrite.get("uriRegexRewrite")
    if problems.legacy:
        problems.require(rewrite.get("uri") or rewrite.get("authority"), "rewrite must specify URI, authority, or both")
        return
    if rewrite.get("uri") and regex:
        problems.error("rewrite may only contain one of URI or UriRegexRewrite")
    if not rewrite.get("uri") and not regex and not rewrite.get("authority"):
        problems.error(
            "rewrite must specify at least one of URI, UriRegexRewrite, or authority. "
            "Only one of URI or UriRegexRewrite may be specified"
        )
    if regex:
        if not regex.get("match") or not regex.get("rewrite"):
            problems.error("UriRegexRewrite requires both Rewrite and Match fields to be specified")
        else:
            problems.regex(regex["match"], "HTTPRewrite.UriRegexRewrite.Match")


def _destinations(targets: list[Json], problems: Problems) -> None:
    total = 0
    for target in targets:
        target = target or {}
        problems.require(target.get("destination"), "destination is required")
        _headers(target, problems)
        destination(target.get("destination"), problems)
        weight = target.get("weight") or 0
        if problems.legacy:
            problems.percent(weight)
        else:
            problems.require(weight >= 0, f"weight {weight} < 0")
        total += weight
    if len(targets) > 1 and problems.legacy:
        problems.require(total == 100, f"total destination weight {total} != 100")
    elif len(targets) > 1:
        problems.require(total != 0, "total destination weight = 0")


def destination(target: Json | None, problems: Problems) -> None:
    """A Destination."""
    if not target:
        return
    host = target.get("host") or ""
    if host == "*":
        problems.error(f"invalid {'destintation' if problems.legacy else 'destination'} host {host}")
    else:
        problems.domain(host)
    subset = target.get("subset")
    if subset:
        problems.require(problems.label(subset), f"subset name is invalid: {subset}")
    port = target.get("port")
    if port is None:
        return
    if port.get("name") and problems.legacy:
        problems.error(f"port.name {port['name']} is no longer supported for destination")
    if port.get("number") or not problems.legacy:
        problems.port(port.get("number"))


def _tls(rule: Json, hosts: list[str], problems: Problems) -> None:
    problems.require(rule.get("match"), "TLS route must have at least one match condition")
    for match in rule.get("match") or []:
        names = match.get("sniHosts") or []
        problems.require(names, "TLS match must have at least one SNI host")
        for name in names:
            if problems.domain(name, ip=True) and not any(within(name, host) for host in hosts):
                problems.error(f"SNI host is not a compatible subset of the virtual service hosts: {name}")
        problems.each(match.get("destinationSubnets"), problems.subnet)
        _source(match, problems)
    _destinations(rule.get("route") or [], problems)


def _tcp(rule: Json, problems: Problems) -> None:
    for match in rule.get("match") or []:
        problems.each((match or {}).get("destinationSubnets"), problems.subnet)
        if (match or {}).get("sourceSubnet"):
            problems.subnet(match["sourceSubnet"])
        _source(match or {}, problems)
    if not problems.legacy:
        problems.require(rule.get("route"), "TCP route is required")
    _destinations(rule.get("route") or [], problems)
