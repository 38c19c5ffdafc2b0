# SPDX-License-Identifier: Apache-2.0
"""The mesh's settings as ConfigMaps give them: read within bounds, and only where each has the form it must have."""

from __future__ import annotations

import functools
from typing import Any

from labkit.ground import reading
from meshbox.contracts import Obj

__all__ = ["mesh_problem", "mesh_settings", "number"]

_ROOT = "istio-system"
_TEXTS = (
    *("rootNamespace", "accessLogFile", "accessLogFormat", "accessLogEncoding", "trustDomain"),
    *("ingressControllerMode", "ingressClass", "ingressService", "ingressSelector"),
)
_FORMS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(_TEXTS, str),
    **dict.fromkeys(("outboundTrafficPolicy", "defaultConfig"), dict),
    **dict.fromkeys(("enableAutoMtls", "enableTracing"), bool),
    "outboundTrafficPolicy.mode": str,
    "defaultConfig.tracing": dict,
    "defaultConfig.tracing.sampling": (int, float),
    "defaultConfig.tracing.zipkin": dict,
    "defaultConfig.tracing.zipkin.address": str,
    "extensionProviders": list,
    "neverInjectSelector": list,
    "alwaysInjectSelector": list,
}
"""What each setting that is looked at must be, the outer before the inner ones."""

_NUMBER = (int, float)
_WORDS: dict[Any, str] = {
    str: "a string",
    dict: "a map",
    bool: "true or false",
    list: "a list",
    _NUMBER: "a number",
}
_LISTS = ("extensionProviders", "neverInjectSelector", "alwaysInjectSelector")


@functools.lru_cache(maxsize=8)
def _read(text: str) -> Obj:
    found = reading.yaml_value(text)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise reading.ReadingError("a map of settings is expected")
    for path, form in _FORMS.items():
        value: Any = found
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None and (not isinstance(value, form) or (form == _NUMBER and isinstance(value, bool))):
            raise reading.ReadingError(f"{path} must be {_WORDS[form]}")
    for name in _LISTS:
        if not all(isinstance(one, dict) for one in found.get(name) or []):
            raise reading.ReadingError(f"{name} must be a list of maps")
    return found


def mesh_settings(text: str) -> Obj:
    """Settings as YAML; none where they cannot be read (`mesh_problem` says why)."""
    try:
        return _read(text)
    except reading.ReadingError:
        return {}


def mesh_problem(config_map: Obj) -> str:
    """Why the mesh cannot be set as `config_map` says; "" where it can, or is about something else."""
    meta = config_map["metadata"]
    if meta["name"] != "istio" or meta.get("namespace") != _ROOT:
        return ""
    try:
        _read((config_map.get("data") or {}).get("mesh", ""))
    except reading.ReadingError as error:
        return str(error)
    return ""


def number(text: Any, default: float) -> float:
    """A number in a variable or an annotation; `default` where it is none."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return default
