# SPDX-License-Identifier: Apache-2.0
"""What differs between two states of an Envoy's configuration, field by field."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any, Literal

import yaml

from labkit.cluster import Obj
from labkit.istio.envoy import matching

__all__ = ["Change", "changes", "short"]


@dataclass(frozen=True)
class Change:
    """One difference.

    Args:
        resource: What it is in: a virtual host, a cluster, a listener …
        field: Where in it, "routes[any path].route.timeout"; "" for the whole.
        change: "added", "removed" or "changed".
        before: What was there, as Envoy has it; None for nothing.
        after: What is there.
        tables: For virtual hosts, the route tables it is in.
    """

    resource: str
    field: str
    change: Literal["added", "removed", "changed"]
    before: Any
    after: Any
    tables: tuple[str, ...] = ()


def short(value: Any) -> str:
    """A value in one line of YAML, without the names of Envoy's types; "" for nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, (dict, list)):
        return str(value)
    return yaml.safe_dump(_without_types(value), default_flow_style=True, sort_keys=False, width=1_000_000).strip()


def _without_types(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_types(inner) for key, inner in value.items() if key != "@type"}
    return [_without_types(one) for one in value] if isinstance(value, list) else value


def changes(before: Mapping[str, Obj], after: Mapping[str, Obj], kind: str) -> list[Change]:
    """All differences between resources by name.

    Args:
        before: The earlier ones.
        after: The later ones.
        kind: What they are: one of `dump.KINDS`. Route tables are compared host by host, and what several tables have
            in common is said once.
    """
    if kind != "routes":
        return [one for name in _order(before, after) for one in _of(name, before.get(name), after.get(name))]
    earlier, later = _hosts(before), _hosts(after)
    merged: dict[tuple[str, ...], Change] = {}
    for key in _order(earlier, later):
        table, host = key
        for one in _of(host or f"table {table}", earlier.get(key), later.get(key)):
            same = one.resource, one.field, one.change, _canonical(one.before), _canonical(one.after)
            tables = merged[same].tables if same in merged else ()
            merged[same] = replace(one, tables=(*tables, table))
    return list(merged.values())


def _order(before: Mapping[Any, Any], after: Mapping[Any, Any]) -> list[Any]:
    return list(dict.fromkeys([*after, *before]))


def _hosts(tables: Mapping[str, Obj]) -> dict[tuple[str, str], Obj]:
    """Virtual hosts by table and name; what a table says besides under the name ""."""
    found: dict[tuple[str, str], Obj] = {}
    for table, body in tables.items():
        found[table, ""] = {key: value for key, value in body.items() if key != "virtual_hosts"}
        for host in body.get("virtual_hosts") or []:
            found[table, str(host.get("name", ""))] = host
    return found


def _of(name: str, before: Obj | None, after: Obj | None) -> Iterator[Change]:
    if before is None:
        yield Change(name, "", "added", None, after)
    elif after is None:
        yield Change(name, "", "removed", before, None)
    elif before != after:
        for field, old, new in _differences("", before, after):
            yield Change(name, field, "added" if old is None else "removed" if new is None else "changed", old, new)


_Difference = tuple[str, Any, Any]


def _differences(path: str, before: Any, after: Any) -> Iterator[_Difference]:
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in _order(before, after):
            inner = f"{path}.{key}" if path else key
            yield from _differences(inner, before.get(key), after.get(key))
    elif isinstance(before, list) and isinstance(after, list) and all(isinstance(x, dict) for x in (*before, *after)):
        yield from _items(path, before, after)
    elif isinstance(before, list) and isinstance(after, list):
        gone, new = [one for one in before if one not in after], [one for one in after if one not in before]
        if gone or new:
            yield from ([(path, gone, None)] if gone else [])
            yield from ([(path, None, new)] if new else [])
        else:
            yield path, before, after
    else:
        yield path, before, after


def _items(path: str, before: Sequence[Obj], after: Sequence[Obj]) -> Iterator[_Difference]:
    for key in ("match", "name", "address"):
        old, new = _by(before, key), _by(after, key)
        if old is None or new is None:
            continue
        for label in _order(old, new):
            yield from _differences(f"{path}[{label}]", old.get(label), new.get(label))
        staying = [label for label in old if label in new]
        if staying != [label for label in new if label in old]:
            yield f"{path} (order)", list(old), list(new)
        return
    # What has no names of its own is laid side by side, so that what stands between two shows as that.
    pairs = SequenceMatcher(None, [_canonical(one) for one in before], [_canonical(one) for one in after], False)
    for what, a, b, c, d in pairs.get_opcodes():
        if what == "equal":
            continue
        together = min(b - a, d - c)
        for old_one, new_one in zip(before[a : a + together], after[c : c + together], strict=True):
            yield from _differences(f"{path}[{_label(new_one)}]", old_one, new_one)
        yield from ((f"{path}[{_label(one)}]", one, None) for one in before[a + together : b])
        yield from ((f"{path}[{_label(one)}]", None, one) for one in after[c + together : d])


def _by(items: Sequence[Obj], key: str) -> dict[str, Obj] | None:
    """Items by what they are called, or by what they match; None where that does not tell them apart."""
    if not all(key in one for one in items):
        return None
    found = {_label(one) if key == "match" else str(one[key]): one for one in items}
    # A route's name says little, and several may have one: what it matches tells it.
    routes = key != "match" and any("match" in one for one in items)
    return found if len(found) == len(items) and not routes else None


def _label(item: Obj) -> str:
    if isinstance(item.get("match"), Mapping):
        return matching.words(item["match"])
    return str(item.get("name") or short(item)[:40])


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
