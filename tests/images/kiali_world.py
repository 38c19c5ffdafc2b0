# SPDX-License-Identifier: Apache-2.0
"""A small cluster and its traffic, fixed, behind the addresses of Prometheus, Kubernetes and Kiali."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.ground import web
from meshbox.images.kiali.api import Api
from meshbox.images.kiali.server import site
from meshbox.images.kiali.settings import Settings
from meshbox.images.kiali.site import Console
from meshbox.images.kiali.sources import Kubernetes, Prometheus
from meshbox.images.kiali.traces import Tracing

Json = dict[str, Any]


def requests(
    source: str, target: str, rate: float, code: str = "200", flags: str = "-", protocol: str = "http"
) -> Json:
    """One sample: both are "app-version"; a target "reviews" is a Service that nobody answered for."""
    sender, _, sender_version = source.rpartition("-") if "-v" in source else (source, "", "unknown")
    namespace = "istio-system" if source.startswith("istio") else "bookinfo"
    app, _, version = target.rpartition("-") if "-v" in target else (target, "", "")
    answered = bool(version)
    labels = {
        "reporter": "source",
        "source_workload_namespace": namespace if source != "unknown" else "unknown",
        "source_workload": source,
        "source_app": sender,
        "source_version": sender_version,
        "destination_service_namespace": "bookinfo",
        "destination_service": f"{app}.bookinfo.svc.cluster.local",
        "destination_service_name": app,
        "destination_workload_namespace": "bookinfo" if answered else "unknown",
        "destination_workload": target if answered else "unknown",
        "destination_app": app if answered else "unknown",
        "destination_version": version or "unknown",
        "request_protocol": protocol,
        "response_code": code,
        "response_flags": flags,
        "connection_security_policy": "mutual_tls",
    }
    return {"metric": labels, "value": [1_700_000_000, str(rate)]}


TRAFFIC = [
    requests("istio-ingressgateway", "productpage-v1", 6.0),
    requests("productpage-v1", "details-v1", 6.0),
    requests("productpage-v1", "reviews-v1", 2.0),
    requests("productpage-v1", "reviews-v2", 2.0),
    requests("productpage-v1", "reviews-v3", 1.5),
    requests("productpage-v1", "reviews-v3", 0.5, "503", "UF"),
    requests("reviews-v2", "ratings-v1", 2.0),
    requests("reviews-v3", "ratings-v1", 1.5),
]


def meta(name: str, namespace: str = "bookinfo", **more: Any) -> Json:
    return {"name": name, "namespace": namespace, "uid": f"{namespace}/{name}", "resourceVersion": "1", **more}


def deployed(app: str, version: str) -> tuple[Json, Json, Json]:
    """A Deployment, its ReplicaSet and its pod."""
    name, labels = f"{app}-{version}", {"app": app, "version": version}
    owner = [{"kind": "ReplicaSet", "name": f"{name}-1", "controller": True}]
    containers = [{"name": app, "image": app}, {"name": "istio-proxy", "image": "istio/proxyv2"}]
    deployment = {
        "metadata": meta(name, creationTimestamp="2026-01-01T00:00:00Z"),
        "spec": {"replicas": 1, "template": {"metadata": {"labels": labels}}},
        "status": {"replicas": 1, "availableReplicas": 1},
    }
    above = [{"kind": "Deployment", "name": name, "controller": True}]
    pod = {
        "metadata": meta(f"{name}-1-a", labels=labels, ownerReferences=owner),
        "spec": {"containers": containers},
        "status": {"phase": "Running"},
    }
    return deployment, {"metadata": meta(f"{name}-1", ownerReferences=above)}, pod


WORKLOADS = [("productpage", "v1"), ("details", "v1"), ("ratings", "v1")] + [("reviews", f"v{n}") for n in (1, 2, 3)]


def service(app: str) -> Json:
    ports = [{"name": "http", "port": 9080}]
    return {"metadata": meta(app, labels={"app": app}), "spec": {"selector": {"app": app}, "ports": ports}}


def virtual_service(name: str, *routes: Json, gateways: tuple[str, ...] = (), host: str = "reviews") -> Json:
    spec: Json = {"hosts": [host], "http": [{"route": list(routes)}]}
    return {"metadata": meta(name), "spec": spec | ({"gateways": list(gateways)} if gateways else {})}


def to(host: str, subset: str = "", weight: int | None = None) -> Json:
    destination = {"host": host} | ({"subset": subset} if subset else {})
    return {"destination": destination} | ({} if weight is None else {"weight": weight})


GROUPS = {
    "networking.istio.io": (
        "v1alpha3",
        ("virtualservices", "destinationrules", "gateways", "serviceentries", "sidecars"),
    ),
    "security.istio.io": ("v1beta1", ("authorizationpolicies", "peerauthentications", "requestauthentications")),
}
"""The fake API server's groups of Istio's: version, and plurals."""


@dataclass
class World:
    """What the fakes answer with; change it in a test."""

    traffic: list[Json] = field(default_factory=lambda: list(TRAFFIC))
    istio: dict[str, list[Json]] = field(default_factory=dict)
    queries: list[str] = field(default_factory=list)
    patches: list[tuple[str, Json]] = field(default_factory=list)
    created: list[tuple[str, Json]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    rules: list[Json] | None = field(default_factory=lambda: [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}])
    """What the pod's account may do; None where it may not ask."""
    mesh_config: str = ""
    """What Istio's ConfigMap says of the mesh."""

    def objects(self) -> dict[str, list[Json]]:
        made = [deployed(*one) for one in WORKLOADS]
        names = ("bookinfo", "istio-system", "kube-system")
        return {
            "/api/v1/namespaces": [{"metadata": {"name": name, "labels": {"team": name}}} for name in names],
            "/api/v1/pods": [one[2] for one in made],
            "/api/v1/services": [service(app) for app in sorted({app for app, _ in WORKLOADS})],
            "/api/v1/endpoints": [],
            "/apis/apps/v1/deployments": [one[0] for one in made],
            "/apis/apps/v1/replicasets": [one[1] for one in made],
            "/apis/apps/v1/statefulsets": [],
            "/apis/apps/v1/daemonsets": [],
        }

    def prometheus(self, request: web.Request) -> web.Response:
        given = request.form()
        expression = given["query"]
        self.queries.append(expression)
        found: list[Json]
        if request.path.endswith("query_range"):
            start = float(given["start"])
            found = [{"metric": {}, "values": [[start, "1.5"], [start + 15, "NaN"], [start + 30, "2.5"]]}]
        elif "__name__" in expression:
            found = [{"metric": {"__name__": "istio_request_duration_seconds_count"}, "value": [0, "5"]}]
        elif "histogram_quantile" in expression:
            found = [one | {"value": [0, "0.025"]} for one in self.traffic]
        elif "istio_requests_total" in expression:
            found = self.traffic
        else:
            found = []
        return web.json_response({"status": "success", "data": {"result": found}})

    def kubernetes(self, request: web.Request) -> web.Response:
        path = request.path
        if request.method == "PATCH":
            self.patches.append((path, json.loads(request.body)))
            return web.json_response({"metadata": meta("changed")})
        if path.endswith("/selfsubjectrulesreviews") and self.rules is None:
            return web.json_response({"message": "forbidden"}, 403)
        if path.endswith("/selfsubjectrulesreviews"):
            return web.json_response({"status": {"resourceRules": self.rules}}, 201)
        if request.method == "POST":
            self.created.append((path, json.loads(request.body)))
            return web.json_response(self.created[-1][1], 201)
        if request.method == "DELETE":
            self.deleted.append(path)
            return web.json_response({"status": "Success"})
        answers = self.objects()
        for group, (version, plurals) in GROUPS.items():
            served = {plural: items for plural, items in self.istio.items() if plural in plurals}
            answers |= {f"/apis/{group}/{version}/{plural}": items for plural, items in served.items()}
            if path == f"/apis/{group}":
                return web.json_response({"versions": [{"groupVersion": f"{group}/{version}"}]})
            if path == f"/apis/{group}/{version}":
                return web.json_response({"resources": [{"name": plural} for plural in plurals]})
        if path.endswith("/configmaps/istio"):
            return web.json_response({"metadata": meta("istio", "istio-system"), "data": {"mesh": self.mesh_config}})
        if path.endswith("/log"):
            lines = "2026-01-01T00:00:00.123456Z GET /reviews/0 200\n2026-01-01T00:00:01Z ERROR no ratings\n"
            return web.Response(200, lines, content_type="text/plain")
        if path in answers:
            return web.json_response({"items": answers[path]})
        for listed, items in answers.items():
            for item in items:
                place, name = item["metadata"].get("namespace"), item["metadata"]["name"]
                head, _, plural = listed.rpartition("/")
                if path == f"{head}/namespaces/{place}/{plural}/{name}":
                    return web.json_response(item)
        return web.json_response({"message": f"{path} not found"}, 404)


