# SPDX-License-Identifier: Apache-2.0
"""Bringing what a Gateway runs as into the cluster, with the changes to it that ConfigMaps ask for."""

from __future__ import annotations

import json
from collections.abc import Sequence

from labkit.ground import reading
from meshbox.contracts import Obj, Objects, View
from meshbox.mesh.gateway_api.classes import CONTROLLER
from meshbox.mesh.gateway_api.deployment import OVERLAYS, resources
from meshbox.mesh.gateway_api.listeners import Listener
from meshbox.mesh.inject import Template
from meshbox.mesh.revisions import called, revision_of
from meshbox.reconcile import Key, object_key

__all__ = ["Provisioner"]

_ROOT = "istio-system"
_DEFAULTS = "gateway.istio.io/defaults-for-class"
"""The label of a ConfigMap in istio-system that changes what is made for all Gateways of a class."""

_OPTIONAL = frozenset({"horizontalPodAutoscaler", "podDisruptionBudget"})
_IDENTITY = ("name", "namespace", "ownerReferences", "finalizers", "uid", "generateName")


class _InvalidError(Exception):
    """A ConfigMap that cannot be followed."""


class Provisioner:
    """Makes what Gateways run as.

    Args:
        objects: The cluster's objects.
        release: The release that is played.
    """

    def __init__(self, objects: Objects, release: str) -> None:
        self._objects = objects
        self._release = release
        self._done: dict[Key, str] = {}

    def forget(self, key: Key) -> None:
        """A Gateway is no more; the garbage collector takes what was made for it."""
        self._done.pop(key, None)

    def concerns(self, config_map: View, gateway: View) -> bool:
        """Whether a ConfigMap changes what is made for a Gateway."""
        meta = config_map["metadata"]
        names = [called(name, revision_of(config_map)) for name in ("istio-sidecar-injector", "istio")]
        if meta["namespace"] == _ROOT and meta["name"] in names:
            return True
        reference = (gateway["spec"].get("infrastructure") or {}).get("parametersRef") or {}
        if (meta["namespace"], meta["name"]) == (gateway["metadata"]["namespace"], reference.get("name")):
            return True
        of_class = (meta.get("labels") or {}).get(_DEFAULTS)
        return (meta["namespace"], of_class) == (_ROOT, gateway["spec"]["gatewayClassName"])

    def provide(self, gateway: Obj, more: Sequence[Listener]) -> str:
        """Make or change what a Gateway runs as.

        Args:
            gateway: The Gateway.
            more: The listeners that ListenerSets add to it.

        Returns:
            Why its `parametersRef` cannot be followed, and so nothing was done; "" where all is well.

        Raises:
            ApiError: The API refuses what would have to be made.
        """
        key = object_key(gateway)
        try:
            wanted = self._changed(gateway, resources(gateway, Template.of(self._objects, self._release), more))
        except _InvalidError as error:
            return str(error)
        text = json.dumps(wanted, sort_keys=True)
        if self._done.get(key) == self._state(text, wanted):
            return ""
        for part, obj in wanted.items():
            meta = obj["metadata"]
            self._objects.apply(OVERLAYS[part], meta["name"], obj, meta["namespace"], manager=CONTROLLER, strict=True)
        self._done[key] = self._state(text, wanted)
        return ""

    def _state(self, text: str, wanted: dict[str, Obj]) -> str:
        """What is wanted, and what is there of it: as long as both are the same nothing needs to be applied."""
        found = []
        for part, obj in wanted.items():
            meta = obj["metadata"]
            there = self._objects.find(OVERLAYS[part], meta["name"], meta["namespace"]) or {}
            seen = there.get("metadata") or {}
            found.append([seen.get("uid"), seen.get("labels"), seen.get("annotations"), there.get("spec")])
        return text + json.dumps(found, sort_keys=True)

    def _changed(self, gateway: View, made: dict[str, Obj]) -> dict[str, Obj]:
        overlays = [*self._of_class(gateway), *self._of_gateway(gateway)]
        for config_map in overlays:
            for part in config_map.get("data") or {}:
                if part not in OVERLAYS:
                    supported = " ".join(sorted(OVERLAYS))
                    raise _InvalidError(f'unsupported overlay "{part}" (supported: [{supported}])')
        found = {}
        for part, obj in made.items():
            texts = [data[part] for one in overlays if part in (data := one.get("data") or {})]
            if texts or part not in _OPTIONAL:
                found[part] = self._overlaid(part, obj, texts)
        return found

    def _overlaid(self, part: str, obj: Obj, texts: list[str]) -> Obj:
        changed = obj
        for text in texts:
            try:
                patch = reading.yaml_value(text)
            except reading.ReadingError as error:
                raise _InvalidError(f"strategic merge patch failed: {part}: {error}") from error
            if not isinstance(patch, dict):
                raise _InvalidError(f"strategic merge patch failed: {part}: it is no object")
            changed = self._objects.merged(OVERLAYS[part], changed, patch)
        if any(changed["metadata"].get(field) != obj["metadata"].get(field) for field in _IDENTITY):
            raise _InvalidError("illegal metadata change")
        return changed

    def _of_class(self, gateway: View) -> list[Obj]:
        named = f"{_DEFAULTS}={gateway['spec']['gatewayClassName']}"
        found = self._objects.list("configmaps", _ROOT, labels=named)
        return sorted(found, key=lambda one: str(one["metadata"]["creationTimestamp"]))[:1]

    def _of_gateway(self, gateway: View) -> list[Obj]:
        reference = (gateway["spec"].get("infrastructure") or {}).get("parametersRef")
        if not reference:
            return []
        group, kind = reference.get("group") or "", reference["kind"]
        if (group, kind) != ("", "ConfigMap"):
            raise _InvalidError(f"invalid parameters: unknown infrastructure parameters type {group}/{kind}")
        namespace = gateway["metadata"]["namespace"]
        found = self._objects.find("configmaps", reference["name"], namespace)
        if found is None:
            named = f'"{namespace}/{reference["name"]}"'
            raise _InvalidError(f"parametersRef targeting configmap {named}, but configmap does not exist")
        return [found]
