# SPDX-License-Identifier: Apache-2.0
"""PersistentVolumeClaims: bound to a volume that fits, or to one made for them; what is in use is not deleted."""

from __future__ import annotations

from typing import Any

from labkit.ground.labels import matches
from labkit.ground.quantity import Quantity
from meshbox.contracts import AdmissionRequest, Event, Obj, Objects
from meshbox.controllers.meta import MANAGER, Context, write_status
from meshbox.controllers.pods import is_finished
from meshbox.reconcile import Key, Reconciler, object_key

__all__ = ["CLASSES", "PROVISIONER", "ClaimController", "StorageAdmission", "VolumeController", "claims_of"]

CLAIMS, VOLUMES, CLASSES = "persistentvolumeclaims", "persistentvolumes", "storageclasses.storage.k8s.io"
COMPONENT = "persistentvolume-controller"
PROVISIONER = "labkit/host-folder"
"""Makes a volume of a folder of the sandbox."""

_PROTECTION = {CLAIMS: "kubernetes.io/pvc-protection", VOLUMES: "kubernetes.io/pv-protection"}
_DEFAULT = "storageclass.kubernetes.io/is-default-class"
_BOUND, _BY_CONTROLLER = "pv.kubernetes.io/bind-completed", "pv.kubernetes.io/bound-by-controller"
_PROVISIONED = "pv.kubernetes.io/provisioned-by"


def claims_of(pod: Obj) -> list[str]:
    """Names of the claims that a pod mounts."""
    volumes = pod["spec"].get("volumes") or ()
    return [one["persistentVolumeClaim"]["claimName"] for one in volumes if one.get("persistentVolumeClaim")]


