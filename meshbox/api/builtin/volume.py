# SPDX-License-Identifier: Apache-2.0
"""Validation of a pod's volumes."""

from __future__ import annotations

import re
from typing import Any

from labkit.ground import quantity as quantities
from labkit.ground.names import dns1123_label, dns1123_subdomain
from meshbox.api.builtin.references import field_path, resource_field
from meshbox.api.builtin.rules import Context, call, check
from meshbox.api.builtin.types import fields_of
from meshbox.api.builtin.vocabulary import VOCABULARY
from meshbox.api.builtin.well_formed import as_dict, as_list, named
from meshbox.api.problems import Cause, duplicate, forbidden, invalid, required, too_long
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
        causes += VOCABULARY["relative"](item.get("path"), f"{where}.path", ())
        _mode(item.get("mode"), f"{where}.mode", causes)


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
        causes += VOCABULARY["relative"](source.get("path"), f"{whole}.path", ())
    elif kind == "downwardAPI":
        for item in as_list(source.get("items")):
            _downward(as_dict(item), where, causes)
    for name in [as_dict(item).get("path") for item in as_list(source.get("items"))]:
        if name and name in paths:
            told = name if kind == "downwardAPI" else source.get("name") or ""
            causes.append(invalid(whole, told, "conflicting duplicate paths"))
        paths.append(name or "")


def _downward(item: Obj, path: str, causes: list[Cause]) -> None:
    if not item.get("path"):
        causes.append(required(f"{path}.path"))
    causes += VOCABULARY["relative"](item.get("path"), f"{path}.path", ())
    field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
    if field is not None:
        field_path(as_dict(field), f"{path}.fieldRef", causes, _DOWNWARD_PATHS)
        if resource is not None:
            detail = "fieldRef and resourceFieldRef can not be specified simultaneously"
            causes.append(invalid(path, "resource", detail))
    elif resource is not None:
        resource_field(resource, f"{path}.resourceFieldRef", causes, named=True)
    else:
        causes.append(required(path, "one of fieldRef and resourceFieldRef is required"))
    _mode(item.get("mode"), f"{path}.mode", causes)


_IQN_START = "must be valid format starting with iqn, eui, or naa"
_IQNS = {
    "iqn": r"iqn\.\d{4}-\d{2}\.[A-Za-z0-9.-]+:[^,;*&$|\s]+",
    "eui": r"eui.[A-Za-z0-9]{16}",
    "naa": r"naa.[A-Za-z0-9]{32}",
}


@call("iqn")
def _iqn(text: str, path: str, causes: list[Cause], _context: Context) -> None:
    form = _IQNS.get(text[:3])
    if form is None:
        causes.append(invalid(path, text, _IQN_START))
    elif not re.fullmatch(form, text):
        causes.append(invalid(path, text, "must be valid format"))


@call("chap")
def _chap(source: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    if (source.get("chapAuthDiscovery") or source.get("chapAuthSession")) and source.get("secretRef") is None:
        causes.append(required(f"{path}.secretRef"))


@call("fibre_channel")
def _fibre_channel(source: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    names, ids, where = as_list(source.get("targetWWNs")), as_list(source.get("wwids")), f"{path}.targetWWNs"
    if not names and not ids:
        causes.append(required(where, "must specify either targetWWNs or wwids, but not both"))
    if names and ids:
        causes.append(invalid(where, names, "targetWWNs and wwids can not be specified simultaneously"))
    if names and source.get("lun") is None:
        causes.append(required(f"{path}.lun", "lun is required if targetWWNs is specified"))
    elif names:
        causes += VOCABULARY["between"](source["lun"], f"{path}.lun", ("0", "255"))


@call("flocker")
def _flocker(source: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    name, known = source.get("datasetName") or "", source.get("datasetUUID")
    if not name and not known:
        causes.append(required(path, "one of datasetName and datasetUUID is required"))
    if name and known:
        causes.append(invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously"))
    if "/" in name:
        causes.append(invalid(f"{path}.datasetName", name, "must not contain '/'"))


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


@call("csi_name")
def _csi_name(text: str, path: str, causes: list[Cause], _context: Context) -> None:
    if len(text) > 63:
        causes.append(too_long(path, 63))
    causes += [invalid(path, text, words) for words in dns1123_subdomain(text.lower())]
