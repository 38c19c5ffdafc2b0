# SPDX-License-Identifier: Apache-2.0
"""The mutants of a module: each is one change of one expression or statement."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Mutant", "mutants"]

OTHER: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}


@dataclass
class Mutant:
    """One change: the module's text with it, where it is, and what it says."""

    line: int
    change: str
    source: str


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of `node`."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER:
        yield _with(node, ops=[OTHER[type(node.ops[0])](), *node.ops[1:]])
    elif isinstance(node, (ast.BoolOp, ast.BinOp, ast.AugAssign)) and type(node.op) in OTHER:
        yield _with(node, op=OTHER[type(node.op)]())
        if isinstance(node, ast.AugAssign):
            yield ast.Pass()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield node.operand
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield ast.Constant(not node.value)
        elif isinstance(node.value, (int, float)):
            yield ast.Constant(node.value + 1)
            yield ast.Constant(node.value - 1)
        elif isinstance(node.value, str):
            yield ast.Constant(f"{node.value}~")
        elif isinstance(node.value, bytes):
            yield ast.Constant(node.value + b"~")
    elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
        yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.comprehension) and node.ifs:
        yield _with(node, ifs=[ast.UnaryOp(ast.Not(), node.ifs[0]), *node.ifs[1:]])
        yield _with(node, ifs=node.ifs[1:])
    elif isinstance(node, ast.Call) and _has_places(node):
        yield _with(node, args=[node.args[1], node.args[0], *node.args[2:]])
    elif isinstance(node, (ast.Continue, ast.Break)):
        yield ast.Break() if isinstance(node, ast.Continue) else ast.Continue()
    elif _does_something(node):
        yield ast.Pass()
    elif isinstance(node, ast.Return) and not isinstance(node.value, (ast.Constant, type(None))):
        yield ast.Return(ast.Constant(None))


def _has_places(call: ast.Call) -> bool:
    return len(call.args) > 1 and not any(isinstance(a, ast.Starred) for a in call.args) and not _calls(call, "cast")


def _does_something(node: ast.AST) -> bool:
    """Whether a statement can be left out without a name being unknown."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, (ast.Call, ast.Await))
    return isinstance(node, ast.Raise) or (isinstance(node, ast.Assign) and not _binds(node.targets[0]))


def _binds(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) or (isinstance(target, ast.Tuple) and any(map(_binds, target.elts)))


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module."""
    tree = ast.parse(source)
    for parent, field, index, node in list(_places(tree)):
        for changed in changes(node):
            ast.copy_location(changed, node)
            _put(parent, field, index, changed)
            text = ast.unparse(ast.fix_missing_locations(tree))
            _put(parent, field, index, node)
            said = f"{_words(node)}  →  {_words(changed)}"
            yield Mutant(getattr(node, "lineno", 0) or _first_line(node), said, text)


def _words(node: ast.AST) -> str:
    return ast.unparse(node).strip().split("\n")[0][:90]


def _first_line(node: ast.AST) -> int:
    return min((one.lineno for one in ast.walk(node) if isinstance(one, ast.expr)), default=0)


def _put(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


def _places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Every node with its place in its parent; neither docstrings and types nor what a module exports."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "names"):
            continue
        for index, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or _is_text(child) or _exports(child) or _is_type(child):
                continue
            if field == "args" and _calls(node, "cast") and index == 0:
                continue
            if isinstance(node, ast.JoinedStr):
                # Pieces of a message; its values count.
                if isinstance(child, ast.FormattedValue):
                    yield from _places(child)
                continue
            yield node, field, index if isinstance(value, list) else None, child
            yield from _places(child)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _exports(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"


def _calls(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def _is_type(node: ast.AST) -> bool:
    """Whether a statement is there for mypy alone."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name):
        return node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.Assign) and _calls(node.value, "TypeVar")
