"""`metadata.managedFields`: who set which field, the ground of server-side apply."""

from __future__ import annotations

from labkit.sandbox.api.options import WriteOptions
from labkit.sandbox.api.registry import Resource
from labkit.sandbox.contracts import Obj

__all__ = ["track"]


def track(resource: Resource, before: Obj | None, obj: Obj, options: WriteOptions, subresource: str = "") -> None:
    """Record in `obj` which fields `options.manager` has set, in place."""
    if before is not None and "managedFields" in before["metadata"]:
        obj["metadata"].setdefault("managedFields", before["metadata"]["managedFields"])
