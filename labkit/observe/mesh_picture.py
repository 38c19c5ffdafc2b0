# SPDX-License-Identifier: Apache-2.0
"""The map of a mesh as a picture: SVG that follows JupyterLab's theme, and the same in words."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from labkit.display import Rich, marked
from labkit.observe.flows import OUTSIDE, Call
from labkit.observe.layout import places
from labkit.observe.looks import BAD, DEGRADED, GOOD, TCP

__all__ = ["Box", "Row", "draw", "label", "spoken"]

_WIDE, _GAP, _APART, _EDGE = 224, 126, 22, 12
_HEAD, _LINE, _RULE, _SAID = 28, 26, 15, 30
_LETTERS = 38
"""Letters that fit into a box, of rules' size."""

_LONE = 3
"""Boxes in a line, of those that nobody calls and that call nobody."""

_STYLE = Path(__file__).with_name("mesh_picture.css").read_text()


@dataclass(frozen=True)
class Row:
    """A workload in a box.

    Args:
        workload: Its name.
        rules: What bears on it, "AuthorizationPolicy deny-all".
    """

    workload: str
    rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Box:
    """A Service with its workloads; or a workload that no Service of the namespace has.

    Args:
        name: What stands above it.
        rows: Its workloads.
        rules: What bears on its calls.
        here: Whether it is of the namespace that is shown.
    """

    name: str
    rows: tuple[Row, ...]
    rules: tuple[str, ...] = ()
    here: bool = True

    @property
    def height(self) -> int:
        """In pixels."""
        return _HEAD + _RULE * len(self.rules) + sum(_LINE + _RULE * len(row.rules) for row in self.rows) + 6

    def middle(self, workload: str) -> float:
        """How far below the top the line of a workload begins; of none that it has, the head."""
        down = _HEAD + _RULE * len(self.rules)
        for row in self.rows:
            if row.workload == workload:
                return down + _LINE / 2
            down += _LINE + _RULE * len(row.rules)
        return _HEAD / 2


@dataclass
class _Edge:
    """All that one workload sends to a Service."""

    source: str
    caller: str
    target: str
    total: Call = field(repr=False)


def label(call: Call) -> str:
    """How much, how it is secured, and how well it goes: "4.9/s · mTLS · ✘ 25 % 503"."""
    return " · ".join(_words(call))


def _words(call: Call) -> list[str]:
    """Two lines at most."""
    secured = "" if call.mutual_tls is None else " · mTLS" if call.mutual_tls else " · plain text"
    found = [f"{_amount(call)}{secured}"]
    if call.codes:
        worst = max(call.codes, key=lambda code: call.codes[code])
        found.append(f"✘ {100 * call.errors:.0f} % {'no answer' if worst == '0' else worst}")
    return found


def spoken(boxes: list[Box], calls: list[Call]) -> list[str]:
    """The picture in words, a line a box and a line a call."""
    said = []
    for box in boxes:
        lines = [f"{row.workload}{_listed(row.rules)}" for row in box.rows]
        said.append(f"{box.name}{_listed(box.rules)}: {', '.join(lines)}")
    for call in calls:
        to = f"{call.service} ({call.workload})" if call.workload != OUTSIDE else f"{call.service} (nobody reached)"
        said.append(f"{_who(call.caller)} → {to}: {label(call)}")
    return said


def draw(boxes: list[Box], calls: list[Call], known: set[tuple[str, str]], sentence: str, *, moving: bool) -> Rich:
    """The picture, with a sentence below it.

    Args:
        boxes: What is shown; names are unique.
        calls: The calls between them.
        known: Pairs of boxes that are laid out as if one called the other; those that call are added.
        sentence: What there is to say of it as a whole.
        moving: Whether traffic moves along its edges; a still picture says the same.
    """
    edges = list(_edges(boxes, calls))
    known |= {(edge.source, edge.target) for edge in edges}
    pairs = sorted(pair for pair in known if {*pair} <= {box.name for box in boxes})
    corners, wide, tall = _corners(boxes, pairs)
    parts = [_edge(edge, boxes, corners, edges, moving) for edge in edges]
    parts += [_box(box, corners[box.name], calls) for box in boxes]
    parts += [_said(edge, boxes, corners, edges) for edge in edges]
    words = spoken(boxes, calls)
    name = html.escape(". ".join(("Map of the mesh", *words)), quote=True)
    svg = (
        f'<svg class="labkit-mesh" role="img" aria-label="{name}" viewBox="0 0 {wide:g} {tall:g}" width="{wide:g}" '
        f'style="max-width:100%;height:auto" xmlns="http://www.w3.org/2000/svg"><style>{_STYLE}</style>'
        f"{''.join(parts)}</svg>"
    )
    below = f'<div style="white-space:pre-line">{marked(sentence)}</div>'
    return Rich(f"<div>{svg}{below}</div>", "\n".join((*words, sentence)))