class StorageAdmission:
    """Protects claims and volumes from being deleted in use, and gives claims that name no class the default one.

    Args:
        objects: The cluster's objects.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def mutate(self, request: AdmissionRequest) -> None:
        """Complete what is created."""
        finalizer = _PROTECTION.get(request.resource)
        if request.operation != "CREATE" or finalizer is None:
            return
        meta = request.object["metadata"]
        meta["finalizers"] = [*(one for one in meta.get("finalizers") or () if one != finalizer), finalizer]
        spec = request.object.get("spec")
        if request.resource == CLAIMS and isinstance(spec, dict) and spec.get("storageClassName") is None:
            for known in self._objects.view(CLASSES):
                if (known["metadata"].get("annotations") or {}).get(_DEFAULT) == "true":
                    spec["storageClassName"] = known["metadata"]["name"]
                    break

    def validate(self, request: AdmissionRequest) -> None:
        """Refuse nothing."""


class ClaimController:
    """Binds claims."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: set[Key] = set()
        self.reconciler = (
            Reconciler("persistentvolumeclaim", context.objects, self._reconcile)
            .watches(CLAIMS)
            .watches_events(VOLUMES, self._retry)
            .watches_events(CLASSES, self._retry)
            .watches("pods", lambda pod: [(pod["metadata"]["namespace"], name) for name in claims_of(pod)])
        )

    def _retry(self, event: Event) -> list[Key]:
        reference = (event.object.get("spec") or {}).get("claimRef")
        bound = [(reference.get("namespace"), reference["name"])] if reference else []
        return [*self._waiting, *bound]

    async def _reconcile(self, key: Key) -> None:
        namespace, name = key
        claim = self._context.objects.find(CLAIMS, name, namespace)
        self._waiting.discard(key)
        if claim is None:
            return
        if "deletionTimestamp" in claim["metadata"]:
            self._release(claim)
            return
        if (claim.get("status") or {}).get("phase") == "Bound":
            self._note_lost(claim)
            return
        volume = self._fitting(claim) or self._provisioned(claim)
        if volume is None:
            self._waiting.add(key)
            return
        self._bind(claim, volume)

    def _users(self, claim: Obj) -> list[Obj]:
        meta = claim["metadata"]
        pods = self._context.objects.view("pods", meta["namespace"])
        # A pod that is on no node mounts nothing.
        placed = (pod for pod in pods if pod["spec"].get("nodeName") and not is_finished(pod))
        return [pod for pod in placed if meta["name"] in claims_of(pod)]

    def _release(self, claim: Obj) -> None:
        finalizers = claim["metadata"].get("finalizers") or []
        if _PROTECTION[CLAIMS] in finalizers and not self._users(claim):
            rest = [one for one in finalizers if one != _PROTECTION[CLAIMS]]
            meta = {**claim["metadata"], "finalizers": rest}
            self._context.objects.update(CLAIMS, {**claim, "metadata": meta}, manager=MANAGER)

    def _note_lost(self, claim: Obj) -> None:
        if self._context.objects.find(VOLUMES, claim["spec"].get("volumeName", "")) is None:
            self._say(
                claim, "Warning", "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
            )
            write_status(self._context, CLAIMS, claim, {**claim["status"], "phase": "Lost"})

    def _fitting(self, claim: Obj) -> Obj | None:
        """The smallest free volume that is what the claim asks for."""
        spec = claim["spec"]
        found = []
        for volume in self._context.objects.view(VOLUMES):
            if "deletionTimestamp" in volume["metadata"] or not _fits(claim, volume):
                continue
            reference = volume["spec"].get("claimRef")
            if reference and _names(reference, claim):
                return volume
            wanted = spec.get("volumeName") in (None, "", volume["metadata"]["name"])
            if wanted and not reference and (volume.get("status") or {}).get("phase") in ("Available", "Pending"):
                found.append(volume)
        return min(found, key=_size, default=None)

    def _provisioned(self, claim: Obj) -> Obj | None:
        """A new volume for the claim, where its class has one made; otherwise an event says what it waits for."""
        name = claim["spec"].get("storageClassName") or ""
        if claim["spec"].get("volumeName"):
            return None
        if not name:
            words = "no persistent volumes available for this claim and no storage class is set"
            self._say(claim, "Normal", "FailedBinding", words)
            return None
        known = self._context.objects.find(CLASSES, name)
        if known is None:
            words = f'storageclass.storage.k8s.io "{name}" not found'
            self._say(claim, "Warning", "ProvisioningFailed", words)
            return None
        if known.get("volumeBindingMode") == "WaitForFirstConsumer" and not self._users(claim):
            words = "waiting for first consumer to be created before binding"
            self._say(claim, "Normal", "WaitForFirstConsumer", words)
            return None
        if known["provisioner"] != PROVISIONER:
            words = (
                f"Waiting for a volume to be created either by the external provisioner '{known['provisioner']}' or "
                "manually by the system administrator. If volume creation is delayed, please verify that the "
                "provisioner is running and correctly registered."
            )
            self._say(claim, "Normal", "ExternalProvisioning", words)
            return None
        return self._made(claim, known)

    def _made(self, claim: Obj, storage: Obj) -> Obj:
        meta, spec = claim["metadata"], claim["spec"]
        name = f"pvc-{meta['uid']}"
        known = self._context.objects.find(VOLUMES, name)
        if known is not None:
            return known
        folder = f"/persistent/{name}_{meta['namespace']}_{meta['name']}"
        volume = {
            "metadata": {"name": name, "annotations": {_PROVISIONED: PROVISIONER}},
            "spec": {
                "accessModes": spec.get("accessModes") or [],
                "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                "claimRef": _reference(claim),
                "hostPath": {
                    "path": folder,
                    "type": "DirectoryOrCreate",
                },
                "persistentVolumeReclaimPolicy": storage.get("reclaimPolicy", "Delete"),
                "storageClassName": storage["metadata"]["name"],
                "volumeMode": spec.get("volumeMode", "Filesystem"),
            },
        }
        self._say(claim, "Normal", "ProvisioningSucceeded", f"Successfully provisioned volume {name}")
        return self._context.objects.create(VOLUMES, volume, manager=MANAGER)

    def _bind(self, claim: Obj, volume: Obj) -> None:
        objects, name = self._context.objects, volume["metadata"]["name"]
        if not volume["spec"].get("claimRef", {}).get("uid"):
            patch: dict[str, Any] = {
                "metadata": {"annotations": {_BY_CONTROLLER: "yes"}},
                "spec": {"claimRef": _reference(claim)},
            }
            volume = objects.patch(VOLUMES, name, patch, manager=MANAGER)
        _to_phase(self._context, volume, "Bound")
        meta = claim["metadata"]
        done = {"metadata": {"annotations": {_BOUND: "yes", _BY_CONTROLLER: "yes"}}, "spec": {"volumeName": name}}
        claim = objects.patch(CLAIMS, meta["name"], done, meta["namespace"], manager=MANAGER)
        status = {
            "phase": "Bound",
            "accessModes": volume["spec"].get("accessModes") or [],
            "capacity": volume["spec"]["capacity"],
        }
        write_status(self._context, CLAIMS, claim, status)

    def _say(self, claim: Obj, kind: Any, reason: str, message: str) -> None:
        self._context.objects.event(claim, kind, reason, message, COMPONENT)


