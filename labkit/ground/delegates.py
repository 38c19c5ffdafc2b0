# SPDX-License-Identifier: Apache-2.0
"""What the rule of a delegate VirtualService means under the conditions of the root's rule that names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from labkit.ground.typed import virtual_services as api

__all__ = ["merged"]

_EACH = ("headers", "withoutHeaders", "queryParams")


def merged(rule: api.HTTPRoute, inner: api.HTTPRoute) -> api.HTTPRoute | None:
    """A delegate's rule under the conditions of the root's; None where one of its matches lies in none of them."""
    outer, own = rule.get("match") or [], inner.get("match") or []
    under = [[found for one in outer if (found := _match(one, match)) is not None] for match in own]
    if outer and not all(under):
        return None
    both: api.HTTPRoute = {**rule, **inner}
    both["name"] = "-".join(part for part in (rule.get("name"), inner.get("name")) if part)
    matches = [match for each in under for match in each] if outer and own else [*outer, *own]
    both["match"] = [match for match in matches if match]
    both.pop("delegate", None)
    return cast("api.HTTPRoute", {key: value for key, value in both.items() if value not in ("", [])})


def _lies_in(outer: Mapping[str, str] | None, own: Mapping[str, str] | None) -> bool:
    """Whether all of one text's condition lies in another's; nobody knows of patterns."""
    if outer is None or own is None:
        return True
    asked = own.get("prefix") or own.get("exact") or ""
    if outer.get("regex") or own.get("regex") or outer.get("exact"):
        return bool(outer.get("exact")) and own == {"exact": outer.get("exact")}
    return bool(outer.get("prefix") and asked) and asked.startswith(outer["prefix"])


def _match(outer: api.HTTPMatchRequest, own: api.HTTPMatchRequest) -> api.HTTPMatchRequest | None:
    """A delegate's match under one of the root's; None where it lies outside."""
    root: Mapping[str, Any] = outer
    part: Mapping[str, Any] = own
    texts = [(root.get(key), part.get(key)) for key in ("uri", "scheme", "method", "authority")]
    texts += [((root.get(key) or {}).get(name), one) for key in _EACH for name, one in (part.get(key) or {}).items()]
    labels = root.get("sourceLabels") or {}
    if (
        not all(_lies_in(*each) for each in texts)
        or bool(root.get("ignoreUriCase")) != bool(part.get("ignoreUriCase"))
        or (root.get("port") or part.get("port")) != (part.get("port") or root.get("port"))
        or (root.get("sourceNamespace") or part.get("sourceNamespace")) != part.get("sourceNamespace")
        or any(labels.get(key, value) != value for key, value in (part.get("sourceLabels") or {}).items())
        or (root.get("gateways") and not set(part.get("gateways") or ()) <= set(root["gateways"]))
    ):
        return None
    several = {key: {**root[key], **part[key]} for key in (*_EACH, "sourceLabels") if root.get(key) and part.get(key)}
    return cast("api.HTTPMatchRequest", {**root, **part, **several})
