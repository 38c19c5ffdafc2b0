# SPDX-License-Identifier: Apache-2.0
"""What may not change in a built-in object once it exists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labkit.ground import quantity as quantities
from meshbox.api.builtin.internal import difference, internal
from meshbox.api.builtin.well_formed import as_dict, as_list
from meshbox.api.problems import Cause, forbidden, invalid
from meshbox.api.table_files import at_steps, steps_of, table
from meshbox.contracts import Obj

__all__ = ["check_update", "same"]

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


def _fixed(old: Any, new: Any, path: str, causes: list[Cause], detail: str = _IMMUTABLE, *, message: str = "") -> None:
    """With `message`, its type in protobuf, a value is shown as the server itself holds it."""
    if not same(old, new):
        causes.append(invalid(path, internal(message, new) if message and new is not None else new, detail))


def _table(kind: str, old: Obj, new: Obj, version: str, causes: list[Cause]) -> None:
    """Fields that never change, from data/immutable.txt: behind "!" the words where that is forbidden, not invalid."""
    for line in table("immutable.txt").get(kind, ()):
        path, _, words = line.partition("! ")
        if path == "spec.selector" and version in _SELECTOR_MUTABLE:
            continue
        was, now = (at_steps(one, steps_of(path)) for one in (old, new))
        if not same(was, now):
            causes.append(forbidden(path, words) if words else invalid(path, now, _IMMUTABLE))


def _specs(old: Obj, new: Obj) -> tuple[Obj, Obj]:
    return as_dict(old.get("spec")), as_dict(new.get("spec"))


def _stateful_set(old: Obj, new: Obj, _version: str, causes: list[Cause]) -> None:
    before, after = _specs(old, new)
    rest = (before.keys() | after.keys()) - set(_STATEFUL_SET_FIELDS)
    if any(not same(before.get(name), after.get(name)) for name in rest):
        listed = ", ".join(f"'{name}'" for name in _STATEFUL_SET_FIELDS[:-1])
        detail = f"updates to statefulset spec for fields other than {listed} and 'minReadySeconds' are forbidden"
        causes.append(forbidden("spec", detail))


_JOB_FIELDS = (
    ("completionMode", ""),
    ("podFailurePolicy", "api.batch.v1.PodFailurePolicy"),
    ("backoffLimitPerIndex", ""),
    ("managedBy", ""),
    ("successPolicy", "api.batch.v1.SuccessPolicy"),
)
_SCHEDULING = ("nodeSelector", "affinity", "tolerations", "schedulingGates")


def _job(old: Obj, new: Obj, _version: str, causes: list[Cause]) -> None:
    before, after = _specs(old, new)
    completions = after.get("completions")
    if after.get("completionMode") != "Indexed":
        _fixed(before.get("completions"), completions, "spec.completions", causes)
    elif not same(before.get("completions"), completions) and completions != after.get("parallelism"):
        causes.append(invalid("spec.completions", completions, "can only be modified in tandem with spec.parallelism"))
    _fixed(before.get("selector"), after.get("selector"), "spec.selector", causes)
    template = before.get("template")
    if before.get("suspend") and not as_dict(old.get("status")).get("startTime"):
        # Where its pods go may change as long as there are none.
        template = _rescheduled(as_dict(template), as_dict(after.get("template")))
    _fixed(template, after.get("template"), "spec.template", causes, message="api.core.v1.PodTemplateSpec")
    for name, message in _JOB_FIELDS:
        _fixed(before.get(name), after.get(name), f"spec.{name}", causes, message=message)


def _rescheduled(template: Obj, wanted: Obj) -> Obj:
    """A template with the metadata of another one, and its wishes about nodes."""
    given = dict(template)
    for part, names in (("spec", _SCHEDULING), ("metadata", ("labels", "annotations"))):
        kept = {name: value for name, value in as_dict(template.get(part)).items() if name not in names}
        taken = {name: value for name, value in as_dict(wanted.get(part)).items() if name in names}
        given[part] = {**kept, **taken}
    return given


def _service(old: Obj, new: Obj, _version: str, causes: list[Cause]) -> None:
    before, after = _specs(old, new)
    for name in ("clusterIPs", "ipFamilies"):
        given, kept = (as_list(one.get(name)) for one in (after, before))
        if name == "clusterIPs":
            given, kept = given or [after.get("clusterIP")], kept or [before.get("clusterIP")]
        outside = "ExternalName" in (before.get("type"), after.get("type"))
        if not outside and given and kept and given[0] and kept[0] and given[0] != kept[0]:
            causes.append(invalid(f"spec.{name}[0]", given, "may not change once set"))
    if before.get("type") == after.get("type") == "LoadBalancer":
        was, now = before.get("loadBalancerClass"), after.get("loadBalancerClass")
        _fixed(was, now, "spec.loadBalancerClass", causes, "may not change once set")
    was, now = before.get("healthCheckNodePort"), after.get("healthCheckNodePort")
    if was and now and was != now:
        causes.append(forbidden("spec.healthCheckNodePort", "field is immutable"))


def _pod(old: Obj, new: Obj, _version: str, causes: list[Cause]) -> None:
    before, after = (dict(spec) for spec in _specs(old, new))
    for name in ("containers", "initContainers"):
        mine, others = as_list(before.get(name)), as_list(after.get(name))
        if len(mine) != len(others):
            causes.append(forbidden(f"spec.{name}", "pod updates may not add or remove containers"))
            return
        if not mine:
            continue
        after[name] = [
            {**as_dict(two), "image": as_dict(one).get("image")} for one, two in zip(mine, others, strict=True)
        ]
    _deadline(before, after, causes)
    _additions(before, after, causes)
    kept = ["activeDeadlineSeconds", "ephemeralContainers", "schedulingGates", "tolerations"]
    if (before.get("terminationGracePeriodSeconds") or 0) < 0 and after.get("terminationGracePeriodSeconds") == 1:
        kept.append("terminationGracePeriodSeconds")
    if not before.get("nodeName"):
        # The scheduler binds a pod to its node once.
        kept.append("nodeName")
    # What may change is shown as it was.
    after |= {name: before.get(name) for name in kept}
    if not same(before, after):
        differences = difference("api.core.v1.PodSpec", before, after)
        causes.append(forbidden("spec", f"pod updates may not change fields other than {_POD_FIELDS}\n{differences}"))


def _additions(before: Obj, after: Obj, causes: list[Cause]) -> None:
    """A pod may be made to tolerate more, and to wait for less."""
    known, wanted = (as_list(spec.get("tolerations")) for spec in (before, after))
    timeless = [{**as_dict(one), "tolerationSeconds": None} for one in wanted]
    if any(not any(same({**as_dict(one), "tolerationSeconds": None}, other) for other in timeless) for one in known):
        detail = "existing toleration can not be modified except its tolerationSeconds"
        causes.append(forbidden("spec.tolerations", detail))
    held, gates = (
        [as_dict(one).get("name") for one in as_list(spec.get("schedulingGates"))] for spec in (before, after)
    )
    for index, gate in enumerate(gates):
        if gate not in held:
            detail = f"only deletion is allowed, but found new scheduling gate '{gate}'"
            causes.append(forbidden(f"spec.schedulingGates[{index}].name", detail))


def _deadline(before: Obj, after: Obj, causes: list[Cause]) -> None:
    old, new = (spec.get("activeDeadlineSeconds") for spec in (before, after))
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


_STORAGE = "spec.resources.requests.storage"


def _claim(old: Obj, new: Obj, _version: str, causes: list[Cause]) -> None:
    before, after = (dict(spec) for spec in _specs(old, new))
    given, wants = (at_steps(spec, steps_of("resources.requests.storage")) for spec in (before, after))
    if as_dict(old.get("status")).get("phase") == "Bound":
        # What may change is shown as it was.
        resources = as_dict(after.get("resources"))
        if given is not None and (requests := as_dict(resources.get("requests"))):
            after["resources"] = {**resources, "requests": {**requests, "storage": given}}
        if after.get("volumeAttributesClassName") is not None:
            after["volumeAttributesClassName"] = before.get("volumeAttributesClassName")
    if not before.get("volumeName"):
        before["volumeName"] = after.get("volumeName")
    if not same(before, after):
        detail = (
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        )
        differences = difference("api.core.v1.PersistentVolumeClaimSpec", before, after)
        causes.append(forbidden("spec", f"{detail}\n{differences}"))
    # What is not there counts as nothing.
    had, wanted, holds = (
        quantities.parse(one or "0") for one in (given, wants, at_steps(old, steps_of("status.capacity.storage")))
    )
    if wanted < had and wanted <= holds:
        causes.append(forbidden(_STORAGE, "field can not be less than status.capacity"))


def _volume(old: Obj, new: Obj, _version: str, causes: list[Cause]) -> None:
    before, after = _specs(old, new)
    sources = [{name: value for name, value in spec.items() if name not in _NO_SOURCE} for spec in (before, after)]
    if not same(*sources):
        words = "spec.persistentvolumesource is immutable after creation"
        differences = difference("api.core.v1.PersistentVolumeSource", *sources)
        causes.append(forbidden("spec.persistentvolumesource", f"{words}\n{differences}"))
    if before.get("nodeAffinity") is not None:
        detail = f"{_IMMUTABLE}, except for updating from beta label to GA"
        was, now = before["nodeAffinity"], after.get("nodeAffinity")
        _fixed(was, now, "nodeAffinity", causes, detail, message="api.core.v1.VolumeNodeAffinity")


_NO_SOURCE = frozenset(
    {"accessModes", "capacity", "claimRef", "mountOptions", "nodeAffinity", "persistentVolumeReclaimPolicy"}
    | {"storageClassName", "volumeAttributesClassName", "volumeMode"}
)
"""What a volume's spec has beside what it is made from."""


