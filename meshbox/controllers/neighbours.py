# SPDX-License-Identifier: Apache-2.0
"""What pods ask of where other pods are: affinity, anti-affinity, and how evenly they are spread over nodes.

Source: the scheduler's filters InterPodAffinity and PodTopologySpread (Kubernetes 1.35), their order and their words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from labkit.ground.labels import matches
from meshbox.contracts import Obj, Objects
from meshbox.controllers.pods import is_terminating

__all__ = ["HELPED", "Neighbours"]

_AFFINITY = "node(s) didn't match pod affinity rules"
_ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
_OTHERS = "node(s) didn't satisfy existing pods anti-affinity rules"
_SPREAD = "node(s) didn't match pod topology spread constraints"
_NO_LABEL = f"{_SPREAD} (missing required label)"

HELPED = frozenset({_ANTI_AFFINITY, _OTHERS, _SPREAD})
"""Of these, those that are otherwise when pods leave."""


class Neighbours:
    """Where pods run now.

    Args:
        objects: The cluster's objects.
        nodes: The nodes by name.
        running: The pods that have a node and have not ended.
    """

    def __init__(self, objects: Objects, nodes: Mapping[str, Obj], running: Sequence[Obj]) -> None:
        self._objects = objects
        self._labels = {name: node["metadata"].get("labels") or {} for name, node in nodes.items()}
        self._running = running

    def refusal(self, pod: Obj, node: str, eligible: Sequence[str]) -> str | None:
        """Why `pod` may not run on `node` beside those who are there, in the scheduler's words; None where it may.

        Args:
            pod: The pod.
            node: The node's name.
            eligible: The nodes that the pod's own selectors allow, over which it is spread.
        """
        return self._spread(pod, node, eligible) or self._beside(pod, node)

    def _spread(self, pod: Obj, node: str, eligible: Sequence[str]) -> str | None:
        asked = pod["spec"].get("topologySpreadConstraints") or ()
        hard = [one for one in asked if one.get("whenUnsatisfiable") == "DoNotSchedule"]
        keys = [one["topologyKey"] for one in hard]
        nodes = [name for name in eligible if all(key in self._labels[name] for key in keys)]
        for one in hard:
            key = one["topologyKey"]
            if key not in self._labels[node]:
                return _NO_LABEL
            count = Counter({self._labels[name][key]: 0 for name in nodes})
            for other in self._running:
                where = other["spec"]["nodeName"]
                if where in nodes and not is_terminating(other) and _chooses(one, pod, other):
                    count[self._labels[where][key]] += 1
            fewest = min(count.values(), default=0) if len(count) >= (one.get("minDomains") or 1) else 0
            if count[self._labels[node][key]] + _chooses(one, pod, pod) - fewest > one["maxSkew"]:
                return _SPREAD
        return None

    def _beside(self, pod: Obj, node: str) -> str | None:
        here = self._labels[node]
        wanted = list(_terms(pod, "podAffinity"))
        if wanted and not self._has_company(pod, here, wanted):
            return _AFFINITY
        for term in _terms(pod, "podAntiAffinity"):
            if any(self._meets(term, pod, other) and self._near(other, here, term) for other in self._running):
                return _ANTI_AFFINITY
        for other in (one for one in self._running if "affinity" in one["spec"]):
            for term in _terms(other, "podAntiAffinity"):
                if self._near(other, here, term) and self._meets(term, other, pod):
                    return _OTHERS
        return None

    def _has_company(self, pod: Obj, here: Mapping[str, str], wanted: Sequence[Obj]) -> bool:
        if any(term["topologyKey"] not in here for term in wanted):
            return False
        company = [one for one in self._running if all(self._meets(term, pod, one) for term in wanted)]
        if all(any(self._near(one, here, term) for one in company) for term in wanted):
            return True
        # The first of those who want to be with their like may go anywhere.
        return not company and all(self._meets(term, pod, pod) for term in wanted)

    def _near(self, other: Obj, here: Mapping[str, str], term: Obj) -> bool:
        """Whether a pod runs in that place: on a node with the same label."""
        key = term["topologyKey"]
        where = self._labels.get(other["spec"]["nodeName"], {})
        return key in here and where.get(key) == here[key]

    def _meets(self, term: Obj, owner: Obj, other: Obj) -> bool:
        """Whether a term of `owner` is about `other`."""
        namespace, among = other["metadata"]["namespace"], term.get("namespaceSelector")
        names = term.get("namespaces") or ([owner["metadata"]["namespace"]] if among is None else [])
        if namespace not in names:
            if among is None:
                return False
            found = self._objects.see("namespaces", namespace) or {"metadata": {}}
            if not matches(among, found["metadata"].get("labels")):
                return False
        return _selected(term, owner, other)


def _terms(pod: Obj, kind: str) -> Iterator[Obj]:
    affinity = (pod["spec"].get("affinity") or {}).get(kind) or {}
    yield from affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ()


def _chooses(constraint: Obj, pod: Obj, other: Obj) -> bool:
    same = other["metadata"]["namespace"] == pod["metadata"]["namespace"]
    return same and _selected(constraint, pod, other)


def _selected(term: Obj, owner: Obj, other: Obj) -> bool:
    """Whether a term's selector chooses `other`; without one it chooses nobody."""
    mine, labels = owner["metadata"].get("labels") or {}, other["metadata"].get("labels") or {}
    if term.get("labelSelector") is None or not matches(term["labelSelector"], labels):
        return False
    alike = [key for key in term.get("matchLabelKeys") or () if key in mine]
    unlike = [key for key in term.get("mismatchLabelKeys") or () if key in mine]
    return all(labels.get(key) == mine[key] for key in alike) and all(labels.get(key) != mine[key] for key in unlike)
