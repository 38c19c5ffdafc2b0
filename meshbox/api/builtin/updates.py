# SPDX-License-Identifier: Apache-2.0
"""What no table tells of what may not change in a built-in object once it exists."""

from __future__ import annotations

from typing import Any

from labkit.ground import quantity as quantities
from meshbox.api.builtin.internal import difference
from meshbox.api.builtin.rules import Context, call
from meshbox.api.builtin.vocabulary import VOCABULARY
from meshbox.api.builtin.well_formed import as_dict, as_list, same
from meshbox.api.problems import Cause, forbidden, invalid
from meshbox.api.table_files import at_steps, steps_of
from meshbox.contracts import Obj

__all__: list[str] = []

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


def _both(spec: Any, context: Context) -> tuple[Obj, Obj]:
    """A spec before and after."""
    return as_dict(context.old.get("spec")), as_dict(spec)


@call("keep_stateful_set")
def _stateful_set(spec: Obj | None, _path: str, causes: list[Cause], context: Context) -> None:
    before, after = _both(spec, context)
    rest = (before.keys() | after.keys()) - set(_STATEFUL_SET_FIELDS)
    if any(not same(before.get(name), after.get(name)) for name in rest):
        listed = ", ".join(f"'{name}'" for name in _STATEFUL_SET_FIELDS[:-1])
        detail = f"updates to statefulset spec for fields other than {listed} and 'minReadySeconds' are forbidden"
        causes.append(forbidden("spec", detail))


_SCHEDULING = ("nodeSelector", "affinity", "tolerations", "schedulingGates")


@call("keep_completions")
def _completions(count: int | None, path: str, causes: list[Cause], context: Context) -> None:
    was, wide = at_steps(context.old, ("spec", "completions")), context.whole["spec"].get("parallelism")
    if None not in (was, count) and not same(was, count) and count != wide:
        causes.append(invalid(path, count, "can only be modified in tandem with spec.parallelism"))


@call("keep_template")
def _template(template: Any, path: str, causes: list[Cause], context: Context) -> None:
    before = as_dict(context.old.get("spec"))
    was = before.get("template")
    if before.get("suspend") and not as_dict(context.old.get("status")).get("startTime"):
        # Where its pods go may change as long as there are none.
        was = _rescheduled(as_dict(was), as_dict(template))
    causes += VOCABULARY["kept"]((template, was), path, ("as", "api.core.v1.PodTemplateSpec"))


def _rescheduled(template: Obj, wanted: Obj) -> Obj:
    """A template with the metadata of another one, and its wishes about nodes."""
    given = dict(template)
    for part, names in (("spec", _SCHEDULING), ("metadata", ("labels", "annotations"))):
        kept = {name: value for name, value in as_dict(template.get(part)).items() if name not in names}
        taken = {name: value for name, value in as_dict(wanted.get(part)).items() if name in names}
        given[part] = {**kept, **taken}
    return given


@call("keep_addresses")
def _service(spec: Obj | None, _path: str, causes: list[Cause], context: Context) -> None:
    before, after = _both(spec, context)
    for name in ("clusterIPs", "ipFamilies"):
        given, kept = (as_list(one.get(name)) for one in (after, before))
        if name == "clusterIPs":
            given, kept = given or [after.get("clusterIP")], kept or [before.get("clusterIP")]
        outside = "ExternalName" in (before.get("type"), after.get("type"))
        if not outside and given and kept and given[0] and kept[0] and given[0] != kept[0]:
            causes.append(invalid(f"spec.{name}[0]", given, "may not change once set"))


@call("keep_pod")
def _pod(spec: Obj | None, _path: str, causes: list[Cause], context: Context) -> None:
    before, after = (dict(one) for one in _both(spec, context))
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
    known, wanted = (as_list(one.get("tolerations")) for one in (before, after))
    timeless = [{**as_dict(one), "tolerationSeconds": None} for one in wanted]
    if any(not any(same({**as_dict(one), "tolerationSeconds": None}, other) for other in timeless) for one in known):
        detail = "existing toleration can not be modified except its tolerationSeconds"
        causes.append(forbidden("spec.tolerations", detail))
    held, gates = (
        [as_dict(one).get("name") for one in as_list(each.get("schedulingGates"))] for each in (before, after)
    )
    for index, gate in enumerate(gates):
        if gate not in held:
            detail = f"only deletion is allowed, but found new scheduling gate '{gate}'"
            causes.append(forbidden(f"spec.schedulingGates[{index}].name", detail))


