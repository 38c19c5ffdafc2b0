"""The mesh's control plane: follows objects, computes what each proxy is told, and tells it."""

from __future__ import annotations

import asyncio
import logging
import time

from meshbox.contracts import AdmissionPlugin, Objects
from meshbox.mesh.admission import MeshAdmission
from meshbox.mesh.cache import ObjectCache
from meshbox.mesh.certificates import LEGACY_LIFETIME, LIFETIME, Authority
from meshbox.mesh.galley import Galley
from meshbox.mesh.identities import IdentityWriter
from meshbox.mesh.memo import Memo
from meshbox.mesh.metrics_pages import page
from meshbox.mesh.model import labels
from meshbox.mesh.pilot_metrics import MeshMonitor
from meshbox.mesh.secrets import SecretSource
from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.translate import Config, translate
from meshbox.mesh.xds import ProxyState, XdsServer
from meshbox.settings import XDS_PORT, SandboxSettings

__all__ = ["Mesh"]

log = logging.getLogger(__name__)

QUIET = 0.01
LONGEST = 0.05
"""Seconds without a change, and seconds at most, before changes are acted on together. Istio waits 0.1 s and up to 10
s: it spares thousands of proxies, while a learner waits for a dozen.
"""

ROTATION = 600.0
"""Seconds between looks at identities that are to be renewed."""

_Name = tuple[str, str]


class Mesh:
    """The mesh of one sandbox.

    Args:
        objects: The cluster's objects.
        settings: The sandbox.
    """

    def __init__(self, objects: Objects, settings: SandboxSettings) -> None:
        self._objects = objects
        self._settings = settings
        self._monitor = MeshMonitor()
        self._cache = ObjectCache(objects, legacy=settings.legacy, changed=self._changed, monitor=self._monitor)
        self._proxies: dict[_Name, ProxyState] = {}
        self._memo = Memo()
        self._snapshot = self._take()
        self._recent: list[str] = []
        self._rotation: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._dirty_since = self._dirty_moment = 0.0
        self._pressed = False
        self._authority = Authority(settings.home / "mesh", LEGACY_LIFETIME if settings.legacy else LIFETIME)
        self._secrets = SecretSource(self._authority, lambda: self._snapshot)
        self._server = XdsServer(
            settings.plan.node,
            XDS_PORT,
            settings.xds_token,
            self._state,
            self._secrets.get,
            monitor=self._monitor,
            page=self._page,
        )
        self._identities = IdentityWriter(objects, self._authority, legacy=settings.legacy)
        self._galley = Galley(objects) if settings.legacy else None
        self.admission: AdmissionPlugin = MeshAdmission(objects, settings, self._monitor)

    async def start(self) -> None:
        """Serve proxies and follow the objects."""
        self._authority.load()
        await self._server.start()
        self._cache.start()
        self._identities.start()
        if self._galley is not None:
            self._galley.start()
        self._rotation = asyncio.get_running_loop().create_task(self._rotate())

    async def stop(self) -> None:
        """Stop; proxies go on with what they have."""
        if self._timer is not None:
            self._timer.cancel()
        for state in self._proxies.values():
            state.stop()
        if self._rotation is not None:
            self._rotation.cancel()
            await asyncio.gather(self._rotation, return_exceptions=True)
        if self._galley is not None:
            await self._galley.stop()
        await asyncio.gather(self._cache.stop(), self._identities.stop())
        await self._server.stop()

    def _take(self) -> Snapshot:
        return Snapshot(self._cache.current(), self._settings.plan, legacy=self._settings.legacy, memo=self._memo)

    async def _rotate(self) -> None:
        while True:
            await asyncio.sleep(ROTATION)
            if self._pilot_ready():
                self._secrets.refresh(self._proxies.values())

    def _changed(self, resource: str) -> None:
        """Compute anew, once there is a moment without changes."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._monitor.changed(resource, again=self._timer is not None)
        if self._timer is None:
            self._dirty_since = now
            self._dirty_moment = time.monotonic()
        else:
            self._timer.cancel()
        due = min(now + QUIET, self._dirty_since + LONGEST)
        self._pressed = due < now + QUIET
        self._timer = loop.call_at(due, self._recompute)

    def _recompute(self) -> None:
        self._timer = None
        self._monitor.gathered(longest=self._pressed)
        began, since = time.monotonic(), self._dirty_moment
        configs = self._translated()
        for key in [key for key in self._proxies if key not in self._snapshot.pods]:
            self._proxies.pop(key).stop()
        if configs is None or not self._pilot_ready():
            # As when pilot is down: what proxies have stays; nothing new goes out.
            return
        for key, config in configs.items():
            self._state(key).update(config, began, since)
        self._secrets.refresh(self._proxies.values())
        log.debug("%d proxies computed in %.1f ms", len(configs), (time.monotonic() - began) * 1000)

    def _translated(self) -> dict[_Name, Config] | None:
        """What every proxy should have; where the last change cannot be translated, as if it had not been made."""
        configs: dict[_Name, Config] | None = None

        def trouble() -> str:
            nonlocal configs
            try:
                snapshot = self._take()
                configs = {
                    key: translate(snapshot, workload)
                    for key, workload in snapshot.workloads.items()
                    if workload.proxy and workload.ip
                }
            except Exception as error:
                log.debug("cannot be translated", exc_info=True)
                return f"{type(error).__name__}: {error}"
            self._snapshot = snapshot
            return ""

        if problem := trouble():
            log.warning("the last change cannot be translated: %s", problem)
            self._cache.isolate(trouble)
            if trouble():
                return None
        self._memo.settle()
        self._recent = self._cache.used() or self._recent
        return configs

    def _pilot_ready(self) -> bool:
        root = self._snapshot.mesh.root_namespace
        for pod in self._snapshot.pods.values():
            if labels(pod).get("istio") == "pilot" and pod["metadata"]["namespace"] == root:
                conditions = pod.get("status", {}).get("conditions") or []
                if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
                    return True
        return False

    def _state(self, key: _Name) -> ProxyState:
        return self._proxies.setdefault(key, ProxyState(key, self._refused, monitor=self._monitor))

    def _page(self, component: str, pod: _Name) -> str:
        """The metrics of a component of the control plane, for one of its pods."""
        connected = sum(state.connected for state in self._proxies.values())
        legacy = self._settings.legacy
        return page(component, pod, self._snapshot, self._monitor, self._objects, connected=connected, legacy=legacy)

    def _refused(self, key: _Name, what: str) -> None:
        since = f" after {', '.join(self._recent[:3])} changed" if self._recent else ""
        log.warning("the proxy of %s/%s refused %s%s", *key, what, since)
        pod = self._snapshot.pods.get(key)
        if pod is not None:
            component = "istio-pilot" if self._settings.legacy else "istiod"
            message = f"Envoy refused {what}{since} and goes on with what it had; its log (-c istio-proxy) says why"
            self._objects.event(pod, "Warning", "ConfigRejected", message, component)
