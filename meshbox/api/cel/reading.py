# SPDX-License-Identifier: Apache-2.0
"""CEL as Kubernetes has it, read by cel-python, which knows less of the language.

What it does not know is written in words that it does: optional fields (`object.?spec`) are marked in the text, at the
same places, and become calls; so do functions with a name in two parts (`sets.contains(…)`), and macros with two
variables go over pairs.
"""

from __future__ import annotations

import functools
import itertools
import re
import sys
from typing import Any

__all__ = ["NAMESPACES", "environment", "only", "parsed"]

NAMESPACES = frozenset({"format", "ip", "lists", "optional", "sets", "strings"})
"""What stands before functions with a name in two parts."""

_LEVELS = ("conditionalor", "conditionaland", "relation", "addition", "multiplication", "unary")
_MARKS = re.compile(
    r"""[rRbB]*(?:\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    | (?P<field>\.\?\s*(?=[A-Za-z_])) | (?<=[\w)\]}])(?P<index>\[\?)""",
    re.VERBOSE | re.DOTALL,
)
_TWO = {"all": "all", "exists": "exists", "exists_one": "exists_one", "existsOne": "exists_one", "transformList": "map"}
_TWO |= {"transformMap": "map", "transformMapEntry": "map"}
_OPTIONAL = frozenset({"optional.field", "optional.index"})


@functools.cache
def environment() -> Any:
    """cel-python's parser."""
    import celpy

    limit = sys.getrecursionlimit()
    made = celpy.Environment()
    # It raises the limit for the whole process.
    sys.setrecursionlimit(limit)
    return made


@functools.lru_cache(maxsize=16)
def parsed(text: str) -> Any:
    """The tree of an expression: kept, as it is asked whether it compiles, and of which type it is.

    Raises:
        CELParseError: It is none, or of a kind that cel-python does not read.
    """
    fields: set[int] = set()
    indexes: set[int] = set()

    def marked(match: re.Match[str]) -> str:
        if match["field"]:
            fields.add(match.end())
            return ".".ljust(len(match[0]))
        if match["index"]:
            indexes.add(match.start())
            return "[ "
        return match[0]

    return _Reading(fields, indexes, text).of(environment().compile(_MARKS.sub(marked, text)))


class _Reading:
    def __init__(self, fields: set[int], indexes: set[int], text: str) -> None:
        self._fields, self._indexes, self._text = fields, indexes, text
        self._numbers = itertools.count()

    def of(self, tree: Any) -> Any:
        """A tree in words that cel-python knows."""
        if not hasattr(tree, "data"):
            return tree
        tree = _tree(tree.data, [self.of(one) for one in tree.children], tree)
        if tree.data != "member":
            return tree
        inner = tree.children[0]
        if inner.data == "member_dot" and (
            inner.children[1].start_pos in self._fields or _is_optional(inner.children[0])
        ):
            name = _tree("literal", [_token("STRING_LIT", f'"{inner.children[1]}"')], inner)
            return _call("optional.field", inner, inner.children[0], _primary(name))
        if inner.data == "member_index" and (self._marked(inner) or _is_optional(inner.children[0])):
            return _call("optional.index", inner, *inner.children)
        return self._method(tree, inner) if inner.data == "member_dot_arg" else tree

    def _marked(self, index: Any) -> bool:
        begin, end = index.children[0].meta.end_pos, index.children[1].meta.start_pos
        return any(begin <= place < end for place in self._indexes)

    def _method(self, tree: Any, inner: Any) -> Any:
        base, name, given = inner.children[0], str(inner.children[1]), inner.children[2:]
        arguments = list(given[0].children) if given else []
        if (space := _named(base)) in NAMESPACES:
            return _call(f"{space}.{name}", inner, *arguments)
        if name == "existsOne" and len(arguments) == 2:
            return _macro(base, "exists_one", inner, *arguments)
        if name == "map" and len(arguments) == 3:
            return _macro(_macro(base, "filter", inner, *arguments[:2]), "map", inner, arguments[0], arguments[2])
        if name in ("optMap", "optFlatMap") and len(arguments) == 2:
            some = _macro(_call("optional.items", inner, base), "map", inner, *arguments)
            return _call("optional.first" if name == "optMap" else "optional.flat", inner, some)
        if name in _TWO and len(arguments) > 2 and _named(arguments[0]) and _named(arguments[1]):
            return self._with_two(base, name, inner, arguments)
        return tree

    def _with_two(self, base: Any, name: str, inner: Any, arguments: list[Any]) -> Any:
        pair = _primary(_tree("ident", [_token("IDENT", f"pair__{next(self._numbers)}")], inner))
        parts = {
            _named(one): _tree("member", [_tree("member_index", [pair, _expr(_number(place, inner))], inner)], inner)
            for place, one in enumerate(arguments[:2])
        }
        over: Any = _call("pairs", inner, base)
        *conditions, last = [_replaced(one, parts) for one in arguments[2:]]
        for one in conditions:
            over = _macro(over, "filter", inner, _expr(pair), one)
        if name == "transformMap":
            last = _expr(_call("pair", inner, parts[_named(arguments[0])], last))
        result = _macro(over, _TWO[name], inner, _expr(pair), last)
        return _call(name, inner, result) if name.startswith("transformMap") else result


def _tree(data: str, children: list[Any], at: Any) -> Any:
    from lark import Tree

    return Tree(data, children, meta=at.meta)


def _token(kind: str, text: str) -> Any:
    from lark import Token

    return Token(kind, text)


def _primary(inner: Any) -> Any:
    return _tree("member", [_tree("primary", [inner], inner)], inner)


def _number(value: int, at: Any) -> Any:
    return _primary(_tree("literal", [_token("INT_LIT", str(value))], at))


def _expr(tree: Any) -> Any:
    """A member as an expression."""
    if tree.data == "expr":
        return tree
    for level in reversed(_LEVELS):
        tree = _tree(level, [tree], tree)
    return _tree("expr", [tree], tree)


def _call(name: str, at: Any, *arguments: Any) -> Any:
    listed = [_tree("exprlist", [_expr(one) for one in arguments], at)] if arguments else []
    return _primary(_tree("ident_arg", [_token("IDENT", name), *listed], at))


def _macro(base: Any, name: str, at: Any, *arguments: Any) -> Any:
    listed = _tree("exprlist", list(arguments), at)
    return _tree("member", [_tree("member_dot_arg", [base, _token("IDENT", name), listed], at)], at)


def only(tree: Any) -> Any:
    """The tree in which a chain of trees with one child ends."""
    while len(tree.children) == 1 and hasattr(tree.children[0], "data"):
        tree = tree.children[0]
    return tree


def _named(tree: Any) -> str:
    """The name that a tree is; "" where it is more than one."""
    last = only(tree)
    return str(last.children[0]) if last.data == "ident" else ""


def _is_optional(tree: Any) -> bool:
    last = only(tree)
    return last.data == "ident_arg" and str(last.children[0]) in _OPTIONAL


def _replaced(tree: Any, parts: dict[str, Any]) -> Any:
    """A tree in which names stand for parts of a pair."""
    if not hasattr(tree, "data"):
        return tree
    if tree.data == "member" and (part := parts.get(_named(tree))) is not None:
        return part
    return _tree(tree.data, [_replaced(one, parts) for one in tree.children], tree)
