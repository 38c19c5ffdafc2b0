# SPDX-License-Identifier: Apache-2.0
"""Where in a list (of filters, of routes, of chains) a patch does its work."""

from __future__ import annotations

from collections.abc import Callable

from meshbox.mesh.authorization import ALLOW_FILTER, DENY_FILTER
from meshbox.mesh.envoy import Json
from meshbox.mesh.envoy_filters.merging import merged_extension
from meshbox.mesh.envoy_filters.patches import Patch

__all__ = ["filters_placed", "placed", "same_filter"]

_RBAC, _ROUTER = "envoy.filters.http.rbac", "envoy.filters.http.router"
_OURS = {
    DENY_FILTER: _RBAC,
    ALLOW_FILTER: _RBAC,
    "istio.peer_headers": "istio.metadata_exchange",
    "istio.peer_metadata": "istio.metadata_exchange",
    "istio.strip_peer_headers": "istio.metadata_exchange",
}
"""What Istio calls the filters that do the same."""

_BEFORE = {
    "istio_authn": _RBAC,
    "mixer": _ROUTER,
    "istio.stats": _ROUTER,
    "istio.alpn": _ROUTER,
    "envoy.filters.http.grpc_stats": _ROUTER,
}
"""Filters of Istio's own Envoy that are not here: right before which one each of them would stand."""

_CLASSES = {"AUTHN": "envoy.filters.http.jwt_authn", "AUTHZ": _RBAC}


def _called(name: str) -> str:
    return _OURS.get(name, name)


def same_filter(asked: str, name: str) -> bool:
    """Whether a filter is the one that a patch asks for, by the name that Istio has for it."""
    return _called(asked) == _called(name)


def filters_placed(filters: list[Json], patch: Patch, asked: str) -> list[Json] | None:
    """The filters of a chain with one patch applied; None where it finds nothing to do.

    Args:
        filters: The filters.
        patch: The patch.
        asked: The name of the filter that it asks for; empty for none.
    """
    if patch.filter_class and patch.operation in ("ADD", "INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST"):
        return _by_class(filters, patch)
    chosen = [index for index, one in enumerate(filters) if asked and same_filter(asked, one["name"])]
    if not chosen and asked in _BEFORE and patch.operation in ("INSERT_BEFORE", "INSERT_AFTER"):
        follower = [index for index, one in enumerate(filters) if same_filter(_BEFORE[asked], one["name"])]
        if follower:
            return [*filters[: follower[0]], patch.value, *filters[follower[0] :]]
    return placed(filters, patch, chosen, asked=bool(asked), merge=merged_extension)


def _by_class(filters: list[Json], patch: Patch) -> list[Json]:
    names = [one["name"] for one in filters]
    end = next((index for index, name in enumerate(names) if same_filter(_ROUTER, name)), len(names))
    wanted = _CLASSES.get(patch.filter_class)
    after = [index + 1 for index, name in enumerate(names) if wanted and same_filter(wanted, name)]
    if not after and patch.filter_class == "AUTHN":
        after = [next((index for index, name in enumerate(names) if same_filter(_RBAC, name)), end)]
    where = after[-1] if after else end
    return [*filters[:where], patch.value, *filters[where:]]


def placed(
    items: list[Json], patch: Patch, chosen: list[int], *, asked: bool, merge: Callable[[Json, Json], Json | None]
) -> list[Json] | None:
    """A list with one patch applied; None where it finds nothing to do.

    Args:
        items: The list.
        patch: The patch.
        chosen: The places of those that its match chooses.
        asked: Whether its match chooses at all: without, an insertion is made at the list's end, and a change of all.
        merge: How one of them is merged with the patch.
    """
    operation = patch.operation
    if operation == "INSERT_FIRST" or (operation == "INSERT_BEFORE" and not asked):
        return [patch.value, *items]
    if operation == "ADD" or (operation == "INSERT_AFTER" and not asked):
        return [*items, patch.value]
    if operation == "MERGE" and not asked:
        chosen = list(range(len(items)))
    if not chosen:
        return None
    if operation == "INSERT_BEFORE":
        return [*items[: chosen[0]], patch.value, *items[chosen[0] :]]
    if operation == "INSERT_AFTER":
        return [*items[: chosen[-1] + 1], patch.value, *items[chosen[-1] + 1 :]]
    if operation == "REMOVE":
        return [one for index, one in enumerate(items) if index not in chosen]
    if operation == "REPLACE":
        kept = [one for index, one in enumerate(items) if index not in chosen[1:]]
        return [patch.value if index == chosen[0] else one for index, one in enumerate(kept)]
    if operation != "MERGE":
        return None
    changed = {index: made for index in chosen if (made := merge(items[index], patch.value)) is not None}
    return [changed.get(index, one) for index, one in enumerate(items)] if changed else None
