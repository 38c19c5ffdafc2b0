# SPDX-License-Identifier: Apache-2.0
"""How healthy apps, workloads and Services are: replicas, and the codes of their requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from meshbox.images.kiali.mesh import Json, Mesh, Workload
from meshbox.images.kiali.telemetry import Flow, Party

__all__ = ["app_health", "namespace_health", "service_health", "workload_health"]


def _add(into: Json, flow: Flow) -> None:
    codes = into.setdefault(flow.protocol, {})
    codes[flow.code] = codes.get(flow.code, 0.0) + flow.rate


def _requests(flows: Iterable[Flow], receives: Callable[[Flow], bool], sends: Callable[[Flow], bool]) -> Json:
    inbound: Json = {}
    outbound: Json = {}
    for flow in flows:
        if flow.protocol == "tcp":
            continue
        if receives(flow):
            _add(inbound, flow)
        if sends(flow):
            _add(outbound, flow)
    return {"inbound": inbound, "outbound": outbound, "healthAnnotations": {}}


def app_health(namespace: str, app: str, workloads: Iterable[Workload], flows: Iterable[Flow]) -> Json:
    """Health of an app."""

    def is_it(party: Party) -> bool:
        return (party.namespace, party.app) == (namespace, app)

    requests = _requests(flows, lambda flow: is_it(flow.target), lambda flow: is_it(flow.source))
    return {"workloadStatuses": [one.status() for one in workloads], "requests": requests}


def workload_health(workload: Workload, flows: Iterable[Flow]) -> Json:
    """Health of a workload."""

    def is_it(party: Party) -> bool:
        return (party.namespace, party.workload) == (workload.namespace, workload.name)

    requests = _requests(flows, lambda flow: is_it(flow.target), lambda flow: is_it(flow.source))
    return {"workloadStatus": workload.status(), "requests": requests}


def service_health(namespace: str, name: str, flows: Iterable[Flow]) -> Json:
    """Health of a Service: what was asked of it."""
    return {"requests": _requests(flows, lambda flow: flow.service == (namespace, name), lambda flow: False)}


def namespace_health(mesh: Mesh, namespace: str, kind: str, flows: list[Flow]) -> Json:
    """Health of everything of `kind` ("app", "workload" or "service") in a namespace, by name."""
    if kind == "service":
        names = [one["metadata"]["name"] for one in mesh.services(namespace)]
        return {name: service_health(namespace, name, flows) for name in names}
    if kind == "workload":
        return {one.name: workload_health(one, flows) for one in mesh.workloads(namespace)}
    return {name: app_health(namespace, name, found, flows) for name, found in mesh.apps(namespace).items()}
