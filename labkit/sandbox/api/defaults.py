"""The defaults that the API server writes into objects."""

from __future__ import annotations

from labkit.sandbox.contracts import Obj
from labkit.sandbox.settings import SandboxSettings

__all__ = ["apply_defaults"]


def apply_defaults(resource: str, obj: Obj, settings: SandboxSettings) -> None:
    """Fill in, in place, what a client may leave out.

    Args:
        resource: kubectl's name of the resource, e.g. "deployments.apps".
        obj: The object in the preferred version.
        settings: The sandbox's settings; its Kubernetes version decides which fields exist.
    """
