# SPDX-License-Identifier: Apache-2.0
"""Tables of everything else that is built in: nodes, namespaces, events, configuration, storage, access."""

from __future__ import annotations

from meshbox.api.tables.formats import NONE, age, dig, human_duration, items
from meshbox.api.tables.printer_columns import At, Cells, cells
from meshbox.contracts import Obj

__all__: list[str] = []

_ROLE_PREFIX = "node-role.kubernetes.io/"


def _address(obj: Obj, kind: str) -> str:
    found = (a.get("address", "") for a in items(obj, "status", "addresses") if a.get("type") == kind)
    return next(found, NONE)


@cells("node")
def _node(obj: Obj, at: At) -> Cells:
    ready = next((c.get("status") for c in items(obj, "status", "conditions") if c.get("type") == "Ready"), None)
    status = ["Unknown" if ready is None else "Ready" if ready == "True" else "NotReady"]
    if dig(obj, "spec", "unschedulable"):
        status.append("SchedulingDisabled")
    labels = dig(obj, "metadata", "labels") or {}
    roles = {key.removeprefix(_ROLE_PREFIX) for key in labels if key.startswith(_ROLE_PREFIX)}
    roles.add(labels.get("kubernetes.io/role") or "")
    return {
        "Status": ",".join(status),
        "Roles": ",".join(sorted(roles - {""})) or NONE,
        "Internal-IP": _address(obj, "InternalIP"),
        "External-IP": _address(obj, "ExternalIP"),
    }


@cells("event")
def _event(obj: Obj, at: At) -> Cells:
    # events.k8s.io calls the object "regarding", the message "note", and keeps the older fields under deprecated names.
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    first = age(obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp") or obj.get("eventTime"), at.now)
    last_time = obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp")
    last = age(last_time, at.now) if last_time else first
    count = obj.get("count") or obj.get("deprecatedCount") or 1
    if obj.get("series"):
        last, count = age(obj["series"].get("lastObservedTime"), at.now), obj["series"].get("count") or 0
    kind = str(about.get("kind", "")).lower()
    component = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    instance = source.get("host") or obj.get("reportingInstance") or ""
    return {
        "Last Seen": last,
        "Object": f"{kind}/{about['name']}" if about.get("name") else kind,
        "Subobject": about.get("fieldPath", ""),
        "Source": f"{component}, {instance}" if instance else component,
        "Message": str(obj.get("message") or obj.get("note") or "").strip(),
        "First Seen": first,
        "Count": count,
    }


@cells("config_map")
def _config_map(obj: Obj, at: At) -> Cells:
    return {"Data": len(obj.get("data") or {}) + (0 if at.legacy else len(obj.get("binaryData") or {}))}


@cells("resource_quota")
def _resource_quota(obj: Obj, at: At) -> Cells:
    hard, used = dig(obj, "status", "hard") or {}, dig(obj, "status", "used") or {}
    texts = {name: f"{name}: {used.get(name, 0)}/{hard[name]}" for name in sorted(hard)}
    return {
        "Request": ", ".join(text for name, text in texts.items() if not name.startswith("limits.")),
        "Limit": ", ".join(text for name, text in texts.items() if name.startswith("limits.")),
    }


@cells("role_binding")
def _role_binding(obj: Obj, at: At) -> Cells:
    subjects = items(obj, "subjects")
    ref = obj.get("roleRef") or {}
    accounts = [f"{s.get('namespace', '')}/{s['name']}" for s in subjects if s.get("kind") == "ServiceAccount"]
    return {
        "Role": f"{ref.get('kind', '')}/{ref.get('name', '')}",
        "Users": ", ".join(s["name"] for s in subjects if s.get("kind") == "User"),
        "Groups": ", ".join(s["name"] for s in subjects if s.get("kind") == "Group"),
        "ServiceAccounts": ", ".join(accounts),
    }


@cells("api_service")
def _api_service(obj: Obj, at: At) -> Cells:
    service = dig(obj, "spec", "service")
    available: Obj = next((c for c in items(obj, "status", "conditions") if c.get("type") == "Available"), {})
    text = available.get("status") or "Unknown"
    if text != "True" and available.get("reason"):
        text = f"{text} ({available['reason']})"
    return {
        "Service": f"{service.get('namespace')}/{service.get('name')}" if service else "Local",
        "Available": text,
    }


@cells("certificate_signing_request")
def _certificate_signing_request(obj: Obj, at: At) -> Cells:
    types = {c.get("type") for c in items(obj, "status", "conditions")}
    state = ["Denied" if "Denied" in types else "Approved" if "Approved" in types else "Pending"]
    state += ["Failed"] * ("Failed" in types) + ["Issued"] * bool(dig(obj, "status", "certificate"))
    seconds = dig(obj, "spec", "expirationSeconds")
    return {
        "RequestedDuration": NONE if seconds is None else human_duration(seconds),
        "Condition": ",".join(state),
    }


@cells("component_status")
def _component_status(obj: Obj, at: At) -> Cells:
    healthy: Obj = next((c for c in items(obj, "conditions") if c.get("type") == "Healthy"), {})
    status = {"True": "Healthy", None: "Unknown"}.get(healthy.get("status"), "Unhealthy")
    return {"Status": status, "Message": healthy.get("message", ""), "Error": healthy.get("error", "")}


@cells("pod_security_policy")
def _pod_security_policy(obj: Obj, at: At) -> Cells:
    return {"Priv": str(bool(dig(obj, "spec", "privileged"))).lower()}


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