def _edges(boxes: list[Box], calls: list[Call]) -> Iterator[_Edge]:
    home = {row.workload: box.name for box in reversed(boxes) for row in box.rows}
    names = {box.name for box in boxes}
    together: dict[tuple[str, str, str], _Edge] = {}
    for call in calls:
        source, key = home.get(call.caller, call.caller), (call.caller, call.service, call.protocol)
        if source not in names or call.service not in names:
            continue
        empty = Call(call.caller, call.caller_namespace, call.service, "", call.protocol)
        total = together.setdefault(key, _Edge(source, call.caller, call.service, empty)).total
        total.rate, total.told, total.secured = (
            total.rate + call.rate,
            total.told + call.told,
            total.secured + call.secured,
        )
        for code, rate in call.codes.items():
            total.codes[code] = total.codes.get(code, 0.0) + rate
    return iter(together.values())


def _corners(boxes: list[Box], pairs: list[tuple[str, str]]) -> tuple[dict[str, tuple[float, float]], float, float]:
    """The upper left corner of each box, and the size of the whole."""
    tied = {name for pair in pairs for name in pair}
    at = places([box.name for box in boxes if box.name in tied], pairs)
    columns: dict[float, list[Box]] = {}
    for box in sorted((box for box in boxes if box.name in tied), key=lambda box: -at[box.name][1]):
        columns.setdefault(at[box.name][0], []).append(box)
    heights = {number: sum(box.height + _APART for box in column) for number, column in columns.items()}
    tall, found = max(heights.values(), default=0), {}
    for number, column in columns.items():
        down = _EDGE + (tall - heights[number]) / 2
        for box in column:
            found[box.name] = _EDGE + number * (_WIDE + _GAP), down
            down += box.height + _APART
    down, lone = _EDGE + tall, [box for box in boxes if box.name not in tied]
    for first in range(0, len(lone), _LONE):
        line = lone[first : first + _LONE]
        for number, box in enumerate(line):
            found[box.name] = _EDGE + number * (_WIDE + _APART), down
        down += max(box.height for box in line) + _APART
    right = max((x for x, _ in found.values()), default=0.0)
    return found, right + _WIDE + _EDGE, max(down, 60.0)


def _path(edge: _Edge, boxes: list[Box], corners: dict[str, tuple[float, float]]) -> tuple[list[float], list[float]]:
    """The four points of the curve."""
    by_name = {box.name: box for box in boxes}
    x0, y0 = corners[edge.source]
    x3, y3 = corners[edge.target]
    y0, y3, x0 = y0 + by_name[edge.source].middle(edge.caller), y3 + _HEAD / 2, x0 + _WIDE
    bend = max(_GAP / 2, abs(x3 - x0) / 2)
    return [x0, x0 + bend, x3 - bend, x3 - 9], [y0, y0, y3, y3]


def _colour(call: Call) -> str:
    if call.codes:
        return BAD if call.errors >= 0.1 else DEGRADED
    return TCP if call.protocol == "tcp" else GOOD


def _edge(
    edge: _Edge, boxes: list[Box], corners: dict[str, tuple[float, float]], edges: list[_Edge], moving: bool
) -> str:
    x, y = _path(edge, boxes, corners)
    call, most = edge.total, max(one.total.rate for one in edges if one.total.protocol == edge.total.protocol)
    thick, colour = 1.8 + 3.2 * math.sqrt(call.rate / most), _colour(edge.total)
    curve = f"M{x[0]:g} {y[0]:g} C{x[1]:g} {y[1]:g} {x[2]:g} {y[2]:g} {x[3]:g} {y[3]:g}"
    # Not by colour alone: what fails is a broken line.
    dash = ' stroke-dasharray="9 5"' if call.codes else ""
    line = f'<path d="{curve}" fill="none" stroke="{colour}" stroke-width="{thick:.1f}"{dash}/>'
    # Whole rounds between two pictures, so that it does not jump when one takes the place of the other.
    rounds = max(1, min(6, round(1 + 2 * math.log10(max(call.rate, 0.1) * 10)))) if call.protocol == "http" else 3
    # And no further than a picture or two: where none comes any more, it stands still.
    pace = f"animation-duration:{2 / rounds:.3f}s;animation-iteration-count:{3 * rounds}"
    flow = f'<path class="flow" d="{curve}" style="{pace}"/>' if moving else ""
    tip = f'<path d="M{x[3] + 9:g} {y[3]:g} l-11 -5.5 v11 z" fill="{colour}"/>'
    told = html.escape(f"{_who(edge.caller)} → {edge.target}: {label(call)}")
    return f"<g><title>{told}</title>{line}{flow}{tip}</g>"


