# SPDX-License-Identifier: Apache-2.0
"""Tables of everything else that is built in: nodes, namespaces, events, configuration, storage, access."""

from __future__ import annotations

from meshbox.api.tables.formats import NONE, UNKNOWN, age, creation_time, dig, human_duration, items
from meshbox.api.tables.printer_columns import At, Cells, table
from meshbox.contracts import Obj

__all__: list[str] = []

_NAME_AND_DATE = "Name, Created At:date"
_ROLE_PREFIX = "node-role.kubernetes.io/"


@table(
    "roles.rbac.authorization.k8s.io",
    "clusterroles.rbac.authorization.k8s.io",
    "limitranges",
    "customresourcedefinitions.apiextensions.k8s.io",
    shows=_NAME_AND_DATE,
)
def _plain(obj: Obj, at: At) -> Cells:
    return {"Created At": creation_time(obj)}


@table("namespaces", shows="Name, Status, Age")
def _namespace(obj: Obj, at: At) -> Cells:
    return {"Status": dig(obj, "status", "phase") or ""}


def _address(obj: Obj, kind: str) -> str:
    found = (a.get("address", "") for a in items(obj, "status", "addresses") if a.get("type") == kind)
    return next(found, NONE)


@table(
    "nodes",
    shows="Name, Status, Roles, Age, Version, +Internal-IP, +External-IP, +OS-Image, +Kernel-Version, "
    "+Container-Runtime",
)
def _node(obj: Obj, at: At) -> Cells:
    ready = next((c.get("status") for c in items(obj, "status", "conditions") if c.get("type") == "Ready"), None)
    status = ["Unknown" if ready is None else "Ready" if ready == "True" else "NotReady"]
    if dig(obj, "spec", "unschedulable"):
        status.append("SchedulingDisabled")
    labels = dig(obj, "metadata", "labels") or {}
    roles = {key.removeprefix(_ROLE_PREFIX) for key in labels if key.startswith(_ROLE_PREFIX)}
    roles.add(labels.get("kubernetes.io/role") or "")
    about = dig(obj, "status", "nodeInfo") or {}
    return {
        "Status": ",".join(status),
        "Roles": ",".join(sorted(roles - {""})) or NONE,
        "Version": about.get("kubeletVersion", ""),
        "Internal-IP": _address(obj, "InternalIP"),
        "External-IP": _address(obj, "ExternalIP"),
        "OS-Image": about.get("osImage") or UNKNOWN,
        "Kernel-Version": about.get("kernelVersion") or UNKNOWN,
        "Container-Runtime": about.get("containerRuntimeVersion") or UNKNOWN,
    }


@table(
    "events",
    "events.events.k8s.io",
    shows="Last Seen, Type, Reason, Object, +Subobject, +Source, Message, +First Seen, +Count, +Name",
)
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
        "Type": obj.get("type", ""),
        "Reason": obj.get("reason", ""),
        "Object": f"{kind}/{about['name']}" if about.get("name") else kind,
        "Subobject": about.get("fieldPath", ""),
        "Source": f"{component}, {instance}" if instance else component,
        "Message": str(obj.get("message") or obj.get("note") or "").strip(),
        "First Seen": first,
        "Count": count,
    }


@table("configmaps", shows="Name, Data, Age")
def _config_map(obj: Obj, at: At) -> Cells:
    return {"Data": len(obj.get("data") or {}) + (0 if at.legacy else len(obj.get("binaryData") or {}))}


@table("secrets", shows="Name, Type, Data, Age")
def _secret(obj: Obj, at: At) -> Cells:
    return {"Type": obj.get("type", ""), "Data": len(obj.get("data") or {})}


@table("serviceaccounts", shows="Name, Age", legacy="Name, Secrets, Age")
def _service_account(obj: Obj, at: At) -> Cells:
    return {"Secrets": len(items(obj, "secrets"))}


@table("resourcequotas", shows="Name, Request, Limit, Age", legacy=_NAME_AND_DATE)
def _resource_quota(obj: Obj, at: At) -> Cells:
    hard, used = dig(obj, "status", "hard") or {}, dig(obj, "status", "used") or {}
    texts = {name: f"{name}: {used.get(name, 0)}/{hard[name]}" for name in sorted(hard)}
    return {
        "Request": ", ".join(text for name, text in texts.items() if not name.startswith("limits.")),
        "Limit": ", ".join(text for name, text in texts.items() if name.startswith("limits.")),
        "Created At": creation_time(obj),
    }


_ROLE_REF, _SUBJECTS = "Role", "+Users, +Groups, +ServiceAccounts"


