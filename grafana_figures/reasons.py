# SPDX-License-Identifier: Apache-2.0
"""Why a PromQL expression returns nothing: which of its parts is the reason, as Prometheus has them now.

Not every part without an answer is one. `a or b` is empty only where both are, a sum of two only needs one that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import promql_parser as promql

from grafana_figures.expressions import inside, parsed

__all__ = ["Cause", "causes"]

_COMPARED = {"==": "equal to", "!=": "other than", ">": "above", "<": "below", ">=": "at least", "<=": "at most"}
_SETS = {"and", "or", "unless"}

Cause = promql.VectorSelector | str
"""A selector that nothing answers, or a sentence."""


def causes(expression: str, empty: Callable[[str], bool]) -> list[Cause]:
    """What makes an expression empty, in its order.

    Args:
        expression: PromQL that returns nothing.
        empty: Whether PromQL that asks for a part of it returns nothing at the same moment; asks Prometheus.

    Returns:
        Selectors whose answer is missing; sentences for parts whose own parts all have answers.

    Raises:
        SettingError: it cannot be read.
        ClusterError: Prometheus does not answer.
    """
    return list(dict.fromkeys(_causes(parsed(expression), empty)))


def _causes(node: promql.Expr, empty: Callable[[str], bool]) -> Iterator[Cause]:
    """The causes of a part that is empty."""
    match node:
        case promql.VectorSelector():
            yield node
        case promql.MatrixSelector():
            yield node.vector_selector
        case promql.Call() if node.func.name in ("absent", "absent_over_time"):
            yield f"{node.prettify()} has an answer only where {_text(node.args[0])} has none, which is there"
        case promql.BinaryExpr():
            yield from _of_two(node, empty)
        case _:
            parts = [part for part in inside(node) if _can_be_empty(part)]
            found = [cause for part in parts if empty(_probe(part)) for cause in _causes(part, empty)]
            # Where all parts have answers it is this one: a rate of less than two samples.
            yield from found or [cause for part in parts for cause in _selectors(part)]


def _of_two(both: promql.BinaryExpr, empty: Callable[[str], bool]) -> Iterator[Cause]:
    sign = str(both.op)
    sides = [side for side in (both.lhs, both.rhs) if _can_be_empty(side)]
    needed = sides[:1] if sign == "unless" else sides
    found = [cause for side in needed if empty(_probe(side)) for cause in _causes(side, empty)]
    if found:
        yield from found
    elif sign == "unless":
        yield f"each series of {_text(both.lhs)} is in {_text(both.rhs)} as well"
    elif sign in _COMPARED and len(sides) == 1:
        other = both.rhs if sides[0] is both.lhs else both.lhs
        if sides[0] is both.lhs:
            yield f"no value of {_text(both.lhs)} is {_COMPARED[sign]} {_text(other)}"
        else:
            yield f"for no value of {_text(both.rhs)} it holds that {_text(both.lhs)} {sign} it"
    elif sign in _COMPARED:
        yield f"no two series with the same labels, one of {_text(both.lhs)} and one of {_text(both.rhs)}, compare so"
    else:
        yield f"no series of {_text(both.lhs)} has the labels of one of {_text(both.rhs)}"


def _can_be_empty(node: promql.Expr) -> bool:
    """Whether a part is made of series, and not of numbers and texts alone."""
    return any(True for _ in _selectors(node))


def _selectors(node: promql.Expr) -> Iterator[promql.VectorSelector]:
    ahead = [node]
    while ahead:
        one = ahead.pop()
        if isinstance(one, promql.VectorSelector):
            yield one
        ahead += reversed(inside(one))


def _probe(node: promql.Expr) -> str:
    """An expression that has an answer where the part has one, and a short one where that can be."""
    if isinstance(node, promql.VectorSelector):
        return f"count({_text(node)})"
    if isinstance(node, promql.MatrixSelector | promql.SubqueryExpr):
        return f"count_over_time({_text(node)})"
    return _text(node)


def _text(node: promql.Expr) -> str:
    """A part as PromQL on one line."""
    return " ".join(str(node.prettify()).split())
