# SPDX-License-Identifier: Apache-2.0
"""CustomResourceDefinitions: checked, established at once, and served from then on."""

from __future__ import annotations

from meshbox.api import metadata
from meshbox.api.compiled.definition import approval, keeps_unknown
from meshbox.api.deletes import CRD_CLEANUP
from meshbox.api.refusals import cause
from meshbox.api.resources import Registry, custom_resource
from meshbox.api.store import Change, Store
from meshbox.contracts import Obj
from meshbox.values import clone

__all__ = ["CRDS", "Definitions", "defined"]

_CONFORMANT = "KubernetesAPIApprovalPolicyConformant"
CRDS = "customresourcedefinitions.apiextensions.k8s.io"


class Definitions:
    """Keeps the registry in step with the CRDs in the store.

    Args:
        store: Where they are.
        registry: What is served.
    """

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        for entry in store.entries(CRDS):
            # One of an earlier run that defines nothing is set aside a little later.
            if not defined(entry.obj) and _established(entry.obj):
                registry.add_custom(entry.obj)
        store.listen(CRDS, self._on_change)

    def _on_change(self, change: Change) -> None:
        crd = change.entry.obj
        name = crd["metadata"]["name"]
        if change.type == "DELETED":
            self._registry.remove_custom(name)
            self._accept_waiting()
            return
        if not _established(crd):
            return
        before = self._registry.get(name)
        if before is not None and before.crd is not None and before.crd["spec"] == crd["spec"]:
            return
        resource = self._registry.add_custom(crd)
        if before is not None and before.version != resource.version:
            self._store.rewrite(name, lambda obj: {**obj, "apiVersion": resource.api_version})

    def _accept_waiting(self) -> None:
        """Names have become free: CRDs that wanted them may be served now."""
        for entry in self._store.entries(CRDS):
            if _established(entry.obj) or entry.obj["metadata"].get("deletionTimestamp"):
                continue
            crd: Obj = clone(entry.obj)
            crd["status"] = self._status(crd, entry.obj)
            if crd["status"] != entry.obj.get("status"):
                self._store.put(CRDS, ("", crd["metadata"]["name"]), crd)

    def prepare(self, crd: Obj, old: Obj | None) -> list[Obj]:
        """Check a CRD and give it the status it deserves, in place; causes of an Invalid refusal."""
        spec = crd.get("spec")
        causes = _problems(crd, spec)
        if causes or not isinstance(spec, dict):
            return causes
        names = spec["names"]
        names.setdefault("singular", names["kind"].lower())
        names.setdefault("listKind", names["kind"] + "List")
        spec.setdefault("conversion", {"strategy": "None"})
        if old is not None:
            for field in ("group", "scope"):
                if spec.get(field) != old["spec"].get(field):
                    causes.append(cause(f"spec.{field}", f'Invalid value: "{spec.get(field)}": field is immutable'))
            if names["plural"] != old["spec"]["names"]["plural"]:
                words = f'Invalid value: "{names["plural"]}": field is immutable'
                causes.append(cause("spec.names.plural", words))
            if spec.get("preserveUnknownFields") and not old["spec"].get("preserveUnknownFields"):
                causes.append(dict(keeps_unknown()))
        crd["status"] = self._status(crd, old)
        if old is None:
            crd["metadata"]["finalizers"] = [*(crd["metadata"].get("finalizers") or []), CRD_CLEANUP]
        return causes

    def _status(self, crd: Obj, old: Obj | None) -> Obj:
        spec, names = crd["spec"], crd["spec"]["names"]
        before = (old or {}).get("status") or {}
        reason, taken = self._taken(crd)
        times = {one["type"]: one for one in before.get("conditions") or []}
        conditions = [
            _condition("NamesAccepted", not taken, reason or "NoConflicts", taken, times),
            _condition(
                "Established",
                not taken,
                "NotAccepted" if taken else "InitialNamesAccepted",
                "not all names are accepted" if taken else "the initial names have been accepted",
                times,
            ),
        ]
        if not taken:
            conditions[0]["message"] = "no conflicts found"
        status, why, words = approval(crd)
        if status:
            conditions.append(_condition(_CONFORMANT, status == "True", why, words, times))
        conditions += [one for kind, one in times.items() if kind not in ("NamesAccepted", "Established", _CONFORMANT)]
        storage = [one["name"] for one in spec["versions"] if one.get("storage")]
        stored = [*(before.get("storedVersions") or [])]
        stored += [name for name in storage if name not in stored]
        accepted = before.get("acceptedNames") or {"kind": "", "plural": ""} if taken else dict(names)
        return {"acceptedNames": accepted, "conditions": conditions, "storedVersions": stored}

    def _taken(self, crd: Obj) -> tuple[str, str]:
        """Why the names of `crd` cannot be accepted, as reason and message; ("", "") where they can.

        Of several conflicts the last is told.
        """
        mine = custom_resource(crd)
        others = [one for one in self._registry.all() if one.group == mine.group and one.name != mine.name]
        names = {name for one in others for name in (one.plural, one.singular, *one.short_names)}
        kinds = {name for one in others for name in (one.kind, one.list_kind)}
        why = "", ""
        for reason, wanted, used in (
            ("PluralConflict", (mine.plural,), names),
            ("SingularConflict", (mine.singular,), names),
            ("ShortNamesConflict", mine.short_names, names),
            ("KindConflict", (mine.kind,), kinds),
            ("ListKindConflict", (mine.list_kind,), kinds),
        ):
            if said := [f'"{name}" is already in use' for name in wanted if name in used]:
                why = reason, said[0] if len(said) == 1 else f"[{', '.join(said)}]"
        return why


