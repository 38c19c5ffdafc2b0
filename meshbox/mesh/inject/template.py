# SPDX-License-Identifier: Apache-2.0
"""What the injector was installed with, as its template is filled from it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from labkit.ground import reading
from meshbox.contracts import Obj, Objects
from meshbox.mesh.settings import mesh_settings

__all__ = ["Template"]

_ROOT = "istio-system"


@dataclass(frozen=True)
class Template:
    """What the injector was installed with.

    Args:
        release: The sandbox's release, for what the mesh does not say.
        values: The installation's values (`global.hub`, `global.proxy` …).
        mesh: The mesh's settings.
        policy: "enabled" or "disabled": what becomes of pods that say nothing.
        never: Selectors of pods that never get a sidecar.
        always: Selectors of pods that always get one.
    """

    release: str
    values: Obj
    mesh: Obj
    policy: str = "enabled"
    never: tuple[Obj, ...] = ()
    always: tuple[Obj, ...] = ()

    @classmethod
    def of(cls, objects: Objects, release: str) -> Template:
        """Read the mesh's own ConfigMaps; where they cannot be read, the release's defaults hold."""
        injector = (objects.find("configmaps", "istio-sidecar-injector", _ROOT) or {}).get("data") or {}
        mesh = (objects.find("configmaps", "istio", _ROOT) or {}).get("data") or {}
        config = _settings(injector.get("config", ""))
        return cls(
            release=release,
            values=_values(injector.get("values", "")),
            mesh=mesh_settings(mesh.get("mesh", "")),
            policy=str(config.get("policy") or "enabled"),
            never=tuple(config.get("neverInjectSelector") or ()),
            always=tuple(config.get("alwaysInjectSelector") or ()),
        )

    def value(self, path: str, default: Any = "") -> Any:
        """A value below `global` by its dotted path, `default` where the installation does not give one."""
        found: Any = self.values.get("global") or {}
        for part in path.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return default if found is None else found

    def proxy_config(self, key: str, default: Any) -> Any:
        """A value of the mesh's `defaultConfig`."""
        found = (self.mesh.get("defaultConfig") or {}).get(key)
        return default if found is None else found

    def image(self, name: str) -> str:
        """An image by its short name, with the installation's hub and tag."""
        if "/" in name:
            return name
        return f"{self.value('hub') or 'docker.io/istio'}/{name}:{self.value('tag') or self.release}"


@functools.lru_cache(maxsize=4)
def _values(text: str) -> Obj:
    # An installation whose values cannot be read is injected with the release's own.
    try:
        found = reading.json_value(text) if text else {}
    except reading.ReadingError:
        return {}
    return found if isinstance(found, dict) else {}


@functools.lru_cache(maxsize=4)
def _settings(text: str) -> Obj:
    # The template itself is Go's; only the switches before it are read.
    head = "\n".join(line for line in text.split("\ntemplate")[0].splitlines())
    return mesh_settings(head)
