"""Names and labels: what they may look like, and what the API server says of those that may not."""

from __future__ import annotations

import re

from meshbox.api.resources import Resource

__all__ = ["cannot_unmarshal", "is_label", "key_problem", "name_problem", "namespace_problem", "value_problem"]

_LABEL_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")

_LABEL_WORDS = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_SERVICE_WORDS = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_VALUE_WORDS = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation "
    "is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_QUALIFIED_WORDS = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_PATH_SEGMENT = frozenset({"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "Event"})


def is_label(name: str) -> bool:
    """Whether `name` is a DNS label."""
    return bool(_LABEL_NAME.fullmatch(name))


def name_problem(resource: Resource, name: str) -> str:
    """What is wrong with the name of an object, or ""."""
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


def namespace_problem(name: str) -> str:
    """What is wrong with the name of a namespace, or ""."""
    return "" if is_label(name) else _LABEL_WORDS


def key_problem(key: str) -> str:
    """What is wrong with the key of a label or an annotation, or ""."""
    prefix, slash, name = key.rpartition("/")
    if slash and (not prefix or not _SUBDOMAIN.fullmatch(prefix)):
        return "prefix part " + _SUBDOMAIN_WORDS
    if not name:
        return "name part must be non-empty"
    if len(name) > 63:
        return "name part must be no more than 63 characters"
    return "" if _QUALIFIED.fullmatch(name) else _QUALIFIED_WORDS


def value_problem(value: str) -> str:
    """What is wrong with the value of a label, or ""."""
    if len(value) > 63:
        return "must be no more than 63 characters"
    return "" if _LABEL_VALUE.fullmatch(value) else _VALUE_WORDS


def cannot_unmarshal(value: object, field: str, wanted: str) -> str:
    """What Go's decoder says of a value of the wrong type."""
    if isinstance(value, bool):
        kind = "bool"
    elif isinstance(value, int | float):
        kind = "number"
    else:
        names: dict[type, str] = {str: "string", list: "array", dict: "object"}
        kind = names.get(type(value), "null")
    return f"json: cannot unmarshal {kind} into Go struct field {field} of type {wanted}"
