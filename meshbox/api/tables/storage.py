# SPDX-License-Identifier: Apache-2.0
"""Tables of volumes, claims and storage classes."""

from __future__ import annotations

from meshbox.api.tables.formats import dig, items
from meshbox.api.tables.printer_columns import At, Cells, cells
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
    }


@cells("persistent_volume")
def _persistent_volume(obj: Obj, at: At) -> Cells:
    claim = dig(obj, "spec", "claimRef")
    return _common(obj) | {
        "Access Modes": _access_modes(items(obj, "spec", "accessModes")),
        "Claim": f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
    }


@cells("persistent_volume_claim")
def _persistent_volume_claim(obj: Obj, at: At) -> Cells:
    volume = dig(obj, "spec", "volumeName") or ""
    return _common(obj) | {
        "Capacity": str(dig(obj, "status", "capacity", "storage") or "0") if volume else "",
        "Access Modes": _access_modes(items(obj, "status", "accessModes")) if volume else "",
    }


@cells("storage_class")
def _storage_class(obj: Obj, at: At) -> Cells:
    annotations = dig(obj, "metadata", "annotations") or {}
    default = any(annotations.get(key) == "true" for key in _DEFAULT_ANNOTATIONS)
    return {"Name": dig(obj, "metadata", "name") + (" (default)" if default else "")}


@cells("csi_driver")
def _csi_driver(obj: Obj, at: At) -> Cells:
    required, requests = dig(obj, "spec", "attachRequired"), dig(obj, "spec", "tokenRequests")
    audiences = ",".join(request.get("audience", "") for request in requests or [])
    return {
        "AttachRequired": True if required is None else required,
        "TokenRequests": "<unset>" if requests is None else audiences,
    }
