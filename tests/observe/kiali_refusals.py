# SPDX-License-Identifier: Apache-2.0
"""What a Kiali of each version refuses before it looks at the mesh, by the rules of github.com/kiali/kiali's source.

A rule names the file that it is from, at the version; where a file lies elsewhere in one version, its own place.

- graph/options.go, NewOptions: the parameters of a graph, their values, and namespaces that must be named (400) and be
  there (403). A parameter that a version does not read is passed over by it.
- graph/telemetry/istio/appender/appender.go, ParseAppenders: names of appenders, and the parameters of some.
- routing/routes.go, NewRoutes: which paths there are, and with which methods.
- handlers/authentication.go (2.26: handlers/authentication/*): who is let in, by which strategy.
- handlers/istio_config_params.go of 2026: the list of Istio's objects takes no parameter that it does not know.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from labkit.ground import web

__all__ = ["NAMESPACES", "PASSWORD", "RULES", "TOKEN", "Rules", "refusing"]

NAMESPACES = ("bookinfo", "istio-system")
"""Those that Kiali shows (tests.images.kiali_world)."""

TOKEN: Final = "a.service.account"
PASSWORD: Final = ("admin", "secret")
_SESSION: Final = "kiali.own.token"

Check = Callable[[str], bool]


def _one_of(*values: str) -> Check:
    return lambda given: given in values


def _each_of(*values: str) -> Check:
    return lambda given: all(one.strip() in values for one in given.split(","))


def _like(pattern: str) -> Check:
    return lambda given: re.fullmatch(pattern, given) is not None


_SWITCH = _one_of("1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False")
"""strconv.ParseBool."""

_ONE_UNIT = _like(r"[0-9]+(y|w|d|h|m|s|ms)")
"""model.ParseDuration of Prometheus' common library until 2020."""

_UNITS = _like(r"0|([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?")

_ALWAYS = {
    "graphType": _one_of("app", "service", "versionedApp", "workload"),
    "injectServiceNodes": _SWITCH,
    "queryTime": _like(r"[+-]?[0-9]+"),
}
_BOXES = {"boxBy": _each_of("app", "cluster", "namespace"), "includeIdleEdges": _SWITCH}
_APPENDERS = ("", "deadNode", "istio", "responseTime", "securityPolicy", "serviceEntry", "sidecarsCheck")
_RATES = ("none", "received", "requests", "sent", "total")

_ROUTES = (
    ("GET", r"/healthz"),
    ("GET", r"/api(/status|/config|/auth/info|/logout|/namespaces)?"),
    ("GET", r"/api/authenticate"),
    ("POST", r"/api/authenticate"),
    ("GET", r"/api/namespaces/graph"),
    ("GET", r"/api/namespaces/[^/]+/(istio|tls|validations)"),
    ("GET", r"/api/namespaces/[^/]+/(services|workloads|apps)/[^/]+(/health|/metrics|/dashboard|/graph)?"),
)
_OBJECT = ("GET", r"/api/namespaces/[^/]+/istio/[^/]+/[^/]+")
_OBJECT_OF_GROUP = ("GET", r"/api/namespaces/[^/]+/istio/[^/]+/[^/]+/[^/]+/[^/]+")
"""By plural and name; since 2.0 by group, version, kind and name."""

_BY_NAMESPACE = ("GET", r"/api/namespaces/[^/]+/(services|workloads|apps|health|metrics)")
_BY_CLUSTER = ("GET", r"/api/clusters/(services|workloads|apps|health|metrics)")
_OPEN = ("/healthz", "/api", "/api/authenticate", "/api/auth/info", "/api/logout")


@dataclass(frozen=True)
class Rules:
    """What one version takes.

    Args:
        graph: Of each parameter of a graph that it reads whether it takes a value.
        routes: Its methods and paths, of what a caller may want to know.
        strategies: How it lets people in, of those that need no third party.
        listed: The parameters that its list of Istio's objects takes; None where it passes over what it does not know.
    """

    graph: Mapping[str, Check]
    routes: tuple[tuple[str, str], ...] = field(repr=False)
    strategies: tuple[str, ...]
    listed: Mapping[str, Check] | None = None


