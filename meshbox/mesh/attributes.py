# SPDX-License-Identifier: Apache-2.0
"""Expressions over a request's attributes (CEL), as Telemetry objects have them: what an Envoy is given for them."""

from __future__ import annotations

import functools
import json
import re
import sys
from typing import Any

from meshbox.images.proxy.constants import UNKNOWN_VARIABLE

__all__ = ["first", "parse_problem", "value_format"]

_TIMES = "Date DayOfMonth DayOfWeek DayOfYear FullYear Hours Milliseconds Minutes Month Seconds"
_OPERANDS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("contains", "endsWith", "matches", "startsWith"), (2,)),
    **dict.fromkeys(("double", "duration", "dyn", "has", "int", "size", "timestamp", "type", "uint"), (1,)),
    **{f"get{part}": (1, 2) for part in _TIMES.split()},
}
"""Functions that an Envoy knows, and of how many operands; another one would cost the proxy its whole listener."""

_KEPT = 256


Calls = frozenset[tuple[str, int]]
"""Functions that an expression calls, each with its number of operands."""


def value_format(expression: str) -> str:
    """A log format with the value of an expression, "unknown" where a request has none.

    Args:
        expression: CEL. `string(…)` around the whole is left out, as each value is written as a text anyhow.

    Returns:
        The format; "" for an expression that no Envoy can read.
    """
    whole = re.fullmatch(r"\s*string\((.*)\)\s*", expression, re.DOTALL)
    inner = whole[1] if whole and not parse_problem(whole[1]) else expression
    found = _parsed(inner)
    if isinstance(found, str) or any(count not in _OPERANDS.get(name, ()) for name, count in found):
        return ""
    return first(("CEL", inner), ("ENVIRONMENT", UNKNOWN_VARIABLE))


def first(*asked: tuple[str, str]) -> str:
    """A log format with the first value there is.

    Args:
        asked: Envoy's log operators, each with its parameter; "" for one without.
    """
    operators = [{"command": command, **({"param": parameter} if parameter else {})} for command, parameter in asked]
    return f"%COALESCE({json.dumps({'operators': operators}, separators=(',', ':'))})%"


def parse_problem(expression: str) -> str:
    """Why an expression is no CEL; "" where it is."""
    found = _parsed(expression)
    return found if isinstance(found, str) else ""


@functools.lru_cache(maxsize=_KEPT)
def _parsed(expression: str) -> Calls | str:
    """What is called, or why it cannot be read."""
    # Half a second of CPU, which a mesh without such an expression does without.
    import celpy
    from celpy.celparser import CELParseError

    limit = sys.getrecursionlimit()
    try:
        tree = celpy.Environment().compile(expression)
    except (CELParseError, RecursionError) as error:
        return " ".join(str(error.args[0] if error.args else error).split())
    finally:
        # It raises the limit for the whole process.
        sys.setrecursionlimit(limit)
    calls: set[tuple[str, int]] = set()
    for kind, before in (("ident_arg", 0), ("dot_ident_arg", 0), ("member_dot_arg", 1)):
        for call in tree.find_data(kind):
            given = call.children[before + 1].children if len(call.children) > before + 1 else []
            name = str(call.children[before])
            if name == "has" and not (len(given) == 1 and _selects(given[0])):
                return "invalid argument to has() macro: it takes a field, as in has(request.headers.cookie)"
            calls.add((name, before + len(given)))
    return frozenset(calls)


def _selects(tree: Any) -> bool:
    """Whether an expression is a field of something, and nothing else."""
    while len(tree.children) == 1 and hasattr(tree.children[0], "children"):
        tree = tree.children[0]
    return str(tree.data) == "member_dot"
