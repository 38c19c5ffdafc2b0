# SPDX-License-Identifier: Apache-2.0
"""Label and field selectors in kubectl's syntax."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

from labkit.ground.labels import parse
from meshbox.api.table_files import at_steps
from meshbox.contracts import ApiError, Obj

__all__ = ["Match", "field_selector", "label_selector"]

Match = Callable[[Obj], bool]

_TERM = re.compile(r"(?:[^,\\]|\\.)+", re.DOTALL)
_FIELD = re.compile(r"(?P<field>.*?)(?P<op>!=|==|=)(?P<value>.*)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.?)|[,=]", re.DOTALL)


def _bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


@functools.lru_cache(maxsize=1024)
def label_selector(text: str) -> Match | None:
    """What `text` selects ("app=x,tier in (a,b),!old"); None where it is empty and so selects everything.

    Raises:
        ApiError: 400 where `text` is not a selector.
    """
    try:
        requirements = parse(text)
    except ValueError as error:
        raise _bad_request(str(error)) from None
    if not requirements:
        return None
    # Most ask for values alone, and a controller asks all objects of a namespace each time: those are compared at once.
    wanted: dict[str, str] = {}
    others = []
    for one in requirements:
        if one.operator == "In" and len(one.values) == 1 and one.key not in wanted:
            [wanted[one.key]] = one.values
        else:
            others.append(one)
    pairs = wanted.items()

    def match(obj: Obj) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return pairs <= labels.items() and (not others or all(one.fits(labels) for one in others))

    return match


def _field(obj: Any, path: list[str]) -> str:
    obj = at_steps(obj, path)
    if obj is None:
        return ""
    if isinstance(obj, bool):
        return "true" if obj else "false"
    return str(obj)


_COMMON = ("metadata.name", "metadata.namespace")
_ABOUT = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
"""What an event says of the object that it is about."""
_FIELDS: dict[str, tuple[str, ...]] = {
    "pods": (
        "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
        "status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName",
    ),
    "events": (*(f"involvedObject.{one}" for one in _ABOUT), "reason", "reportingComponent", "source", "type"),
    "events.events.k8s.io": (*(f"regarding.{one}" for one in _ABOUT), "reason", "reportingController", "type"),
    "namespaces": ("status.phase",),
    "nodes": ("spec.unschedulable",),
    "secrets": ("type",),
    "services": ("spec.clusterIP", "spec.type"),
    "replicationcontrollers": ("status.replicas",),
    "jobs.batch": ("status.successful",),
    "certificatesigningrequests.certificates.k8s.io": ("spec.signerName",),
}  # fmt: skip

_RENAMED = {
    "source": ["source", "component"],
    "status.successful": ["status", "succeeded"],
    "reportingController": ["reportingComponent"],
    **{f"regarding.{one}": ["involvedObject", one] for one in _ABOUT},
}
_DEFAULTS = {"spec.schedulerName": "default-scheduler", "spec.unschedulable": "false", "spec.hostNetwork": "false"}


def _unknown(resource: str, field: str, *, custom: bool) -> str:
    if resource == "jobs.batch":
        return f'field label "{field}" not supported for Job'
    if custom or resource in _FIELDS:
        return f"field label not supported: {field}"
    return f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"'


def _plain(match: re.Match[str]) -> str:
    """What an escaped character means; the two that have a meaning of their own must be escaped."""
    escaped = match[1]
    if escaped is None:
        raise _bad_request(f"invalid field selector: unescaped character in value: {ord(match[0])}")
    if escaped not in (",", "=", "\\"):
        raise _bad_request(f"invalid field selector: invalid escape sequence: {match[0]}")
    return str(escaped)


def field_selector(text: str, resource: str, selectable: tuple[str, ...] | None = None) -> Match | None:
    """What `text` selects ("metadata.name=x,status.phase!=Running"); None where it selects everything.

    Args:
        text: The selector.
        resource: Name of the resource, which decides the fields that can be selected on.
        selectable: Of a custom resource, its `selectableFields`; None for a built-in one.

    Raises:
        ApiError: 400 where `text` is no selector or names a field that cannot be selected on.
    """
    checks: list[tuple[list[str], bool, str, str]] = []
    for part in filter(None, (part.strip() for part in _TERM.findall(text))):
        match = _FIELD.fullmatch(part)
        if match is None:
            raise _bad_request(f"invalid selector: '{text[:300]}'; can't understand '{part[:300]}'")
        field, value = match["field"].rstrip(), _ESCAPED.sub(_plain, match["value"].lstrip())
        if field not in (*_COMMON, *_FIELDS.get(resource, ()), *(selectable or ())):
            raise _bad_request(_unknown(resource, field, custom=selectable is not None))
        path = _RENAMED.get(field, field.split("."))
        checks.append((path, match["op"] != "!=", value, _DEFAULTS.get(field, "")))
    if not checks:
        return None

    def select(obj: Obj) -> bool:
        return all(((_field(obj, path) or default) == value) is wanted for path, wanted, value, default in checks)

    return select
