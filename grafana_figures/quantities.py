# SPDX-License-Identifier: Apache-2.0
"""What the numbers of a PromQL expression measure: its unit, from its metrics' names and from what is done to them.

Prometheus itself knows no units; its naming convention puts them last in a metric's name, before what the metric is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import promql_parser as promql

from grafana_figures.expressions import parsed
from labkit.ground.errors import SettingError

__all__ = ["unit_of"]

_KIND = re.compile(r"_(total|count|sum|bucket|created)$")
_NAMED = re.compile(r"_(milliseconds|seconds|ms|bytes|ratio|percent)$")
_UNITS = {"milliseconds": "ms", "seconds": "s", "ms": "ms", "bytes": "bytes", "ratio": "", "percent": "%"}
_PLAIN_TIMES = (
    (re.compile(r"envoy_\w+_time$"), "ms"),
    (re.compile(r"pilot_(xds_push|xds_send|proxy_convergence|proxy_queue)_time$"), "s"),
)
"""Histograms of Envoy's and of istiod's, whose names do not say in which unit they are."""

_REQUESTS = re.compile(r"istio_(requests|request_\w+|response_\w+)$")

_PER_SECOND = {"rate", "irate", "deriv"}
_OF_OBSERVATIONS = {"histogram_quantile", "histogram_avg", "histogram_sum", "histogram_stddev"}
_NUMBERS = {
    *("absent", "absent_over_time", "changes", "count_over_time", "histogram_count", "histogram_fraction"),
    *("histogram_stdvar", "present_over_time", "resets", "sgn", "stdvar_over_time", "vector"),
    *("acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "deg", "exp", "ln", "log10", "log2", "pi"),
    *("rad", "sin", "sinh", "sqrt", "tan", "tanh"),
    *("day_of_month", "day_of_week", "day_of_year", "days_in_month", "hour", "minute", "month", "year"),
}
_MOMENTS = {"time", "timestamp"}
_COUNTS = {"count", "count_values", "group", "stdvar"}
_COMPARED = {"==", "!=", ">", "<", ">=", "<="}
_LAST_ARGUMENT = {"quantile_over_time"}
_SCALED = {
    ("s", 1000.0): "ms",
    ("ms", 0.001): "s",
    ("", 100.0): "%",
    **{("bytes", 1024.0**-power): f"{prefix}iB" for power, prefix in enumerate("KMG", 1)},
    **{("bytes", 1000.0**-power): f"{prefix}B" for power, prefix in enumerate("kMG", 1)},
    **{(f"{small}iB", 1 / 1024): f"{large}iB" for small, large in ("KM", "MG")},
    **{(f"{small}B", 1 / 1000): f"{large}B" for small, large in ("kM", "MG")},
}
"""A unit and a factor, and in which unit the product is."""


@dataclass(frozen=True)
class _Quantity:
    """What a number measures.

    Args:
        of: Its unit; "" for none, or if unclear.
        counted: What a counter counts that has no unit: "requests", "events"; "" for what is no counter.
        each: Unit of a single observation, for what is made of a histogram or a summary.
        per: "s" or "min" for a rate.
        ratio: Whether it is one of like by like.
        number: The number itself, where it is written as such.
    """

    of: str = ""
    counted: str = ""
    each: str = ""
    per: str = ""
    ratio: bool = False
    number: float | None = None

    @property
    def written(self) -> str:
        if not self.per:
            return self.of
        return f"{self.of or self.counted or 'events'}/{self.per}"


_PLAIN = _Quantity()


def unit_of(expression: str) -> str:
    """The unit of what `expression` returns: "ms", "s", "bytes", "requests", "…/s", "%" …; "" for none, or if unclear.

    What counts observations (`…_count`, `…_bucket`) has no unit, nor have numbers of series or a comparison's 0 and 1.
    """
    try:
        return _quantity(parsed(expression)).written
    except (SettingError, RecursionError):
        return ""


def _of_metric(name: str) -> _Quantity:
    if ":" in name:
        # A recording rule says what it is in words of its author's.
        return _PLAIN
    kind = _KIND.search(name)
    base = name[: kind.start()] if kind else name
    found = _NAMED.search(base)
    unit = _UNITS[found[1]] if found else next((unit for known, unit in _PLAIN_TIMES if known.search(base)), "")
    counted = "requests" if _REQUESTS.match(base) else "events"
    if kind is None:
        return _Quantity(unit, each=unit)
    if kind[1] == "created":
        return _Quantity("s")
    if kind[1] in ("count", "bucket"):
        return _Quantity(counted=counted, each=unit)
    if base == "istio_requests":
        return _Quantity("requests", counted)
    return _Quantity(unit, "" if unit else counted, unit)


def _quantity(node: promql.Expr) -> _Quantity:
    match node:
        case promql.VectorSelector():
            return _of_metric(_name(node))
        case promql.MatrixSelector():
            return _of_metric(_name(node.vector_selector))
        case promql.NumberLiteral():
            return _Quantity(number=float(node.val))
        case promql.ParenExpr() | promql.SubqueryExpr():
            return _quantity(node.expr)
        case promql.UnaryExpr():
            inner = _quantity(node.expr)
            return inner if inner.number is None else replace(inner, number=-inner.number)
        case promql.AggregateExpr():
            return _PLAIN if str(node.op) in _COUNTS else _quantity(node.expr)
        case promql.Call():
            return _of_call(node)
        case promql.BinaryExpr():
            return _of_two(node)
    return _PLAIN


def _name(selector: promql.VectorSelector) -> str:
    named = [one.value for one in selector.matchers.matchers if one.name == "__name__"]
    return str(selector.name or (named[0] if len(named) == 1 else ""))


def _of_call(call: promql.Call) -> _Quantity:
    name, arguments = call.func.name, list(call.args)
    if name in _MOMENTS:
        return _Quantity("s")
    if name in _NUMBERS or not arguments:
        return _PLAIN
    inner = _quantity(arguments[-1 if name in _OF_OBSERVATIONS | _LAST_ARGUMENT else 0])
    if name in _PER_SECOND:
        return replace(inner, per="s")
    if name in _OF_OBSERVATIONS:
        return _Quantity(inner.each)
    return replace(inner, number=None)


def _of_two(both: promql.BinaryExpr) -> _Quantity:
    sign = str(both.op)
    left, right = _quantity(both.lhs), _quantity(both.rhs)
    if sign in _COMPARED:
        if both.modifier is not None and both.modifier.return_bool:
            return _PLAIN
        # Of a number and a vector, the vector's samples stay.
        return right if left.number is not None else left
    if sign in ("and", "unless", "%"):
        return left
    if sign in ("+", "-", "or"):
        if left.number is not None and right.number is not None:
            return _PLAIN
        if _PLAIN in (left, right) or left.number is not None or right.number is not None:
            return left if left != _PLAIN and left.number is None else right
        return left if left.written == right.written else _PLAIN
    if sign == "*":
        return _scaled(left, right.number) if right.number is not None else _scaled(right, left.number)
    if sign == "/":
        return _quotient(left, right)
    if sign == "^" and left.number is not None and right.number is not None:
        return _Quantity(number=float(left.number**right.number))
    return _PLAIN


def _scaled(what: _Quantity, factor: float | None) -> _Quantity:
    """`what`, times a number that is written in the expression."""
    if factor is None:
        return _PLAIN
    if what.number is not None:
        return _Quantity(number=what.number * factor)
    if what.per == "s" and factor == 60:
        return replace(what, per="min")
    known = _SCALED.get((what.of, factor))
    if known is None or (not what.of and not what.ratio):
        # Twice as many bytes are bytes.
        return what
    return _Quantity(known, per=what.per)


def _quotient(left: _Quantity, right: _Quantity) -> _Quantity:
    if right.number is not None:
        if left.number is not None or not right.number:
            return _PLAIN
        return _scaled(left, 1 / right.number)
    if left.per == right.per and right.counted and (left.of or left.counted):
        # Seconds a second by requests a second: the mean of a request.
        same = left.of == right.of and (left.of or left.counted == right.counted)
        return _Quantity(ratio=True) if same or not left.of or left.of == "requests" else _Quantity(left.of)
    if left.written and left.written == right.written:
        return _Quantity(ratio=True)
    if left.of and not left.per and right.of == "s" and not right.per:
        return replace(left, per="s")
    return _PLAIN
