# SPDX-License-Identifier: Apache-2.0
"""What the rules of a VirtualService do with requests and connections, as Istio's webhook looks at it."""

from __future__ import annotations

from labkit.ground.duration import from_go
from meshbox.mesh.envoy import Json
from meshbox.mesh.istio_validation import texts
from meshbox.mesh.istio_validation.problems import Problems
from meshbox.mesh.istio_validation.texts import quoted

__all__ = ["destination", "destinations", "manipulations", "outcomes"]


_METHODS = {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
_RETRY_ON = {
    "5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx", "refused-stream",
    "retriable-status-codes", "retriable-headers", "envoy-ratelimited", "http3-post-connect-failure", "cancelled",
    "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
}  # fmt: skip
_STATUSES = {*range(200, 209), 226, *range(300, 309), *range(400, 419), *range(421, 427), 428, 429, 431, 451,
             *range(500, 509), 510, 511, 100, 101, 102, 103} - {306}  # fmt: skip
_GRPC = {
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}  # fmt: skip
_AUTHORITY = ("host", ":authority")
_KB = 1 << 10


def manipulations(rule: Json, problems: Problems) -> None:
    """What an HTTPRoute does to requests and responses."""
    _headers(rule, problems)
    _cors(rule.get("corsPolicy"), problems)
    _fault(rule.get("fault"), problems)


def outcomes(rule: Json, problems: Problems) -> None:
    """Where requests of an HTTPRoute end."""
    _mirrors(rule, problems)
    _redirect(rule.get("redirect"), problems)
    _direct_response(rule.get("directResponse"), problems)
    _retries(rule.get("retries"), problems)
    _rewrite(rule.get("rewrite"), problems)
    if not problems.legacy:
        _authority(rule, problems)
    destinations(rule.get("route") or [], problems)
    if rule.get("timeout") is not None:
        problems.duration(rule["timeout"])


def _headers(rule: Json, problems: Problems) -> None:
    for section in ("appendHeaders", "appendRequestHeaders", "removeRequestHeaders", "appendResponseHeaders",
                    "removeResponseHeaders"):  # fmt: skip
        problems.each(rule.get(section), problems.header_name)
    headers = rule.get("headers") or {}
    for side in ("request", "response"):
        operations = headers.get(side) or {}
        for kind in ("add", "set"):
            for name, value in sorted((operations.get(kind) or {}).items()):
                problems.header_name(name, operation=side)
                problems.header_value(value)
        for name in operations.get("remove") or []:
            problems.header_name(name, operation="response" if not problems.legacy else side)


def _cors(cors: Json | None, problems: Problems) -> None:
    if cors is None:
        return
    for origin in cors.get("allowOrigins") or []:
        if any((origin or {}).get(kind) for kind in ("exact", "prefix", "regex")):
            problems.string_match(origin, "corsPolicy.allowOrigins", prefix=False)
        else:
            problems.error("'' is not a valid match type for CORS allow origins")
    for method in cors.get("allowMethods") or []:
        known = method in _METHODS or (method == "*" and not problems.legacy)
        problems.require(known, f"{quoted(method)} is not a supported HTTP method")
    for section in ("allowHeaders", "exposeHeaders"):
        for name in cors.get(section) or []:
            if name.startswith(":") and not problems.legacy:
                problems.error(f"header name {name} is not a valid header name")
            elif name != "*":
                problems.header_name(name)
    if cors.get("maxAge") is not None:
        problems.duration(cors["maxAge"])
        try:
            fraction = from_go(cors["maxAge"]) % 10**9
        except ValueError:
            return
        problems.require(not fraction, "max_age duration is accurate only to seconds precision", listed=True)


def _fault(fault: Json | None, problems: Problems) -> None:
    if fault is None:
        return
    delay, abort = fault.get("delay"), fault.get("abort")
    if delay is None and abort is None:
        problems.error("HTTP fault injection must have an abort and/or a delay", listed=True)
    if abort is not None:
        _abort(abort, problems)
    if delay is not None:
        problems.fraction(delay.get("percentage"), delay.get("percent"))
        if delay.get("fixedDelay") is not None:
            problems.duration(delay["fixedDelay"])
        elif delay.get("exponentialDelay") is not None:
            problems.duration(delay["exponentialDelay"])
            problems.error("exponentialDelay not supported yet", listed=True)


def _abort(abort: Json, problems: Problems) -> None:
    problems.fraction(abort.get("percentage"), abort.get("percent"))
    grpc, status = abort.get("grpcStatus"), abort.get("httpStatus")
    if problems.legacy:
        if grpc is not None:
            problems.error("gRPC abort fault injection not supported yet", listed=True)
        if abort.get("http2Error") is not None:
            problems.error("HTTP/2 abort fault injection not supported yet", listed=True)
        if status is not None:
            problems.require(0 <= status <= 600, f"HTTP status {status} is not in range 0-600")
            # Envoy takes less than Istio 1.2's webhook let through.
            problems.require(not 0 <= status < 200, f"HTTP status {status} is not in range 200-599")
    elif grpc is not None:
        problems.require(
            grpc in _GRPC,
            f"gRPC status {quoted(grpc)} is not supported. See https://github.com/grpc/grpc/blob/master/doc/"
            "statuscodes.md for a list of supported codes, for example 'NOT_FOUND'",
        )
    elif abort.get("http2Error") is not None:
        problems.error("HTTP/2 abort fault injection not supported yet")
    elif status is not None:
        _status(status, problems)
    else:
        problems.warn("abort configured, but error type not set")


def _status(status: int, problems: Problems) -> None:
    problems.require(200 <= status <= 600, f"HTTP status {status} is not in range 200-599")


def _mirrors(rule: Json, problems: Problems) -> None:
    percent = rule.get("mirrorPercent", rule.get("mirror_percent"))
    if percent is not None:
        problems.require(percent <= 100, f"mirror_percent must have a max value of 100 (it has {percent})")
        problems.warn('using deprecated setting "mirrorPercent", use "mirrorPercentage" instead')
    _share(rule.get("mirrorPercentage"), "mirror_percentage", problems)
    destination(rule.get("mirror"), problems)
    for mirror in rule.get("mirrors") or []:
        if not (mirror or {}).get("destination"):
            problems.error("destination is required for mirrors")
            continue
        destination(mirror["destination"], problems)
        _share(mirror.get("percentage"), "mirror percentage", problems)


def _share(percentage: Json | None, words: str, problems: Problems) -> None:
    value = (percentage or {}).get("value") or 0.0
    problems.require(value <= 100, f"{words} must have a max value of 100 (it has {value:f})")
    problems.require(value >= 0, f"{words} must have a min value of 0 (it has {value:f})")


def _redirect(redirect: Json | None, problems: Problems) -> None:
    if redirect is None:
        return
    _of_one_line(redirect, problems)
    asked = redirect.get("uri") or redirect.get("authority")
    if problems.legacy:
        if not asked:
            problems.error("redirect must specify URI, authority, or both")
            return
    elif not asked and not redirect.get("scheme") and redirect.get("port") is None and not redirect.get("derivePort"):
        problems.error("redirect must specify URI, authority, scheme, or port")
        return
    code = redirect.get("redirectCode") or 301
    if not 300 <= code <= 399:
        problems.error(f"{code} is not a valid redirect code, must be 3xx")
    elif redirect.get("scheme") not in (None, "", "http", "https"):
        problems.error('invalid redirect scheme, must be "http" or "https"')
    elif redirect.get("port"):
        problems.port(redirect["port"])


def _direct_response(response: Json | None, problems: Problems) -> None:
    if response is None:
        return
    body = response.get("body") or {}
    size = len(str(body.get("string") or body.get("bytes") or "").encode())
    large = "large direct_responses may impact control plane performance"
    if size > _KB * _KB:
        problems.error(f"{large}, must be less than 1MB")
    elif size > 100 * _KB:
        problems.warn(large)
    _status(response.get("status") or 0, problems)


def _retries(retries: Json | None, problems: Problems) -> None:
    if retries is None:
        return
    attempts = retries.get("attempts") or 0
    if problems.legacy:
        problems.require(attempts > 0, "attempts must be positive", listed=True)
    else:
        problems.require(attempts >= 0, "attempts cannot be negative", listed=True)
        asked = retries.get("perTryTimeout") is not None or retries.get("retryRemoteLocalities") is not None
        if attempts == 0 and (asked or retries.get("retryOn")):
            problems.error("http retry policy configured when attempts are set to 0 (disabled)")
    if retries.get("perTryTimeout") is not None:
        problems.duration(retries["perTryTimeout"])
    for policy in retries["retryOn"].split(",") if retries.get("retryOn") else ():
        known = policy in _RETRY_ON or (policy.isdecimal() and int(policy) in _STATUSES)
        problems.require(known, f"{quoted(policy)} is not a valid retryOn policy")
    if retries.get("backoff") is not None:
        problems.duration(retries["backoff"])


def _of_one_line(place: Json, problems: Problems) -> None:
    """Istio lets a line's end through, for which Envoy refuses the table of all routes of a port."""
    for value in (place.get("uri"), place.get("authority")):
        odd = texts.header_value_problem(str(value or ""), legacy=True)
        problems.require(not odd, odd)


def _rewrite(rewrite: Json | None, problems: Problems) -> None:
    if rewrite is None:
        return
    _of_one_line(rewrite, problems)
    regex = rewrite.get("uriRegexRewrite")
    if problems.legacy:
        problems.require(rewrite.get("uri") or rewrite.get("authority"), "rewrite must specify URI, authority, or both")
    elif rewrite.get("uri") and regex is not None:
        problems.error("rewrite may only contain one of URI or UriRegexRewrite")
    elif not rewrite.get("uri") and regex is None and not rewrite.get("authority"):
        problems.error(
            "rewrite must specify at least one of URI, UriRegexRewrite, or authority. "
            "Only one of URI or UriRegexRewrite may be specified"
        )
    elif regex is not None:
        said = (
            texts.regex_problem(regex["match"], "HTTPRewrite.UriRegexRewrite.Match")
            if regex.get("match") and regex.get("rewrite")
            else "UriRegexRewrite requires both Rewrite and Match fields to be specified"
        )
        problems.require(not said, f"UriRegexRewrite has errors\n{said}")


def _authority(rule: Json, problems: Problems) -> None:
    """The host that a request is sent on with can be said in one place only."""
    current = str((rule.get("rewrite") or {}).get("authority") or "")
    request = (rule.get("headers") or {}).get("request") or {}
    for kind in ("set", "add"):
        for name, value in sorted((request.get(kind) or {}).items()):
            if name.lower() not in _AUTHORITY:
                continue
            if current:
                have = f"have {quoted(current)}, attempting to set {quoted(value)}"
                problems.error(f"authority header cannot be set multiple times: {have}")
                return
            current = str(value)


def destinations(targets: list[Json], problems: Problems) -> None:
    """A `route`."""
    total = 0
    for target in targets:
        target = target or {}
        problems.require(target.get("destination") is not None, "destination is required", listed=True)
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
    if target is None:
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
