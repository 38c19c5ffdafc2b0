# SPDX-License-Identifier: Apache-2.0
"""Which writes the rules of webhooks and admission policies name."""

from __future__ import annotations

from collections.abc import Collection

from meshbox.contracts import View

__all__ = ["OWN_WEBHOOKS", "rule_met"]

OWN_WEBHOOKS = ("sidecar-injector.istio.io", "validation.istio.io")
"""The mesh itself answers webhooks whose names end so; the API server calls all others."""


def rule_met(
    rule: View,
    operation: str,
    group: str,
    plural: str,
    subresource: str = "",
    *,
    versions: Collection[str] | None = None,
    cluster_scoped: bool | None = None,
) -> bool:
    """Whether one item of `rules` (or `resourceRules`) names a write.

    Args:
        rule: The item.
        operation: "CREATE", "UPDATE" or "DELETE".
        group: API group, "" for core.
        plural: The resource without its group.
        subresource: "" for the object itself.
        versions: In which one of these versions; None: in whichever.
        cluster_scoped: Whether the object is in no namespace; None: whatever `scope` says.
    """
    for field, wanted in (("operations", {operation}), ("apiGroups", {group}), ("apiVersions", versions)):
        if wanted is not None and not {"*", *wanted}.intersection(rule.get(field) or ()):
            return False
    scope = rule.get("scope")
    if cluster_scoped is not None and scope in ("Cluster", "Namespaced") and (scope == "Cluster") != cluster_scoped:
        return False
    for one in rule.get("resources") or ():
        name, _, below = str(one).partition("/")
        if name in ("*", plural) and below in ("*", subresource):
            return True
    return False
