# SPDX-License-Identifier: Apache-2.0
"""Server-side apply: a client says what it wants to own, and the rest stays as others left it."""

from __future__ import annotations

import json
from collections import Counter, deque
from typing import Any

from labkit.ground import reading
from meshbox.api import refusals
from meshbox.api.fields import MISSING, Path, fields_of, lookup, remove, shape_at, step_of, words
from meshbox.api.managed_fields import Entries
from meshbox.api.merge_keys import Shape
from meshbox.contracts import ApiError, Obj
from meshbox.values import clone

__all__ = ["applied"]

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def applied(
    live: Obj | None,
    wanted: Obj,
    entries: Entries,
    shape: Shape,
    *,
    manager: str,
    subresource: str = "",
    force: bool = False,
) -> tuple[Obj, list[Obj]]:
    """The object after `manager` has applied `wanted`, and its managedFields.

    Args:
        live: The object as it is (not changed); None where there is none.
        wanted: What was applied, in the same version.
        entries: The live object's; changed.
        shape: How the kind's lists and maps are merged.
        manager: Who applies.
        subresource: "status" where that is applied.
        force: Whether to take fields that others own.

    Raises:
        ApiError: 409 where others own a field with another value, and `force` is not set.
    """
    paths = fields_of(wanted, shape)
    if subresource:
        paths = {path for path in paths if path[0] == f"f:{subresource}"}
    before = entries.owned(manager, "Apply", subresource)
    if live is not None:
        taken = {path for path in paths if _differs(live, wanted, path, shape)}
        if conflicts := _conflicts(entries.others(manager, "Apply", subresource), taken):
            if manager == "kubectl":
                # Whoever has applied with kubectl before it asked the server to: the annotation says what was theirs.
                former = _last_applied(live, shape)
                conflicts = [one for one in conflicts if one[1] not in former]
            if conflicts and not force:
                raise _refusal(conflicts)
            entries.disown(taken, manager, "Apply", subresource)
    result = _merge(clone(live) if live is not None else {}, wanted, shape)
    owned_by_others = {path for _, owned in entries.others(manager, "Apply", subresource) for path in owned}
    # The shortest first: an item of a list goes as a whole, with what defaulting has put into it.
    for path in sorted(before - paths, key=len):
        if not any(_within(other, path) for other in (*owned_by_others, *paths)):
            remove(result, path, shape)
    entries.set(manager, "Apply", subresource, wanted.get("apiVersion", ""), paths, timed=result != live)
    if manager == "kubectl" and live is not None and _LAST_APPLIED in (result["metadata"].get("annotations") or {}):
        # Whoever applies without the server's help next time begins from what kubectl has applied with it.
        result["metadata"]["annotations"][_LAST_APPLIED] = _configuration(wanted)
    return result, entries.value()


