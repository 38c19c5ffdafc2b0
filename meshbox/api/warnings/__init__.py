# SPDX-License-Identifier: Apache-2.0
"""What the API server warns of in objects that it takes, in the words of Kubernetes 1.35; kubectl shows them."""

from __future__ import annotations

from meshbox.api.warnings.kinds import KINDS
from meshbox.api.warnings.rows import told
from meshbox.contracts import Obj

__all__ = ["warnings_of"]


def warnings_of(resource: str, obj: Obj, old: Obj | None) -> list[str]:
    """What a client is told of an object that is written.

    Args:
        resource: Its plural and group, such as "deployments.apps".
        obj: The object: it is valid, and has its defaults.
        old: The one before, where there was one.
    """
    warn = KINDS.get(resource)
    return told(resource, obj, old) if warn is None else warn(obj, old)
