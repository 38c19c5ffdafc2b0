# SPDX-License-Identifier: Apache-2.0
"""What the injector was installed with, as its template is filled from it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from labkit.ground import reading
from meshbox.contracts import Obj, Objects
from meshbox.mesh.mesh_config import settings_in
from meshbox.mesh.revisions import called, revision_of
from meshbox.mesh.settings import mesh_settings

__all__ = ["Template"]

_ROOT = "istio-system"


class Template(Struct, frozen=True):
    """What the injector was installed with.

    Args:
        release: The sandbox's release, for what the mesh does not say.
        values: The installation's values (`global.hub`, `global.proxy` …).
        mesh: The mesh's settings.
        policy: "enabled" or "disabled": what becomes of pods that say nothing.
        never: Selectors of pods that never get a sidecar.
        always: Selectors of pods that always get one.
        defaults: The templates of a pod that names none.
        texts: The installation's templates by name, as they are written in Go's language.
        aliases: Names that stand for several templates.
        annotations: What every injected pod is annotated with.
        native: Whether sidecars are init containers, as the control plane is told.
    """

    release: str
    values: Obj
    mesh: Obj
    policy: str = "enabled"
    never: tuple[Obj, ...] = ()
    always: tuple[Obj, ...] = ()
    defaults: tuple[str, ...] = ("sidecar",)
    texts: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, list[str]] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    native: bool = True

    @classmethod
    def of(cls, objects: Objects, release: str, revision: str = "") -> Template:
        """Read a revision's own ConfigMaps; where they cannot be read, the release's defaults hold.

        Who names no revision means the one whose settings hold for all.
        """
        if not revision:
            revision = revision_of(settings_in(objects.view("configmaps", _ROOT)) or {"metadata": {}})
        injector, mesh = (
            (objects.find("configmaps", called(name, revision), _ROOT) or {}).get("data") or {}
            for name in ("istio-sidecar-injector", "istio")
        )
        config = _settings(injector.get("config", ""))
        return cls(
            release=release,
            values=_values(injector.get("values", "")),
            mesh=mesh_settings(mesh.get("mesh", "")),
            policy=str(config.get("policy") or "enabled"),
            never=tuple(config.get("neverInjectSelector") or ()),
            always=tuple(config.get("alwaysInjectSelector") or ()),
            defaults=tuple(config.get("defaultTemplates") or ()) or ("sidecar",),
            texts=config.get("templates") or {},
            aliases=config.get("aliases") or {},
            annotations=config.get("injectedAnnotations") or {},
            native=_native(objects, called("istiod", revision)),
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

    def image(self, name: str, kind: str = "") -> str:
        """An image by its short name, with the installation's hub and tag, of a kind such as "distroless"."""
        if "/" in name:
            return name
        tag = str(self.value("tag") or self.release)
        if kind:
            tag = tag.removesuffix("-distroless").removesuffix("-debug")
            tag = tag if kind == "default" else f"{tag}-{kind}"
        return f"{self.value('hub') or 'docker.io/istio'}/{name}:{tag}"


def _native(objects: Objects, name: str) -> bool:
    istiod = objects.find("deployments.apps", name, _ROOT) or {}
    template = (istiod.get("spec") or {}).get("template") or {}
    for container in (template.get("spec") or {}).get("containers") or []:
        for one in container.get("env") or []:
            if one.get("name") == "ENABLE_NATIVE_SIDECARS":
                return str(one.get("value")).lower() != "false"
    return True


@functools.lru_cache(maxsize=4)
def _values(text: str) -> Obj:
    # An installation whose values cannot be read is injected with the release's own.
    try:
        found = reading.json_value(text) if text else {}
    except reading.ReadingError:
        return {}
    return found if isinstance(found, dict) else {}


_FORMS: dict[str, type] = {
    "defaultTemplates": list,
    "templates": dict,
    "aliases": dict,
    "injectedAnnotations": dict,
}


@functools.lru_cache(maxsize=4)
def _settings(text: str) -> Obj:
    # Where the whole cannot be read, the switches before the first template count.
    found = mesh_settings(text) or mesh_settings(text.split("\ntemplate")[0])
    return {key: value for key, value in found.items() if isinstance(value, _FORMS.get(key, object))}
