# SPDX-License-Identifier: Apache-2.0
"""Kiali's API, below <root>/api/: each address and what answers it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from labkit.ground.labels import parse
from labkit.ground.web import Request, Response, json_response
from meshbox.images.kiali import graph_pages as pictures
from meshbox.images.kiali import health, istio, lists, logs, metrics
from meshbox.images.kiali import istio_checks as validation
from meshbox.images.kiali.mesh import SYSTEM, Json, Mesh, mesh_of
from meshbox.images.kiali.settings import Settings
from meshbox.images.kiali.sources import Kubernetes, Prometheus, SourceError
from meshbox.images.kiali.telemetry import Flow, TrafficQuery, flows, seconds_of
from meshbox.images.kiali.traces import Tracing

__all__ = ["Api"]

Query = dict[str, list[str]]
_SUBJECTS = {"apps": "app", "services": "service", "workloads": "workload"}
_MAY = {"create": True, "update": True, "delete": True}


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
    _routes: list[tuple[str, re.Pattern[str], Callable[..., Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        name, subject = r"([^/]+)", "(apps|services|workloads)"
        within = rf"namespaces/{name}"
        table: Sequence[tuple[str, Callable[..., Any]]] = (
            ("auth/info", lambda query: {"strategy": "anonymous", "sessionInfo": {}}),
            ("config", lambda query: self.settings.console()),
            ("status", lambda query: self.settings.status()),
            ("grafana", lambda query: {"externalLinks": []}),
            ("clusters", lambda query: {}),
            ("iter8", lambda query: {"enabled": False}),
            ("jaeger", lambda query: self.tracing.info()),
            ("istio/status", self._istio_status),
            ("istio/permissions", self._permissions),
            ("mesh/tls", self._mesh_tls),
            ("namespaces", self._namespaces),
            ("namespaces/graph", self._graph),
            (rf"{within}", self._namespace),
            (rf"{within}/health", self._namespace_health),
            (rf"{within}/tls", self._namespace_tls),
            (rf"{within}/validations", self._validations),
            (rf"{within}/metrics", self._namespace_metrics),
            (rf"{within}/istio", self._istio_list),
            (rf"{within}/istio/{name}/{name}", self._istio_one),
            (rf"{within}/(apps|services|workloads)", self._list),
            (rf"{within}/{subject}/{name}", self._detail),
            (rf"{within}/{subject}/{name}/health", self._health),
            (rf"{within}/{subject}/{name}/metrics", self._metrics),
            (rf"{within}/{subject}/{name}/dashboard", self._dashboard),
            (rf"{within}/{subject}/{name}/traces", self._traces),
            (rf"{within}/{subject}/{name}/spans", self._spans),
            (rf"{within}/apps/{name}/errortraces", self._error_traces),
            (rf"{within}/(applications|services|workloads)/{name}(?:/versions/{name})?/graph", self._mini_graph),
            (rf"{within}/pods/{name}", self._pod),
            (rf"{within}/pods/{name}/logs", self._logs),
            (rf"traces/{name}", lambda query, identity: self.tracing.trace(identity)),
        )
        self._routes = [("GET", re.compile(path), answer) for path, answer in table]
        self._routes.append(("POST", re.compile("stats/metrics"), lambda query: {"stats": {}}))

    def __call__(self, request: Request, path: str) -> Response:
        """Answer `request`, whose path below api/ is `path` (still encoded)."""
        query = parse_qs(urlsplit(request.target).query, keep_blank_values=True)
        try:
            changed = self._change(request, path)
            if changed is not None:
                return json_response(changed)
            for method, pattern, answer in self._routes:
                if method == request.method.replace("HEAD", "GET") and (match := pattern.fullmatch(path)):
                    parts = (unquote(part) if part else "" for part in match.groups())
                    return json_response(answer(query, *parts))
        except SourceError as error:
            return json_response({"error": str(error)}, error.status)
        except ValueError as error:
            return json_response({"error": str(error)}, 400)
        return json_response({"error": f"there is no {request.method} {path} in this API"}, 404)

    def _change(self, request: Request, path: str) -> Any:
        match = re.fullmatch(r"namespaces/([^/]+)/istio/([^/]+)/([^/]+)", path)
        if request.method not in ("PATCH", "DELETE") or match is None:
            return None
        namespace, plural, name = (unquote(part) for part in match.groups())
        kind = istio.kind_of(plural)
        if kind is None:
            raise SourceError(f"there is no kind {plural}", 404)
        return istio.change(self.kubernetes, kind, namespace, name, request.method, request.body)

    def _mesh(self, namespace: str = "") -> Mesh:
        mesh = mesh_of(self.kubernetes)
        if namespace and all(one["metadata"]["name"] != namespace for one in mesh.namespaces()):
            raise SourceError(f"there is no namespace {namespace}", 404)
        return mesh

    def _config(self) -> istio.Config:
        return istio.config_of(self.kubernetes)

    def _flows(self, namespace: str, query: Query) -> list[Flow]:
        seconds = max(1, seconds_of((query.get("rateInterval") or ["60s"])[0]))
        return list(flows(self.prometheus, TrafficQuery((namespace,), seconds)))

    # every page

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
        return {name: {kind.plural: _MAY for kind in istio.KINDS} for name in names}

    def _mesh_tls(self, query: Query) -> Json:
        return istio.mesh_tls(self._config(), self._mesh())

    # graph

    def _graph(self, query: Query) -> Json:
        return pictures.graph(self.prometheus, self._mesh(), self._config(), query)

    def _mini_graph(self, query: Query, namespace: str, kind: str, name: str, version: str) -> Json:
        mesh = self._mesh(namespace)
        return pictures.around(self.prometheus, mesh, self._config(), query, namespace, kind, name, version)

    # a namespace

    def _namespace_health(self, query: Query, namespace: str) -> Json:
        kind = (query.get("type") or ["app"])[0]
        return health.namespace_health(self._mesh(namespace), namespace, kind, self._flows(namespace, query))

    def _namespace_tls(self, query: Query, namespace: str) -> Json:
        return istio.namespace_tls(self._config(), self._mesh(namespace), namespace)

    def _validations(self, query: Query, namespace: str) -> Json:
        return validation.summary(validation.validate(self._config(), self._mesh(namespace), namespace))

    def _namespace_metrics(self, query: Query, namespace: str) -> Json:
        return metrics.series(self.prometheus, metrics.Subject("namespace", namespace), metrics.asked(query))

    def _istio_list(self, query: Query, namespace: str) -> Json:
        mesh, config = self._mesh(namespace), self._config()
        found = validation.validate(config, mesh, namespace) if _true(query, "validate") else {}
        wanted = filter(None, (query.get("objects") or [""])[0].split(","))
        if selector := (query.get("workloadSelector") or [""])[0]:
            labels = {one.key: next(iter(one.values)) for one in parse(selector) if one.operator == "In"}
            config = istio.for_workload(config, labels)
        return istio.page(config, namespace, wanted, found)

    def _istio_one(self, query: Query, namespace: str, plural: str, name: str) -> Json:
        kind = istio.kind_of(plural)
        if kind is None:
            raise SourceError(f"there is no kind {plural}", 404)
        found = None
        if _true(query, "validate"):
            found = validation.validate(self._config(), self._mesh(namespace), namespace).get(kind.type, {}).get(name)
        return istio.one(self.kubernetes, kind, namespace, name, found)

    def _list(self, query: Query, namespace: str, kind: str) -> Json:
        mesh = self._mesh(namespace)
        if kind == "apps":
            return lists.apps(mesh, namespace)
        if kind == "workloads":
            return lists.workloads(mesh, namespace)
        return lists.services(mesh, namespace, {"service": validation.of_services(mesh, namespace)})

    # one app, Service or workload

    def _detail(self, query: Query, namespace: str, kind: str, name: str) -> Json:
        mesh = self._mesh(namespace)
        if kind == "apps":
            found = lists.app(mesh, namespace, name)
        elif kind == "workloads":
            found = lists.workload(mesh, namespace, name, {})
        else:
            config = self._config()
            found = lists.service(mesh, namespace, name, config, istio.namespace_tls(config, mesh, namespace))
            if found is not None:
                services = {"service": validation.of_services(mesh, namespace)}
                found["validations"] = validation.validate(config, mesh, namespace) | services
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

    def _logs(self, query: Query, namespace: str, name: str) -> Json:
        return logs.log(self.kubernetes, namespace, name, query, time.time())


def _namespace(one: Json) -> Json:
    return {"name": one["metadata"]["name"], "labels": one["metadata"].get("labels") or {}}


def _true(query: Query, name: str) -> bool:
    return (query.get(name) or ["false"])[0] == "true"
