# SPDX-License-Identifier: Apache-2.0
"""Which DestinationRule holds for a host, and what several of them say together."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, TypeAlias

from labkit.ground.hosts import visible
from labkit.ground.routing import most_specific, rule_host

if TYPE_CHECKING:
    from labkit.ground.typed import destination_rules as rules_api

__all__ = ["DestinationRules"]

_Rule: TypeAlias = "tuple[rules_api.DestinationRuleSpec, tuple[str, str]]"
"""A DestinationRule's spec, with its namespace and name."""


class DestinationRules:
    """Which DestinationRule holds for a host, as proxies of one namespace are told.

    Args:
        rules: DestinationRules, oldest first.
        client: The proxies' namespace.
        root: The mesh's root namespace.
        export: Who is told of rules that do not say it; empty: all.
        merge_all: Whether rules for one host are merged whomever they go to, as by Istio 1.2.
    """

    def __init__(
        self,
        rules: Iterable[rules_api.DestinationRule],
        client: str,
        root: str,
        export: Collection[str] = (),
        *,
        merge_all: bool = False,
    ) -> None:
        self._client, self._root, self._merge_all = client, root, merge_all
        self._own: list[tuple[str, rules_api.DestinationRuleSpec, tuple[str, str]]] = []
        self._exported: dict[str, list[tuple[str, rules_api.DestinationRuleSpec, tuple[str, str]]]] = {}
        for rule in rules:
            name = str(rule["metadata"].get("namespace") or ""), str(rule["metadata"]["name"])
            namespace, entry = name[0], (rule_host(rule), rule.get("spec") or {}, name)
            told = entry[1].get("exportTo") or ()
            if namespace == client and (not told or visible(told, namespace, client)):
                self._own.append(entry)
            if visible(entry[1].get("exportTo") or export, namespace, client):
                self._exported.setdefault(namespace, []).append(entry)

    def spec_for(self, host: str, namespace: str) -> rules_api.DestinationRuleSpec | None:
        """The spec that holds for `host` of `namespace`, merged where several objects of one namespace speak of it.

        The client's namespace is asked first, then the Service's, then the root namespace.
        """
        found = self._found(host, namespace)
        return _joined([spec for spec, _ in found]) if found else None

    def named_for(self, host: str, namespace: str) -> tuple[str, str] | None:
        """Namespace and name of the oldest object that `spec_for` is made of."""
        found = self._found(host, namespace)
        return found[0][1] if found else None

    def _found(self, host: str, namespace: str) -> list[_Rule]:
        own = self._own if self._client != self._root else []
        for group in (own, self._exported.get(namespace, ()), self._exported.get(self._root, ())):
            best = most_specific((about for about, _, _ in group), host)
            if best is not None:
                every = [(spec, name) for about, spec, name in group if about == best]
                # What was written for some workloads only stands alone, before what is for all.
                chosen = [one for one in every if (one[0].get("workloadSelector") or {}).get("matchLabels")]
                same = [one for one in chosen if one[0]["workloadSelector"] == chosen[0][0]["workloadSelector"]]
                return same or self._alike(every)
        return []

    def _alike(self, rules: list[_Rule]) -> list[_Rule]:
        """Those that are merged, of rules for one host: they go to the same namespaces, or a later one to more of them;
        of what stays apart the newest holds.
        """
        if self._merge_all:
            return rules
        groups: list[tuple[frozenset[str], list[_Rule]]] = []
        for rule in rules:
            told, alone = frozenset(rule[0].get("exportTo") or ()), True
            for known, members in groups:
                alone = not (told == known or (known and told >= known))
                if not alone:
                    members.append(rule)
            if alone:
                groups.append((told, [rule]))
        return groups[-1][1]


def _joined(specs: list[rules_api.DestinationRuleSpec]) -> rules_api.DestinationRuleSpec:
    """Each subset, and the policy of the whole host, as the oldest object has it."""
    subsets: dict[str, rules_api.Subset] = {}
    for subset in (subset for spec in specs for subset in spec.get("subsets") or []):
        subsets.setdefault(subset["name"], subset)
    policy = next((spec["trafficPolicy"] for spec in specs if spec.get("trafficPolicy")), None)
    return {**specs[0], "trafficPolicy": policy or {}, "subsets": list(subsets.values())}
