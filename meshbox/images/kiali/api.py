# SPDX-License-Identifier: Apache-2.0
"""Kiali's API, below <root>/api/: each address and what answers it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from labkit.ground.labels import parse
from labkit.ground.web import Request, Response, json_response
from meshbox.images.kiali import checks, envoy, health, istio, lists, logs, metrics, writing
from meshbox.images.kiali import graph_pages as pictures
from meshbox.images.kiali.mesh import SYSTEM, Json, Mesh, mesh_of
from meshbox.images.kiali.parameters import choice, graph_options, label_name, value_of
from meshbox.images.kiali.permissions import Permissions
from meshbox.images.kiali.settings import Settings
from meshbox.images.kiali.sources import Kubernetes, Prometheus, SourceError
from meshbox.images.kiali.telemetry import Flow, TrafficQuery, flows, seconds_of
from meshbox.images.kiali.traces import Tracing

__all__ = ["Api"]

Query = dict[str, list[str]]
_SUBJECTS = {"apps": "app", "services": "service", "workloads": "workload"}
_HEALTH_TYPES = "Bad request, query parameter 'type' must be one of ['app','service','workload']"


@dataclass
class Api:
    """The API.

    Args:
        settings: What the ConfigMap says.
        kubernetes: The Kubernetes API.
        prometheus: Prometheus.
        tracing: Jaeger.
    """

    settings: Settings
    kubernetes: Kubernetes
    prometheus: Prometheus
    tracing: Tracing
    may: Permissions = field(init=False)
    _routes: list[tuple[str, re.Pattern[str], Callable[..., Any]]] = field(init=False)

    def __post_init__(self) -> None:
        self.may = Permissions(self.kubernetes, self.settings.view_only)
        self._routes = [(method, re.compile(path), answer) for method, path, answer in self._table()]

    def _table(self) -> Iterable[tuple[str, str, Callable[..., Any]]]:
        """Method, path and answer: which is given the query, of what writes the request, and the parts of the path."""
        name, subject = r"([^/]+)", "(apps|services|workloads)"
        within = rf"namespaces/{name}"
        yield "GET", "auth/info", lambda query: {"strategy": "anonymous", "sessionInfo": {}}
        yield "GET", "config", self._console
        yield "GET", "status", lambda query: self.settings.status()
        yield "GET", "grafana", lambda query: {"externalLinks": []}
        yield "GET", "clusters", lambda query: {}
        yield "GET", "iter8", lambda query: {"enabled": False}
        yield "GET", "jaeger", lambda query: self.tracing.info()
        yield "GET", "istio/status", self._istio_status
        yield "GET", "istio/permissions", self._permissions
        yield "GET", "mesh/tls", self._mesh_tls
        yield "GET", "namespaces", self._namespaces
        yield "GET", "namespaces/graph", self._graph
        yield "GET", within, self._namespace
        yield "PATCH", within, self._patch_namespace
        yield "GET", rf"{within}/health", self._namespace_health
        yield "GET", rf"{within}/tls", self._namespace_tls
        yield "GET", rf"{within}/validations", self._validations
        yield "GET", rf"{within}/metrics", self._namespace_metrics
        yield "GET", rf"{within}/istio", self._istio_list
        yield "GET", rf"{within}/istio/{name}/{name}", self._istio_one
        yield "POST", rf"{within}/istio/{name}", self._create
        yield "PATCH", rf"{within}/istio/{name}/{name}", self._patch
        yield "DELETE", rf"{within}/istio/{name}/{name}", self._delete
        yield "GET", rf"{within}/{subject}", self._list
        yield "GET", rf"{within}/{subject}/{name}", self._detail
        yield "PATCH", rf"{within}/workloads/{name}", self._patch_workload
        yield "GET", rf"{within}/{subject}/{name}/health", self._health
        yield "GET", rf"{within}/{subject}/{name}/metrics", self._metrics
        yield "GET", rf"{within}/{subject}/{name}/dashboard", self._dashboard
        yield "GET", rf"{within}/{subject}/{name}/traces", self._traces
        yield "GET", rf"{within}/{subject}/{name}/spans", self._spans
        yield "GET", rf"{within}/apps/{name}/errortraces", self._error_traces
        around = rf"{within}/(applications|services|workloads)/{name}(?:/versions/{name})?/graph"
        yield "GET", around, self._mini_graph
        yield "GET", rf"{within}/aggregates/{name}/{name}(?:/{name})?/graph", self._aggregate_graph
        yield "GET", rf"{within}/aggregates/{name}/{name}/metrics", self._aggregate_metrics
        yield "GET", rf"{within}/pods/{name}", self._pod
        yield "GET", rf"{within}/pods/{name}/logs", self._logs
        yield "GET", rf"{within}/pods/{name}/config_dump", self._config_dump
        yield "GET", rf"{within}/pods/{name}/config_dump/{name}", self._config_resource
        yield "GET", rf"traces/{name}", lambda query, identity: self.tracing.trace(identity)
        yield "POST", "stats/metrics", lambda request: {"stats": {}}

    def __call__(self, request: Request, path: str) -> Response:
        """Answer `request`, whose path below api/ is `path` (still encoded)."""
        query = parse_qs(urlsplit(request.target).query, keep_blank_values=True)
        wanted = request.method.replace("HEAD", "GET")
        try:
            for method, pattern, answer in self._routes:
                if method == wanted and (match := pattern.fullmatch(path)):
                    parts = (unquote(part) if part else "" for part in match.groups())
                    return json_response(answer(query if method == "GET" else request, *parts))
        except SourceError as error:
            return json_response({"error": str(error)}, error.status)
        except ValueError as error:
            return json_response({"error": str(error)}, 400)
        return json_response({"error": f"there is no {request.method} {path} in this API"}, 404)

    def _mesh(self, namespace: str = "") -> Mesh:
        mesh = mesh_of(self.kubernetes)
        if namespace and all(one["metadata"]["name"] != namespace for one in mesh.namespaces()):
            raise SourceError(f"there is no namespace {namespace}", 404)
        return mesh

    def _config(self) -> istio.Config:
        return istio.config_of(self.kubernetes)

    def _registry(self, namespace: str) -> checks.Registry:
        return checks.Registry(self._mesh(namespace), self._config(), istio.auto_mtls(self.kubernetes))

    def _flows(self, namespace: str, query: Query) -> list[Flow]:
        seconds = max(1, seconds_of(value_of(query, "rateInterval", "60s")))
        return list(flows(self.prometheus, TrafficQuery((namespace,), seconds)))

    # every page

    def _console(self, query: Query) -> Json:
        return self.settings.console(self.may.of(SYSTEM, "apps", "deployments")["update"])

    def _patch_namespace(self, request: Request, name: str) -> Json:
        return _namespace(writing.patch_namespace(self.kubernetes, name, request.body))

    def _patch_workload(self, request: Request, namespace: str, name: str) -> Json:
        query = parse_qs(urlsplit(request.target).query)
        writing.patch_workload(self.kubernetes, namespace, name, value_of(query, "type", "Deployment"), request.body)
        return self._detail(query, namespace, "workloads", name)

    def _namespaces(self, query: Query) -> list[Json]:
        return [_namespace(one) for one in self._mesh().namespaces()]

    def _namespace(self, query: Query, name: str) -> Json:
        found = [one for one in self._mesh(name).namespaces() if one["metadata"]["name"] == name]
        return _namespace(found[0])

    def _istio_status(self, query: Query) -> list[Json]:
        """Only what is not healthy is listed."""
        found = []
        for one in self._mesh().workloads(SYSTEM):
            status = one.status()
            if one.kind == "Deployment" and status["availableReplicas"] < status["desiredReplicas"]:
                core = one.name in ("istiod", "istio-pilot", "istio-ingressgateway")
                found.append({"name": one.name, "status": "Unhealthy", "is_core": core})
        return found

    def _permissions(self, query: Query) -> Json:
        names = filter(None, (query.get("namespaces") or [""])[0].split(","))
        return {
            name: {kind.plural: self.may.of(name, kind.group, kind.plural) for kind in istio.KINDS} for name in names
        }

    def _mesh_tls(self, query: Query) -> Json:
        return istio.mesh_tls(self._config(), istio.auto_mtls(self.kubernetes))

    # graph

    def _graph(self, query: Query) -> Json:
        asked, mesh = graph_options(query), self._mesh()
        known = {one["metadata"]["name"] for one in mesh.namespaces()}
        for name in asked.namespaces:
            if name not in known:
                raise SourceError(f"Requested namespace [{name}] is not accessible.", 403)
        return pictures.graph(self.prometheus, mesh, self._config(), asked)

    def _mini_graph(self, query: Query, namespace: str, kind: str, name: str, version: str) -> Json:
        asked, mesh = graph_options(query, namespace, app=kind == "applications"), self._mesh(namespace)
        return pictures.around(self.prometheus, mesh, self._config(), asked, (kind, name, version))

    def _aggregate_graph(self, query: Query, namespace: str, label: str, value: str, service: str) -> Json:
        asked = graph_options({**query, "aggregate": [label]}, namespace)
        asked = replace(asked, appenders=asked.appenders | {"aggregateNode"})
        centre = ("aggregates", f"{label}={value}", service)
        return pictures.around(self.prometheus, self._mesh(namespace), self._config(), asked, centre)

    # a namespace

    def _namespace_health(self, query: Query, namespace: str) -> Json:
        kind = choice(query, "type", ("app", "service", "workload"), _HEALTH_TYPES)
        return health.namespace_health(self._mesh(namespace), namespace, kind, self._flows(namespace, query))

    def _namespace_tls(self, query: Query, namespace: str) -> Json:
        return istio.namespace_tls(self._config(), self._mesh(namespace), namespace)

    def _validations(self, query: Query, namespace: str) -> Json:
        return checks.summary(checks.validate(self._registry(namespace), namespace))

    def _namespace_metrics(self, query: Query, namespace: str) -> Json:
        return metrics.series(self.prometheus, metrics.Subject("namespace", namespace), metrics.asked(query))

    def _istio_list(self, query: Query, namespace: str) -> Json:
        config = self._config()
        found = checks.validate(self._registry(namespace), namespace) if _true(query, "validate") else {}
        wanted = filter(None, (query.get("objects") or [""])[0].split(","))
        if selector := (query.get("workloadSelector") or [""])[0]:
            labels = {one.key: next(iter(one.values)) for one in parse(selector) if one.operator == "In"}
            config = istio.for_workload(config, labels)
        return istio.page(config, namespace, wanted, found, self.may)

    def _istio_one(self, query: Query, namespace: str, plural: str, name: str) -> Json:
        kind = _kind(plural)
        one = self.kubernetes.get(writing.object_path(self.kubernetes, kind, namespace, name))
        if one is None:
            raise SourceError(f"there is no {kind.single} {namespace}/{name}", 404)
        found = istio.details(self.may, kind, namespace, one)
        if _true(query, "validate"):
            checked = checks.validate(self._registry(namespace), namespace)
            found["validation"] = checked.get(kind.type, {}).get(name)
        return found

    def _create(self, request: Request, namespace: str, plural: str) -> Json:
        return writing.create(self.kubernetes, self.may, _kind(plural), namespace, request.body)

    def _patch(self, request: Request, namespace: str, plural: str, name: str) -> Json:
        return writing.patch(self.kubernetes, self.may, _kind(plural), namespace, name, request.body)

    def _delete(self, request: Request, namespace: str, plural: str, name: str) -> Json:
        writing.delete(self.kubernetes, _kind(plural), namespace, name)
        return {}

    def _list(self, query: Query, namespace: str, kind: str) -> Json:
        mesh = self._mesh(namespace)
        if kind == "apps":
            return lists.apps(mesh, namespace)
        if kind == "workloads":
            return lists.workloads(mesh, namespace)
        return lists.services(mesh, namespace, {"service": checks.of_services(mesh, namespace)})

    # one app, Service or workload

    def _detail(self, query: Query, namespace: str, kind: str, name: str) -> Json:
        mesh = self._mesh(namespace)
        if kind == "apps":
            found = lists.app(mesh, namespace, name)
        elif kind == "workloads":
            found = lists.workload(mesh, namespace, name, {})
        else:
            config = self._config()
            tls = istio.namespace_tls(config, mesh, namespace)
            found = lists.service(mesh, namespace, name, config, tls, self.may)
            if found is not None:
                services = {"service": checks.of_services(mesh, namespace)}
                found["validations"] = checks.validate(self._registry(namespace), namespace) | services
        if found is None:
            raise SourceError(f"there is no {_SUBJECTS[kind]} {namespace}/{name}", 404)
        return found | ({} if kind == "workloads" else {"health": self._health(query, namespace, kind, name)})

    def _health(self, query: Query, namespace: str, kind: str, name: str) -> Json:
        mesh, found = self._mesh(namespace), self._flows(namespace, query)
        if kind == "services":
            return health.service_health(namespace, name, found)
        if kind == "apps":
            return health.app_health(namespace, name, mesh.apps(namespace).get(name, []), found)
        workload = mesh.workload(namespace, name)
        if workload is None:
            raise SourceError(f"there is no workload {namespace}/{name}", 404)
        return health.workload_health(workload, found)

    def _metrics(self, query: Query, namespace: str, kind: str, name: str) -> Json:
        subject = metrics.Subject(_SUBJECTS[kind], namespace, name)
        return metrics.series(self.prometheus, subject, metrics.asked(query))

    def _aggregate_metrics(self, query: Query, namespace: str, label: str, value: str) -> Json:
        asked = metrics.asked(query)
        if asked.direction != "inbound":
            about = "as the metrics are associated with inbound traffic to the destination workload."
            raise ValueError(f"AggregateMetrics 'direction' must be 'inbound' {about}")
        subject = metrics.Subject(label_name(label), namespace, value)
        return metrics.series(self.prometheus, subject, asked)

    def _dashboard(self, query: Query, namespace: str, kind: str, name: str) -> Json:
        subject = metrics.Subject(_SUBJECTS[kind], namespace, name)
        return metrics.dashboard(self.prometheus, subject, metrics.asked(query))

    def _traced(self, namespace: str, kind: str, name: str) -> list[str]:
        """The names under which proxies may have sent the spans of this."""
        if kind == "workloads":
            workload = self._mesh(namespace).workload(namespace, name)
            return [part for part in (workload.app if workload else "", name) if part]
        return [name]

    def _traces(self, query: Query, namespace: str, kind: str, name: str) -> Json:
        return self.tracing.traces(namespace, self._traced(namespace, kind, name), query)

    def _spans(self, query: Query, namespace: str, kind: str, name: str) -> list[Json]:
        return self.tracing.spans(namespace, self._traced(namespace, kind, name), query) if self.tracing.url() else []

    def _error_traces(self, query: Query, namespace: str, name: str) -> int:
        return self.tracing.errors(namespace, name, query) if self.tracing.url() else 0

    def _pod(self, query: Query, namespace: str, name: str) -> Json:
        found = [one for one in self._mesh(namespace).pods(namespace) if one["metadata"]["name"] == name]
        if not found:
            raise SourceError(f"there is no pod {namespace}/{name}", 404)
        return lists.pod(found[0])

    def _config_dump(self, query: Query, namespace: str, name: str) -> Json:
        self._mesh(namespace)
        return self.kubernetes.proxy_page(namespace, name, "/config_dump")

    def _config_resource(self, query: Query, namespace: str, name: str, part: str) -> Json:
        if part not in envoy.RESOURCES:
            raise SourceError(f"a proxy's configuration has {', '.join(envoy.RESOURCES)}, but no {part}", 404)
        known = {one["metadata"]["name"] for one in self._mesh().namespaces()}
        return envoy.resource(self._config_dump(query, namespace, name), part, known)

    def _logs(self, query: Query, namespace: str, name: str) -> Json:
        return logs.log(self.kubernetes, namespace, name, query, time.time())


def _namespace(one: Json) -> Json:
    return {"name": one["metadata"]["name"], "labels": one["metadata"].get("labels") or {}}


def _kind(plural: str) -> istio.Kind:
    kind = istio.kind_of(plural)
    if kind is None:
        raise SourceError(f"Object type not managed: {plural}", 400)
    return kind


def _true(query: Query, name: str) -> bool:
    return (query.get(name) or ["false"])[0] == "true"