class VolumeController:
    """Keeps the phase of each volume, and deletes one whose claim is gone where its policy says so."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.reconciler = (
            Reconciler("persistentvolume", context.objects, self._reconcile)
            .watches(VOLUMES)
            .watches(CLAIMS, lambda claim: [(None, name)] if (name := claim["spec"].get("volumeName")) else [])
        )

    async def _reconcile(self, key: Key) -> None:
        objects = self._context.objects
        volume = objects.find(VOLUMES, key[1])
        if volume is None:
            return
        reference = volume["spec"].get("claimRef")
        claim = objects.find(CLAIMS, reference["name"], reference.get("namespace")) if reference else None
        bound = claim is not None and claim["metadata"]["uid"] == reference.get("uid", claim["metadata"]["uid"])
        if "deletionTimestamp" in volume["metadata"]:
            if not bound:
                rest = [one for one in volume["metadata"].get("finalizers") or () if one != _PROTECTION[VOLUMES]]
                objects.update(
                    VOLUMES, {**volume, "metadata": {**volume["metadata"], "finalizers": rest}}, manager=MANAGER
                )
            return
        if not reference or (not reference.get("uid") and claim is None):
            _to_phase(self._context, volume, "Available")
        elif not bound:
            _to_phase(self._context, volume, "Released")
            if volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
                objects.delete(VOLUMES, key[1])


def _to_phase(context: Context, volume: Obj, phase: str) -> None:
    if (volume.get("status") or {}).get("phase") != phase:
        since = {} if context.settings.legacy else {"lastPhaseTransitionTime": context.now()}
        write_status(context, VOLUMES, volume, {"phase": phase, **since})


def _reference(claim: Obj) -> Obj:
    meta = claim["metadata"]
    fields = {field: meta[field] for field in ("name", "namespace", "resourceVersion", "uid")}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **fields}


def _names(reference: Obj, claim: Obj) -> bool:
    meta = claim["metadata"]
    same = (reference.get("namespace"), reference["name"]) == object_key(claim)
    return same and reference.get("uid") in (None, "", meta["uid"])


def _size(volume: Obj) -> Quantity:
    return Quantity.of((volume["spec"].get("capacity") or {}).get("storage", 0))


def _fits(claim: Obj, volume: Obj) -> bool:
    spec, offered = claim["spec"], volume["spec"]
    return (
        (spec.get("storageClassName") or "") == (offered.get("storageClassName") or "")
        and set(spec.get("accessModes") or ()) <= set(offered.get("accessModes") or ())
        and spec.get("volumeMode", "Filesystem") == offered.get("volumeMode", "Filesystem")
        and _size(volume) >= Quantity.of(((spec.get("resources") or {}).get("requests") or {}).get("storage", 0))
        and matches(spec.get("selector") or {}, volume["metadata"].get("labels") or {})
    )