def _node(old: Obj, new: Obj, _version: str, causes: list[Cause]) -> None:
    before, after = _specs(old, new)
    for name, told in (("podCIDR", "podCIDRs"), ("providerID", "providerID")):
        if before.get(name) and before[name] != after.get(name):
            detail = f'node updates may not change {name} except from "" to valid'
            causes.append(forbidden(f"spec.{told}", detail))


def _quota(old: Obj, new: Obj, _version: str, causes: list[Cause]) -> None:
    before, after = (as_list(spec.get("scopes")) for spec in _specs(old, new))
    if set(before) != set(after):
        causes.append(invalid("spec.scopes", after or None, _IMMUTABLE))


def _role_reference(old: Obj, new: Obj, _version: str, causes: list[Cause]) -> None:
    was, now = old.get("roleRef"), new.get("roleRef")
    _fixed(was, now, "roleRef", causes, "cannot change roleRef", message="api.rbac.v1.RoleRef")


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


_FURTHER: dict[str, Callable[[Obj, Obj, str, list[Cause]], None]] = {
    "ClusterRoleBinding": _role_reference,
    "ConfigMap": _config_map,
    "CustomResourceDefinition": _definition,
    "Job": _job,
    "Node": _node,
    "PersistentVolume": _volume,
    "PersistentVolumeClaim": _claim,
    "Pod": _pod,
    "ResourceQuota": _quota,
    "RoleBinding": _role_reference,
    "Secret": _secret,
    "Service": _service,
    "StatefulSet": _stateful_set,
}
"""What no table tells, by kind."""


def check_update(kind: str, old: Obj, new: Obj, version: str, causes: list[Cause]) -> None:
    """Add what has changed in an object and may not.

    Args:
        kind: Of the object.
        old: As it is stored.
        new: As it is to be.
        version: The apiVersion that both are in.
        causes: Where to add what is wrong.
    """
    _table(kind, old, new, version, causes)
    if kind in _FURTHER:
        _FURTHER[kind](old, new, version, causes)