def _configuration(wanted: Obj) -> str:
    """What `kubectl apply` notes of an object."""
    meta = dict(wanted["metadata"])
    annotations = {key: value for key, value in (meta.pop("annotations", None) or {}).items() if key != _LAST_APPLIED}
    if annotations:
        meta["annotations"] = annotations
    return json.dumps({**wanted, "metadata": meta}, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"


def _last_applied(live: Obj, shape: Shape) -> set[Path]:
    annotation = (live["metadata"].get("annotations") or {}).get(_LAST_APPLIED, "")
    try:
        former = reading.json_value(annotation)
    except ValueError:
        return set()
    if not isinstance(former, dict) or not isinstance(former.get("metadata"), dict):
        return set()
    # Where the object has another value (a default within it counts), it is not what kubectl has applied.
    return {path for path in fields_of(former, shape) if not _differs(live, former, path, shape)}


def _within(path: Path, outer: Path) -> bool:
    return path[: len(outer)] == outer


def _differs(live: Obj, wanted: Obj, path: Path, shape: Shape) -> bool:
    if not path[-1].startswith("f:"):
        return False
    now, then = lookup(live, path, shape), lookup(wanted, path, shape)
    if not then and isinstance(then, dict | list | None) and _merged(now, shape_at(path, shape)):
        return False
    return now is MISSING or bool(now != then)


def _merged(now: Any, shape: Shape) -> bool:
    """Whether what is there, a map or list that is merged or nothing, stays as it is where an empty one is applied."""
    if now is MISSING or not now:
        return now is MISSING
    kinds = ("map",) if isinstance(now, dict) else ("list", "set") if isinstance(now, list) else ()
    return shape.kind in kinds


def _conflicts(others: list[tuple[Obj, set[Path]]], taken: set[Path]) -> list[tuple[Obj, Path]]:
    return [
        (head, path)
        for head, owned in others
        for path in sorted(taken)
        if path in owned or any(_within(other, path) for other in owned)
    ]


def _refusal(conflicts: list[tuple[Obj, Path]]) -> ApiError:
    """409, in words that kubectl shows with its advice."""
    by_owner: dict[str, list[str]] = {}
    causes = []
    for head, path in conflicts:
        who = f'"{head["manager"]}"'
        if head.get("subresource"):
            who += f' with subresource "{head["subresource"]}"'
        if head.get("operation") == "Update":
            who += f" using {head.get('apiVersion', '')}"
        by_owner.setdefault(who, []).append(words(path))
        causes.append({"reason": "FieldManagerConflict", "message": f"conflict with {who}", "field": words(path)})
    count = len(causes)
    if count == 1:
        who, fields = next(iter(by_owner.items()))
        message = f"Apply failed with 1 conflict: conflict with {who}: {fields[0]}"
    else:
        said = [f"conflicts with {who}:\n" + "\n".join(f"- {field}" for field in f) for who, f in by_owner.items()]
        message = f"Apply failed with {count} conflicts: " + "\n".join(said)
    return ApiError(409, "Conflict", message, {"causes": causes})


def _merge(live: Any, wanted: Any, shape: Shape) -> Any:
    if shape.kind == "atomic":
        return clone(wanted)
    if wanted is None and _merged(live, shape):
        return live
    if isinstance(wanted, dict) and isinstance(live, dict):
        for name, value in wanted.items():
            live[name] = _merge(live.get(name), value, shape.field(name))
        return live
    if isinstance(wanted, list) and isinstance(live, list) and shape.kind in ("list", "set"):
        return _merge_list(live, wanted, shape)
    # A null in the place of a map says nothing of its fields.
    return live if wanted is None and isinstance(live, dict) else clone(wanted)


def _merge_list(live: list[Any], wanted: list[Any], shape: Shape) -> list[Any]:
    steps = [step_of(item, shape) for item in wanted]
    if len(set(steps)) != len(steps):
        twice = next(step for step in steps if steps.count(step) > 1)
        raise refusals.bad_request(f"failed to create typed patch object: duplicate entries for key [{twice[2:]}]")
    given = dict(zip(steps, wanted, strict=True))
    here = [step_of(item, shape) for item in live]
    # An item that comes twice is merged with nothing.
    times = Counter(here)
    known = {step: item if times[step] == 1 else None for step, item in zip(here, live, strict=True)}
    # What both have comes as it was applied, what others own where it stands between: in the order of the server's
    # merge, of which rules with indexes, and people, see the outcome.
    shared = deque(step for step in steps if step in known)
    merged: list[Any] = []
    taken: set[str] = set()
    at = to = 0
    while at < len(here) or to < len(steps):
        both = at < len(here) and to < len(steps)
        if both and here[at] != steps[to] and here[at] in given and shared and here[at] != shared[0]:
            at += 1
            continue
        if at < len(here) and here[at] not in given:
            merged.append(live[at])
            at += 1
            continue
        if at < len(here) and (here[at] in taken or here[at : at + 1] == steps[to : to + 1]):
            at += 1
        if to < len(steps):
            step = steps[to]
            merged.append(_merge(known.get(step), given[step], shape.item()) if shape.kind == "list" else given[step])
            taken.add(step)
            to += 1
            if shared and shared[0] == step:
                shared.popleft()
    return merged