def defined(crd: Obj) -> str:
    """Why `crd` defines no resource; "" for one that does."""
    causes = _problems(crd, crd.get("spec"))
    return f"{causes[0]['field']}: {causes[0]['message']}" if causes else ""


def _established(crd: Obj) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def _condition(kind: str, yes: bool, reason: str, message: str, times: dict[str, Obj]) -> Obj:
    status = "True" if yes else "False"
    before = times.get(kind) or {}
    since = before.get("lastTransitionTime") if before.get("status") == status else None
    return {
        "lastTransitionTime": since or metadata.now(),
        "message": message,
        "reason": reason,
        "status": status,
        "type": kind,
    }


def _problems(crd: Obj, spec: object) -> list[Obj]:
    """What a CRD must have for anything to be served from it."""
    if not isinstance(spec, dict):
        return [cause("spec", "Required value")]
    causes = []
    names = spec.get("names") if isinstance(spec.get("names"), dict) else {}
    assert isinstance(names, dict)
    for field in ("plural", "kind"):
        if not isinstance(names.get(field), str) or not names[field]:
            causes.append(cause(f"spec.names.{field}", "Required value"))
    if not isinstance(spec.get("group"), str) or not spec["group"]:
        causes.append(cause("spec.group", "Required value"))
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        words = f'Unsupported value: "{spec.get("scope", "")}": supported values: "Cluster", "Namespaced"'
        causes.append(cause("spec.scope", words if spec.get("scope") else "Required value"))
    versions = spec.get("versions")
    if not isinstance(versions, list) or not all(isinstance(one, dict) and one.get("name") for one in versions):
        causes.append(cause("spec.versions", "Required value"))
    elif sum(1 for one in versions if one.get("storage")) != 1:
        causes.append(cause("spec.versions", "Invalid value: must have exactly one version marked as storage version"))
    if not causes and crd["metadata"].get("name") != f"{names['plural']}.{spec['group']}":
        name = crd["metadata"].get("name", "")
        words = f'Invalid value: "{name}": must be spec.names.plural+"."+spec.group'
        causes.append(cause("metadata.name", words))
    return causes
