# SPDX-License-Identifier: Apache-2.0
"""How a patch is merged into a part of Envoy's configuration: as protobuf merges two messages.

Messages are merged field by field, lists are appended to, of a `oneof` the patch's member takes the place of the other.
A zero is the same as nothing said, so it changes no value that is there.
"""

from __future__ import annotations

import re
from typing import Any

from meshbox.mesh.envoy import Json

__all__ = ["merged", "merged_extension", "normal"]

_MAPS = frozenset(
    {
        "filter_metadata",
        "typed_filter_metadata",
        "typed_per_filter_config",
        "typed_extension_protocol_options",
        "per_filter_config",
    }
)
"""Fields whose keys are names and no fields: an entry takes the place of the one before."""

_ROUTE_CLUSTER = "cluster cluster_header weighted_clusters cluster_specifier_plugin inline_cluster_specifier_plugin"
_ONE_OF = [
    frozenset(members.split())
    for members in (
        "route redirect direct_response filter_action non_forwarding_action",
        _ROUTE_CLUSTER,
        "prefix path safe_regex connect_matcher path_separated_prefix path_match_policy",
        "rds route_config scoped_routes",
        "host_rewrite_literal auto_host_rewrite host_rewrite_header host_rewrite_path_regex",
        "host_redirect https_redirect scheme_redirect",
        "prefix_rewrite regex_rewrite path_redirect",
        "type cluster_type",
        "explicit_http_config use_downstream_protocol_config auto_config",
        "socket_address pipe envoy_internal_address",
        "filename inline_bytes inline_string environment_variable",
    )
]
_OPTIONS = frozenset({"http_protocol_options", "http2_protocol_options", "http3_protocol_options"})
_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")
_STRUCTS = ("xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct")


def normal(value: Any, field: str = "") -> Any:
    """What a user wrote with the names of fields as they are written here, and TypedStructs as what they stand for."""
    if isinstance(value, list):
        return [normal(one, field) for one in value]
    if not isinstance(value, dict):
        return value
    if str(value.get("@type", "")).endswith(_STRUCTS):
        kind = value.get("type_url") or value.get("typeUrl") or ""
        inner = value.get("value") or {}
        if not str(kind).startswith("type.googleapis.com/envoy.") or not isinstance(inner, dict):
            return value
        value = {"@type": kind, **inner}
    if field in ("filter_metadata", "metadata_context"):
        # Any content of the user's own.
        return value
    if field in _MAPS:
        return {key: normal(one) for key, one in value.items()}
    found: Json = {}
    for key, one in value.items():
        name = _CAPITAL.sub(lambda m: f"_{m[1].lower()}", key) if key.isidentifier() else key
        found[name] = normal(one, name)
    return found


def _zero(value: Any) -> bool:
    return value is None or value is False or value == "" or (value == 0 and not isinstance(value, bool))


def merged(base: Json, patch: Json, field: str = "") -> Json:
    """`base` with `patch` merged into it, both with normal names; neither is changed.

    Args:
        base: What there is.
        patch: What is merged into it.
        field: The field that holds both.
    """
    found = dict(base)
    for key, value in patch.items():
        before = found.get(key)
        if _zero(value) and before is not None:
            continue
        for group in _ONE_OF if before is None else ():
            if key in group:
                found = {k: v for k, v in found.items() if k not in group}
        if field == "explicit_http_config" and before is None:
            found = {k: v for k, v in found.items() if k not in _OPTIONS}
        if isinstance(before, list) and isinstance(value, list):
            found[key] = [*before, *value]
        elif isinstance(before, dict) and isinstance(value, dict) and key in _MAPS:
            found[key] = {**before, **value}
        elif isinstance(before, dict) and isinstance(value, dict) and "@type" not in value:
            found[key] = merged(before, value, key)
        else:
            found[key] = value
    return found


def merged_extension(base: Json, patch: Json) -> Json | None:
    """An extension (a filter, a socket) with a patch merged into its configuration; None where that is of another
    type. A name that the patch has takes the place of its own.
    """
    mine, other = base.get("typed_config") or {}, patch.get("typed_config") or {}
    if other and mine and other.get("@type") not in (None, mine.get("@type")):
        return None
    rest = merged(
        {k: v for k, v in base.items() if k != "typed_config"},
        {k: v for k, v in patch.items() if k != "typed_config"},
    )
    inner = merged(mine, {k: v for k, v in other.items() if k != "@type" or not mine})
    return {**rest, **({"typed_config": inner} if inner else {})}
