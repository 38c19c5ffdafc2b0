# SPDX-License-Identifier: Apache-2.0
"""Strategic merge patch: lists of objects are merged by their keys, and directives say what else is meant."""

from __future__ import annotations

from typing import Any

from meshbox.api.builtin.well_formed import as_list
from meshbox.api.go_words import printed
from meshbox.api.merge_keys import merge_keys, replaces
from meshbox.api.patch import directs, strip
from meshbox.api.refusals import bad_request
from meshbox.contracts import ApiError, Obj

__all__ = ["ORDER", "strategic_patch"]

ORDER = "$setElementOrder/"
"""Begin of the names by which a patch gives a list an order."""
_DELETE_VALUES = "$deleteFromPrimitiveList/"
_SETS = frozenset({"finalizers", "podCIDRs"})


def strategic_patch(target: Obj, patch: Obj, kind: str) -> Obj:
    """`target` (changed) after `patch`, for an object of `kind`.

    What the object does not have is taken as it stands in the patch, without nulls; so is a part of another type. What
    takes the place of a list without keys keeps them.

    Raises:
        ApiError: 400 where the patch does not fit the object (where the real server has no better word than 500).
    """
    return _map(target, patch, "", kind)


def _map(result: Obj, patch: Obj, name: str, kind: str) -> Obj:
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    if "$patch" in patch:
        raise bad_request(f"unknown patch type: {printed(directive)} in map: {printed(patch)}")
    if "$retainKeys" in patch:
        retained = patch["$retainKeys"]
        given = [key for key, value in patch.items() if value is not None and not key.startswith("$")]
        if not isinstance(retained, list) or any(key not in retained for key in given):
            raise bad_request("invalid patch format of retainKeys")
        for key in [key for key in result if key not in retained]:
            del result[key]
    for key, value in patch.items():
        if key.startswith(_DELETE_VALUES):
            _delete_values(result, key.removeprefix(_DELETE_VALUES), value)
        elif key.startswith("$"):
            continue
        elif value is None:
            result.pop(key, None)
        elif not isinstance(value, (dict, list)) or type(result.get(key)) is not type(value):
            if ORDER + key in patch:
                _check_order(value, patch[ORDER + key], _key(key, name, kind))
            result[key] = strip(value)
            if directs(value):
                del result[key]
        elif isinstance(value, dict):
            result[key] = value if replaces(key, kind) else _map(result[key], value, key, kind)
        elif isinstance(value, list):
            result[key] = merged = _list(as_list(result[key]), value, patch.get(ORDER + key), key, name, kind)
            if value and not merged:
                # The last item is gone: the server keeps no empty list.
                del result[key]
    for key, order in patch.items():
        field = key.removeprefix(ORDER)
        if field != key and field not in patch and isinstance(result.get(field), list):
            result[field] = _ordered(result[field], result[field], order, _key(field, name, kind))
    return result


def _key(name: str, parent: str, kind: str) -> str:
    keys = merge_keys(name, parent, kind)
    return keys[0] if keys else ""


def _delete_values(result: Obj, field: str, values: Any) -> None:
    if isinstance(result.get(field), list) and isinstance(values, list):
        result[field] = [value for value in result[field] if value not in values]


def _list(before: list[Any], patch: list[Any], order: Any, name: str, parent: str, kind: str) -> list[Any]:
    is_set = name in _SETS and (parent, name) != ("spec", "finalizers")
    key = "" if is_set else _key(name, parent, kind)
    if not is_set and not key:
        return patch
    if len({type(item) for item in (*before, *patch)}) > 1:
        raise bad_request(f"list element types are not identical: {printed([before, patch])}")
    if isinstance((*before, *patch, None)[0], list):
        raise ApiError(422, "", "lists of lists are not supported")
    if is_set or not all(isinstance(item, dict) for item in (*before, *patch)):
        if isinstance(order, list):
            _check_order(patch, order, "")
        merged = before + [value for value in patch if value not in before]
        return _ordered(merged, before, order, "")
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if not directs(item)]
    result = list(before)
    if isinstance(order, list):
        _check_order(patch, order, key)
    else:
        # New items come where the patch has them among those that it names, and before those that it does not.
        order = [item for item in patch if not directs(item)]
    for item in patch:
        _named(item, key)
        same = [index for index, one in enumerate(result) if isinstance(one, dict) and one.get(key) == item[key]]
        # Two ports of one number differ in their protocol.
        if len(same) > 1 and "protocol" in item:
            same = [index for index in same if result[index].get("protocol", "TCP") == item["protocol"]]
        if item.get("$patch") == "delete":
            result = [one for index, one in enumerate(result) if index not in same]
        elif same:
            result[same[0]] = _map(result[same[0]], item, name, kind)
        else:
            result.append(item)
    for item in result:
        _named(item, key)
    return _ordered(result, before, order, key)


def _named(item: Obj, key: str) -> Any:
    """What tells an item of a list from the others.

    Raises:
        ApiError: 400 where it has no such field.
    """
    if key not in item:
        raise bad_request(f"map: {printed(item)} does not contain declared merge key: {key}")
    return item[key]


def _check_order(patch: list[Any], order: list[Any], key: str) -> None:
    """See that a patch names its items in the order that it asks for.

    Raises:
        ApiError: 400 where it does not.
    """

    def name(item: Any) -> Any:
        return _named(item, key) if key and isinstance(item, dict) else item

    kept = [item for item in patch if not (isinstance(item, dict) and item.get("$patch") == "delete")]
    wanted = iter([name(item) for item in order])
    if not all(name(item) in wanted for item in kept):
        listed = f"The order in patch list:\n{printed(kept)}\n doesn't match $setElementOrder list:\n{printed(order)}\n"
        raise bad_request(listed)


def _ordered(items: list[Any], before: list[Any], order: Any, key: str) -> list[Any]:
    """`items` in the order that the patch wants; those it does not name stay where they were among the others."""
    if not isinstance(order, list):
        return items

    def name(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    wanted = [name(item) for item in order]
    known = [name(item) for item in before]
    listed = sorted((item for item in items if name(item) in wanted), key=lambda item: wanted.index(name(item)))
    others = [item for item in items if name(item) not in wanted]
    result = []
    while listed and others:
        first, other = name(listed[0]), name(others[0])
        earlier = first in known and other in known and known.index(other) < known.index(first)
        result.append(others.pop(0) if earlier else listed.pop(0))
    return result + listed + others
