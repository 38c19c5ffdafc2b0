"""From the kind that a reference names to the resource that holds such objects."""

from __future__ import annotations

from labkit.sandbox.contracts import Objects

__all__ = ["CRDS", "resource_of"]

CRDS = "customresourcedefinitions.apiextensions.k8s.io"


def resource_of(objects: Objects, api_version: str, kind: str) -> str | None:
    """The resource of a kind, e.g. "deployments.apps" of ("apps/v1", "Deployment"); None where none is served."""
    group = api_version.rpartition("/")[0]
    suffix = f".{group}" if group else ""
    served = set(objects.resources())
    singular = kind.lower()
    plurals = [f"{singular}s", f"{singular}es", singular]
    if singular.endswith("y"):
        plurals.append(f"{singular[:-1]}ies")
    for plural in plurals:
        if plural + suffix in served and not _is_custom(objects, plural + suffix):
            return plural + suffix
    for definition in objects.list(CRDS):
        spec = definition["spec"]
        if spec["group"] == group and spec["names"]["kind"] == kind:
            name = str(definition["metadata"]["name"])
            return name if name in served else None
    return None


def _is_custom(objects: Objects, resource: str) -> bool:
    return "." in resource and objects.find(CRDS, resource) is not None
