"""The mesh's control plane: watches objects, computes what each proxy is told, and tells it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from labkit.sandbox.contracts import AdmissionPlugin, Obj, Objects
from labkit.sandbox.mesh.admission import MeshAdmission
from labkit.sandbox.mesh.certificates import LEGACY_LIFETIME, LIFETIME, Authority
from labkit.sandbox.mesh.galley import Galley
from labkit.sandbox.mesh.identities import CITADEL_TYPE, TRUST, IdentityWriter
from labkit.sandbox.mesh.model import labels
from labkit.sandbox.mesh.secrets import SecretSource
from labkit.sandbox.mesh.snapshot import RESOURCES, Memo, Snapshot
from labkit.sandbox.mesh.translate import translate
from labkit.sandbox.mesh.xds import ProxyState, XdsServer
from labkit.sandbox.settings import XDS_PORT, SandboxSettings

__all__ = ["Mesh"]

log = logging.getLogger(__name__)

QUIET = 0.01
LONGEST = 0.05
"""Seconds without a change, and seconds at most, before changes are acted on together. Istio waits 0.1 s and up to 10
s: it spares thousands of proxies, while a learner waits for a dozen.
"""


class Mesh:
    """The mesh of one sandbox.

    Args:
        objects: The cluster's objects.
        settings: The sandbox.
    """

    def __init__(self, objects: Objects, settings: SandboxSettings) -> None:
        self._objects = objects
        self._settings = settings
        self._known: dict[str, dict[tuple[str, str], Obj]] = {resource: {} for resource in RESOURCES}
        self._proxies: dict[tuple[str, str], ProxyState] = {}
        self._memo = Memo()
        self._snapshot = self._take()
        self._tasks: list[asyncio.Task[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._dirty_since = 0.0
        self._authority = Authority(settings.home / "mesh", LEGACY_LIFETIME if settings.legacy else LIFETIME)
        self._galley = Galley(objects) if settings.legacy else None
        self._secrets = SecretSource(self._authority, lambda: self._snapshot)
        self._server = XdsServer(settings.plan.node, XDS_PORT, settings.xds_token, self._state, self._secrets.get)
        self._identities = IdentityWriter(objects, self._authority, legacy=settings.legacy)
        self.admission: AdmissionPlugin = MeshAdmission(objects, settings)

    async def start(self) -> None:
        """Serve proxies and follow the objects."""
        self._authority.load()
        await self._server.start()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._follow(resource)) for resource in RESOURCES]
        if self._galley is not None:
            self._galley.start()
        self._identities.start()

    async def stop(self) -> None:
        """Stop; proxies go on with what they have."""
        if self._timer is not None:
            self._timer.cancel()
        for state in self._proxies.values():
            state.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(self._identities.stop(), *self._tasks, return_exceptions=True)
        await self._server.stop()

    def _take(self) -> Snapshot:
        objects = {resource: list(known.values()) for resource, known in self._known.items()}
        return Snapshot(objects, self._settings.plan, legacy=self._settings.legacy, memo=self._memo)

    async def _follow(self, resource: str) -> None:
        known = self._known[resource]
        with contextlib.closing(self._objects.watch(resource)) as watch:
            async for event in watch:
                meta = event.object["metadata"]
                key = (meta.get("namespace") or "", meta["name"])
                before = known.get(key)
                if event.type == "DELETED":
                    known.pop(key, None)
                else:
                    known[key] = event.object
                now = known.get(key)
                if (before and _matters(resource, before)) != (now and _matters(resource, now)):
                    self._changed()

    def _changed(self) -> None:
        """Compute anew, once there is a moment without changes."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._timer is None:
            self._dirty_since = now
        else:
            self._timer.cancel()
        due = min(now + QUIET, self._dirty_since + LONGEST)
        self._timer = loop.call_at(due, self._recompute)

    def _recompute(self) -> None:
        self._timer = None
        began = time.perf_counter()
        self._snapshot = self._take()
        for key in [key for key in self._proxies if key not in self._snapshot.pods]:
            self._proxies.pop(key).stop()
        if not self._pilot_ready():
            # As when pilot is down: what proxies have stays; nothing new goes out.
            return
        count = 0
        for key, workload in self._snapshot.workloads.items():
            if workload.proxy and workload.ip:
                self._state(key).update(translate(self._snapshot, workload))
                count += 1
        self._secrets.refresh(self._proxies.values())
        log.debug("%d proxies computed in %.1f ms", count, (time.perf_counter() - began) * 1000)

    def _pilot_ready(self) -> bool:
        for pod in self._snapshot.pods.values():
            if (
                labels(pod).get("istio") == "pilot"
                and pod["metadata"]["namespace"] == self._snapshot.mesh.root_namespace
            ):
                conditions = pod.get("status", {}).get("conditions") or []
                if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
                    return True
        return False

    def _state(self, key: tuple[str, str]) -> ProxyState:
        return self._proxies.setdefault(key, ProxyState(key, self._refused))

    def _refused(self, key: tuple[str, str], what: str) -> None:
        log.warning("the proxy of %s/%s refused %s", *key, what)
        pod = self._snapshot.pods.get(key)
        if pod is not None:
            message = f"Envoy refused {what} and goes on with what it had; its own words are in the log of istio-proxy"
            self._objects.event(
                pod, "Warning", "ConfigRejected", message, "istio-pilot" if self._settings.legacy else "istiod"
            )


def _matters(resource: str, obj: Obj) -> object:
    """What of an object proxies depend on: most writes to pods are about their containers' states."""
    meta = obj["metadata"]
    if resource == "pods":
        status = obj.get("status") or {}
        seen = (labels(obj), obj.get("spec"), status.get("podIP"), status.get("phase"), "deletionTimestamp" in meta)
        pilot = labels(obj).get("istio") == "pilot"
        return (*seen, status.get("conditions")) if pilot else seen
    if resource == "secrets" and obj.get("type") in (CITADEL_TYPE, "kubernetes.io/service-account-token"):
        return None
    if resource == "configmaps" and meta["name"] in (TRUST, "kube-root-ca.crt"):
        return None
    if resource == "endpoints":
        return obj.get("subsets")
    if resource == "endpointslices.discovery.k8s.io":
        return obj.get("endpoints"), obj.get("ports"), labels(obj)
    if resource == "services":
        return labels(obj), meta.get("annotations"), obj.get("spec")
    return obj
