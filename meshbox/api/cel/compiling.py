# SPDX-License-Identifier: Apache-2.0
"""Whether a CEL expression compiles where certain names are known, in the words of cel-go."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from meshbox.api.cel import escaped
from meshbox.api.cel.reading import environment, only, parsed

__all__ = ["POLICY_NAMES", "RULE_NAMES", "compile_error", "type_of"]

POLICY_NAMES = frozenset({"object", "oldObject", "request", "authorizer"})
"""What conditions of webhooks know; admission policies know more."""
RULE_NAMES = frozenset({"self", "oldSelf"})
"""What rules of CustomResourceDefinitions know."""

_TYPES = frozenset(
    {"bool", "bytes", "double", "duration", "dyn", "int", "list", "map", "null_type", "string", "timestamp"}
)
_TYPES |= {"type", "uint", "optional", "google"}
_MACROS = frozenset({"all", "exists", "exists_one", "filter", "map", "transformList", "transformMap", "existsOne"})
_NEWER = re.compile(r"[?'\"`]")
_EXPRESSION = (
    "'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER"
)
"""What may begin an expression, as the grammar of cel-go lists it."""
_ALWAYS = frozenset({"apiVersion", "kind", "metadata"})
_UNPLAYED = frozenset(
    {"allowed", "check", "denied", "error", "errored", "fieldSelector", "group", "labelSelector", "name", "namespace"}
    | {"path", "reason", "resource", "serviceAccount", "sortBy", "subresource"}
)
"""Functions that the server knows and the sandbox does not."""
_TRUTHS = frozenset({"relation_lt", "relation_le", "relation_gt", "relation_ge", "relation_eq", "relation_ne"})
_GIVEN = {"bool": "bool", "double": "double", "int": "int", "size": "int", "string": "string", "type": "type"}
_GIVEN |= {"all": "bool", "contains": "bool", "endsWith": "bool", "exists": "bool", "has": "bool", "matches": "bool"}
_GIVEN |= {"join": "string", "lowerAscii": "string", "startsWith": "bool", "upperAscii": "string"}
"""What functions give, whatever they are given."""
_DYNAMIC = frozenset({"object", "oldObject", "params"})
"""Variables with fields of any type."""
_WORD = re.compile(r"\s*([A-Za-z_]\w*|\d+|\S)")


@functools.lru_cache(maxsize=512)
def compile_error(
    text: str, names: frozenset[str], fields: frozenset[str] | None = None, *, owner: str = "self"
) -> str:
    """Why an expression does not compile; "" where it does, or uses what nobody here knows.

    Args:
        text: The expression.
        names: The variables that it may use.
        fields: The fields of `owner`; None where it may have any.
        owner: A variable.
    """
    from celpy.celparser import CELParseError

    try:
        tree = parsed(text)
    except CELParseError as error:
        if _NEWER.search(text):
            # What cel-python does not read may be sound.
            return ""
        if _breaks_off(text):
            end = f"Syntax error: mismatched input '<EOF>' expecting {{{_EXPRESSION}}}"
            return _said(text, text.count("\n") + 1, len(text.split("\n")[-1]) + 1, end)
        line, column = int(error.line or 1), int(error.column or 1)
        word = _WORD.match(text.split("\n")[line - 1][column - 1 :]) if text else None
        return _said(
            text, line, column, f"Syntax error: mismatched input '{word[1] if word else '<EOF>'}' expecting <EOF>"
        )
    except RecursionError:
        return ""
    found = [
        (one.line, one.column, f"undeclared reference to '{one}' (in container '')")
        for one in _undeclared(tree, names | _TYPES)
    ]
    found += list(_strange_functions(tree, text))
    known = {escaped(name) for name in fields or ()} | (_ALWAYS if owner == "self" else set())
    for one in _fields(tree, owner) if fields is not None else ():
        if str(one) not in known:
            found.append((one.line, one.column - 1, f"undefined field '{one}'"))
    return "\n".join(_said(text, *one) for one in sorted(found))


def _breaks_off(text: str) -> bool:
    """Whether an expression would be one if only its last operand were there."""
    from celpy.celparser import CELParseError

    open_ones = [sign for sign in text if sign in "([{"]
    if len(open_ones) < sum(sign in ")]}" for sign in text):
        return False
    closed = "".join({"(": ")", "[": "]", "{": "}"}[sign] for sign in reversed(open_ones))
    try:
        environment().compile(f"{text} x{closed}")
    except (CELParseError, RecursionError):
        return False
    return True


def type_of(text: str) -> str:
    """The type of an expression (that compiles), as cel-go calls it; "" where nobody here knows."""
    from celpy.celparser import CELParseError

    try:
        tree = only(parsed(text))
    except (CELParseError, RecursionError):
        return ""
    if tree.data == "unary" and tree.children[0].data == "unary_not":
        return "bool"
    if tree.data == "relation" and tree.children[0].data in _TRUTHS | {"relation_in"}:
        return "bool"
    if tree.data in ("ident_arg", "member_dot_arg"):
        return _GIVEN.get(str(tree.children[0 if tree.data == "ident_arg" else 1]), "") or constant_type(text)
    if tree.data == "member_dot":
        base = tree
        while base.data != "ident" and base.children and hasattr(base.children[0], "data"):
            base = base.children[0]
        return "dyn" if base.data == "ident" and str(base.children[0]) in _DYNAMIC else ""
    return constant_type(text)


@functools.lru_cache(maxsize=512)
def constant_type(text: str) -> str:
    """The type of an expression (that compiles) in which nothing varies, as cel-go calls it; "" of any other."""
    from celpy import celtypes
    from celpy.celparser import CELParseError
    from celpy.evaluation import CELEvalError

    try:
        tree = parsed(text)
        if any(tree.find_data("ident")) or any(tree.find_data("ident_arg")):
            return ""
        value = environment().program(tree).evaluate({})
    except (CELParseError, CELEvalError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError):
        return ""
    names = (
        (celtypes.BoolType, "bool"),
        (celtypes.IntType, "int"),
        (celtypes.UintType, "uint"),
        (celtypes.DoubleType, "double"),
        (celtypes.StringType, "string"),
        (celtypes.BytesType, "bytes"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "")


def _strange_functions(tree: Any, text: str) -> Iterator[tuple[int, int, str]]:
    """Functions that nobody knows, and where their arguments begin."""
    from meshbox.api.cel.functions import unknown_functions

    strange = set(unknown_functions(tree)) - _UNPLAYED
    for kind, place in (("ident_arg", 0), ("member_dot_arg", 1)):
        for one in tree.find_data(kind):
            name = one.children[place]
            if str(name) in strange and name.line is not None:
                line = text.split("\n")[name.line - 1]
                said = f"undeclared reference to '{name}' (in container '')"
                yield name.line, line.find("(", name.column - 1) + 1, said


def _fields(tree: Any, owner: str) -> Iterator[Any]:
    """The fields of `owner` that an expression names."""
    for one in tree.find_data("member_dot"):
        base = only(one.children[0])
        if base.data == "ident" and str(base.children[0]) == owner:
            yield one.children[1]


def _said(text: str, line: int, column: int, problem: str) -> str:
    shown = text.split("\n")[line - 1]
    return f"ERROR: <input>:{line}:{column}: {problem}\n | {shown}\n | {'.' * (column - 1)}^"


def _undeclared(tree: Any, names: frozenset[str]) -> Iterator[Any]:
    if tree.data == "ident":
        if str(tree.children[0]) not in names:
            yield tree.children[0]
        return
    children = tree.children
    if tree.data == "member_dot_arg" and str(children[1]) in _MACROS and len(children) > 2:
        yield from _undeclared(children[0], names)
        variables = {str(token) for token in children[2].children[0].scan_values(lambda _: True)}
        for one in children[2].children[1:]:
            yield from _undeclared(one, names | variables)
        return
    for one in children:
        if hasattr(one, "data"):
            yield from _undeclared(one, names)
