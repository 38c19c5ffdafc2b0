# SPDX-License-Identifier: Apache-2.0
"""What may not change in a built-in object once it exists."""

from __future__ import annotations

from typing import Any

from meshbox.api.builtin.well_formed import as_dict, as_list
from meshbox.api.problems import Cause, forbidden, invalid, shown
from meshbox.contracts import Obj

__all__ = ["UPDATES", "same"]

_IMMUTABLE = "field is immutable"
_SELECTOR_MUTABLE = ("extensions/v1beta1", "apps/v1beta1", "v1")
_STATEFUL_SET_FIELDS = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)
_POD_FIELDS = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` "
    "(only additions to existing tolerations),`spec.terminationGracePeriodSeconds` "
    "(allow it to be set to 1 if it was previously negative)"
)


def same(a: Any, b: Any) -> bool:
    """Whether two values are the same to the server, for which null, empty and absent are one."""
    if isinstance(a, dict) and isinstance(b, dict):
        return all(same(a.get(key), b.get(key)) for key in a.keys() | b.keys())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(one, other) for one, other in zip(a, b, strict=True))
    if a in (None, "", False, 0) or a == [] or a == {}:
        return not b
    return type(a) is type(b) and bool(a == b)


def _fixed(old: Any, new: Any, path: str, causes: list[Cause], detail: str = _IMMUTABLE) -> None:
    if not same(old, new):
        causes.append(invalid(path, new, detail))


def _specs(old: Obj, new: Obj) -> tuple[Obj, Obj]:
    return as_dict(old.get("spec")), as_dict(new.get("spec"))


def _selector(old: Obj, new: Obj, version: str, causes: list[Cause]) -> None:
    if version not in _SELECTOR_MUTABLE:
        before, after = _specs(old, new)
        _fixed(before.get("selector"), after.get("selector"), "spec.selector", causes)


def _stateful_set(old: Obj, new: Obj, _version: str, causes: list[Cause]) -> None:
    before, after = _specs(old, new)
    rest = (before.keys() | after.keys()) - set(_STATEFUL_SET_FIELDS)
    if any(not same(before.get(name), after.get(name)) for name in rest):
        listed = ", ".join(f"'{name}'" for name in _STATEFUL_SET_FIELDS[:-1])
        detail = f"updates to statefulset spec for fields other than {listed} and 'minReadySeconds' are forbidden"
        causes.append(forbidden("spec", detail))


def _job(old: Obj, new: Obj, _version: str, causes: list[Cause]) -> None:
    before, after = _specs(old, new)
    if after.get("completionMode") != "Indexed":
        _fixed(before.get("completions"), after.get("completions"), "spec.completions", causes)
    for name in ("selector", "template", "completionMode"):
        _fixed(before.get(name), after.get(name), f"spec.{name}", causes)


def _service(old: Obj, new: Obj, _version: str, causes: list[Cause]) -> None:
    before, after = _specs(old, new)
    if "ExternalName" in (before.get("type"), after.get("type")):
        return
    given, kept = after.get("clusterIP"), before.get("clusterIP")
    # An empty one is given the old address by the server.
    if kept and given and given != kept:
        causes.append(invalid("spec.clusterIPs[0]", [given], "may not change once set"))


def _pod(old: Obj, new: Obj, _version: str, causes: list[Cause]) -> None:
    before, after = (dict(spec) for spec in _specs(old, new))
    for name in ("containers", "initContainers"):
        mine, others = as_list(before.pop(name, None)), as_list(after.pop(name, None))
        if len(mine) != len(others):
            causes.append(forbidden(f"spec.{name}", "pod updates may not add or remove containers"))
            return
        before[name] = [{**as_dict(one), "image": ""} for one in mine]
        after[name] = [{**as_dict(one), "image": ""} for one in others]
    _deadline(before, after, causes)
    for name in ("tolerations", "terminationGracePeriodSeconds", "ephemeralContainers", "schedulingGates"):
        before.pop(name, None)
        after.pop(name, None)
    if not before.get("nodeName"):
        # The scheduler binds a pod to its node once.
        after.pop("nodeName", None)
    changed = [name for name in sorted(before.keys() | after.keys()) if not same(before.get(name), after.get(name))]
    if changed:
        differences = "".join(
            f"\n- {name}: {shown(before.get(name))}\n+ {name}: {shown(after.get(name))}" for name in changed
        )
        causes.append(forbidden("spec", f"pod updates may not change fields other than {_POD_FIELDS}{differences}"))


def _deadline(before: Obj, after: Obj, causes: list[Cause]) -> None:
    old, new = before.pop("activeDeadlineSeconds", None), after.pop("activeDeadlineSeconds", None)
    if old is not None and new is None:
        detail = "must not update from a positive integer to nil value"
        causes.append(invalid("spec.activeDeadlineSeconds", None, detail))
    elif old is not None and new > old:
        detail = "must be less than or equal to previous value"
        causes.append(invalid("spec.activeDeadlineSeconds", new, detail))


def _sealed(fields: tuple[str, ...], old: Obj, new: Obj, causes: list[Cause]) -> None:
    if not old.get("immutable"):
        return
    detail = "field is immutable when `immutable` is set"
    if not new.get("immutable"):
        causes.append(forbidden("immutable", detail))
    causes += [forbidden(name, detail) for name in fields if not same(old.get(name), new.get(name))]


def _config_map(old: Obj, new: Obj, _version: str, causes: list[Cause]) -> None:
    _sealed(("data", "binaryData"), old, new, causes)


def _secret(old: Obj, new: Obj, _version: str, causes: list[Cause]) -> None:
    if new.get("type"):
        _fixed(old.get("type"), new.get("type"), "type", causes)
    _sealed(("data",), old, new, causes)


def _claim(old: Obj, new: Obj, _version: str, causes: list[Cause]) -> None:
    before, after = (dict(spec) for spec in _specs(old, new))
    for spec in (before, after):
        spec.pop("resources", None)
        spec.pop("volumeAttributesClassName", None)
    if not before.get("volumeName"):
        after.pop("volumeName", None)
    if not same(before, after):
        detail = (
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        )
        causes.append(forbidden("spec", detail))


def _role_reference(old: Obj, new: Obj, _version: str, causes: list[Cause]) -> None:
    _fixed(old.get("roleRef"), new.get("roleRef"), "roleRef", causes, "cannot change roleRef")


def _definition(old: Obj, new: Obj, _version: str, causes: list[Cause]) -> None:
    before, after = _specs(old, new)
    _fixed(before.get("group"), after.get("group"), "spec.group", causes)
    conditions = [as_dict(one) for one in as_list(as_dict(old.get("status")).get("conditions"))]
    if any(one.get("type") == "Established" and one.get("status") == "True" for one in conditions):
        _fixed(before.get("scope"), after.get("scope"), "spec.scope", causes)
        for name in ("kind", "plural"):
            was, now = as_dict(before.get("names")).get(name), as_dict(after.get("names")).get(name)
            _fixed(was, now, f"spec.names.{name}", causes)
    _stored(as_dict(old.get("status")), after, causes)


def _stored(status: Obj, spec: Obj, causes: list[Cause]) -> None:
    listed = {as_dict(one).get("name") for one in as_list(spec.get("versions"))} | {spec.get("version")}
    for index, name in enumerate(as_list(status.get("storedVersions"))):
        if name not in listed:
            detail = (
                f"missing from spec.versions; {name} was previously a storage version, and must remain in "
                f"spec.versions until a storage migration ensures no data remains persisted in {name} and removes "
                f"{name} from status.storedVersions"
            )
            causes.append(invalid(f"status.storedVersions[{index}]", name, detail))


def _endpoint_slice(old: Obj, new: Obj, _version: str, causes: list[Cause]) -> None:
    _fixed(old.get("addressType"), new.get("addressType"), "addressType", causes)


def _priority(old: Obj, new: Obj, _version: str, causes: list[Cause]) -> None:
    if not same(old.get("value"), new.get("value")):
        causes.append(forbidden("value", "may not be changed in an update."))


def _storage_class(old: Obj, new: Obj, _version: str, causes: list[Cause]) -> None:
    for name in ("parameters", "provisioner"):
        if not same(old.get(name), new.get(name)):
            causes.append(forbidden(name, f"updates to {name} are forbidden."))


UPDATES: dict[str, Any] = {
    "ClusterRoleBinding": _role_reference,
    "ConfigMap": _config_map,
    "CustomResourceDefinition": _definition,
    "DaemonSet": _selector,
    "Deployment": _selector,
    "EndpointSlice": _endpoint_slice,
    "Job": _job,
    "PersistentVolumeClaim": _claim,
    "Pod": _pod,
    "PriorityClass": _priority,
    "ReplicaSet": _selector,
    "RoleBinding": _role_reference,
    "Secret": _secret,
    "Service": _service,
    "StatefulSet": _stateful_set,
    "StorageClass": _storage_class,
}
"""Kind → what it checks on update: called with the old object, the new one, its apiVersion and where to add causes."""