@table(
    "rolebindings.rbac.authorization.k8s.io",
    "clusterrolebindings.rbac.authorization.k8s.io",
    shows=f"Name, {_ROLE_REF}, Age, {_SUBJECTS}",
    legacy=f"Name, Age, +{_ROLE_REF}, {_SUBJECTS}",
)
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


@table(
    "mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "validatingwebhookconfigurations.admissionregistration.k8s.io",
    shows="Name, Webhooks:integer, Age",
    legacy=_NAME_AND_DATE,
)
def _webhooks(obj: Obj, at: At) -> Cells:
    return {"Webhooks": len(items(obj, "webhooks")), "Created At": creation_time(obj)}


@table("apiservices.apiregistration.k8s.io", shows="Name, Service, Available, Age", legacy=_NAME_AND_DATE)
def _api_service(obj: Obj, at: At) -> Cells:
    service = dig(obj, "spec", "service")
    available: Obj = next((c for c in items(obj, "status", "conditions") if c.get("type") == "Available"), {})
    text = available.get("status") or "Unknown"
    if text != "True" and available.get("reason"):
        text = f"{text} ({available['reason']})"
    return {
        "Service": f"{service.get('namespace')}/{service.get('name')}" if service else "Local",
        "Available": text,
        "Created At": creation_time(obj),
    }


@table(
    "certificatesigningrequests.certificates.k8s.io",
    shows="Name, Age, SignerName, Requestor, RequestedDuration, Condition",
    legacy="Name, Age, Requestor, Condition",
)
def _certificate_signing_request(obj: Obj, at: At) -> Cells:
    types = {c.get("type") for c in items(obj, "status", "conditions")}
    state = ["Denied" if "Denied" in types else "Approved" if "Approved" in types else "Pending"]
    state += ["Failed"] * ("Failed" in types) + ["Issued"] * bool(dig(obj, "status", "certificate"))
    seconds = dig(obj, "spec", "expirationSeconds")
    return {
        "SignerName": dig(obj, "spec", "signerName") or NONE,
        "Requestor": dig(obj, "spec", "username") or "",
        "RequestedDuration": NONE if seconds is None else human_duration(seconds),
        "Condition": ",".join(state),
    }


@table("leases.coordination.k8s.io", shows="Name, Holder, Age")
def _lease(obj: Obj, at: At) -> Cells:
    return {"Holder": dig(obj, "spec", "holderIdentity") or ""}


@table(
    "priorityclasses.scheduling.k8s.io",
    shows="Name, Value:integer, Global-Default:boolean, Age, PreemptionPolicy",
    legacy="Name, Value:integer, Global-Default:boolean, Age",
)
def _priority_class(obj: Obj, at: At) -> Cells:
    return {
        "Value": obj.get("value") or 0,
        "Global-Default": bool(obj.get("globalDefault")),
        "PreemptionPolicy": obj.get("preemptionPolicy", ""),
    }


@table("runtimeclasses.node.k8s.io", shows="Name, Handler, Age", legacy=_NAME_AND_DATE)
def _runtime_class(obj: Obj, at: At) -> Cells:
    handler = obj.get("handler") or dig(obj, "spec", "runtimeHandler") or ""
    return {"Handler": handler, "Created At": creation_time(obj)}


@table("componentstatuses", shows="Name, Status, Message, Error")
def _component_status(obj: Obj, at: At) -> Cells:
    healthy: Obj = next((c for c in items(obj, "conditions") if c.get("type") == "Healthy"), {})
    status = {"True": "Healthy", None: "Unknown"}.get(healthy.get("status"), "Unhealthy")
    return {"Status": status, "Message": healthy.get("message", ""), "Error": healthy.get("error", "")}


_POLICY = "Name, Priv, Caps, SELinux, RunAsUser, FsGroup, SupGroup, ReadOnlyRootFs, Volumes"


@table("podsecuritypolicies.policy", "podsecuritypolicies.extensions", shows=_POLICY)
def _pod_security_policy(obj: Obj, at: At) -> Cells:
    def rule(field: str) -> str:
        return str(dig(obj, "spec", field, "rule") or "")

    return {
        "Priv": str(bool(dig(obj, "spec", "privileged"))).lower(),
        "Caps": ",".join(items(obj, "spec", "allowedCapabilities")),
        "SELinux": rule("seLinux"),
        "RunAsUser": rule("runAsUser"),
        "FsGroup": rule("fsGroup"),
        "SupGroup": rule("supplementalGroups"),
        "ReadOnlyRootFs": bool(dig(obj, "spec", "readOnlyRootFilesystem")),
        "Volumes": ",".join(items(obj, "spec", "volumes")),
    }
