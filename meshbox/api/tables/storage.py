# SPDX-License-Identifier: Apache-2.0
"""Tables of volumes, claims and storage classes."""

from __future__ import annotations

from meshbox.api.tables.formats import creation_time, dig, items
from meshbox.api.tables.printer_columns import At, Cells, table
from meshbox.contracts import Obj

__all__: list[str] = []

_ACCESS_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_ANNOTATIONS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)


def _access_modes(modes: list[str]) -> str:
    return ",".join(short for mode, short in _ACCESS_MODES.items() if mode in modes)


def _common(obj: Obj) -> Cells:
    deleted = dig(obj, "metadata", "deletionTimestamp")
    annotations = dig(obj, "metadata", "annotations") or {}
    own_class = annotations.get(_CLASS_ANNOTATION)
    return {
        "Status": "Terminating" if deleted else dig(obj, "status", "phase") or "",
        "StorageClass": (dig(obj, "spec", "storageClassName") or "") if own_class is None else own_class,
        "VolumeAttributesClass": dig(obj, "spec", "volumeAttributesClassName") or "<unset>",
        "VolumeMode": dig(obj, "spec", "volumeMode") or "<unset>",
    }


@table(
    "persistentvolumes",
    shows="Name, Capacity, Access Modes, Reclaim Policy, Status, Claim, StorageClass, VolumeAttributesClass, Reason, "
    "Age, +VolumeMode",
    legacy="Name, Capacity, Access Modes, Reclaim Policy, Status, Claim, StorageClass, Reason, Age",
)
def _persistent_volume(obj: Obj, at: At) -> Cells:
    claim = dig(obj, "spec", "claimRef")
    return _common(obj) | {
        "Capacity": str(dig(obj, "spec", "capacity", "storage") or "0"),
        "Access Modes": _access_modes(items(obj, "spec", "accessModes")),
        "Reclaim Policy": dig(obj, "spec", "persistentVolumeReclaimPolicy") or "",
        "Claim": f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        "Reason": dig(obj, "status", "reason") or "",
    }


@table(
    "persistentvolumeclaims",
    shows="Name, Status, Volume, Capacity, Access Modes, StorageClass, VolumeAttributesClass, Age, +VolumeMode",
    legacy="Name, Status, Volume, Capacity, Access Modes, StorageClass, Age",
)
def _persistent_volume_claim(obj: Obj, at: At) -> Cells:
    volume = dig(obj, "spec", "volumeName") or ""
    return _common(obj) | {
        "Volume": volume,
        "Capacity": str(dig(obj, "status", "capacity", "storage") or "0") if volume else "",
        "Access Modes": _access_modes(items(obj, "status", "accessModes")) if volume else "",
    }


@table(
    "storageclasses.storage.k8s.io",
    shows="Name, Provisioner, ReclaimPolicy, VolumeBindingMode, AllowVolumeExpansion, Age",
    legacy="Name, Provisioner, Age",
)
def _storage_class(obj: Obj, at: At) -> Cells:
    annotations = dig(obj, "metadata", "annotations") or {}
    default = any(annotations.get(key) == "true" for key in _DEFAULT_ANNOTATIONS)
    return {
        "Name": dig(obj, "metadata", "name") + (" (default)" if default else ""),
        "Provisioner": obj.get("provisioner", ""),
        "ReclaimPolicy": obj.get("reclaimPolicy") or "Delete",
        "VolumeBindingMode": obj.get("volumeBindingMode") or "Immediate",
        "AllowVolumeExpansion": bool(obj.get("allowVolumeExpansion")),
    }


@table("volumeattributesclasses.storage.k8s.io", shows="Name, DriverName, Age")
def _volume_attributes_class(obj: Obj, at: At) -> Cells:
    return {"DriverName": obj.get("driverName", "")}


@table(
    "volumeattachments.storage.k8s.io",
    shows="Name, Attacher, PV, Node, Attached:boolean, Age",
    legacy="Name, Created At:date",
)
def _volume_attachment(obj: Obj, at: At) -> Cells:
    return {
        "Attacher": dig(obj, "spec", "attacher") or "",
        "PV": dig(obj, "spec", "source", "persistentVolumeName") or "",
        "Node": dig(obj, "spec", "nodeName") or "",
        "Attached": bool(dig(obj, "status", "attached")),
        "Created At": creation_time(obj),
    }


@table("csinodes.storage.k8s.io", shows="Name, Drivers:integer, Age", legacy="Name, Created At:date")
def _csi_node(obj: Obj, at: At) -> Cells:
    return {"Drivers": len(items(obj, "spec", "drivers")), "Created At": creation_time(obj)}


@table(
    "csidrivers.storage.k8s.io",
    shows="Name, AttachRequired:boolean, PodInfoOnMount:boolean, StorageCapacity:boolean, TokenRequests, "
    "RequiresRepublish:boolean, Modes, Age",
    legacy="Name, Created At:date",
)
def _csi_driver(obj: Obj, at: At) -> Cells:
    required, requests = dig(obj, "spec", "attachRequired"), dig(obj, "spec", "tokenRequests")
    audiences = ",".join(request.get("audience", "") for request in requests or [])
    return {
        "AttachRequired": True if required is None else required,
        "PodInfoOnMount": bool(dig(obj, "spec", "podInfoOnMount")),
        "StorageCapacity": bool(dig(obj, "spec", "storageCapacity")),
        "TokenRequests": "<unset>" if requests is None else audiences,
        "RequiresRepublish": bool(dig(obj, "spec", "requiresRepublish")),
        "Modes": ",".join(items(obj, "spec", "volumeLifecycleModes")) or "<none>",
        "Created At": creation_time(obj),
    }
