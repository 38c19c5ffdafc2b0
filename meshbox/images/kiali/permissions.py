# SPDX-License-Identifier: Apache-2.0
"""What Kiali's own account may do with Istio's objects: the console offers nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

from meshbox.images.kiali.sources import Kubernetes, SourceError

__all__ = ["Permissions"]

Json = dict[str, Any]
_VERBS = {"create": ("create",), "update": ("patch", "update"), "delete": ("delete",)}
"""What the console calls it, and the verbs of which one is enough."""

_FRESH = 10.0
"""Seconds for which an answer is used again: a page asks for the same namespaces many times."""

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"


class Permissions:
    """What may be written.

    Args:
        kubernetes: The API server, with the account's token; it says which rules hold for it.
        view_only: Whether nothing may be, whatever the account may do (Kiali's `view_only_mode`).
    """

    def __init__(self, kubernetes: Kubernetes, view_only: bool = False) -> None:
        self._kubernetes = kubernetes
        self._view_only = view_only
        self._known: dict[str, tuple[float, list[Json]]] = {}

    def of(self, namespace: str, group: str, plural: str) -> dict[str, bool]:
        """Whether objects of a kind may be created, updated and deleted in a namespace.

        Raises:
            SourceError: the API server cannot be reached.
        """
        if self._view_only:
            return dict.fromkeys(_VERBS, False)
        rules = [one for one in self._rules(namespace) if _about(one, group, plural)]
        return {name: any(_allows(rule, verbs) for rule in rules) for name, verbs in _VERBS.items()}

    def _rules(self, namespace: str) -> list[Json]:
        known = self._known.get(namespace)
        if known and time.monotonic() - known[0] < _FRESH:
            return known[1]
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview"}
        asked = json.dumps(review | {"spec": {"namespace": namespace}}).encode()
        found: list[Json] = []
        try:
            found = (self._kubernetes.post(_REVIEWS, asked).get("status") or {}).get("resourceRules") or []
        except SourceError as error:
            # Who may not even ask is offered nothing.
            if error.status != 403:
                raise
        self._known[namespace] = time.monotonic(), found
        return found


def _about(rule: Json, group: str, plural: str) -> bool:
    # A rule about named objects says nothing of those that are not there yet, nor of all of them.
    named = rule.get("resourceNames")
    return not named and _has(rule.get("apiGroups"), group) and _has(rule.get("resources"), plural)


def _allows(rule: Json, verbs: Iterable[str]) -> bool:
    return any(_has(rule.get("verbs"), verb) for verb in verbs)


def _has(values: list[str] | None, value: str) -> bool:
    return values is not None and ("*" in values or value in values)
