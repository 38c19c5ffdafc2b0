# SPDX-License-Identifier: Apache-2.0
"""What a URL of the API names."""

from __future__ import annotations

from urllib.parse import unquote

from msgspec import Struct

__all__ = ["Target", "target_of"]


class Target(Struct, frozen=True):
    """A collection, an object, or a subresource of one.

    Args:
        group: "" for core.
        version: e.g. "v1".
        plural: e.g. "pods".
        namespace: None where the path names none.
        name: "" for a collection.
        subresource: "" for the object itself.
    """

    group: str
    version: str
    plural: str
    namespace: str | None = None
    name: str = ""
    subresource: str = ""


def target_of(raw_path: str) -> Target | None:
    """The target of a request path, or None where it has not the form of one."""
    parts = [unquote(part) for part in raw_path.split("/") if part]
    if parts[:1] == ["api"] and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace: str | None = None
    of_namespace = len(rest) == 3 and rest[2] in ("status", "finalize")
    if rest[0] == "namespaces" and len(rest) > 2 and not of_namespace:
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource, *more = (*rest, "", "")
    return None if any(more) else Target(group, version, plural, namespace, name, subresource)
