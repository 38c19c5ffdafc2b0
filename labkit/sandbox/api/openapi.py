"""The OpenAPI v3 documents that kubectl reads before it applies or explains."""

from __future__ import annotations

from collections.abc import Iterable

from labkit.sandbox.contracts import Obj

__all__ = ["V2_CONTENT_TYPE", "document", "index"]

V2_CONTENT_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""Type of the (empty) reply to /openapi/v2."""


def index(group_versions: Iterable[str], crds: Iterable[Obj] = ()) -> Obj:
    """The reply to /openapi/v3.

    Args:
        group_versions: Every group and version served, e.g. "v1", "apps/v1", "networking.istio.io/v1".
        crds: The CustomResourceDefinitions (v1) of now.
    """
    paths = {("api/" if "/" not in gv else "apis/") + gv: {} for gv in group_versions}
    return {"paths": {p: {"serverRelativeURL": f"/openapi/v3/{p}"} for p in paths}}


def document(gv: str, crds: Iterable[Obj] = ()) -> Obj:
    """The reply to /openapi/v3/apis/<gv> (or /openapi/v3/api/v1)."""
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1"}, "paths": {}, "components": {}}
