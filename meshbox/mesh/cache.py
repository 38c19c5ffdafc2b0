# SPDX-License-Identifier: Apache-2.0
"""The objects that the mesh follows, each in the last version that can be used.

What a webhook lets through may still be unusable: it was down, or the object is older than it. Such an object never
reaches the proxies: the version before goes on, and a Warning event on the object says what is wrong with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from meshbox.contracts import Event, Obj, Objects
from meshbox.following import follow
from meshbox.mesh.denials import stand_in
from meshbox.mesh.identities import CITADEL_TYPE, TRUST
from meshbox.mesh.istio_validation.problems import Problems
from meshbox.mesh.istio_validation.verdicts import Verdicts
from meshbox.mesh.kinds import (
    CONFIG_MAPS,
    GATEWAY_API_RESOURCES,
    ISTIO_RESOURCES,
    KUBERNETES_GATEWAYS,
    NAMESPACES,
    NODES,
    RESOURCES,
    SERVICE_ENTRIES,
    WORKLOAD_ENTRIES,
)
from meshbox.mesh.mesh_config import settings_in
from meshbox.mesh.model import labels
from meshbox.mesh.notices import notices
from meshbox.mesh.pilot_metrics import MeshMonitor
from meshbox.mesh.revisions import is_istiod
from meshbox.mesh.settings import mesh_problem, not_played
from meshbox.mesh.unplayed import whole_kinds

__all__ = ["ObjectCache"]

log = logging.getLogger(__name__)

_Key = tuple[str, str, str]
"""Resource, namespace ("" for none) and name."""


class ObjectCache:
    """Follows the objects.

    Args:
        objects: The cluster's objects.
        legacy: Whether Istio 1.2's rules apply.
        changed: Called with the resource when something of it changed that proxies depend on.
        monitor: Counts what is followed.
        verdicts: What Istio says of objects.
    """

    def __init__(
        self,
        objects: Objects,
        *,
        legacy: bool,
        changed: Callable[[str], None],
        monitor: MeshMonitor | None = None,
        verdicts: Verdicts | None = None,
    ) -> None:
        self._objects = objects
        self._verdicts = verdicts or Verdicts(legacy=legacy)
        self._changed = changed
        self._monitor = monitor or MeshMonitor()
        self._legacy = legacy
        self._component = "istio-pilot" if legacy else "istiod"
        # The old release knows no Gateway API, for which alone namespaces are looked at.
        newer = (NAMESPACES, *GATEWAY_API_RESOURCES) if legacy else ()
        resources = [resource for resource in RESOURCES if resource not in newer]
        self._known: dict[str, dict[tuple[str, str], Obj]] = {resource: {} for resource in resources}
        self._fresh: dict[_Key, Obj | None] = {}
        self._left_out: dict[_Key, Obj] = {}
        self._told: dict[_Key, str] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to follow."""
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(
                follow(self._objects, resource, partial(self._take, resource), self._component, "ConfigRejected")
            )
            for resource in self._known
        ]
        self._tasks += [
            loop.create_task(follow(self._objects, resource, self._tell_of_all, self._component, "NotPlayed"))
            for resource in whole_kinds(legacy=self._legacy)
        ]

    async def stop(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def current(self) -> dict[str, list[Obj]]:
        """Every object in its last usable version."""
        return {resource: list(known.values()) for resource, known in self._known.items()}

    def used(self) -> list[str]:
        """All there is now was computed without trouble: the objects of Istio that changed since the last time."""
        names = [
            f"{resource.split('.')[0]} {namespace}/{name}"
            for resource, namespace, name in self._fresh
            if resource in ISTIO_RESOURCES
        ]
        self._fresh.clear()
        return names

    def isolate(self, trouble: Callable[[], str]) -> None:
        """Go back to the version before for those objects, of all that changed last, that cannot be translated.

        At the start of a sandbox all objects are such changes: one of them must not take the mesh from all others.

        Args:
            trouble: Computes all from the objects as they are; returns what went wrong, or "".
        """
        fresh, self._fresh = self._fresh, {}
        now = {key: self._known[key[0]].get(key[1:]) for key in fresh}
        for key, before in fresh.items():
            self._put(key, before)
        if not trouble():
            self._admit(list(fresh), now, fresh, trouble)
            return
        # It lies elsewhere: the next change tries all of it again.
        self._fresh = fresh
        for key, obj in now.items():
            self._put(key, obj)

    def _admit(
        self, keys: list[_Key], now: dict[_Key, Obj | None], before: dict[_Key, Obj | None], trouble: Callable[[], str]
    ) -> None:
        """Take what changed, as much of it at once as goes without trouble."""
        for key in keys:
            self._put(key, now[key])
        problem = trouble()
        if not problem:
            self._fresh |= {key: before[key] for key in keys}
            return
        for key in keys:
            self._put(key, before[key])
        if len(keys) > 1:
            half = len(keys) // 2
            self._admit(keys[:half], now, before, trouble)
            self._admit(keys[half:], now, before, trouble)
        elif (obj := now[keys[0]]) is not None:
            self._left_out[keys[0]] = obj
            denying, meaning = stand_in(keys[0][0], obj)
            if before[keys[0]] is None and denying is not None:
                self._put(keys[0], denying)
                problem = f"{problem}; {meaning}"
            if self._told.get(keys[0]) != problem:
                self._told[keys[0]] = problem
                self._warn(obj, f"cannot be translated for proxies: {problem}")

    def retry(self) -> bool:
        """Take once more what could not be translated; whether there is any."""
        left_out, self._left_out = self._left_out, {}
        for key, obj in left_out.items():
            self._fresh.setdefault(key, self._known[key[0]].get(key[1:]))
            self._put(key, obj)
        return bool(left_out)

    def _put(self, key: _Key, obj: Obj | None) -> None:
        if obj is None:
            self._known[key[0]].pop(key[1:], None)
        else:
            self._known[key[0]][key[1:]] = obj

    def _warn(self, obj: Obj, problem: str) -> None:
        meta = obj["metadata"]
        log.warning("%s %s/%s: %s", obj.get("kind"), meta.get("namespace", ""), meta["name"], problem)
        self._objects.event(obj, "Warning", "ConfigRejected", problem, self._component)

    def _tell(self, obj: Obj, problems: Problems) -> None:
        """Say on an object what of it is not played: a learner should not look for the mistake in the object."""
        if problems.unplayed:
            self._objects.event(obj, "Warning", "NotPlayed", "; ".join(problems.unplayed), self._component)

    def _tell_of_all(self, event: Event) -> None:
        if event.type == "ADDED":
            self._tell(event.object, self._verdicts.of(event.object))

    def _take(self, resource: str, event: Event) -> None:
        known = self._known[resource]
        meta = event.object["metadata"]
        key = (meta.get("namespace") or "", meta["name"])
        for table in (self._left_out, self._told):
            table.pop((resource, *key), None)
        before = known.get(key)
        what = "delete" if event.type == "DELETED" else "update" if before is not None else "add"
        self._monitor.followed(resource, event.object, what)
        if event.type == "DELETED":
            known.pop(key, None)
        elif self._usable(resource, event.object, before):
            known[key] = event.object
        elif before is None and (denying := stand_in(resource, event.object)[0]) is not None:
            known[key] = denying
        now = known.get(key)
        if (before and _matters(resource, before)) == (now and _matters(resource, now)):
            return
        self._fresh.setdefault((resource, *key), before)
        if resource == NAMESPACES and not self._asks_for_namespaces():
            return
        self._changed(resource)

    def _asks_for_namespaces(self) -> bool:
        """Whether anything asks for the labels of namespaces: a Gateway's listeners, or the mesh's settings."""
        settings = settings_in(self._known[CONFIG_MAPS].values()) or {}
        told = (settings.get("data") or {}).get("mesh", "")
        return bool(self._known[KUBERNETES_GATEWAYS]) or "discoverySelectors" in told

    def _usable(self, resource: str, obj: Obj, before: Obj | None) -> bool:
        if resource not in ISTIO_RESOURCES:
            problem = mesh_problem(obj) if resource == "configmaps" else ""
            if problem:
                kept = "the settings before stay in force" if before is not None else "the defaults are in force"
                self._warn(obj, f"the mesh's settings cannot be read, {kept}: {problem}")
            elif resource == "configmaps":
                changed = before is None or before.get("data") != obj.get("data")
                for name in not_played(obj, legacy=self._legacy) if changed else ():
                    self._warn(obj, f"the mesh's setting {name} has no effect in the sandbox")
            return not problem
        problems = self._verdicts.of(obj)
        if before is None or _asked(before) != _asked(obj):
            self._tell(obj, problems)
            for problem in notices(resource, obj, legacy=self._legacy):
                self._warn(obj, problem)
        if not problems.errors:
            return True
        kept = "the version before stays in force" if before is not None else stand_in(resource, obj)[1]
        self._warn(obj, f"configuration is invalid, {kept}: {problems.text().strip()}")
        return False


def _asked(obj: Obj) -> object:
    """What of an object may ask for something that is not played."""
    return obj.get("spec"), obj["metadata"].get("annotations")


def _matters(resource: str, obj: Obj) -> object:
    """What of an object proxies depend on: most writes to pods are about their containers' states."""
    meta = obj["metadata"]
    if resource == "pods":
        status = obj.get("status") or {}
        seen = (labels(obj), obj.get("spec"), status.get("podIP"), status.get("phase"), "deletionTimestamp" in meta)
        return (*seen, status.get("conditions")) if is_istiod(obj) else seen
    if resource == "secrets" and obj.get("type") in (CITADEL_TYPE, "kubernetes.io/service-account-token"):
        return None
    if resource == "configmaps" and meta["name"] in (TRUST, "kube-root-ca.crt"):
        return None
    if resource == "endpoints":
        return obj.get("subsets")
    if resource == "endpointslices.discovery.k8s.io":
        return obj.get("endpoints"), obj.get("ports"), labels(obj)
    if resource == "namespaces":
        return labels(obj)
    if resource == "services":
        return labels(obj), meta.get("annotations"), obj.get("spec")
    if resource == NODES:
        return labels(obj)
    if resource in (SERVICE_ENTRIES, WORKLOAD_ENTRIES):
        return labels(obj), meta.get("annotations"), obj.get("spec"), obj.get("status")
    return labels(obj), meta.get("annotations"), obj.get("spec"), obj.get("data"), obj.get("type")
