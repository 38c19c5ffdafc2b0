# SPDX-License-Identifier: Apache-2.0
"""From the kind that a reference names to the resource that holds such objects."""

from __future__ import annotations

from meshbox.contracts import Objects

__all__ = ["CRDS", "Kinds"]

CRDS = "customresourcedefinitions.apiextensions.k8s.io"


class Kinds:
    """Resources by kind.

    Args:
        objects: The cluster's objects.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._known: dict[tuple[str, str], str] = {}

    def resource(self, api_version: str, kind: str) -> str | None:
        """The resource of a kind, e.g. "deployments.apps" of ("apps/v1", "Deployment"); None where none is served."""
        group = api_version.rpartition("/")[0]
        served = self._objects.resources()
        known = self._known.get((group, kind))
        if known is None or known not in served:
            known = self._search(group, kind, set(served))
            if known is not None:
                self._known[group, kind] = known
        return known

    def _search(self, group: str, kind: str, served: set[str]) -> str | None:
        singular = kind.lower()
        plurals = [f"{singular}s", f"{singular}es", singular]
        if singular.endswith("y"):
            plurals.append(f"{singular[:-1]}ies")
        for plural in plurals:
            name = f"{plural}.{group}" if group else plural
            if name in served:
                definition = self._objects.find(CRDS, name) if group else None
                # A custom resource may have a plural that only looks like this kind's.
                if definition is None or definition["spec"]["names"]["kind"] == kind:
                    return name
        for definition in self._objects.list(CRDS):
            if definition["spec"]["group"] == group and definition["spec"]["names"]["kind"] == kind:
                name = str(definition["metadata"]["name"])
                return name if name in served else None
        return None
