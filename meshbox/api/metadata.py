# SPDX-License-Identifier: Apache-2.0
"""Names, labels and the rest of `metadata`: checked and filled in as the API server does."""

from __future__ import annotations

import functools
import json
import secrets
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime

from labkit.ground.names import dns1123_label, label_value, qualified_name
from meshbox.api.names import cannot_unmarshal, name_problems
from meshbox.api.options import WriteOptions
from meshbox.api.problems import shown
from meshbox.api.refusals import bad_request, cause, conflict, invalid, modified, quoted
from meshbox.api.resources import Resource
from meshbox.contracts import ApiError, Obj

__all__ = ["begin", "carry_over", "check", "generated_name", "identify", "now", "tidy", "unqualified"]

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""No vowels and nothing that looks like another character: Kubernetes' own choice for generated names."""

_ANNOTATIONS_LIMIT = 256 * 1024

_LONGEST = 253 + 1 + 63
"""Characters of the longest key: a subdomain, a slash and a name."""


def now() -> str:
    """The time as `creationTimestamp` has it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def generated_name(prefix: str) -> str:
    """A name for `generateName`: the prefix and five random characters, 63 at most."""
    return prefix[:58] + "".join(secrets.choice(_ALPHABET) for _ in range(5))


def begin(resource: Resource, obj: Obj, namespace: str | None) -> Obj:
    """Make `obj` one that the server has created: its own `metadata`, a name, a namespace. Changed in place.

    Raises:
        ApiError: 400 where the namespace of the object and of the request differ.
    """
    given = obj.get("metadata")
    meta: Obj = dict(given) if isinstance(given, dict) else {}
    for owned in ("uid", "resourceVersion", "creationTimestamp", "selfLink", "generation", "managedFields"):
        meta.pop(owned, None)
    meta.pop("deletionTimestamp", None)
    meta.pop("deletionGracePeriodSeconds", None)
    if not meta.get("name") and isinstance(meta.get("generateName"), str) and meta["generateName"]:
        meta["name"] = generated_name(meta["generateName"])
    if resource.namespaced:
        inside = meta.get("namespace") or namespace
        if namespace and inside != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        meta["namespace"] = inside or "default"
    else:
        meta.pop("namespace", None)
    meta["uid"] = str(uuid.uuid4())
    meta["creationTimestamp"] = now()
    if resource.counts_generation:
        meta["generation"] = 1
    obj["metadata"] = meta
    return meta


_CONDITIONAL = frozenset(
    {
        "CSIDriver", "CSINode", "CSIStorageCapacity", "ClusterTrustBundle", "CustomResourceDefinition", "Lease",
        "MutatingWebhookConfiguration", "PodDisruptionBudget", "RuntimeClass", "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration", "VolumeAttachment",
    }
)  # fmt: skip
"""Kinds, beside custom ones, that are updated only by who says which version of the object he has seen."""


def identify(resource: Resource, old: Obj, obj: Obj, options: WriteOptions) -> None:
    """Check that `obj` is the object that it is to replace, as it is now.

    Raises:
        ApiError: 400, 409 or 422 where it is another one.
    """
    meta, known = obj["metadata"], old["metadata"]
    name = known["name"]
    if (given := meta.get("name", name)) != name:
        raise bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")
    if (given := meta.get("namespace") or known.get("namespace")) != known.get("namespace"):
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    version = meta.get("resourceVersion")
    if (options.patch or options.applied is not None) and version and version != known["resourceVersion"]:
        raise modified(resource, name)
    if (uid := meta.get("uid")) and uid != known["uid"]:
        if options.patch:
            raise invalid(resource, name, [cause("metadata.uid", f"Invalid value: {quoted(uid)}: field is immutable")])
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {known['uid']}"
        raise conflict(resource, name, why)
    if version and version != known["resourceVersion"]:
        raise modified(resource, name)
    if not version and options.validation and (resource.crd is not None or resource.kind in _CONDITIONAL):
        one = cause("metadata.resourceVersion", "Invalid value: 0: must be specified for an update")
        details = {"name": name, "group": resource.group, "kind": resource.plural, "causes": [one]}
        words = f'{resource.name} "{name}" is invalid: {one["field"]}: {one["message"]}'
        raise ApiError(422, "Invalid", words, details)
    meta["name"] = name


def carry_over(obj: Obj, old: Obj) -> list[Obj]:
    """Give `obj` the parts of `metadata` that belong to the server, from the object as it is.

    Returns:
        What is wrong with those that it had: nobody says by an update that an object is being deleted.
    """
    meta, before = obj["metadata"], old["metadata"]
    causes = [
        cause(f"metadata.{field}", f"Invalid value: {json.dumps(meta[field])}: field is immutable")
        for field in ("deletionTimestamp", "deletionGracePeriodSeconds")
        if meta.get(field) is not None and "deletionTimestamp" not in before
    ]
    for owned in (
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "namespace",
    ):
        if owned in before:
            meta[owned] = before[owned]
        else:
            meta.pop(owned, None)
    meta.pop("selfLink", None)
    meta["resourceVersion"] = before["resourceVersion"]
    if "generateName" in before:
        meta.setdefault("generateName", before["generateName"])
    return causes


def tidy(meta: Obj, options: WriteOptions) -> None:
    """Drop references to owners that are there twice, in place, and say so in the warnings of `options`."""
    owners, kept, twice = meta.get("ownerReferences"), [], {}
    if not isinstance(owners, list):
        return
    for one in owners:
        if one in kept:
            twice[str(one.get("uid"))] = True
        else:
            kept.append(one)
    if twice:
        meta["ownerReferences"] = kept
        # What a patch has made is looked at late.
        when = " after mutating admission happens" if options.patch else ""
        options.warnings.append(f"{_TWICE.format(when)}; duplicate UID(s) observed: {', '.join(twice)}")


_TWICE = (
    ".metadata.ownerReferences contains duplicate entries{}; API server dedups owner references in 1.20+, and may "
    "reject such requests as early as 1.24; please fix your requests"
)


def _strings(meta: Obj, field: str) -> dict[str, str]:
    """`labels` or `annotations`, where every value is a string.

    Raises:
        ApiError: 400 where it is anything else, as decoding the object would.
    """
    given = meta.get(field)
    if given is None:
        return {}
    place = f"ObjectMeta.metadata.{field}"
    if not isinstance(given, dict):
        raise bad_request(cannot_unmarshal(given, place, "map[string]string"))
    for key, value in given.items():
        if value is None:
            # As Go's decoder reads it.
            given[key] = ""
        elif not isinstance(value, str):
            raise bad_request(cannot_unmarshal(value, place, "string"))
    return given


def _shape(meta: Obj) -> None:
    for field in ("name", "namespace", "generateName", "uid", "resourceVersion"):
        if not isinstance(meta.get(field, ""), str):
            raise bad_request(cannot_unmarshal(meta[field], f"ObjectMeta.metadata.{field}", "string"))
    for field, inner, word in (("finalizers", str, "string"), ("ownerReferences", dict, "v1.OwnerReference")):
        given = meta.get(field, [])
        if not isinstance(given, list):
            raise bad_request(cannot_unmarshal(given, f"ObjectMeta.metadata.{field}", f"[]{word}"))
        for value in given:
            if not isinstance(value, inner):
                raise bad_request(cannot_unmarshal(value, f"ObjectMeta.metadata.{field}", word))


def _invalid(field: str, value: str, problems: Iterable[str]) -> list[Obj]:
    return [cause(field, f'Invalid value: "{value}": {words}') for words in problems]


def _key_problems(key: str) -> Iterable[str]:
    """What is wrong with the key of a label or an annotation; the same few come with every write."""
    return _known_problems(key) if len(key) <= _LONGEST else qualified_name(key)


@functools.lru_cache(maxsize=4096)
def _known_problems(key: str) -> tuple[str, ...]:
    return tuple(qualified_name(key))


def check(resource: Resource, obj: Obj) -> list[Obj]:
    """What is wrong with `obj`'s metadata (causes of an Invalid refusal); nulls and empty maps are dropped from it.

    Raises:
        ApiError: 400 where a field has another type than it must have.
    """
    meta = obj["metadata"]
    for field in [field for field, value in meta.items() if value is None]:
        del meta[field]
    _shape(meta)
    causes = []
    name = meta.get("name", "")
    if not name:
        causes.append(cause("metadata.name", "Required value: name or generateName is required"))
    else:
        causes += _invalid("metadata.name", name, name_problems(resource, name))
    if prefix := meta.get("generateName"):
        # A dash at its end is well: a name follows.
        start = f"{prefix[:-1]}a" if prefix.endswith("-") and len(prefix) > 1 else prefix
        causes += _invalid("metadata.generateName", prefix, name_problems(resource, start))
    if resource.namespaced:
        causes += _invalid("metadata.namespace", meta["namespace"], dns1123_label(meta["namespace"]))
    for key, value in _strings(meta, "labels").items():
        causes += _invalid("metadata.labels", key, _key_problems(key))
        causes += _invalid("metadata.labels", value, label_value(value))
    annotations = _strings(meta, "annotations")
    for key in annotations:
        causes += _invalid("metadata.annotations", key, _key_problems(key.lower()))
    if sum(len(key) + len(value.encode()) for key, value in annotations.items()) > _ANNOTATIONS_LIMIT:
        causes.append(cause("metadata.annotations", f"Too long: may not be more than {_ANNOTATIONS_LIMIT} bytes"))
    causes += _owner_causes(meta.get("ownerReferences") or [])
    causes += _finalizer_causes(resource, meta.get("finalizers") or [])
    for field in ("labels", "annotations", "ownerReferences", "finalizers"):
        if field in meta and not meta[field]:
            del meta[field]
    return causes


_OWNER_FIELDS = ("apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion")


def _owner_causes(owners: list[Obj]) -> list[Obj]:
    causes, path = [], "metadata.ownerReferences"
    for owner in owners:
        group, _, version = str(owner.get("apiVersion") or "").rpartition("/")
        if not version:
            causes.append(cause(f"{path}.apiVersion", 'Invalid value: "": version must not be empty'))
        for field in ("kind", "name", "uid"):
            if not owner.get(field):
                causes.append(cause(f"{path}.{field}", 'Invalid value: "": must not be empty'))
        if (group, version, owner.get("kind")) == ("", "v1", "Event"):
            given = shown({field: owner[field] for field in _OWNER_FIELDS if field in owner})
            words = f"Invalid value: {given}: /v1, Kind=Event is disallowed from being an owner"
            causes.append(cause(path, words))
    controllers = [f"{owner.get('kind')}/{owner.get('name')}" for owner in owners if owner.get("controller")]
    if len(controllers) > 1:
        listed = shown([{field: one[field] for field in _OWNER_FIELDS if field in one} for one in owners])
        words = 'Only one reference can have Controller set to true. Found "true" in references for'
        causes += [
            cause(path, f"Invalid value: {listed}: {words} {controllers[0]} and {name}") for name in controllers[1:]
        ]
    return causes


def unqualified(meta: Obj, before: Obj) -> list[str]:
    """What whoever gives a custom object a finalizer that it had not `before` is told."""
    finalizers, said = meta.get("finalizers"), []
    for text in finalizers if isinstance(finalizers, list) else []:
        if isinstance(text, str) and text not in _FINALIZERS and text not in (before.get("finalizers") or ()):
            place = f"metadata.finalizers: {quoted(text)}"
            said += [f"{place}: {words}" for words in qualified_name(text)]
            if "/" not in text:
                path = " including a path (/)" if "." in text else ""
                advice = f"prefer a domain-qualified finalizer name{path} to avoid accidental conflicts"
                said.append(f"{place}: {advice} with other finalizer writers")
    return said


_FINALIZERS = frozenset({"kubernetes", "orphan", "foregroundDeletion"})
_LENIENT = frozenset({"apiextensions.k8s.io", "admissionregistration.k8s.io"})
"""Groups whose finalizers need no domain before their name; those of custom resources need none either."""


def _finalizer_causes(resource: Resource, finalizers: list[str]) -> list[Obj]:
    path = "metadata.finalizers"
    causes = [one for text in finalizers for one in _invalid(path, text, qualified_name(text))]
    if {"orphan", "foregroundDeletion"} <= set(finalizers):
        words = "finalizer orphan and foregroundDeletion cannot be both set"
        causes.append(cause(path, f"Invalid value: {shown(finalizers)}: {words}"))
    if resource.crd is None and resource.group not in _LENIENT:
        said = ["name is neither a standard finalizer name nor is it fully qualified"]
        for index, text in enumerate(finalizers):
            if "/" not in text and text not in _FINALIZERS:
                causes += _invalid(f"{path}[{index}]", text, said)
    return causes
