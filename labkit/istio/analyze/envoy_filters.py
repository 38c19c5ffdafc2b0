# SPDX-License-Identifier: Apache-2.0
"""EnvoyFilters: operations that do nothing there, and those that hang on which filter comes first."""

from __future__ import annotations

from collections.abc import Iterator

from labkit.cluster import Obj
from labkit.istio.analyze.world import Said, World

__all__ = ["envoy_filters"]

_ROUTES = ("ROUTE_CONFIGURATION", "HTTP_ROUTE")
_FILTERS = ("NETWORK_FILTER", "HTTP_FILTER")
_REPLACED = (*_FILTERS, "VIRTUAL_HOST")
"""What can be replaced, though the message names filters only."""


def envoy_filters(world: World) -> Iterator[Said]:
    """What is wrong with them."""
    versioned: set[str] = set()
    for item in world.all("EnvoyFilter"):
        for patch in item["spec"].get("configPatches") or []:
            operation, where = (patch.get("patch") or {}).get("operation"), patch.get("applyTo")
            relative = False
            if operation == "ADD" and where in _ROUTES:
                yield Said(item, "IST0153")
            elif operation == "REMOVE" and where in _ROUTES:
                yield Said(item, "IST0154")
            elif operation == "REPLACE" and where not in _REPLACED:
                yield Said(item, "IST0152")
            else:
                relative = operation in ("REMOVE", "REPLACE", "INSERT_BEFORE", "INSERT_AFTER")
            about = _named(patch)
            if relative and not item["spec"].get("priority"):
                yield Said(item, "IST0155" if about in versioned else "IST0151")
            if ((patch.get("match") or {}).get("proxy") or {}).get("proxyVersion"):
                versioned.add(about)


def _named(patch: Obj) -> str:
    """The filter that a patch is about."""
    value = (patch.get("patch") or {}).get("value") or {}
    chain = ((patch.get("match") or {}).get("listener") or {}).get("filterChain") or {}
    return str(value.get("name") or (chain.get("filter") or {}).get("name") or "") if value else ""
