# SPDX-License-Identifier: Apache-2.0
"""What a PromQL expression asks for, as a parser of PromQL sees it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import promql_parser as promql

from labkit.ground.errors import SettingError

__all__ = ["inside", "nodes", "parsed", "selector_of", "selectors", "written"]

Matcher = tuple[str, str, str]
"""Label, operator ("=", "!=", "=~", "!~") and value, without quotes and escapes."""

_MOST = 1000
"""Words and signs of an expression. The parser's time grows with the square of its depth: this many take 0.5 s."""

_TEXT = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\#[^\n]*)|`([^`]*)`""")
_PIECE = re.compile(r"\w+|[^\w\s]")
_PLAIN = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def parsed(expression: str) -> promql.Expr:
    """An expression as the parser has it.

    Raises:
        SettingError: it cannot be read; Prometheus itself may know more of PromQL.
    """
    bare = _TEXT.sub(" s ", expression)
    if sum(1 for _ in _PIECE.finditer(bare)) > _MOST:
        raise SettingError(f"a PromQL expression of more than {_MOST} words and signs is not looked into")
    # The parser looks for escapes between backticks, where there are none.
    plain = _TEXT.sub(lambda found: found[1] or json.dumps(found[2], ensure_ascii=False), expression)
    try:
        return promql.parse(plain)
    except ValueError as error:
        raise SettingError(
            f"{expression} cannot be read as PromQL: {error}", next_step="Prometheus' own page shows where it is wrong"
        ) from None


def nodes(expression: str) -> Iterator[promql.Expr]:
    """The parts of an expression, each before those inside it, in their order; raises as `parsed`."""
    ahead = [parsed(expression)]
    while ahead:
        node = ahead.pop()
        yield node
        # The parser's own walk copies what is below each part, at each.
        ahead += reversed(inside(node))


def inside(node: promql.Expr) -> list[promql.Expr]:
    """The parts that a part of an expression is made of."""
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
            yield selector_of(node)


def selector_of(node: promql.VectorSelector) -> tuple[str, list[Matcher]]:
    """Which metric a selector names, and its label matchers; "" where no single metric is named."""
    matchers = [(one.name, _operator(one.op), one.value) for one in node.matchers.matchers]
    names = [value for label, operator, value in matchers if (label, operator) == ("__name__", "=")]
    name = node.name or (names[0] if len(names) == 1 else "")
    return name, [one for one in matchers if not name or one != ("__name__", "=", name)]


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
