# SPDX-License-Identifier: Apache-2.0
"""Objects for tests of pure functions: as the API keeps what a user writes, unless said otherwise."""

from __future__ import annotations

import atexit
import functools
import json
import tempfile
from pathlib import Path
from typing import Any

from meshbox.addresses import AddressPlan
from meshbox.mesh import kinds as names
from meshbox.mesh.model import Workload
from meshbox.mesh.snapshot import Snapshot
from meshbox.values import clone

from .cluster import Cluster

Obj = dict[str, Any]

PLAN = AddressPlan(99)
SLICES = "endpointslices.discovery.k8s.io"


@functools.cache
def _api(release: str) -> Cluster:
    """A cluster that is only ever asked what it would store."""
    folder = tempfile.TemporaryDirectory()
    cluster = Cluster(Path(folder.name), release, PLAN)
    cluster.validate()
    atexit.register(folder.cleanup)
    atexit.register(cluster.close)
    return cluster


@functools.lru_cache(4096)
def _stored(resource: str, text: str, release: str) -> Obj:
    given, api = json.loads(text), _api(release)
    namespace = given["metadata"].get("namespace")
    if namespace and api.find("namespaces", namespace) is None:
        api.create("namespaces", {"metadata": {"name": namespace}})
    found = api.admitted(resource, given)
    # The API sets both by its own clock, and who runs an object reports its status.
    found["metadata"]["creationTimestamp"] = given["metadata"].get("creationTimestamp", "2020-01-01T00:00:00Z")
    if "status" in given:
        found["status"] = {**found.get("status", {}), **given["status"]}
    return found


def stored(resource: str, obj: Obj, *, legacy: bool = False) -> Obj:
    """`obj` as a cluster stores it: admitted, checked and completed.

    Raises:
        ApiError: where no user could have written it.
    """
    found: Obj = clone(_stored(resource, json.dumps(obj), "1.2.2" if legacy else "1.30.3"))
    return found


def service(name: str, *ports: tuple[str, int], namespace: str = "bookinfo", ip: str = "", **spec: Any) -> Obj:
    numbered = [{"name": n, "port": p} for n, p in ports or (("http", 9080),)]
    address = {} if "externalName" in spec else {"clusterIP": ip or f"127.99.16.{sum(map(ord, name)) % 250}"}
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**address, "ports": numbered, "selector": {"app": name}, **spec},
    }


def pod(
    name: str,
    ip: str,
    *,
    namespace: str = "bookinfo",
    role: str = "sidecar",
    ports: tuple[int, ...] = (9080,),
    **labels: str,
) -> Obj:
    containers: list[Obj] = [{"name": "app", "image": "app", "ports": [{"containerPort": p} for p in ports]}]
    if role:
        containers.append({"name": "istio-proxy", "image": "istio/proxyv2", "args": ["proxy", role]})
    app = labels.setdefault("app", name.rsplit("-", 1)[0])
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"serviceAccountName": f"bookinfo-{app}", "containers": containers},
        "status": {"podIP": ip, "phase": "Running"},
    }


def endpoints(services: list[Obj], pods: list[Obj], *, legacy: bool = False) -> dict[str, list[Obj]]:
    """What the controllers write for these Services: slices, and Endpoints where Kubernetes knew no slices."""
    resource = "endpoints" if legacy else SLICES
    found = []
    for svc in services:
        meta, spec = svc["metadata"], svc["spec"]
        chosen = [
            p
            for p in pods
            if p["metadata"]["namespace"] == meta["namespace"]
            and spec.get("selector")
            and all(p["metadata"]["labels"].get(k) == v for k, v in spec["selector"].items())
        ]
        places = [(p["status"]["podIP"], {"kind": "Pod", "name": p["metadata"]["name"]}) for p in chosen]
        targets = [(p["name"], p.get("targetPort", p["port"])) for p in spec["ports"]]
        # Of no pod it is known what a port leads to.
        ports = [{"name": name, "port": port} for name, port in targets if places and isinstance(port, int)]
        named = {"name": meta["name"], "namespace": meta["namespace"]}
        if legacy:
            addresses = [{"ip": ip, "targetRef": pod} for ip, pod in places]
            obj: Obj = {"metadata": named, "subsets": [{"addresses": addresses, "ports": ports}] if addresses else []}
        else:
            named["labels"] = {"kubernetes.io/service-name": meta["name"]}
            entries = [{"addresses": [ip], "targetRef": pod} for ip, pod in places]
            obj = {"metadata": named, "addressType": "IPv4", "endpoints": entries, "ports": ports}
        found.append(stored(resource, obj, legacy=legacy))
    return {resource: found}


def istio(name: str, spec: Obj, namespace: str = "bookinfo", age: int = 0) -> Obj:
    created = f"2020-01-01T00:00:{age:02d}Z"
    return {"metadata": {"name": name, "namespace": namespace, "creationTimestamp": created}, "spec": spec}


def bookinfo() -> tuple[list[Obj], list[Obj]]:
    services = [service(n) for n in ("productpage", "details", "ratings", "reviews")]
    pods = [
        pod("productpage-v1", "127.99.64.1", version="v1"),
        pod("details-v1", "127.99.64.2", version="v1"),
        pod("ratings-v1", "127.99.64.3", version="v1"),
        *(pod(f"reviews-v{n}", f"127.99.64.{n + 3}", version=f"v{n}") for n in (1, 2, 3)),
    ]
    return services, pods


def snapshot(
    legacy: bool = False,
    mesh: str = "",
    plan: AddressPlan = PLAN,
    kept: dict[str, list[Obj]] | None = None,
    keys: dict[str, str] | None = None,
    **objects: list[Obj],
) -> Snapshot:
    """A snapshot of bookinfo and what else is given, by the snapshot module's names of resources in lower case.

    Args:
        legacy: Whether it is a cluster of Istio 1.2's days.
        mesh: The mesh's settings.
        plan: Its addresses.
        kept: Objects by resource that nobody has looked at, as a journal of an older version may hold them.
        keys: The keys of tokens that were fetched, by where they came from.
        objects: What users write.
    """
    services, pods = bookinfo()
    config = {"metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": mesh}}
    written = {getattr(names, key.upper(), key): value for key, value in objects.items()}
    services += written.pop("services", [])
    pods += written.pop("pods", [])
    everything = {"services": services, "pods": pods, "configmaps": [config], **written}
    found = {resource: [stored(resource, o, legacy=legacy) for o in each] for resource, each in everything.items()}
    everything = {**found, **endpoints(services, pods, legacy=legacy), **(kept or {})}
    return Snapshot(everything, plan, legacy=legacy, keys=keys)


def workload(snap: Snapshot, name: str, namespace: str = "bookinfo") -> Workload:
    return snap.workloads[namespace, name]