@contextlib.contextmanager
def kiali(
    world: World,
    console: Path = Path("/nowhere"),
    secret: Path | None = None,
    *,
    view_only: bool = False,
    first: web.App | None = None,
) -> Iterator[str]:
    """Kiali over `world`; its address without a path.

    Args:
        world: What the API server and Prometheus say.
        console: Where the console's files are.
        secret: The folder of the password that it asks for; None for none.
        view_only: Whether nothing may be written.
        first: Who answers in Kiali's place, unless the answer is 404 without a word.
    """
    with contextlib.ExitStack() as stack:

        def at(app: web.App) -> int:
            (server,) = web.listen({0: app}, "127.0.0.1")
            stack.callback(server.server_close)
            return int(server.server_address[1])

        kubernetes = Kubernetes("127.0.0.1", at(world.kubernetes), Path(os.devnull))
        prometheus = Prometheus(f"http://127.0.0.1:{at(world.prometheus)}")
        stack.callback(kubernetes.close)
        stack.callback(prometheus.close)
        settings = Settings(login=secret is not None, secret=secret, view_only=view_only)
        app = site(settings, Api(settings, kubernetes, prometheus, Tracing(())), Console(console))

        def both(request: web.Request) -> web.Response:
            answer = first(request) if first else web.Response(404)
            return app(request) if answer.status == 404 and not answer.body else answer

        yield f"http://127.0.0.1:{at(both)}"
