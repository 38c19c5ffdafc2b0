# SPDX-License-Identifier: Apache-2.0
"""ReferenceGrants: what may be named from another namespace."""

from __future__ import annotations

from collections.abc import Iterable

from meshbox.contracts import View
from meshbox.mesh.kinds import GATEWAY_API as GROUP

__all__ = ["permitted"]

_CORE = frozenset({"Secret", "Service", "ConfigMap"})


def permitted(
    grants: Iterable[View], from_kind: str, from_namespace: str, to_kind: str, to_namespace: str, to_name: str
) -> bool:
    """Whether an object may name another one: always in its own namespace, else where a ReferenceGrant says so.

    Args:
        grants: All ReferenceGrants.
        from_kind: Who names, "Gateway", "HTTPRoute" …: a kind of the Gateway API.
        from_namespace: Its namespace.
        to_kind: What is named: "Secret", "Service", "ConfigMap".
        to_namespace: Its namespace, where the grant has to be.
        to_name: Its name.
    """
    if from_namespace == to_namespace:
        return True
    for grant in grants:
        if grant["metadata"]["namespace"] != to_namespace:
            continue
        spec = grant["spec"]
        asked = any(
            (entry.get("group") or "") == GROUP and entry["kind"] == from_kind and entry["namespace"] == from_namespace
            for entry in spec.get("from") or []
        )
        if asked and any(
            entry["kind"] == to_kind
            and (entry.get("group") or "") == ("" if to_kind in _CORE else GROUP)
            and entry.get("name") in (None, "", to_name)
            for entry in spec.get("to") or []
        ):
            return True
    return False
