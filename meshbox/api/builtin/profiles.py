# SPDX-License-Identifier: Apache-2.0
"""Profiles of seccomp and AppArmor: as fields of a pod, and as the annotations that there were before these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from meshbox.api.builtin.well_formed import as_dict, as_list
from meshbox.api.problems import Cause, forbidden, invalid
from meshbox.contracts import Obj

__all__ = [
    "APP_ARMOR",
    "SECCOMP",
    "SECCOMP_OF_POD",
    "agreeing",
    "app_armor_of",
    "containers_of",
    "noted",
    "own_profiles",
]

_LOCAL = "localhost/"


class _Profiles(NamedTuple):
    """One kind of profiles.

    Args:
        kind: What it is called in errors.
        field: Of a securityContext.
        of_container: What the annotation for a container begins with.
        defaults: What stands for the runtime's own profile.
        inherited: Whether a container without a profile has its pod's.
    """

    kind: str
    field: str
    of_container: str
    defaults: tuple[str, ...]
    inherited: bool


APP_ARMOR = _Profiles(
    "apparmor", "appArmorProfile", "container.apparmor.security.beta.kubernetes.io/", ("runtime/default",), True
)
SECCOMP = _Profiles(
    "seccomp",
    "seccompProfile",
    "container.seccomp.security.alpha.kubernetes.io/",
    ("runtime/default", "docker/default"),
    False,
)
SECCOMP_OF_POD = "seccomp.security.alpha.kubernetes.io/pod"
_DELETION_COST, _MIRROR = "controller.kubernetes.io/pod-deletion-cost", "kubernetes.io/config.mirror"


def containers_of(spec: Mapping[str, Any], path: str) -> Iterator[tuple[str, Obj]]:
    """The containers of a pod, each with where it stands, in the order in which the API server looks at them."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for index, one in enumerate(as_list(spec.get(kind))):
            yield f"{path}.{kind}[{index}]", as_dict(one)


def app_armor_of(annotation: str) -> Obj | None:
    """The field that an annotation for AppArmor stands for; None where it stands for none."""
    if annotation == "unconfined":
        return {"type": "Unconfined"}
    if annotation == "runtime/default":
        return {"type": "RuntimeDefault"}
    profile = annotation.removeprefix(_LOCAL) if annotation.startswith(_LOCAL) else ""
    return {"type": "Localhost", "localhostProfile": profile} if profile else None


def own_profiles(pod: Obj) -> list[str]:
    """Give the containers of a new pod the profiles of AppArmor that its annotations name, in place; what is said."""
    annotations, spec = as_dict(as_dict(pod.get("metadata")).get("annotations")), as_dict(pod.get("spec"))
    of_pod, field, told = as_dict(spec.get("securityContext")).get(APP_ARMOR.field), APP_ARMOR.field, list[str]()
    for _, one in containers_of(spec, "spec"):
        key, context = f"{APP_ARMOR.of_container}{one.get('name')}", as_dict(one.get("securityContext"))
        if key not in annotations or context.get(field) is not None:
            continue
        profile = app_armor_of(annotations[key] or "")
        if profile is not None and len(profile.get("localhostProfile") or "") > 4095:
            profile = None
        if profile is None or profile != of_pod:
            words = f'deprecated since v1.30; use the "{field}" field instead'
            told.append(f"metadata.annotations[{key}]: {words}")
        if profile is not None and profile != of_pod:
            one["securityContext"] = {**context, field: profile}
    return told


def noted(annotations: Mapping[str, Any], spec: Obj, path: str, causes: list[Cause]) -> None:
    """Check the annotations that mean something for pods; `path` is where annotations stand."""
    if _MIRROR in annotations and not spec.get("nodeName"):
        detail = "must set spec.nodeName if mirror pod annotation is set"
        causes.append(invalid(f"{path}[{_MIRROR}]", annotations[_MIRROR] or "", detail))
    cost = annotations.get(_DELETION_COST) or "0"
    if not _is_cost(cost):
        causes.append(invalid(f"{path}[{_DELETION_COST}]", cost, "must be a 32bit integer"))
    for key, value in sorted(annotations.items(), key=lambda one: one[0] != SECCOMP_OF_POD):
        if key == SECCOMP_OF_POD or key.startswith(SECCOMP.of_container):
            causes += _seccomp(value or "", f"{path}.{key}")
    names = {one.get("name") for _, one in containers_of(spec, "spec")}
    for key, value in annotations.items():
        if key.startswith(APP_ARMOR.of_container):
            if (name := key.removeprefix(APP_ARMOR.of_container)) not in names:
                causes.append(invalid(f"{path}[{key}]", name, "container not found"))
            if value and value not in ("runtime/default", "unconfined") and not value.startswith(_LOCAL):
                causes.append(invalid(f"{path}[{key}]", value, f'invalid AppArmor profile name: "{value}"'))


def _is_cost(text: str) -> bool:
    digits = text.removeprefix("-")
    # Go reads neither "+1" nor "01".
    plain = digits.isascii() and digits.isdigit() and (digits == "0" or digits[0] != "0")
    return plain and text != "-0" and -(2**31) <= int(text) < 2**31


def _seccomp(value: str, path: str) -> list[Cause]:
    if value in (*SECCOMP.defaults, "unconfined"):
        return []
    if not value.startswith(_LOCAL):
        return [invalid(path, value, "must be a valid seccomp profile")]
    inside = value.removeprefix(_LOCAL)
    absolute = [invalid(path, inside, "must be a relative path")] if inside.startswith("/") else []
    return absolute + ([invalid(path, inside, "must not contain '..'")] if ".." in inside.split("/") else [])


def agreeing(annotations: Mapping[str, Any], spec: Obj, path: str, causes: list[Cause]) -> None:
    """Check that annotations and fields name the same profiles."""
    own = as_dict(spec.get("securityContext"))
    if SECCOMP_OF_POD in annotations:
        found = as_dict(own.get(SECCOMP.field))
        causes += _differing(annotations[SECCOMP_OF_POD], found, SECCOMP, f"{path}.securityContext")
    for profiles in (SECCOMP, APP_ARMOR):
        inherited = as_dict(own.get(profiles.field)) if profiles.inherited else {}
        for at, one in containers_of(spec, path):
            key = f"{profiles.of_container}{one.get('name')}"
            if key in annotations:
                found = as_dict(as_dict(one.get("securityContext")).get(profiles.field)) or inherited
                causes += _differing(annotations[key], found, profiles, f"{at}.securityContext")


def _differing(annotation: Any, profile: Obj, profiles: _Profiles, path: str) -> list[Cause]:
    value, kind, where = annotation or "", profile.get("type"), f"{path}.{profiles.field}"
    meant = {"Unconfined": ("unconfined",), "RuntimeDefault": profiles.defaults}.get(kind or "")
    differs = value not in meant if meant else kind == "Localhost" and not value.startswith(_LOCAL)
    if differs:
        return [forbidden(f"{where}.type", f"{profiles.kind} type in annotation and field must match")]
    if kind == "Localhost" and value.removeprefix(_LOCAL) != profile.get("localhostProfile"):
        words = f"{profiles.kind} profile in annotation and field must match"
        return [forbidden(f"{where}.localhostProfile", words)]
    return []
