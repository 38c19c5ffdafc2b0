# SPDX-License-Identifier: Apache-2.0
"""Names of objects: what the API server says of those that it does not take."""

from __future__ import annotations

from labkit.ground import names
from meshbox.api.resources import Resource

__all__ = ["cannot_unmarshal", "name_problems"]

_PATH_SEGMENT = frozenset({"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"})
_PATH_SEGMENT |= {"APIService", "CertificateSigningRequest", "Event", "PodDisruptionBudget"}
_LABEL = frozenset({"namespaces", "statefulsets.apps"})


def name_problems(resource: Resource, name: str) -> list[str]:
    """What is wrong with the name of an object."""
    if resource.kind in _PATH_SEGMENT and not resource.crd:
        return names.path_segment(name)
    if resource.name in _LABEL:
        return names.dns1123_label(name)
    return names.dns1035_label(name) if resource.name == "services" else names.dns1123_subdomain(name)


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
