# SPDX-License-Identifier: Apache-2.0
"""Validation of a pod's volumes."""

from __future__ import annotations

from typing import Any

from labkit.ground import quantity as quantities
from labkit.ground.names import dns1123_label
from meshbox.api.builtin.references import field_path, resource_field
from meshbox.api.builtin.rules import Context, call, check
from meshbox.api.builtin.types import fields_of
from meshbox.api.builtin.vocabulary import VOCABULARY
from meshbox.api.builtin.well_formed import as_dict, as_list, named
from meshbox.api.problems import Cause, duplicate, forbidden, invalid, required
from meshbox.contracts import Obj

__all__ = ["volume_source", "volumes"]

_SOURCES = (
    "emptyDir", "hostPath", "gitRepo", "gcePersistentDisk", "awsElasticBlockStore", "secret", "nfs", "iscsi",
    "glusterfs", "persistentVolumeClaim", "rbd", "cinder", "cephfs", "flocker", "downwardAPI", "fc", "flexVolume",
    "configMap", "azureFile", "vsphereVolume", "quobyte", "azureDisk", "photonPersistentDisk", "storageos", "projected",
    "portworxVolume", "scaleIO", "csi", "ephemeral", "image",
)  # fmt: skip
"""What a volume may be, in the order in which the server looks: what comes second is one too many."""
_TOLD = {"gcePersistentDisk": "persistentDisk"}
"""Fields that the server tells by another name."""
_DOWNWARD_PATHS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")


def volumes(given: list[Any], path: str, causes: list[Cause], context: Context) -> dict[str, str]:
    """Check volumes.

    Returns:
        The names of those that are sound, and of which kind they are: what `volumeMounts` may name.
    """
    names: dict[str, str] = {}
    for index, one in enumerate(given):
        where, volume, before = f"{path}[{index}]", as_dict(one), len(causes)
        # A volume without a source is an emptyDir by default.
        kinds = [kind for kind in _SOURCES if volume.get(kind) is not None]
        if kinds:
            volume_source(kinds[0], "V1Volume", volume, where, causes, context)
        causes += [forbidden(f"{where}.{kind}", "may not specify more than 1 volume type") for kind in kinds[1:]]
        name = volume.get("name")
        named(name, f"{where}.name", dns1123_label, causes)
        if name in names:
            causes.append(duplicate(f"{where}.name", name))
        elif name and len(causes) == before:
            # The name of a volume that is broken is not taken.
            names[name] = kinds[0] if kinds else ""
    return names


def volume_source(kind: str, of: str, volume: Obj, where: str, causes: list[Cause], context: Context) -> None:
    """Check what a volume is made from.

    Args:
        kind: The field that says it.
        of: The type of what has the field.
        volume: What has the field.
        where: Where that is.
        causes: What is wrong is added here.
        context: What all rules may ask.
    """
    source, path = as_dict(volume[kind]), f"{where}.{_TOLD.get(kind, kind)}"
    check((fields_of(of) or {})[kind].rstrip("!"), source, path, causes, context)
    paths: list[str] = []
    for index, one in enumerate(as_list(source.get("sources")) if kind == "projected" else ()):
        _projection(one, f"{path}.sources[{index}]", path, paths, causes, context)


def _projection(one: Obj, path: str, whole: str, paths: list[str], causes: list[Cause], context: Context) -> None:
    """One source of a projected volume at `whole`, whose files so far are `paths`."""
    choices = [name for name in fields_of("V1VolumeProjection") or {} if one.get(name) is not None]
    causes += [
        forbidden(f"{path}.{name}", "may not specify more than 1 volume type per source") for name in choices[1:]
    ]
    if not choices:
        return
    kind = choices[0]
    source = as_dict(one[kind])
    check((fields_of("V1VolumeProjection") or {})[kind], source, f"{path}.{kind}", causes, context)
    if kind == "serviceAccountToken":
        causes += VOCABULARY["required"](source.get("path"), f"{whole}.path", ())
        causes += VOCABULARY["relative"](source.get("path"), f"{whole}.path", ())
    for name in [as_dict(item).get("path") for item in as_list(source.get("items"))]:
        if name and name in paths:
            told = name if kind == "downwardAPI" else source.get("name") or ""
            causes.append(invalid(whole, told, "conflicting duplicate paths"))
        paths.append(name or "")


@call("volume_field")
def _volume_field(reference: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    field_path(reference, path, causes, _DOWNWARD_PATHS)


@call("volume_resource")
def _volume_resource(reference: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    resource_field(reference, path, causes, named=True)


@call("quobyte")
def _quobyte(source: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    registry, words = source.get("registry") or "", "must be a host:port pair or multiple pairs separated by commas"
    if not registry:
        causes.append(required(f"{path}.registry", words))
    elif len(source.get("tenant") or "") > 64:
        causes.append(required(f"{path}.tenant", "must be a UUID and may not exceed a length of 64 characters"))
    else:
        causes += [invalid(f"{path}.registry", registry, words) for one in registry.split(",") if one.count(":") != 1]


@call("unsigned")
def _unsigned(amount: Any, path: str, causes: list[Cause], _context: Context) -> None:
    if quantities.parse(amount) < 0:
        causes.append(forbidden(path, "SizeLimit field must be a valid resource quantity"))
