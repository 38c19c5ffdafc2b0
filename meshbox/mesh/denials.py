# SPDX-License-Identifier: Apache-2.0
"""What is played in place of a rule about who may come that cannot be played: it denies, and opens no door."""

from __future__ import annotations

from meshbox.contracts import Obj
from meshbox.mesh.istio_validation.attachment import attached
from meshbox.mesh.istio_validation.problems import Problems
from meshbox.mesh.istio_validation.texts import is_label
from meshbox.mesh.kinds import (
    AUTHORIZATION_POLICIES,
    CLUSTER_RBAC_CONFIGS,
    MESH_POLICIES,
    PEER_AUTHENTICATIONS,
    POLICIES,
    RBAC_CONFIGS,
)

__all__ = ["stand_in"]


def stand_in(resource: str, obj: Obj) -> tuple[Obj | None, str]:
    """The object that is played instead, and what that means; None where to be left out opens nothing.

    Args:
        resource: What `obj` is, as `Objects` names it.
        obj: A rule that nobody can read, or translate.
    """
    if resource == AUTHORIZATION_POLICIES:
        return _like(
            obj, action="DENY", rules=[{}]
        ), "all requests to what it chooses are denied (403) until it is mended"
    if resource == PEER_AUTHENTICATIONS:
        return _like(obj, mtls={"mode": "STRICT"}), "what it chooses takes mTLS only until it is mended"
    if resource in (POLICIES, MESH_POLICIES):
        return _mutual(obj), "what it is for takes mTLS only until it is mended"
    if resource in (CLUSTER_RBAC_CONFIGS, RBAC_CONFIGS):
        return {**obj, "spec": {"mode": "ON"}}, "all requests that no role allows are denied until it is mended"
    return None, "it is left out"


def _like(obj: Obj, **spec: object) -> Obj:
    """`obj` with another spec for the same workloads; for all of its namespace where nobody can tell for which."""
    said = obj.get("spec")
    return {**obj, "spec": {**spec, **_choice(said if isinstance(said, dict) else {})}}


_WAYS = ("selector", "targetRef", "targetRefs")


def _choice(spec: Obj) -> Obj:
    """What of a spec says which workloads it is for; nothing where just that is refused, since it could choose none."""
    selector, target, targets = (spec.get(way) for way in _WAYS)
    labels = selector.get("matchLabels") if isinstance(selector, dict) else selector
    listed = targets is None or isinstance(targets, list)
    if not (listed and all(map(_of_texts, (labels, target, *(targets or ()))))):
        return {}
    problems = Problems(legacy=False)
    attached(spec, problems)
    return {} if problems.errors else {way: spec[way] for way in _WAYS if spec.get(way)}


def _mutual(policy: Obj) -> Obj:
    """A Policy of Istio 1.2 that asks for mTLS, for the same Services, on all of their ports; where nobody can tell for
    which, it is the one for all of its namespace, which is called "default".
    """
    said = policy.get("spec")
    targets = said.get("targets") if isinstance(said, dict) else None
    spec: Obj = {"peers": [{"mtls": {}}]}
    if not targets:
        return {**policy, "spec": spec}
    listed = targets if isinstance(targets, list) else [None]
    names = [one.get("name") if isinstance(one, dict) else None for one in listed]
    if all(isinstance(name, str) and is_label(name) for name in names):
        return {**policy, "spec": {**spec, "targets": [{"name": name} for name in names]}}
    return {**policy, "metadata": {**policy["metadata"], "name": "default"}, "spec": spec}


def _of_texts(part: object) -> bool:
    return part is None or (
        isinstance(part, dict) and all(isinstance(one, str) for pair in part.items() for one in pair)
    )
