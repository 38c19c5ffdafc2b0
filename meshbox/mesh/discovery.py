# SPDX-License-Identifier: Apache-2.0
"""Which namespaces the mesh looks at: `discoverySelectors` of its settings choose them; without any it looks at all.

As istiod, it then knows nothing of what lies in others: no Service, no rule, no Gateway, be it in istio-system.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from labkit.ground.labels import matches
from meshbox.contracts import Objects, View
from meshbox.mesh.kinds import CONFIG_MAPS, NAMESPACES, PODS, SECRETS
from meshbox.mesh.mesh_config import MeshConfig
from meshbox.mesh.model import labels

__all__ = ["discovered", "overlooked"]

_KEPT = frozenset({PODS, SECRETS, CONFIG_MAPS})
"""Proxies of other namespaces ask all the same; and nobody else may name what is in these."""


def _chosen(selectors: Iterable[Mapping[str, Any]], namespaces: Iterable[View]) -> frozenset[str]:
    """The names of the namespaces that one of the selectors chooses."""
    asked = list(selectors)
    return frozenset(one["metadata"]["name"] for one in namespaces if any(matches(s, labels(one)) for s in asked))


def discovered(objects: dict[str, list[Any]], selectors: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Of all objects, by resource, those that the mesh looks at."""
    if not selectors:
        return objects
    seen = _chosen(selectors, objects[NAMESPACES]) | {""}
    return {
        resource: found if resource in _KEPT else [o for o in found if (o["metadata"].get("namespace") or "") in seen]
        for resource, found in objects.items()
    }


def overlooked(objects: Objects, namespace: str) -> Iterator[str]:
    """What whoever writes into a namespace is told where the mesh does not look at it.

    Args:
        objects: The cluster's objects.
        namespace: The namespace; "" for what is in none.
    """
    selectors = MeshConfig.now(objects, legacy=False).discovery
    if namespace and selectors:
        found = objects.find(NAMESPACES, namespace)
        if found is None or not _chosen(selectors, [found]):
            yield f"Istio does not look at namespace {namespace}: none of the mesh's discoverySelectors chooses it"
