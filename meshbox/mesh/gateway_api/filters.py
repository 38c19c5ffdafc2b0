# SPDX-License-Identifier: Apache-2.0
"""Filters of HTTPRoutes and GRPCRoutes as fields of Istio's HTTPRoute."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from meshbox.contracts import View
from meshbox.mesh.gateway_api.backends import Backends
from meshbox.mesh.gateway_api.faults import Fault, RouteFault, joined
from meshbox.mesh.istio_validation.texts import header_value_problem

if TYPE_CHECKING:
    from labkit.ground.typed import virtual_services as api

__all__ = ["PREFIX", "apply_filters", "header_filters"]

PREFIX = "%PREFIX()%"
"""What a redirect's path begins with where only the matched prefix is replaced."""


def _unsupported(filter_type: str) -> RouteFault:
    return RouteFault("InvalidFilter", f'unsupported filter type "{filter_type}"')


def _sound(value: object) -> str:
    """A text for a header or a path; one that Envoy does not take would cost all routes at its place their table.

    Raises:
        RouteFault: it is none.
    """
    text = str(value or "")
    if odd := header_value_problem(text, legacy=True):
        raise RouteFault("InvalidFilter", odd)
    return text


def _headers(entries: Iterable[View] | None) -> dict[str, str]:
    """Names in lower case; of several entries of one name the first counts."""
    found: dict[str, str] = {}
    for entry in entries or ():
        found.setdefault(str(entry["name"]).lower(), _sound(entry["value"]))
    return found


def _operations(modifier: View) -> api.HeaderOperations:
    return {
        "add": _headers(modifier.get("add")),
        "set": _headers(modifier.get("set")),
        "remove": [str(name) for name in modifier.get("remove") or []],
    }


def _modified(headers: api.Headers, one: View) -> bool:
    """Take up a filter that changes headers; whether it is one."""
    if one["type"] == "RequestHeaderModifier":
        headers["request"] = _operations(one.get("requestHeaderModifier") or {})
    elif one["type"] == "ResponseHeaderModifier":
        headers["response"] = _operations(one.get("responseHeaderModifier") or {})
    else:
        return False
    return True


def header_filters(filters: Iterable[View]) -> api.Headers:
    """The filters of one backend, which may only change headers.

    Raises:
        RouteFault: one of them does something else.
    """
    headers: api.Headers = {}
    for one in filters:
        if not _modified(headers, one):
            raise _unsupported(one["type"])
    return headers


def apply_filters(
    rule: api.HTTPRoute, filters: Iterable[View], kind: str, namespace: str, backends: Backends, *, mesh: bool
) -> Fault | None:
    """Set what a rule's filters ask for.

    Args:
        rule: The rule that is being made.
        filters: Its filters.
        kind: The kind of its route.
        namespace: The route's namespace.
        backends: What mirrors may name.
        mesh: Whether it is for callers inside the mesh.

    Returns:
        What is wrong with a mirror's backend; it gets no requests, all others go on.

    Raises:
        RouteFault: a filter that Istio does not play.
    """
    headers: api.Headers = {}
    fault: Fault | None = None
    for one in filters:
        if _modified(headers, one):
            continue
        if one["type"] == "RequestMirror":
            mirror = one["requestMirror"]
            target, problem = backends.destination(mirror["backendRef"], kind, namespace, mesh=mesh)
            if problem is None:
                rule.setdefault("mirrors", []).append(_mirror(mirror, target))
            fault = joined(fault, problem)
        elif kind != "HTTPRoute" or not _http_only(rule, one):
            raise _unsupported(one["type"])
    if headers:
        rule["headers"] = headers
    return fault


def _http_only(rule: api.HTTPRoute, one: View) -> bool:
    if one["type"] == "RequestRedirect":
        rule["redirect"] = _redirect(one["requestRedirect"])
    elif one["type"] == "URLRewrite":
        if rewrite := _rewrite(one["urlRewrite"]):
            rule["rewrite"] = rewrite
    elif one["type"] == "CORS":
        rule["corsPolicy"] = _cors(one["cors"])
    else:
        return False
    return True


def _mirror(mirror: View, target: api.Destination) -> api.HTTPMirrorPolicy:
    found: api.HTTPMirrorPolicy = {"destination": target}
    fraction = mirror.get("fraction")
    if fraction is not None:
        found["percentage"] = {"value": 100 * int(fraction["numerator"]) / int(fraction.get("denominator") or 100)}
    elif mirror.get("percent") is not None:
        found["percentage"] = {"value": float(mirror["percent"])}
    return found


def _rewrite(rewrite: View) -> api.HTTPRewrite:
    found: api.HTTPRewrite = {}
    path = rewrite.get("path") or {}
    if path.get("type") == "ReplacePrefixMatch":
        # "/" takes the prefix away.
        found["uri"] = _sound(path.get("replacePrefixMatch")).removesuffix("/") or "/"
    elif path.get("type") == "ReplaceFullPath":
        found["uriRegexRewrite"] = {"match": "/.*", "rewrite": _sound(path.get("replaceFullPath"))}
    if rewrite.get("hostname"):
        found["authority"] = str(rewrite["hostname"])
    return found


def _redirect(redirect: View) -> api.HTTPRedirect:
    found: api.HTTPRedirect = {"redirectCode": int(redirect.get("statusCode") or 302)}
    if redirect.get("hostname"):
        found["authority"] = str(redirect["hostname"])
    if redirect.get("scheme"):
        found["scheme"] = str(redirect["scheme"])
    if redirect.get("port"):
        found["port"] = int(redirect["port"])
    else:
        found["derivePort"] = "FROM_PROTOCOL_DEFAULT" if redirect.get("scheme") else "FROM_REQUEST_PORT"
    path = redirect.get("path") or {}
    if path.get("type") == "ReplaceFullPath":
        found["uri"] = _sound(path.get("replaceFullPath"))
    elif path.get("type") == "ReplacePrefixMatch":
        found["uri"] = PREFIX + _sound(path.get("replacePrefixMatch"))
    return found


def _cors(cors: View) -> api.CorsPolicy:
    found: api.CorsPolicy = {"allowOrigins": [_origin(str(origin)) for origin in cors.get("allowOrigins") or []]}
    if cors.get("allowCredentials"):
        found["allowCredentials"] = True
    if cors.get("allowMethods"):
        found["allowMethods"] = [str(name) for name in cors["allowMethods"]]
    if cors.get("allowHeaders"):
        found["allowHeaders"] = [str(name) for name in cors["allowHeaders"]]
    if cors.get("exposeHeaders"):
        found["exposeHeaders"] = [str(name) for name in cors["exposeHeaders"]]
    if cors.get("maxAge"):
        found["maxAge"] = f"{int(cors['maxAge'])}s"
    found["unmatchedPreflights"] = "IGNORE"
    return found


def _origin(origin: str) -> api.StringMatch:
    """An origin; "*" in it stands for any text, and alone for any that is one."""
    if origin == "*":
        return {"regex": r"^[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s?#]+$"}
    if "*" not in origin:
        return {"exact": origin}
    return {"regex": ".*".join(re.escape(part) for part in origin.split("*"))}
