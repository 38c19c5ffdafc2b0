# SPDX-License-Identifier: Apache-2.0
"""What a PromQL expression asks for, as a parser of PromQL sees it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import promql_parser as promql

from labkit.ground.errors import SettingError

__all__ = ["nodes", "selectors", "unit_of", "written"]

Matcher = tuple[str, str, str]
"""Label, operator ("=", "!=", "=~", "!~") and value, without quotes and escapes."""

_MOST = 1000
"""Words and signs of an expression. The parser's time grows with the square of its depth: this many take 0.5 s."""

_TEXT = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\#[^\n]*)|`([^`]*)`""")
_PIECE = re.compile(r"\w+|[^\w\s]")
_PLAIN = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_UNITS = (("_milliseconds", "ms"), ("_seconds", "s"), ("_bytes", "bytes"))
_RATES = ("rate", "irate")


def nodes(expression: str) -> Iterator[promql.Expr]:
    """The parts of an expression, each before those inside it, in their order.

    Raises:
        SettingError: it cannot be read; Prometheus itself may know more of PromQL.
    """
    bare = _TEXT.sub(" s ", expression)
    if sum(1 for _ in _PIECE.finditer(bare)) > _MOST:
        raise SettingError(f"a PromQL expression of more than {_MOST} words and signs is not looked into")
    # The parser looks for escapes between backticks, where there are none.
    plain = _TEXT.sub(lambda found: found[1] or json.dumps(found[2], ensure_ascii=False), expression)
    try:
        ahead: list[promql.Expr] = [promql.parse(plain)]
    except ValueError as error:
        raise SettingError(
            f"{expression} cannot be read as PromQL: {error}", next_step="Prometheus' own page shows where it is wrong"
        ) from None
    while ahead:
        node = ahead.pop()
        yield node
        # The parser's own walk copies what is below each part, at each.
        ahead += reversed(_inside(node))


def _inside(node: promql.Expr) -> list[promql.Expr]:
    match node:
        case promql.BinaryExpr():
            return [node.lhs, node.rhs]
        case promql.AggregateExpr():
            return [*([node.param] if node.param is not None else []), node.expr]
        case promql.Call():
            return list(node.args)
        case promql.MatrixSelector():
            return [node.vector_selector]
        case promql.ParenExpr() | promql.SubqueryExpr() | promql.UnaryExpr():
            return [node.expr]
    return []


def selectors(expression: str) -> Iterator[tuple[str, list[Matcher]]]:
    """The metrics in `expression`, in their order, each with its label matchers; "" where no single metric is named.

    Raises:
        SettingError: as `nodes`.
    """
    for node in nodes(expression):
        if isinstance(node, promql.VectorSelector):
            matchers = [(one.name, _operator(one.op), one.value) for one in node.matchers.matchers]
            names = [value for label, operator, value in matchers if (label, operator) == ("__name__", "=")]
            name = node.name or (names[0] if len(names) == 1 else "")
            yield name, [one for one in matchers if not name or one != ("__name__", "=", name)]


def _operator(given: promql.MatchOp) -> str:
    for known, written in (
        (promql.MatchOp.Equal, "="),
        (promql.MatchOp.NotEqual, "!="),
        (promql.MatchOp.Re, "=~"),
    ):
        if given == known:
            return written
    return "!~"


def written(name: str, matchers: list[Matcher]) -> str:
    """The selector of a metric with these labels; `name` may be "" where there are matchers."""
    inside = ",".join(
        f"{label if _PLAIN.fullmatch(label) else json.dumps(label)}{operator}{json.dumps(value, ensure_ascii=False)}"
        for label, operator, value in matchers
    )
    if name and not _PLAIN.fullmatch(name):
        return f"{{{','.join(filter(None, (json.dumps(name, ensure_ascii=False), inside)))}}}"
    return f"{name}{{{inside}}}" if inside else name


def unit_of(expression: str) -> str:
    """The unit of what `expression` returns, read off its metrics' names: "ms", "s", "bytes", "…/s", or "" if unclear.

    Prometheus itself knows no units; its naming convention puts them last in a metric's name.
    """
    try:
        found = list(nodes(expression))
        names = [name for name, _ in selectors(expression)]
    except SettingError:
        return ""
    calls = {node.func.name for node in found if isinstance(node, promql.Call)}
    unit = next((unit for part, unit in _UNITS for name in names if part in name), "")
    if "histogram_quantile" in calls:
        return unit
    if any(isinstance(node, promql.BinaryExpr) and str(node.op) == "/" and _rates(node) for node in found):
        return ""
    if calls.intersection(_RATES):
        return f"{unit or ('requests' if any('_requests_total' in name for name in names) else 'events')}/s"
    return unit


def _rates(quotient: promql.BinaryExpr) -> bool:
    """Whether a rate is divided by a rate."""
    sides = []
    for side in (quotient.lhs, quotient.rhs):
        ahead, found = [side], False
        while ahead and not found:
            node = ahead.pop()
            found = isinstance(node, promql.Call) and node.func.name in _RATES
            ahead += _inside(node)
        sides.append(found)
    return all(sides)