RULES = {
    "0.20": Rules(
        {
            **_ALWAYS,
            "appenders": _each_of(*_APPENDERS, "unusedNode"),
            "duration": _ONE_UNIT,
            "groupBy": _one_of("app", "none", "version"),
            "includeIstio": _SWITCH,
            "vendor": _one_of("cytoscape"),
        },
        (*_ROUTES, _OBJECT, _BY_NAMESPACE),
        ("login", "anonymous"),
    ),
    "1.31": Rules(
        {
            **_ALWAYS,
            **_BOXES,
            "appenders": _each_of(*_APPENDERS, "aggregateNode", "healthConfig", "idleNode"),
            "configVendor": _one_of("cytoscape"),
            "duration": _ONE_UNIT,
            "responseTimeQuantile": _like(r"[+-]?[0-9]*\.?[0-9]+"),
            "telemetryVendor": _one_of("istio"),
        },
        (*_ROUTES, _OBJECT, _BY_NAMESPACE),
        ("anonymous", "token"),
    ),
    "2.26": Rules(
        {
            **_ALWAYS,
            **_BOXES,
            "ambientTraffic": _one_of("none", "total", "waypoint", "ztunnel"),
            "appenders": _each_of(
                *_APPENDERS,
                *("aggregateNode", "ambient", "health", "idleNode", "labeler", "meshCheck"),
                *("outsider", "throughput", "trafficGenerator", "workloadEntry"),
            ),
            "configVendor": _one_of("common"),
            "duration": _UNITS,
            "rateGrpc": _one_of(*_RATES),
            "rateHttp": _one_of("none", "requests"),
            "rateTcp": _one_of("none", "received", "sent", "total"),
            "responseTime": _one_of("avg", "50", "95", "99"),
            "telemetryVendor": _one_of("istio"),
            "throughputType": _one_of("request", "response"),
            "waypoints": _SWITCH,
        },
        (*_ROUTES, _OBJECT_OF_GROUP, _BY_CLUSTER, ("GET", r"/api/istio/(config|validations)")),
        ("anonymous", "token"),
        {
            "_": lambda given: True,
            "clusterName": lambda given: True,
            "labelSelector": lambda given: True,
            "objects": lambda given: True,
            "validate": _SWITCH,
            "workloadSelector": lambda given: True,
        },
    ),
}


def refusing(version: str, strategy: str = "anonymous") -> web.App:
    """Who refuses what a Kiali of that version refuses, and says 404 without a word where it would go on to answer.

    Args:
        version: One of `RULES`.
        strategy: How it lets people in: "anonymous", "login" (`PASSWORD`) or "token" (`TOKEN`).
    """
    rules = RULES[version]
    assert strategy in rules.strategies

    def answer(request: web.Request) -> web.Response:
        path = request.path.removeprefix("/kiali")
        if not path.startswith("/api"):
            return web.Response(404)
        methods = {method for method, pattern in rules.routes if re.fullmatch(pattern, path)}
        if request.method not in methods:
            return web.Response(405, "Method not allowed\n") if methods else web.Response(404, "404 page not found\n")
        if strategy != "anonymous" and path == "/api/authenticate":
            return _by_password(request) if strategy == "login" else _by_token(version, request)
        if strategy != "anonymous" and path not in _OPEN and not _known(version, strategy, request):
            return web.Response(401, "Unauthorized\n", content_type="text/plain")
        if path == "/api/namespaces/graph":
            return _graph(rules, dict(request.query))
        if re.fullmatch(r"/api/namespaces/[^/]+/istio", path) and rules.listed is not None:
            for name, value in request.query:
                if name not in rules.listed or not rules.listed[name](value):
                    return _error(400, f"unsupported query parameter '{name}'")
        return web.Response(404)

    return answer


def _error(status: int, words: str) -> web.Response:
    return web.json_response({"error": words}, status)


def _graph(rules: Rules, given: dict[str, str]) -> web.Response:
    for name, value in given.items():
        # An empty value is none, save for appenders, of which it is none.
        if name in rules.graph and value and not rules.graph[name](value):
            return _error(400, f"Invalid {name} [{value}]")
    if not given.get("namespaces"):
        return _error(400, "At least one namespace must be specified via the namespaces query parameter.")
    for one in given["namespaces"].split(","):
        if one.strip() not in NAMESPACES:
            return _error(403, f"Requested namespace [{one.strip()}] is not accessible.")
    return web.Response(404)


def _basic(request: web.Request) -> bool:
    wanted = "Basic " + base64.b64encode(":".join(PASSWORD).encode()).decode()
    return request.headers.get("authorization") == wanted


def _by_password(request: web.Request) -> web.Response:
    """Strategy "login": a password for a token."""
    if not _basic(request):
        return web.Response(401, b"")
    return web.json_response(
        {"username": PASSWORD[0], "token": _SESSION, "expiresOn": "Thu, 07 Mar 2030 17:50:26 +0000"}
    )


def _cookies(version: str) -> dict[str, str]:
    """A session's; 2.26 has one for each cluster, in pieces where it is long."""
    if version != "2.26":
        return {"kiali-token": _SESSION}
    name = "kiali-token-Kubernetes"
    return {name: _SESSION, f"{name}-1": "rest", "kiali-token-chunks-Kubernetes": "2"}


def _by_token(version: str, request: web.Request) -> web.Response:
    """Strategy "token": Kubernetes' token, in a form, for a session, which is a cookie."""
    given = request.form().get("token", "")
    if not given:
        return _error(500, "Token is empty.")
    if given != TOKEN:
        return _error(401, "Token is not valid or is expired")
    found = web.json_response({"username": "token", "expiresOn": "Thu, 07 Mar 2030 17:50:26 +0000"})
    for name, value in _cookies(version).items():
        found.headers.append(("Set-Cookie", f"{name}={value}; Path=/kiali; HttpOnly; SameSite=Strict"))
    return found


def _known(version: str, strategy: str, request: web.Request) -> bool:
    """Whether a request is of a session: by its cookies; until 2.0 by Kiali's own token as a bearer's as well."""
    wanted = _cookies(version)
    if wanted.items() <= request.cookies().items():
        return True
    if version != "2.26" and request.headers.get("authorization") == f"Bearer {_SESSION}":
        return True
    return strategy == "login" and _basic(request)
