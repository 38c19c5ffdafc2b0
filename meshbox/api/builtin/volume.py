# SPDX-License-Identifier: Apache-2.0
"""Validation of a pod's volumes."""

from __future__ import annotations

from typing import Any

from labkit.ground.names import dns1123_label
from meshbox.api.builtin.types import fields_of
from meshbox.api.builtin.well_formed import as_dict, as_list, named, one_of
from meshbox.api.problems import Cause, duplicate, forbidden, invalid, required
from meshbox.contracts import Obj

__all__ = ["volumes"]

_NEEDED = {
    "hostPath": ("path",),
    "persistentVolumeClaim": ("claimName",),
    "secret": ("secretName",),
    "configMap": ("name",),
    "nfs": ("server", "path"),
    "csi": ("driver",),
}
_HOST_PATH_TYPES = "", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"


def volumes(given: list[Any], path: str, causes: list[Cause]) -> frozenset[str]:
    """Check volumes.

    Returns:
        Their names, for `volumeMounts`.
    """
    names: set[str] = set()
    sources = [name for name in fields_of("V1Volume") or {} if name != "name"]
    for index, one in enumerate(given):
        where, volume = f"{path}[{index}]", as_dict(one)
        # A volume without a source is an emptyDir by default.
        if any(volume.get(name) is not None for name in sources):
            kind = one_of(volume, sources, where, "volume", causes)
            _source(kind, as_dict(volume[kind]), f"{where}.{kind}", causes)
        name = volume.get("name")
        named(name, f"{where}.name", dns1123_label, causes)
        if name in names:
            causes.append(duplicate(f"{where}.name", name))
        elif name:
            names.add(name)
    return frozenset(names)


def _source(kind: str, source: Obj, path: str, causes: list[Cause]) -> None:
    causes += [required(f"{path}.{name}") for name in _NEEDED.get(kind, ()) if not source.get(name)]
    if kind == "hostPath" and (source.get("type") or "") not in _HOST_PATH_TYPES:
        causes.append(invalid(f"{path}.type", source["type"], "must be a valid host path type"))
    if kind in ("secret", "configMap", "projected", "downwardAPI"):
        _mode(source.get("defaultMode"), f"{path}.defaultMode", causes)
    if kind in ("secret", "configMap"):
        _items(source, path, causes)
    if kind == "projected":
        for index, one in enumerate(as_list(source.get("sources"))):
            _projection(as_dict(one), f"{path}.sources[{index}]", causes)
    if kind == "downwardAPI":
        _downward(source, path, causes)


def _mode(mode: Any, path: str, causes: list[Cause]) -> None:
    if mode is not None and not 0 <= mode <= 0o777:
        causes.append(invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive"))


def _items(source: Obj, path: str, causes: list[Cause]) -> None:
    for index, one in enumerate(as_list(source.get("items"))):
        where, item = f"{path}.items[{index}]", as_dict(one)
        causes += [required(f"{where}.{name}") for name in ("key", "path") if not item.get(name)]
        _relative(item.get("path"), f"{where}.path", causes)
        _mode(item.get("mode"), f"{where}.mode", causes)


def _relative(text: Any, path: str, causes: list[Cause]) -> None:
    if text and text.startswith("/"):
        causes.append(invalid(path, text, "must be a relative path"))
    if text and ".." in text.split("/"):
        causes.append(invalid(path, text, "must not contain '..'"))


def _projection(one: Obj, path: str, causes: list[Cause]) -> None:
    choices = [name for name in fields_of("V1VolumeProjection") or {} if one.get(name) is not None]
    causes += [
        forbidden(f"{path}.{name}", "may not specify more than 1 volume type per source") for name in choices[1:]
    ]
    if not choices:
        causes.append(required(path, "must specify a volume type"))
        return
    kind = choices[0]
    source, where = as_dict(one[kind]), f"{path}.{kind}"
    if kind in ("secret", "configMap"):
        if not source.get("name"):
            causes.append(required(f"{where}.name"))
        _items(source, where, causes)
    elif kind == "serviceAccountToken":
        if not source.get("path"):
            causes.append(required(f"{where}.path"))
        seconds = source.get("expirationSeconds")
        if seconds is not None and seconds < 600:
            causes.append(
                invalid(f"{where}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
            )
    elif kind == "downwardAPI":
        _downward(source, where, causes)


def _downward(source: Obj, path: str, causes: list[Cause]) -> None:
    for index, one in enumerate(as_list(source.get("items"))):
        where, item = f"{path}.items[{index}]", as_dict(one)
        if not item.get("path"):
            causes.append(required(f"{where}.path"))
        _relative(item.get("path"), f"{where}.path", causes)
        field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
        if field is not None and resource is not None:
            causes.append(
                invalid(where, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
            )
        elif field is None and resource is None:
            causes.append(required(where, "one of fieldRef and resourceFieldRef is required"))
