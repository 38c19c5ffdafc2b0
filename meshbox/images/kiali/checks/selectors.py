# SPDX-License-Identifier: Apache-2.0
"""Objects of which one only may hold for a workload, and one only for all the others of a namespace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from meshbox.images.kiali.checks.findings import Finding
from meshbox.images.kiali.checks.registry import Registry
from meshbox.images.kiali.istio import Kind
from meshbox.images.kiali.mesh import selects

__all__ = ["chosen", "rivals"]


def chosen(one: Any) -> Mapping[str, str]:
    """The labels by which an object chooses workloads; none where it is for all."""
    spec = one.get("spec") or {}
    return ((spec.get("selector") or {}).get("matchLabels") or {}) | (
        (spec.get("workloadSelector") or {}).get("labels") or {}
    )


def rivals(one: Any, kind: Kind, registry: Registry, path: str, *, workloads: bool = True) -> Iterator[Finding]:
    """The objects of the same kind and namespace that are for the same workloads.

    Args:
        one: The object.
        kind: Its kind.
        registry: All objects.
        path: Where its selector stands.
        workloads: Whether two may not choose the same workload either; of some kinds both hold, one added to the other.
    """
    namespace, name = one["metadata"].get("namespace"), one["metadata"]["name"]
    own = chosen(one)
    for other in registry.items(kind.listed, namespace):
        its = chosen(other)
        if other["metadata"]["name"] == name or bool(own) != bool(its):
            continue
        reference = ((kind.type, namespace, other["metadata"]["name"]),)
        if not own:
            yield Finding("KIA0002", path, reference)
        elif workloads and any(
            selects(own, found.labels) and selects(its, found.labels) for found in registry.reach(namespace)
        ):
            yield Finding("KIA0003", path, reference)
