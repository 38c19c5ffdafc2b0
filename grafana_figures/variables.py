# SPDX-License-Identifier: Apache-2.0
"""A dashboard's variables: what can be chosen, what is, and how a choice is written into PromQL and titles."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grafana_figures.model import Json, slashed
from grafana_figures.promql import Api, Window
from labkit.ground.duration import to_prometheus
from labkit.ground.errors import ClusterError

__all__ = ["ALL", "Choice", "Choices", "duration", "macros", "resolve"]

ALL = "$__all"
_NAME = re.compile(r"\$\{(\w+)(?:\.\w+)?(?::(\w+))?\}|\[\[(\w+)(?::(\w+))?\]\]|\$(\w+)")
_QUERY = re.compile(r"\s*(label_values|label_names|metrics|query_result)\((.*)\)\s*$", re.DOTALL)

_SHOP, _PAGE = "bookinfo", "productpage"
"""BookInfo's namespace in the course, and its first service, wherever it is."""

Given = Mapping[str, "str | Sequence[str]"]


@dataclass(frozen=True)
class Choice:
    """A variable and what is chosen.

    Args:
        name: As in "$name".
        label: What a reader sees.
        kind: "query", "custom", "datasource", "constant", "interval" or "textbox".
        options: What can be chosen.
        chosen: What is; ("$__all",) for all.
        multi: Whether several can be chosen.
        all: Whether "All" can be.
        all_value: What "All" is written as; "" for every option.
        hidden: Whether a reader is not shown it.
        texts: Option → what a reader sees, where that differs.
        reason: Why there are no options.
    """

    name: str
    label: str
    kind: str
    options: tuple[str, ...]
    chosen: tuple[str, ...]
    multi: bool = False
    all: bool = False
    all_value: str = ""
    hidden: bool = False
    texts: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""

    @property
    def values(self) -> tuple[str, ...]:
        """What is chosen, with "All" resolved."""
        return self.options if self.chosen == (ALL,) else self.chosen

    def written(self, form: str = "") -> str:
        """The choice inside PromQL, or as Grafana's format `form` ("regex", "pipe", "csv", "raw", "text" …) has it."""
        if form == "text":
            return "All" if self.chosen == (ALL,) else " + ".join(self.texts.get(one, one) for one in self.chosen)
        if self.chosen == (ALL,) and self.all_value:
            return self.all_value
        if form in ("raw", "glob", "csv"):
            return ",".join(self.values)
        if form == "pipe":
            return "|".join(self.values)
        if form in ("doublequote", "singlequote"):
            quote = '"' if form == "doublequote" else "'"
            return ",".join(f"{quote}{one}{quote}" for one in self.values)
        if not (self.multi or self.all) and form != "regex":
            return self.values[0].replace("\\", "\\\\").replace('"', '\\"') if self.values else ""
        parts = [_literal(one) for one in self.values]
        return parts[0] if len(parts) == 1 else f"({'|'.join(parts)})" if parts else ""


def _literal(value: str) -> str:
    """`value` as a regular expression that matches it alone, inside a PromQL string."""
    return re.sub(r"[\\^$.*+?()\[\]{}|]", lambda match: "\\\\\\\\" if match[0] == "\\" else "\\\\" + match[0], value)


class Choices(dict[str, Choice]):
    """The choices of a dashboard, by name, in its order."""

    def expand(self, text: str, extra: Mapping[str, str] | None = None, form: str = "") -> str:
        """`text` with variables replaced; a "$word" that is none stays as it is.

        Args:
            text: PromQL, a title, or another variable's query.
            extra: Built-in variables, e.g. {"__interval": "5s"}.
            form: How choices are written: "" for PromQL, "text" for a reader.
        """

        def one(match: re.Match[str]) -> str:
            name = match[1] or match[3] or match[5]
            if extra and name in extra:
                return extra[name]
            return self[name].written(match[2] or match[4] or form) if name in self else match[0]

        return _NAME.sub(one, text)

    def with_one(self, name: str, value: str) -> Choices:
        """The same, with `value` alone chosen of `name`."""
        changed = Choices(self)
        old = self[name]
        changed[name] = Choice(old.name, old.label, old.kind, (value,), (value,), old.multi, old.all, "", old.hidden)
        return changed


