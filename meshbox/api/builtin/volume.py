# SPDX-License-Identifier: Apache-2.0
"""Validation of a pod's volumes."""

from __future__ import annotations

from typing import Any

from labkit.ground.names import dns1123_label
from meshbox.api.builtin.container import field_path, resource_field
from meshbox.api.builtin.types import fields_of
from meshbox.api.builtin.well_formed import as_dict, as_list, named
from meshbox.api.problems import Cause, duplicate, forbidden, invalid, not_supported, required
from meshbox.contracts import Obj

__all__ = ["volume_source", "volumes"]

_NEEDED = {
    "hostPath": ("path",),
    "persistentVolumeClaim": ("claimName",),
    "secret": ("secretName",),
    "configMap": ("name",),
    "nfs": ("server", "path"),
    "csi": ("driver",),
}
_SOURCES = (
    "emptyDir", "hostPath", "gitRepo", "gcePersistentDisk", "awsElasticBlockStore", "secret", "nfs", "iscsi",
    "glusterfs", "persistentVolumeClaim", "rbd", "cinder", "cephfs", "flocker", "downwardAPI", "fc", "configMap",
    "azureFile", "vsphereVolume", "quobyte", "azureDisk", "photonPersistentDisk", "storageos", "projected",
    "portworxVolume", "scaleIO", "csi", "ephemeral", "image",
)  # fmt: skip
"""What a volume may be, in the order in which the server looks: what comes second is one too many."""
_HOST_PATH_TYPES = "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"
_DOWNWARD_PATHS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")


def volumes(given: list[Any], path: str, causes: list[Cause]) -> frozenset[str]:
    """Check volumes.

    Returns:
        Their names, for `volumeMounts`.
    """
    names: set[str] = set()
    for index, one in enumerate(given):
        where, volume, before = f"{path}[{index}]", as_dict(one), len(causes)
        # A volume without a source is an emptyDir by default.
        kinds = [kind for kind in _SOURCES if volume.get(kind) is not None]
        if kinds:
            volume_source(kinds[0], as_dict(volume[kinds[0]]), f"{where}.{kinds[0]}", causes)
        causes += [forbidden(f"{where}.{kind}", "may not specify more than 1 volume type") for kind in kinds[1:]]
        name = volume.get("name")
        named(name, f"{where}.name", dns1123_label, causes)
        if name in names:
            causes.append(duplicate(f"{where}.name", name))
        elif name and len(causes) == before:
            # The name of a volume that is broken is not taken.
            names.add(name)
    return frozenset(names)


def volume_source(kind: str, source: Obj, path: str, causes: list[Cause]) -> None:
    """Check what a volume is made from; `kind` is the field that says it."""
    causes += [required(f"{path}.{name}") for name in _NEEDED.get(kind, ()) if not source.get(name)]
    if kind == "hostPath" and (source.get("type") or "") not in _HOST_PATH_TYPES:
        causes.append(not_supported(f"{path}.type", source["type"], _HOST_PATH_TYPES))
    if kind in ("secret", "configMap", "projected", "downwardAPI"):
        _mode(source.get("defaultMode"), f"{path}.defaultMode", causes)
    if kind in ("secret", "configMap"):
        _items(source, path, causes)
    if kind == "projected":
        paths: list[str] = []
        for index, one in enumerate(as_list(source.get("sources"))):
            _projection(as_dict(one), f"{path}.sources[{index}]", path, paths, causes)
    if kind == "downwardAPI":
        for item in as_list(source.get("items")):
            _downward(as_dict(item), path, causes)


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


def _projection(one: Obj, path: str, whole: str, paths: list[str], causes: list[Cause]) -> None:
    """One source of a projected volume at `whole`, whose files so far are `paths`."""
    choices = [name for name in fields_of("V1VolumeProjection") or {} if one.get(name) is not None]
    causes += [
        forbidden(f"{path}.{name}", "may not specify more than 1 volume type per source") for name in choices[1:]
    ]
    if not choices:
        return
    kind = choices[0]
    source, where = as_dict(one[kind]), f"{path}.{kind}"
    if kind in ("secret", "configMap"):
        if not source.get("name"):
            causes.append(required(f"{where}.name"))
        _items(source, where, causes)
    elif kind == "serviceAccountToken":
        seconds = source.get("expirationSeconds")
        if seconds is not None and seconds < 600:
            detail = "may not specify a duration less than 10 minutes"
            causes.append(invalid(f"{where}.expirationSeconds", seconds, detail))
        if not source.get("path"):
            causes.append(required(f"{whole}.path"))
    elif kind == "downwardAPI":
        for item in as_list(source.get("items")):
            _downward(as_dict(item), where, causes)
    given = [as_dict(item).get("path") for item in as_list(source.get("items"))] or [source.get("path")]
    for name in given:
        if name and name in paths:
            causes.append(invalid(whole, name, "conflicting duplicate paths"))
        paths.append(name or "")


def _downward(item: Obj, path: str, causes: list[Cause]) -> None:
    if not item.get("path"):
        causes.append(required(f"{path}.path"))
    _relative(item.get("path"), f"{path}.path", causes)
    field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
    if field is not None:
        field_path(as_dict(field).get("fieldPath"), f"{path}.fieldRef.fieldPath", causes, _DOWNWARD_PATHS)
        if resource is not None:
            detail = "fieldRef and resourceFieldRef can not be specified simultaneously"
            causes.append(invalid(path, "resource", detail))
    elif resource is not None:
        if not resource.get("containerName"):
            causes.append(required(f"{path}.resourceFieldRef.containerName"))
        resource_field(resource.get("resource"), f"{path}.resourceFieldRef.resource", causes)
    else:
        causes.append(required(path, "one of fieldRef and resourceFieldRef is required"))
    _mode(item.get("mode"), f"{path}.mode", causes)
