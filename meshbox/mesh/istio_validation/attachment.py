# SPDX-License-Identifier: Apache-2.0
"""Whom an object is about: `exportTo`, workload selectors and targetRefs, which several kinds share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshbox.mesh.envoy import Json
from meshbox.mesh.istio_validation.problems import Problems
from meshbox.mesh.istio_validation.texts import quoted

__all__ = ["attached", "exported", "labels_selected", "selected", "workloads_selected"]

_TARGETS = (
    ("", "Service"),
    ("core", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
)
_LISTED = (
    "[core/v1/Service networking.istio.io/v1/ServiceEntry gateway.networking.k8s.io/v1/Gateway "
    "gateway.networking.k8s.io/v1/GatewayClass]"
)


def exported(
    names: list[str] | None, problems: Problems, namespace: str = "", *, nobody: bool = False, selective: bool = False
) -> None:
    """An `exportTo`.

    Args:
        names: Its entries.
        problems: Is told what is wrong.
        namespace: The object's own.
        nobody: Whether "~" is allowed.
        selective: Whether the object is about chosen workloads only.
    """
    if not names:
        return
    if problems.legacy:
        if len(names) > 1:
            problems.error("exportTo should have only one entry (. or *) in the current release")
        elif names[0] not in (".", "*"):
            problems.error("only . or * is allowed in the exportTo in the current release")
        return
    seen: set[str] = set()
    for name in names:
        key = namespace if name == "." else name
        if key in seen:
            what = f": . and current namespace {namespace}" if key != name else f" for entry {name}"
            problems.error(f"duplicate entries in exportTo{what}")
        elif key == "~" and not nobody:
            problems.error("exportTo ~ (none) is not allowed for Istio configuration objects")
        elif key not in ("*", "~") and not problems.label(key):
            problems.error("only .,*, or a valid DNS 1123 label is allowed as exportTo entry")
        else:
            seen.add(key)
    if selective and seen and namespace not in seen:
        problems.error("destination rule with workload selector cannot have exportTo beyond current namespace")
    elif selective and len(seen) > 1:
        problems.error("destination rule with workload selector cannot have multiple entries in exportTo")
    if "*" in seen and len(names) > 1:
        problems.error("cannot have both public (*) and non-public exportTo values for a resource")
    if "~" in seen and len(names) > 1:
        problems.error("cannot export service entry to no one (~) and someone")


def labels_selected(labels: Mapping[str, Any] | None, problems: Problems) -> None:
    """The labels of a selector."""
    for key, value in sorted((labels or {}).items()):
        shown = quoted(f"{key}={value}")
        problems.require(key, f"empty key is not supported in selector: {shown}")
        if "*" in key or "*" in str(value):
            problems.error(f"wildcard is not supported in selector: {shown}")


def workloads_selected(selector: Json, what: str, problems: Problems) -> bool:
    """A `workloadSelector` of `what`, in Istio's words for it; whether all was well so far."""
    labels_selected(selector.get("labels"), problems)
    if problems.errors:
        return False
    if not selector.get("labels"):
        problems.warn(
            f"{what}: workload selector specified without labels, will be applied to all services in namespace"
        )
    return True


def selected(selector: Json | None, problems: Problems) -> None:
    """A selector by `matchLabels`."""
    if selector is None:
        return
    labels_selected(selector.get("matchLabels"), problems)
    if not selector.get("matchLabels"):
        problems.warn("workload selector specified without labels")


def attached(spec: Json, problems: Problems) -> None:
    """What a policy is attached to: by its selector, or by targetRefs."""
    references = [*([spec["targetRef"]] if spec.get("targetRef") is not None else []), *(spec.get("targetRefs") or [])]
    ways = sum((spec.get("selector") is not None, spec.get("targetRef") is not None, bool(spec.get("targetRefs"))))
    problems.require(ways < 2, "only one of targetRefs or workloadSelector can be set")
    selected(spec.get("selector"), problems)
    for reference in references:
        _target(reference or {}, problems)


def _target(reference: Json, problems: Problems) -> None:
    problems.require(reference.get("name"), "targetRef name must be set")
    if reference.get("namespace"):
        problems.error("targetRef namespace must not be set; cross namespace referencing is not supported")
    group, kind = reference.get("group") or "", reference.get("kind") or ""
    known = (group, kind) in _TARGETS
    problems.require(known, f"targetRef must be to one of {_LISTED} but was {group}/{kind}")