def duration(length: float) -> str:
    """A duration as PromQL takes it: "500ms", "15s", "5m"."""
    return to_prometheus(max(1, round(length * 1000)))


def macros(window: Window, interval: float, scrape: float) -> dict[str, str]:
    """Grafana's built-in variables.

    Args:
        window: The time shown.
        interval: Distance of the points, in seconds.
        scrape: How often Prometheus takes samples, as the datasource says, in seconds.
    """
    length = max(1, round(window.length))
    return {
        "__interval": duration(interval),
        "__interval_ms": str(round(interval * 1000)),
        # Four scrapes always hold two samples, even when one fails.
        "__rate_interval": duration(max(interval + scrape, 4 * scrape)),
        "__range": duration(length),
        "__range_s": str(length),
        "__range_ms": str(length * 1000),
        "__from": str(round(window.start * 1000)),
        "__to": str(round(window.end * 1000)),
    }


def resolve(raw: Sequence[Json], api: Api, window: Window, given: Given, sources: Mapping[str, str]) -> Choices:
    """Ask for the options of each variable, in order, since one may depend on those before it.

    Args:
        raw: `templating.list` of the dashboard.
        api: Prometheus.
        window: The time shown.
        given: Name → what a reader chose; a name that is no variable is ignored.
        sources: Name of each datasource → its type.
    """
    choices = Choices()
    for one in raw:
        name = str(one.get("name", ""))
        options, texts, reason = _options(one, choices, api, window, sources)
        wanted = given.get(name)
        chosen = tuple([wanted] if isinstance(wanted, str) else wanted or ()) if wanted is not None else ()
        choices[name] = Choice(
            name=name,
            label=str(one.get("label") or name),
            kind=str(one.get("type", "")),
            options=options,
            chosen=_chosen(one, options, tuple(ALL if value in ("All", ALL) else value for value in chosen)),
            multi=bool(one.get("multi")),
            all=bool(one.get("includeAll")),
            all_value=str(one.get("allValue") or ""),
            hidden=int(one.get("hide") or 0) == 2,
            texts=texts,
            reason=reason,
        )
    return choices


def _chosen(raw: Json, options: tuple[str, ...], given: tuple[str, ...]) -> tuple[str, ...]:
    everything = bool(raw.get("includeAll"))
    if given:
        # What a link asks for counts, even where no sample has it now.
        return (ALL,) if ALL in given else given if raw.get("multi") else given[:1]
    current = (raw.get("current") or {}).get("value")
    before = tuple(str(value) for value in (current if isinstance(current, list) else [current] if current else []))
    if ALL in before and everything:
        return (ALL,)
    kept = tuple(value for value in before if value in options)
    if kept:
        return kept if raw.get("multi") else kept[:1]
    return (ALL,) if everything else _first(options)


def _first(options: tuple[str, ...]) -> tuple[str, ...]:
    """What a reader sees who has chosen nothing: the page that the course is about, where it is among the options.

    Grafana takes the first by letter, which in a mesh is now a host that somebody asked for, now the control plane.
    """

    def distance(option: str) -> int:
        name = re.split(r"[.-]", option, maxsplit=1)[0]
        here = option == _SHOP or f".{_SHOP}." in option
        return 0 if name == _PAGE and here else 1 if name == _PAGE else 2 if here else 3

    return tuple(sorted(options, key=distance)[:1])


