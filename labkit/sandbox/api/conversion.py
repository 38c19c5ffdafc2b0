"""Between the hub version of a resource and the other versions served; there and back again nothing is lost."""

from __future__ import annotations

from labkit.sandbox.api.registry import Served
from labkit.sandbox.contracts import Obj

__all__ = ["from_hub", "to_hub"]


def to_hub(served: Served, obj: Obj) -> Obj:
    """`obj`, given in `served`'s version, as it is kept. May change and return `obj` itself."""
    obj["apiVersion"] = served.resource.api_version
    return obj


def from_hub(served: Served, obj: Obj) -> Obj:
    """A kept object in `served`'s version; never changes `obj`, but may share its parts."""
    if served.hub:
        return obj
    return {**obj, "apiVersion": served.api_version}
