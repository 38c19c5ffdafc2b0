# SPDX-License-Identifier: Apache-2.0
"""What is played in place of a rule about who may come that cannot be played: it denies, and opens no door."""

from __future__ import annotations

from meshbox.contracts import Obj
from meshbox.mesh.kinds import AUTHORIZATION_POLICIES, PEER_AUTHENTICATIONS

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
    return None, "it is left out"


def _like(obj: Obj, **spec: object) -> Obj:
    """`obj` with another spec for the same workloads; for all of its namespace where it chooses none in good form."""
    said = obj.get("spec")
    given: Obj = said if isinstance(said, dict) else {}
    selector, targets = given.get("selector"), given.get("targetRefs")
    wanted = selector.get("matchLabels") if isinstance(selector, dict) else None
    if isinstance(wanted, dict) and all(isinstance(value, str) for value in wanted.values()):
        spec["selector"] = {"matchLabels": wanted}
    elif isinstance(targets, list) and all(isinstance(one, dict) for one in targets):
        spec["targetRefs"] = targets
    return {**obj, "spec": spec}
