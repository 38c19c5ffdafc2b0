# SPDX-License-Identifier: Apache-2.0
"""Which rules of a VirtualService no request ever reaches, as Istio finds it: by comparing their matches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.ground.typed import virtual_services as api

__all__ = ["Unused", "unused"]

Json = Mapping[str, Any]
"""What is only read, and of several kinds alike."""


@dataclass(frozen=True)
class Unused:
    """A rule, or one match of it, that is not used.

    Args:
        rule: The rule, `"name"` in quotes or #0.
        reason: Why; for a match the rule that takes its requests.
        match: The match; empty where it is the whole rule.
    """

    rule: str
    reason: str
    match: str = ""

    def __str__(self) -> str:
        if self.match:
            return (
                f"rule {self.rule} match {self.match} is not used (duplicate/overlapping match in rule {self.reason})"
            )
        return f"rule {self.rule} not used ({self.reason})"


def unused(spec: Json) -> Iterator[Unused]:
    """What is not used of a VirtualService's `http`, `tcp` and `tls`."""
    for section in ("http", "tcp", "tls"):
        yield from _of_section([rule or {} for rule in spec.get(section) or []])
    yield from _overlapping(spec.get("http") or [])


def _of_section(rules: list[Json]) -> Iterator[Unused]:
    taken = False
    seen: dict[str, str] = {}
    for number, rule in enumerate(rules):
        name, matches, duplicates = _name(rule, number), rule.get("match") or [], 0
        if not matches and taken:
            yield Unused(name, "only the last rule can have no matches")
        if matches and taken:
            yield Unused(name, "route without matches defined before")
            continue
        taken = taken or not matches
        for index, match in enumerate(matches):
            content = json.dumps({**(match or {}), "name": ""}, sort_keys=True)
            if content in seen:
                duplicates += 1
                yield Unused(name, seen[content], _name(match, index))
            else:
                seen[content] = name
        if matches and duplicates == len(matches):
            yield Unused(name, "all matches used by prior rules")


def _name(named: Json | None, number: int) -> str:
    name = (named or {}).get("name")
    return f'"{name}"' if name else f"#{number}"


def _overlapping(rules: list[api.HTTPRoute | None]) -> Iterator[Unused]:
    """Matches of a path's prefix that an earlier, shorter prefix takes under the same conditions."""
    seen: list[tuple[str, str, str, dict[str, str]]] = []
    later: set[str] = set()
    found = []
    for number, rule in enumerate(rules):
        for index, match in enumerate((rule or {}).get("match") or []):
            prefix = ((match or {}).get("uri") or {}).get("prefix")
            content = json.dumps({**(match or {}), "name": ""}, sort_keys=True)
            if not isinstance(prefix, str) or not prefix or content in later:
                continue
            later.add(content)
            one = prefix, _name(rule, number), _name(match, index), _conditions(match)
            for earlier in seen:
                if prefix != earlier[0] and prefix.startswith(earlier[0]) and _covers(earlier[3], one[3]):
                    where = f"{earlier[2]} of prefix {earlier[0]} on {earlier[1]}"
                    found.append((seen.index(earlier), Unused(one[1], where, f"{one[2]} of prefix {prefix}")))
            seen.append(one)
    yield from (one for _, one in sorted(found, key=lambda entry: entry[0]))


def _conditions(match: api.HTTPMatchRequest | None) -> dict[str, str]:
    """What else a match asks for: condition → "kind value", empty where only presence counts."""

    def text(wanted: api.StringMatch | None) -> str:
        if exact := (wanted or {}).get("exact"):
            return f"exact {exact}"
        prefix = (wanted or {}).get("prefix")
        return f"prefix {prefix}" if prefix else ""

    match = match or {}
    found = {"port": str(match.get("port") or ""), "authority": text(match.get("authority"))}
    # Istio takes a match without a method for one of GET.
    found["method"] = text(match.get("method")) or "exact GET"
    for section, asked in (
        ("headers", match.get("headers")),
        ("queryParams", match.get("queryParams")),
        ("withoutHeaders", match.get("withoutHeaders")),
    ):
        found |= {f"{section} {name}": text(wanted) for name, wanted in (asked or {}).items()}
    return found


def _covers(earlier: dict[str, str], later: dict[str, str]) -> bool:
    if earlier.keys() != later.keys() or earlier["port"] != later["port"]:
        return False
    return all(value.startswith(later[key]) for key, value in earlier.items())
