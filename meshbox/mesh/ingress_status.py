# SPDX-License-Identifier: Apache-2.0
"""What istiod writes on the Ingresses that it plays: the address of their gateway. What it does not play is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from labkit.ground.names import is_ip
from meshbox.contracts import Obj, Objects, View
from meshbox.mesh.ingresses import CONTROLLER, NAMESPACE, chosen, unplayed
from meshbox.mesh.kinds import CONFIG_MAPS, GATEWAYS, INGRESS_CLASSES, INGRESSES, PODS, SERVICES
from meshbox.mesh.mesh_config import MeshConfig
from meshbox.mesh.revisions import is_istiod
from meshbox.mesh.settings import is_mesh
from meshbox.reconcile import Key, Reconciler, object_key

if TYPE_CHECKING:
    from meshbox.typed.pods import Pod

__all__ = ["IngressWriter", "ignored"]


class IngressWriter:
    """Keeps the status of Ingresses, while the control plane is ready.

    Args:
        objects: The cluster's objects.
        legacy: Whether Istio 1.2 is played.
    """

    def __init__(self, objects: Objects, *, legacy: bool) -> None:
        self._objects = objects
        self._legacy = legacy
        self._component = "istio-pilot" if legacy else "istiod"
        self._told: dict[Key, tuple[str, ...]] = {}
        self._each = Reconciler("ingresses", objects, self._one)
        self._each.watches(INGRESSES)
        self._each.watches(INGRESS_CLASSES, lambda _: self._all())
        self._each.watches(SERVICES, self._beside)
        self._each.watches(GATEWAYS, lambda obj: self._all() if obj["metadata"]["namespace"] == NAMESPACE else ())
        self._each.watches(CONFIG_MAPS, lambda obj: self._all() if is_mesh(obj) else ())
        self._each.watches(PODS, lambda pod: self._all() if is_istiod(pod) else ())

    def start(self) -> None:
        """Begin."""
        self._each.start()

    async def stop(self) -> None:
        """End."""
        await self._each.stop()

    def _all(self, namespace: str | None = None) -> Iterator[Key]:
        yield from (object_key(one) for one in self._objects.view(INGRESSES, namespace))

    def _beside(self, service: Obj) -> Iterator[Key]:
        namespace = service["metadata"]["namespace"]
        return self._all(None if namespace == NAMESPACE else namespace)

    async def _one(self, key: Key) -> None:
        ingress = self._objects.find(INGRESSES, key[1], key[0])
        if ingress is None:
            self._told.pop(key, None)
            return
        mesh = MeshConfig.now(self._objects, legacy=self._legacy)
        if not self._ready() or not _ours(self._objects, ingress, mesh, legacy=self._legacy):
            return
        self._tell(key, ingress)
        status = ingress.get("status") or {}
        wanted = _addresses(self._objects.find(SERVICES, mesh.ingress_service, NAMESPACE))
        if ((status.get("loadBalancer") or {}).get("ingress") or []) != wanted:
            balancer = {"ingress": wanted} if wanted else {}
            self._objects.update(
                INGRESSES,
                {**ingress, "status": {**status, "loadBalancer": balancer}},
                subresource="status",
                manager="pilot-discovery",
            )

    def _tell(self, key: Key, ingress: Obj) -> None:
        problems = tuple(ignored(self._objects, ingress, legacy=self._legacy))
        for problem in problems:
            if problem not in self._told.get(key, ()):
                self._objects.event(ingress, "Warning", "IngressIgnored", problem, self._component)
        self._told[key] = problems

    def _ready(self) -> bool:
        pods = cast("list[Pod]", self._objects.view(PODS, NAMESPACE, labels="istio=pilot"))
        conditions = [one for pod in pods for one in (pod.get("status") or {}).get("conditions") or []]
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _ours(objects: Objects, ingress: View, mesh: MeshConfig, *, legacy: bool) -> bool:
    classes = {one["metadata"]["name"]: one for one in objects.view(INGRESS_CLASSES)}
    return chosen(ingress, classes, mesh, legacy=legacy)


def ignored(objects: Objects, ingress: View, *, legacy: bool) -> list[str]:
    """What of an Ingress has no effect: all of it, if it is not Istio's to play.

    Args:
        objects: The cluster's objects.
        ingress: The Ingress.
        legacy: Whether Istio 1.2 is played.
    """
    mesh = MeshConfig.now(objects, legacy=legacy)
    if not _ours(objects, ingress, mesh, legacy=legacy):
        annotated = f"annotation kubernetes.io/ingress.class: {mesh.ingress_class}"
        classed = "" if legacy else f" or the name of an IngressClass whose controller is {CONTROLLER}"
        return [f"no controller here plays this Ingress: Istio plays those with {annotated}{classed}"]
    services = objects.view(SERVICES, ingress["metadata"].get("namespace"))
    return list(unplayed(ingress, services, objects.view(GATEWAYS, NAMESPACE), legacy=legacy))


def _addresses(service: View | None) -> list[Obj]:
    """Where a Service of type LoadBalancer is reached."""
    spec, status = (service or {}).get("spec") or {}, (service or {}).get("status") or {}
    if spec.get("type") == "ExternalName":
        found = [str(spec.get("externalName"))]
    else:
        entries = (status.get("loadBalancer") or {}).get("ingress") or []
        found = [str(entry.get("ip") or entry.get("hostname")) for entry in entries]
        found += [str(address) for address in spec.get("externalIPs") or []]
    names = [address for address in found if not is_ip(address)]
    return [
        *({"ip": address} for address in sorted(set(found) - set(names))),
        *({"hostname": name} for name in sorted(names)),
    ]