def _options(
    raw: Json, choices: Choices, api: Api, window: Window, sources: Mapping[str, str]
) -> tuple[tuple[str, ...], dict[str, str], str]:
    kind = raw.get("type", "")
    text = raw.get("query")
    text = (
        str((text or {}).get("query") or (text or {}).get("expr") or "") if isinstance(text, dict) else str(text or "")
    )
    if kind == "query":
        try:
            found = _asked(choices.expand(text, macros(window, 15.0, 15.0)), api, window)
        except ClusterError as error:
            return (), {}, error.message
        return _picked(found, str(raw.get("regex") or ""), int(raw.get("sort") or 0))
    if kind == "datasource":
        return tuple(name for name, type_ in sources.items() if type_ == text) or ("default",), {}, ""
    if kind in ("custom", "interval"):
        pairs = [part.strip().partition(" : ") for part in re.split(r"(?<!\\),", text) if part.strip()]
        values = [(value.strip() if colon else shown).replace("\\,", ",") for shown, colon, value in pairs]
        return tuple(values), {value: pair[0] for value, pair in zip(values, pairs, strict=True) if pair[1]}, ""
    return ((text,) if text else ()), {}, ""


def _asked(text: str, api: Api, window: Window) -> list[str]:
    match = _QUERY.match(text)
    if not match:
        return _series(api, text, window) if text.strip() else []
    function, inside = match[1], match[2].strip()
    times = [("start", f"{window.start:.3f}"), ("end", f"{window.end:.3f}")]
    if function == "query_result":
        return [_line(sample.labels, sample.points[-1]) for sample in api.query(inside, window.end)]
    if function == "label_names":
        return sorted(api.get("labels", times))
    if function == "metrics":
        pattern = re.compile(slashed(inside))
        return [name for name in sorted(api.get("label/__name__/values", times)) if pattern.search(name)]
    selector, _, label = inside.rpartition(",")
    given = [*times, ("match[]", selector.strip())] if selector.strip() else times
    return list(api.get(f"label/{label.strip()}/values", given))


def _series(api: Api, selector: str, window: Window) -> list[str]:
    given = [("match[]", selector), ("start", f"{window.start:.3f}"), ("end", f"{window.end:.3f}")]
    return [_line(labels, None).rstrip() for labels in api.get("series", given)]


def _line(labels: Mapping[str, str], point: tuple[float, float | None] | None) -> str:
    """A series as Grafana writes it before it applies a variable's regex."""
    inner = ",".join(f'{name}="{value}"' for name, value in labels.items() if name != "__name__")
    end = f" {point[1]} {round(point[0] * 1000)}" if point else ""
    return f"{labels.get('__name__', '')}{{{inner}}}{end}"


def _picked(found: list[str], regex: str, sort: int) -> tuple[tuple[str, ...], dict[str, str], str]:
    texts: dict[str, str] = {}
    if not regex:
        values = list(dict.fromkeys(value for value in found if value))
        return tuple(_sorted(values, sort)), texts, "" if values else "Prometheus has no such series yet"
    try:
        pattern = re.compile(slashed(regex))
    except re.error as error:
        return (), {}, f"its regex {regex} cannot be read: {error}"
    values = []
    for line in found:
        match = pattern.search(line)
        if match is None:
            continue
        named = match.groupdict()
        value = named.get("value") or named.get("text") or (match[1] if match.re.groups else match[0])
        if value:
            values.append(value)
            if named.get("text") and named["text"] != value:
                texts[value] = str(named["text"])
    values = list(dict.fromkeys(values))
    return tuple(_sorted(values, sort)), texts, "" if values else "Prometheus has no such series yet"


def _sorted(values: list[str], sort: int) -> list[str]:
    def amount(value: str) -> float:
        digits = re.search(r"-?\d+(?:\.\d+)?", value)
        return float(digits[0]) if digits else -1.0

    keys: dict[int, Callable[[str], Any]] = {1: str, 2: amount, 3: str.lower}
    # 1 and 2 are by letter, 3 and 4 by number, 5 and 6 by letter whatever its case; even ones fall.
    key = keys.get((sort + 1) // 2)
    return sorted(values, key=key, reverse=sort % 2 == 0) if key else values