def _deadline(before: Obj, after: Obj, causes: list[Cause]) -> None:
    old, new = (one.get("activeDeadlineSeconds") for one in (before, after))
    if old is not None and new is None:
        detail = "must not update from a positive integer to nil value"
        causes.append(invalid("spec.activeDeadlineSeconds", None, detail))
    elif old is not None and new > old:
        detail = "must be less than or equal to previous value"
        causes.append(invalid("spec.activeDeadlineSeconds", new, detail))


_STORAGE = "spec.resources.requests.storage"


@call("keep_claim")
def _claim(spec: Obj | None, _path: str, causes: list[Cause], context: Context) -> None:
    before, after = (dict(one) for one in _both(spec, context))
    given, wants = (at_steps(one, steps_of("resources.requests.storage")) for one in (before, after))
    if as_dict(context.old.get("status")).get("phase") == "Bound":
        # What may change is shown as it was.
        resources = as_dict(after.get("resources"))
        if given is not None and (requests := as_dict(resources.get("requests"))):
            after["resources"] = {**resources, "requests": {**requests, "storage": given}}
        if after.get("volumeAttributesClassName") is not None:
            after["volumeAttributesClassName"] = before.get("volumeAttributesClassName")
    if not before.get("volumeName"):
        before["volumeName"] = after.get("volumeName")
    if before.get("storageClassName") is None:
        # A claim that is older than the default class may be given one.
        after["storageClassName"] = None
    if not same(before, after):
        detail = (
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        )
        differences = difference("api.core.v1.PersistentVolumeClaimSpec", before, after)
        causes.append(forbidden("spec", f"{detail}\n{differences}"))
    # What is not there counts as nothing.
    capacity = at_steps(context.old, ("status", "capacity", "storage"))
    had, wanted, holds = (quantities.parse(one or "0") for one in (given, wants, capacity))
    if wanted < had and wanted <= holds:
        causes.append(forbidden(_STORAGE, "field can not be less than status.capacity"))


@call("keep_source")
def _volume(spec: Obj | None, _path: str, causes: list[Cause], context: Context) -> None:
    before, after = _both(spec, context)
    sources = [{name: value for name, value in one.items() if name not in _NO_SOURCE} for one in (before, after)]
    if not same(*sources):
        words = "spec.persistentvolumesource is immutable after creation"
        differences = difference("api.core.v1.PersistentVolumeSource", *sources)
        causes.append(forbidden("spec.persistentvolumesource", f"{words}\n{differences}"))


_NO_SOURCE = frozenset(
    {"accessModes", "capacity", "claimRef", "mountOptions", "nodeAffinity", "persistentVolumeReclaimPolicy"}
    | {"storageClassName", "volumeAttributesClassName", "volumeMode"}
)
"""What a volume's spec has beside what it is made from."""


@call("keep_scopes")
def _scopes(scopes: list[Any] | None, path: str, causes: list[Cause], context: Context) -> None:
    if set(as_list(at_steps(context.old, ("spec", "scopes")))) != set(scopes or ()):
        causes.append(invalid(path, scopes or None, "field is immutable"))


@call("keep_versions")
def _versions(spec: Obj | None, _path: str, causes: list[Cause], context: Context) -> None:
    given, stored = as_dict(spec), as_list(at_steps(context.old, ("status", "storedVersions")))
    listed = {as_dict(one).get("name") for one in as_list(given.get("versions"))} | {given.get("version")}
    for index, name in enumerate(stored):
        if name not in listed:
            detail = (
                f"missing from spec.versions; {name} was previously a storage version, and must remain in "
                f"spec.versions until a storage migration ensures no data remains persisted in {name} and removes "
                f"{name} from status.storedVersions"
            )
            causes.append(invalid(f"status.storedVersions[{index}]", name, detail))
