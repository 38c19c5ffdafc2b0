"""Objects for tests of pure functions."""

from __future__ import annotations

from typing import Any

from meshbox.addresses import AddressPlan
from meshbox.mesh import snapshot as names
from meshbox.mesh.model import Workload
from meshbox.mesh.snapshot import Snapshot

Obj = dict[str, Any]

PLAN = AddressPlan(99)


def service(name: str, *ports: tuple[str, int], namespace: str = "bookinfo", ip: str = "", **spec: Any) -> Obj:
    numbered = [{"name": n, "port": p} for n, p in ports or (("http", 9080),)]
    address = ip or f"127.99.16.{sum(map(ord, name)) % 250}"
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": address, "ports": numbered, "selector": {"app": name}, **spec},
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
    containers: list[Obj] = [{"name": "app", "ports": [{"containerPort": p} for p in ports]}]
    if role:
        containers.append({"name": "istio-proxy", "args": ["proxy", role]})
    app = labels.setdefault("app", name.rsplit("-", 1)[0])
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"serviceAccountName": f"bookinfo-{app}", "containers": containers},
        "status": {"podIP": ip, "phase": "Running"},
    }


def slices(services: list[Obj], pods: list[Obj]) -> list[Obj]:
    found = []
    for svc in services:
        chosen = [
            p
            for p in pods
            if p["metadata"]["namespace"] == svc["metadata"]["namespace"]
            and all(p["metadata"]["labels"].get(k) == v for k, v in svc["spec"]["selector"].items())
        ]
        found.append(
            {
                "metadata": {
                    "name": svc["metadata"]["name"],
                    "namespace": svc["metadata"]["namespace"],
                    "labels": {"kubernetes.io/service-name": svc["metadata"]["name"]},
                },
                "endpoints": [
                    {"addresses": [p["status"]["podIP"]], "targetRef": {"name": p["metadata"]["name"]}} for p in chosen
                ],
                "ports": [{"name": p["name"], "port": p.get("targetPort", p["port"])} for p in svc["spec"]["ports"]],
            }
        )
    return found


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


def snapshot(legacy: bool = False, mesh: str = "", plan: AddressPlan = PLAN, **objects: list[Obj]) -> Snapshot:
    """A snapshot of bookinfo and what else is given, by the snapshot module's names of resources in lower case."""
    services, pods = bookinfo()
    services += objects.pop("services", [])
    pods += objects.pop("pods", [])
    given = {getattr(names, key.upper()): value for key, value in objects.items()}
    config = {"metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": mesh}}
    return Snapshot(
        {
            "services": services,
            "pods": pods,
            "endpointslices.discovery.k8s.io": slices(services, pods),
            "configmaps": [config],
            **given,
        },
        plan,
        legacy=legacy,
    )


def workload(snap: Snapshot, name: str, namespace: str = "bookinfo") -> Workload:
    return snap.workloads[namespace, name]
