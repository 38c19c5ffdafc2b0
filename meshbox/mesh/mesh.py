# SPDX-License-Identifier: Apache-2.0
"""The mesh's control plane: follows objects, computes what each proxy is told, and tells it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from functools import partial

from meshbox import failures
from meshbox.contracts import AdmissionPlugin, Objects
from meshbox.mesh.admission import MeshAdmission
from meshbox.mesh.ads import AdsServer
from meshbox.mesh.allocation import Allocator
from meshbox.mesh.cache import ObjectCache
from meshbox.mesh.certificates import LEGACY_LIFETIME, LIFETIME, Authority
from meshbox.mesh.control_plane import ControlPlane
from meshbox.mesh.entry_notices import idle_entries
from meshbox.mesh.envoy_filters import EnvoyFilters
from meshbox.mesh.galley import Galley
from meshbox.mesh.gateway_api.controller import GatewayApi
from meshbox.mesh.gateway_notices import GatewayNotices
from meshbox.mesh.identities import IdentityWriter
from meshbox.mesh.ingress_status import IngressWriter
from meshbox.mesh.istio_validation.verdicts import Verdicts
from meshbox.mesh.jwks import KeyFetcher
from meshbox.mesh.kinds import CONFIG_MAPS, REQUEST_AUTHENTICATIONS, SECRETS
from meshbox.mesh.memo import Memo
from meshbox.mesh.mesh_config import MeshConfig
from meshbox.mesh.metrics_pages import page
from meshbox.mesh.open_ports import OpenPorts
from meshbox.mesh.pages import PageServer
from meshbox.mesh.pilot_metrics import MeshMonitor
from meshbox.mesh.proxies import ProxyState
from meshbox.mesh.refusals import in_a_line, ingredients, named
from meshbox.mesh.revisions import is_istiod
from meshbox.mesh.secrets import SecretSource
from meshbox.mesh.security_notices import denying
from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.telemetry_notices import unheard_telemetries
from meshbox.mesh.translate import Config, translate
from meshbox.mesh.webhook_trust import WebhookTrust
from meshbox.settings import PAGES_PORT, XDS_PORT, SandboxSettings

__all__ = ["Mesh"]

log = logging.getLogger(__name__)

QUIET = 0.01
LONGEST = 0.05
"""Seconds without a change, and seconds at most, before changes are acted on together. Istio waits 0.1 s and up to 10
s: it spares thousands of proxies, while a learner waits for a dozen.
"""

AGAIN, LONGEST_PAUSE = 2.0, 60.0
"""Seconds until what could not be translated, or told to a proxy, is tried again; doubled each time."""

BESIDE = frozenset({str(SECRETS), str(CONFIG_MAPS)})
"""Resources of which most objects are no part of what proxies are configured with."""

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
        verdicts = Verdicts(legacy=settings.legacy)
        self._cache = ObjectCache(
            objects, legacy=settings.legacy, changed=self._changed, monitor=self._monitor, verdicts=verdicts
        )
        self._proxies: dict[_Name, ProxyState] = {}
        self._memo = Memo()
        self._open_ports = OpenPorts(settings.plan, lambda: self._changed("pods"), self._not_computed)
        self._component = "istio-pilot" if settings.legacy else "istiod"
        self._keys = KeyFetcher(objects, lambda: self._snapshot, self._keys_changed, self._component)
        self._told: dict[str, str] = {}
        self._snapshot = self._take()
        self._recent: list[str] = []
        self._rotation: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None
        self._pause = AGAIN
        self._filters = EnvoyFilters(objects, self._component, self._once_tried, self._not_computed)
        self._dirty_since = self._dirty_moment = 0.0
        # Which resources changed since the objects were last taken, and whether these could all be translated.
        self._moved: set[str] = set()
        self._whole = False
        self._pressed = False
        self._authority = Authority(settings.home / "mesh", LEGACY_LIFETIME if settings.legacy else LIFETIME)
        self._secrets = SecretSource(self._authority, lambda: self._snapshot)
        self._gateways = GatewayNotices(objects, self._component)
        self._pages = PageServer(
            settings.plan.node,
            PAGES_PORT,
            settings.xds_token,
            self._page,
            ControlPlane(objects, settings, lambda: self._snapshot, lambda: self._proxies, self._authority).answer,
        )
        tell_of_ads = partial(
            failures.report_here, objects, what="configuration does not reach a proxy", component=self._component
        )
        self._streams = AdsServer(settings.plan.node, XDS_PORT, settings.xds_token, self._state, tell_of_ads)
        self._identities = IdentityWriter(objects, self._authority, legacy=settings.legacy)
        # What each release does besides telling proxies.
        self._chore = Galley(objects) if settings.legacy else Allocator(objects, self._pilot_ready)
        self._ingresses = IngressWriter(objects, legacy=settings.legacy)
        self._gateway_api = None if settings.legacy else GatewayApi(objects, settings.release)
        self._trust = None if settings.legacy else WebhookTrust(objects, self._authority)
        self.admission: AdmissionPlugin = MeshAdmission(objects, settings, self._monitor, verdicts)

    async def start(self) -> None:
        """Serve proxies and follow the objects."""
        self._authority.load()
        await self._pages.start()
        await self._streams.start()
        self._cache.start()
        self._open_ports.start()
        self._identities.start()
        self._chore.start()
        self._ingresses.start()
        if self._gateway_api is not None:
            self._gateway_api.start()
        if self._trust is not None:
            self._trust.start()
        self._rotation = asyncio.get_running_loop().create_task(self._rotate())

    async def stop(self) -> None:
        """Stop; proxies go on with what they have."""
        for timer in (self._timer, self._again):
            if timer is not None:
                timer.cancel()
        for state in self._proxies.values():
            state.stop()
        self._filters.stop()
        if self._rotation is not None:
            self._rotation.cancel()
            await asyncio.gather(self._rotation, return_exceptions=True)
        if self._gateway_api is not None:
            await self._gateway_api.stop()
        if self._trust is not None:
            await self._trust.stop()
        await asyncio.gather(
            self._chore.stop(),
            self._cache.stop(),
            self._open_ports.stop(),
            self._identities.stop(),
            self._ingresses.stop(),
            self._keys.stop(),
        )
        await self._streams.stop()
        await self._pages.stop()

    @property
    def proxies(self) -> Mapping[_Name, ProxyState]:
        """The proxies that are told something, by namespace and name of their pods."""
        return self._proxies

    async def settled(self) -> None:
        """Wait until all changes that were noticed are acted on, and every proxy is told."""
        while self._timer is not None or any(state.rolling for state in self._proxies.values()):
            await asyncio.sleep(QUIET / 10)

    def _take(self) -> Snapshot:
        return Snapshot(
            self._cache.current(),
            self._settings.plan,
            legacy=self._settings.legacy,
            memo=self._memo,
            listening=self._open_ports.now,
            keys=self._keys.keys,
        )

    async def _rotate(self) -> None:
        while True:
            await asyncio.sleep(ROTATION)
            with failures.spared(self._not_computed):
                if self._pilot_ready():
                    self._refresh_secrets()

    def _changed(self, resource: str) -> None:
        """Compute anew, once there is a moment without changes."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._monitor.changed(resource, again=self._timer is not None)
        self._moved.add(resource)
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
        moved, self._moved = self._moved, set()
        with failures.spared(self._not_computed):
            if not self._credentials_only(moved):
                self._compute()

    def _credentials_only(self, moved: set[str]) -> bool:
        """Whether nothing is another but Secrets and ConfigMaps that only those proxies see which ask for them: then
        these are told, and nothing is translated.
        """
        if not moved or not moved <= BESIDE or not self._whole:
            return False
        snapshot = self._snapshot.beside(self._cache.current())
        if snapshot is None:
            return False
        self._monitor.gathered(longest=self._pressed)
        self._snapshot = snapshot
        if self._pilot_ready():
            self._refresh_secrets()
            self._gateways.tell(snapshot)
        return True

    def _once_tried(self) -> None:
        """Envoy has said what it takes: who waited for that is told."""
        if self._timer is None:
            self._dirty_moment = time.monotonic()
            self._recompute()

    def _not_computed(self, error: BaseException) -> None:
        failures.report_here(self._objects, error, "no change of the mesh reaches any proxy", self._component)
        self._once_more()

    def _compute(self) -> None:
        self._monitor.gathered(longest=self._pressed)
        began, since = time.monotonic(), self._dirty_moment
        self._whole = False
        configs = self._translated()
        self._whole = configs is not None
        for key in [key for key in self._proxies if key not in self._snapshot.pods]:
            self._proxies.pop(key).stop()
        if self._gateway_api is not None:
            self._gateway_api.update(self._snapshot.converted, ready=self._pilot_ready())
        if configs is None or not self._pilot_ready():
            # As when pilot is down: what proxies have stays; nothing new goes out.
            return
        for key, config in configs.items():
            with failures.spared(partial(self._untold, key)):
                played = self._filters.play(self._snapshot, key, config)
                if played is not None:
                    self._state(key).update(played, began, since)
        self._filters.finish(self._snapshot)
        self._refresh_secrets()
        self._keys.follow()
        self._say_what_is_not_so()
        self._gateways.tell(self._snapshot)
        log.debug("%d proxies computed in %.1f ms", len(configs), (time.monotonic() - began) * 1000)

    def _keys_changed(self) -> None:
        self._changed(REQUEST_AUTHENTICATIONS)

    def _say_what_is_not_so(self) -> None:
        """Tell of each policy that denies all, and of each object of which nothing comes, once for each reason."""
        snapshot = self._snapshot
        speaking = (*denying(snapshot), *unheard_telemetries(snapshot), *idle_entries(snapshot))
        found = {obj["metadata"]["uid"]: (obj, problem) for obj, problem in speaking}
        for uid, (obj, problem) in found.items():
            if self._told.get(uid) != problem:
                self._objects.event(obj, "Warning", "ConfigRejected", problem, self._component)
        self._told = {uid: problem for uid, (_, problem) in found.items()}

    def _translated(self) -> dict[_Name, Config] | None:
        """What every proxy should have; where the last change cannot be translated, as if it had not been made."""
        configs: dict[_Name, Config] | None = None
        met: Exception | None = None

        def trouble() -> str:
            nonlocal configs, met
            try:
                snapshot = self._take()
                configs = {
                    key: translate(snapshot, workload)
                    for key, workload in snapshot.workloads.items()
                    if workload.proxy and workload.ip
                }
            except Exception as error:
                met = error
                return failures.noted(error, "the last change cannot be translated")
            self._snapshot = snapshot
            return ""

        if trouble():
            self._cache.isolate(trouble)
            if trouble() and met is not None:
                self._not_computed(met)
                return None
            self._once_more()
        self._memo.settle()
        self._recent = self._cache.used() or self._recent
        return configs

    def _refresh_secrets(self) -> None:
        self._authority.follow(self._objects)
        for key, state in self._proxies.items():
            with failures.spared(partial(self._untold, key)):
                state.refresh_secrets()

    def _untold(self, key: _Name, error: BaseException) -> None:
        """One proxy could not be told what it should have: the others are, and this one is tried again."""
        pod = self._snapshot.pods.get(key)
        if pod is not None:
            failures.report(self._objects, pod, error, "ConfigRejected", self._component)
        else:
            failures.report_here(self._objects, error, f"the proxy of {key[0]}/{key[1]} is not told", self._component)
        self._once_more()

    def _once_more(self) -> None:
        if self._again is None:
            self._again = asyncio.get_running_loop().call_later(self._pause, self._try_again)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _try_again(self) -> None:
        self._again = None
        self._cache.retry()
        if self._timer is None:
            self._dirty_moment = time.monotonic()
            self._recompute()
        if self._again is None:
            self._pause = AGAIN

    def _pilot_ready(self) -> bool:
        # Pilot stays where it was installed, wherever the mesh's settings look for what holds everywhere.
        for pod in self._snapshot.pods.values():
            if is_istiod(pod) and pod["metadata"]["namespace"] == MeshConfig.root_namespace:
                conditions = pod.get("status", {}).get("conditions") or []
                if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
                    return True
        return False

    def _state(self, key: _Name) -> ProxyState:
        if key not in self._proxies:
            self._proxies[key] = ProxyState(
                key, self._refused, self._secrets.get, self._monitor, partial(self._untold, key)
            )
        return self._proxies[key]

    def _page(self, component: str, pod: _Name) -> str:
        """The metrics of a component of the control plane, for one of its pods."""
        connected = sum(state.connected for state in self._proxies.values())
        legacy = self._settings.legacy
        return page(component, pod, self._snapshot, self._monitor, self._objects, connected=connected, legacy=legacy)

    def _refused(self, key: _Name, what: str, resource: bytes, reason: str) -> None:
        pod, workload = self._snapshot.pods.get(key), self._snapshot.workloads.get(key)
        if pod is None or workload is None:
            return
        with failures.spared(partial(self._untold, key)):
            made_of = named(ingredients(self._snapshot, workload, what, resource), self._recent)
            whom = f", made of {', '.join(made_of)}," if made_of else ""
            reason = in_a_line(reason)
            log.warning("the proxy of %s/%s refused %s%s: %s", *key, what, whom, reason)
            message = f"Envoy refused {what}{whom} and goes on with what it had: {reason}"
            self._objects.event(pod, "Warning", "ConfigRejected", message, self._component)
            where = f"the Envoy of pod {key[0]}/{key[1]} refused {what}"
            for obj in made_of.values():
                about = f"{where}, which this object is part of, and goes on with what it had: {reason}"
                self._objects.event(obj, "Warning", "ConfigRejected", about, self._component)
        if self._filters.refused(self._snapshot, key, what.partition(" ")[0]):
            self._once_tried()