def _said(edge: _Edge, boxes: list[Box], corners: dict[str, tuple[float, float]], edges: list[_Edge]) -> str:
    """The words at an edge: where it is alone, near its caller or near whom it calls."""
    several = sum((one.source, one.caller) == (edge.source, edge.caller) for one in edges) > 1
    beside = [one for one in edges if (one.source, one.target) == (edge.source, edge.target)]
    part = 0.5 if len(beside) > 1 else 0.66 if several else 0.34
    weights = (1 - part) ** 3, 3 * part * (1 - part) ** 2, 3 * part**2 * (1 - part), part**3
    points = [
        [sum(w * p for w, p in zip(weights, line, strict=True)) for line in _path(one, boxes, corners)]
        for one in beside
    ]
    across = points[0][0]
    # From one box to another lines are close: their words stand in the same order, one below the other.
    down = sum(y for _, y in points) / len(points) + _SAID * (beside.index(edge) - (len(beside) - 1) / 2)
    told = enumerate(map(html.escape, _words(edge.total)))
    middle = f'class="said" x="{across:g}" text-anchor="middle"'
    return "".join(f'<text {middle} y="{down - 6 + 14 * number:g}">{words}</text>' for number, words in told)


def _box(box: Box, corner: tuple[float, float], calls: list[Call]) -> str:
    x, y = corner
    away = "" if box.here else " away"
    parts = [f'<rect class="box{away}" x="{x:g}" y="{y:g}" width="{_WIDE}" height="{box.height}" rx="6"/>']
    parts.append(_text(_who(box.name), x + 10, y + 19, "name", 26))
    down = y + _HEAD
    for rule in box.rules:
        parts.append(_text(rule, x + 10, down + 8, "rule"))
        down += _RULE
    answered = {row.workload: _answered(box.name, row.workload, calls) for row in box.rows}
    total = sum(one.rate for one in answered.values())
    for row in box.rows:
        one = answered[row.workload]
        parts.append(f'<line x1="{x:g}" x2="{x + _WIDE:g}" y1="{down:g}" y2="{down:g}" class="between"/>')
        if row.workload != box.name or one.rate:
            parts.append(
                _text("nobody was reached" if row.workload == OUTSIDE else row.workload, x + 10, down + 16, "", 20)
            )
        if one.rate:
            part = one.rate / total
            share = f" · {100 * part:.0f} %" if len(box.rows) > 1 else ""
            words = label(one) if one.codes else f"{_amount(one)}{share}"
            parts.append(f'<text x="{x + _WIDE - 8:g}" y="{down + 16:g}" text-anchor="end">{html.escape(words)}</text>')
            bar = f'y="{down + 20:g}" width="{part * (_WIDE - 20):.1f}" height="3" fill="{_colour(one)}"'
            parts.append(f'<rect x="{x + 10:g}" {bar}/>')
        down += _LINE
        for rule in row.rules:
            parts.append(_text(rule, x + 10, down + 10, "rule"))
            down += _RULE
    return f"<g>{''.join(parts)}</g>"


def _answered(service: str, workload: str, calls: list[Call]) -> Call:
    """All that a workload answered as this Service."""
    found = Call("", "", service, workload, "http")
    for call in calls:
        if (call.service, call.workload) == (service, workload):
            found.rate, found.protocol = found.rate + call.rate, call.protocol
            for code, rate in call.codes.items():
                found.codes[code] = found.codes.get(code, 0.0) + rate
    return found


def _text(words: str, x: float, y: float, kind: str, most: int = _LETTERS) -> str:
    shown = words if len(words) <= most else words[: most - 1] + "…"
    whole = f"<title>{html.escape(words)}</title>" if shown != words else ""
    about = f' class="{kind}"' if kind else ""
    return f'<text{about} x="{x:g}" y="{y:g}">{whole}{html.escape(shown)}</text>'


def _who(name: str) -> str:
    return "outside the mesh" if name == OUTSIDE else name


def _listed(rules: tuple[str, ...]) -> str:
    return f" [{', '.join(rules)}]" if rules else ""


def _amount(call: Call) -> str:
    if call.protocol == "http":
        return f"{call.rate:.1f}/s" if call.rate >= 0.095 else f"{call.rate:.2f}/s"
    return f"{call.rate / 1000:.1f} kB/s" if call.rate >= 1000 else f"{call.rate:.0f} B/s"
