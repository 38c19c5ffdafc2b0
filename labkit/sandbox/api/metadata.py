"""Names, labels and the rest of `metadata`: checked and filled in as the API server does."""

from __future__ import annotations

import re
import secrets
import uuid
from datetime import UTC, datetime

from labkit.sandbox.api.refusals import bad_request, cause
from labkit.sandbox.api.registry import Resource
from labkit.sandbox.contracts import Obj

__all__ = ["begin", "carry_over", "check", "generated_name", "now"]

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""No vowels and nothing that looks like another character: Kubernetes' own choice for generated names."""

_LABEL_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")

_LABEL_WORDS = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
    "alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_SERVICE_WORDS = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and "
    "end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_VALUE_WORDS = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_QUALIFIED_WORDS = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)

_PATH_SEGMENT = frozenset({"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "Event"})
_ANNOTATIONS_LIMIT = 256 * 1024


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


def carry_over(obj: Obj, old: Obj) -> None:
    """Give `obj` the parts of `metadata` that belong to the server, from the object as it is."""
    meta, before = obj["metadata"], old["metadata"]
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


def _name_problem(resource: Resource, name: str) -> str:
    if resource.kind in _PATH_SEGMENT and not resource.crd:
        if name in (".", ".."):
            return f"may not be '{name}'"
        return next((f"may not contain '{sign}'" for sign in "/%" if sign in name), "")
    if resource.name == "namespaces":
        pattern, words, limit = _LABEL_NAME, _LABEL_WORDS, 63
    elif resource.name == "services":
        pattern, words, limit = _SERVICE_NAME, _SERVICE_WORDS, 63
    else:
        pattern, words, limit = _SUBDOMAIN, _SUBDOMAIN_WORDS, 253
    if len(name) > limit:
        return f"must be no more than {limit} characters"
    return "" if pattern.fullmatch(name) else words


def _key_problem(key: str) -> str:
    prefix, slash, name = key.rpartition("/")
    if slash and (not prefix or not _SUBDOMAIN.fullmatch(prefix.lower())):
        return "prefix part " + _SUBDOMAIN_WORDS
    if not name:
        return "name part must be non-empty"
    if len(name) > 63:
        return "name part must be no more than 63 characters"
    return "" if _QUALIFIED.fullmatch(name) else _QUALIFIED_WORDS


def _strings(meta: Obj, field: str) -> dict[str, str]:
    """`labels` or `annotations`, where every value is a string.

    Raises:
        ApiError: 400 where it is anything else, as decoding the object would.
    """
    given = meta.get(field)
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise bad_request(
            f"json: cannot unmarshal {_go(given)} into Go struct field ObjectMeta.metadata.{field} of type map[string]string"
        )
    for value in given.values():
        if not isinstance(value, str):
            raise bad_request(
                f"json: cannot unmarshal {_go(value)} into Go struct field ObjectMeta.metadata.{field} of type string"
            )
    return given


def _go(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    names: dict[type, str] = {str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _shape(meta: Obj) -> None:
    for field in ("name", "namespace", "generateName", "uid", "resourceVersion"):
        if not isinstance(meta.get(field, ""), str):
            raise bad_request(
                f"json: cannot unmarshal {_go(meta[field])} into Go struct field ObjectMeta.metadata.{field} of type string"
            )
    for field, inner, word in (("finalizers", str, "string"), ("ownerReferences", dict, "v1.OwnerReference")):
        given = meta.get(field)
        if given is None:
            continue
        if not isinstance(given, list):
            raise bad_request(
                f"json: cannot unmarshal {_go(given)} into Go struct field ObjectMeta.metadata.{field} of type []{word}"
            )
        for value in given:
            if not isinstance(value, inner):
                raise bad_request(
                    f"json: cannot unmarshal {_go(value)} into Go struct field ObjectMeta.metadata.{field} of type {word}"
                )


def check(resource: Resource, obj: Obj) -> list[Obj]:
    """What is wrong with `obj`'s metadata (causes of an Invalid refusal); null maps and lists are dropped from it.

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
    elif problem := _name_problem(resource, name):
        causes.append(cause("metadata.name", f'Invalid value: "{name}": {problem}'))
    if resource.namespaced and not _LABEL_NAME.fullmatch(meta["namespace"]):
        causes.append(cause("metadata.namespace", f'Invalid value: "{meta["namespace"]}": {_LABEL_WORDS}'))
    for key, value in _strings(meta, "labels").items():
        if problem := _key_problem(key):
            causes.append(cause("metadata.labels", f'Invalid value: "{key}": {problem}'))
        if len(value) > 63:
            causes.append(cause("metadata.labels", f'Invalid value: "{value}": must be no more than 63 characters'))
        elif not _LABEL_VALUE.fullmatch(value):
            causes.append(cause("metadata.labels", f'Invalid value: "{value}": {_VALUE_WORDS}'))
    annotations = _strings(meta, "annotations")
    for key in annotations:
        if problem := _key_problem(key.lower()):
            causes.append(cause("metadata.annotations", f'Invalid value: "{key}": {problem}'))
    if sum(len(key) + len(value.encode()) for key, value in annotations.items()) > _ANNOTATIONS_LIMIT:
        causes.append(cause("metadata.annotations", f"Too long: may not be more than {_ANNOTATIONS_LIMIT} bytes"))
    return causes + _owner_causes(meta.get("ownerReferences") or [])


def _owner_causes(owners: list[Obj]) -> list[Obj]:
    causes = []
    for index, owner in enumerate(owners):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                causes.append(cause(f"metadata.ownerReferences[{index}].{field}", "Required value: must not be empty"))
    if sum(1 for owner in owners if owner.get("controller")) > 1:
        causes.append(
            cause("metadata.ownerReferences", "Invalid value: Only one reference can have Controller set to true")
        )
    return causes
