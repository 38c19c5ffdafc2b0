# SPDX-License-Identifier: Apache-2.0
"""CEL: the rules (`x-kubernetes-validations`) of CustomResourceDefinitions, and any other expression.

cel-python is imported when the first rule is met: it takes 0.2 s and 20 MB. A rule that it cannot compile, or that uses
a function nobody here knows, is left out with a line in the log; it never refuses an object.
"""

from __future__ import annotations

import base64
import functools
import logging
import re
from typing import TYPE_CHECKING, Any

from labkit.ground.reading.json_text import json_kind
from meshbox.api.cel.reading import environment, parsed
from meshbox.api.problems import OMITTED, Cause, duplicate, forbidden, invalid, required
from meshbox.api.schema.node import Node
from meshbox.api.schema.validate import ABSENT, identical
from meshbox.contracts import Obj

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BLOCKED", "UnsupportedError", "escaped", "evaluated", "rule_problems", "supported", "to_cel"]

log = logging.getLogger(__name__)

BLOCKED: Cause = {
    "reason": "FieldValueInvalid",
    "message": "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation",
    "field": "<nil>",
}
"""What the server adds where it left the rules out because the object does not fit its schema."""

_KEPT = 512
"""Rules, and names, that are kept ready; all of a release's CRDs together have some 130."""

_OLD_SELF = re.compile(r"\boldSelf\b")
_KEYWORDS = frozenset(
    {"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop"}
    | {"namespace", "null", "package", "return", "true", "var", "void", "while"}
)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPES = (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__"))


class UnsupportedError(Exception):
    """A rule that cannot be evaluated here."""


def supported(rule: str) -> bool:
    """Whether a rule can be compiled and all its functions are known."""
    return _runner(rule) is not None


def rule_problems(node: Node, value: Any, path: str, causes: list[Cause], old: Any = ABSENT) -> None:
    """Evaluate the rules of a schema and of all below it on an object that fits the schema.

    Args:
        node: The schema.
        value: The object, or the part of it that `node` describes.
        path: Where it is, e.g. "spec.http[0]".
        causes: Where to add what is wrong.
        old: The stored value; rules with `oldSelf` are skipped where it is ABSENT.
    """
    if value is None or not node.has_rules:
        return
    for rule in node.rules:
        _check(node, rule, value, path, causes, old)
    for one in node.all_of:
        rule_problems(one, value, path, causes, old)
    if isinstance(value, dict):
        previous = old if isinstance(old, dict) and node.map_type != "atomic" else {}
        for name, one in value.items():
            if name in node.properties:
                below = f"{path}.{name}" if path else name
                rule_problems(node.properties[name], one, below, causes, previous.get(name, ABSENT))
            elif node.additional is not None:
                rule_problems(node.additional, one, f"{path}[{name}]", causes, previous.get(name, ABSENT))
    elif isinstance(value, list) and node.items is not None and node.items.has_rules:
        stored = {_key(node, one): one for one in old if isinstance(one, dict)} if _by_key(node, old) else {}
        for index, one in enumerate(value):
            before = stored.get(_key(node, one), ABSENT) if isinstance(one, dict) and stored else ABSENT
            rule_problems(node.items, one, f"{path}[{index}]", causes, before)


def _by_key(node: Node, old: Any) -> bool:
    return node.list_type == "map" and isinstance(old, list)


def _key(node: Node, item: Obj) -> str:
    return repr([item.get(name) for name in node.list_keys])


def _check(node: Node, rule: Obj, value: Any, path: str, causes: list[Cause], old: Any) -> None:
    text = rule.get("rule") or ""
    if not text.strip():
        return
    with_old = _OLD_SELF.search(text) is not None
    optional = rule.get("optionalOldSelf") is True
    if with_old and not optional and (old is ABSENT or old is None):
        return
    if not with_old and old is not ABSENT and identical(value, old):
        return
    if _runner(text) is None:
        return
    said = str(rule.get("message") or "").strip()
    try:
        result, problem = _of_rule(text, value, old, node, optional=optional)
    except UnsupportedError as error:
        _skip(text, str(error))
        return
    if problem:
        causes.append(
            invalid(path, node.type_name or json_kind(value), f"{problem} evaluating rule: {said or text.strip()}")
        )
    elif result is not True:
        causes.append(_cause(node, rule, value, old, path, said or f"failed rule: {text.strip()}"))


def _cause(node: Node, rule: Obj, value: Any, old: Any, path: str, detail: str) -> Cause:
    if rule.get("messageExpression"):
        detail = _message(rule, value, old, node) or detail
    place = f"{path}{rule.get('fieldPath') or ''}".lstrip(".") if rule.get("fieldPath") else path
    reason = rule.get("reason")
    if reason == "FieldValueForbidden":
        return forbidden(place, detail)
    if reason == "FieldValueRequired":
        return required(place, detail)
    if reason == "FieldValueDuplicate":
        return duplicate(place, OMITTED if isinstance(value, dict | list) else value)
    return invalid(place, OMITTED if isinstance(value, dict | list) else value, detail)


def _message(rule: Obj, value: Any, old: Any, node: Node) -> str:
    text = str(rule["messageExpression"])
    if _runner(text) is None:
        return ""
    try:
        result, problem = _of_rule(text, value, old, node, optional=rule.get("optionalOldSelf") is True)
    except UnsupportedError as error:
        _skip(text, str(error))
        return ""
    good = not problem and isinstance(result, str) and "\n" not in result
    return result.strip() if good else ""


@functools.lru_cache(maxsize=_KEPT)
def _skip(rule: str, why: str) -> None:
    log.warning("the CEL rule %r is not checked: %s", rule, why)


@functools.lru_cache(maxsize=_KEPT)
def _runner(text: str) -> Any:
    """An expression, compiled; None, with a line in the log, where it cannot be evaluated here."""
    from celpy.celparser import CELParseError
    from celpy.evaluation import CELUnsupportedError

    from meshbox.api.cel.functions import FUNCTIONS, unknown_functions

    try:
        tree = parsed(text)
        runner = environment().program(tree, functions=FUNCTIONS)
    except (CELParseError, CELUnsupportedError, RecursionError) as error:
        _skip(text, f"it does not compile: {error}")
        return None
    if missing := unknown_functions(tree):
        _skip(text, f"unknown function {', '.join(missing)}")
        return None
    return runner


def evaluated(text: str, names: Mapping[str, Any]) -> tuple[Any, str]:
    """The value of an expression and "", or None and why it has none, in the words of cel-go.

    Args:
        text: The expression.
        names: Its variables (`to_cel`).

    Raises:
        UnsupportedError: It cannot be evaluated here.
    """
    from celpy import celtypes
    from celpy.evaluation import CELEvalError

    runner = _runner(text)
    if runner is None:
        raise UnsupportedError("it does not compile in the sandbox")
    try:
        # Functions of ours hide two names of types, which rules compare `type(self)` with.
        types = {"int": celtypes.IntType, "duration": celtypes.DurationType, "timestamp": celtypes.TimestampType}
        result = runner.evaluate({**types, **names})
    except CELEvalError as error:
        return None, _problem(error)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        # cel-python lets some of Python's own errors through, where CEL would say "no such overload".
        raise UnsupportedError(f"{type(error).__name__}: {error}") from error
    return (bool(result) if isinstance(result, celtypes.BoolType) else result), ""


def _of_rule(text: str, value: Any, old: Any, node: Node, *, optional: bool) -> tuple[Any, str]:
    """A rule's result for a value, the stored one (which may be `optional` to it), and their schema; as `evaluated`."""
    from meshbox.api.cel.optional import Optional

    names = {"self": to_cel(value, node)}
    if optional:
        names["oldSelf"] = Optional(() if old is ABSENT or old is None else (to_cel(old, node),))
    elif old is not ABSENT:
        names["oldSelf"] = to_cel(old, node)
    result, problem = evaluated(text, names)
    return (bool(result) if isinstance(result, int) else result), problem


def _problem(error: Any) -> str:
    """An evaluation error in the words of cel-go."""
    said = str(error.args[0]) if error.args else ""
    if said.startswith("no such key: "):
        return said
    if said.startswith("None with type"):
        # A field of what is not there, such as the object before it was made.
        return f"no such key: {error.tree.children[1]}"
    if said.startswith("no such member in mapping: "):
        return f"no such key: {said.removeprefix('no such member in mapping: ').strip(chr(39))}"
    inner = re.search(
        r"type conversion error from '\w+' to '[\w.]+'|division by zero|no such key: \S+", repr(error.args)
    )
    if inner is not None:
        return inner[0]
    if said == "modulus or divide by zero":
        return "division by zero"
    if said.endswith("does not support field selection"):
        return "no such overload"
    if said == "invalid_argument":
        return "index out of bounds"
    if "undeclared" in said or "unbound" in said or "overload" in said:
        raise UnsupportedError(said[:200])
    return said[:200]


def to_cel(value: Any, node: Node | None) -> Any:
    """`value` with CEL's types, as the schema gives them."""
    from celpy import celtypes

    if value is None:
        return None
    if isinstance(value, bool):
        return celtypes.BoolType(value)
    if isinstance(value, int):
        whole = node is None or "number" not in node.types
        return celtypes.IntType(value) if whole else celtypes.DoubleType(value)
    if isinstance(value, float):
        whole = node is not None and "integer" in node.types and value.is_integer()
        return celtypes.IntType(int(value)) if whole else celtypes.DoubleType(value)
    if isinstance(value, str):
        return _of_format(node.format if node is not None else "", value)
    if isinstance(value, list):
        items = node.items if node is not None else None
        return celtypes.ListType([to_cel(one, items) for one in value])
    properties = node.properties if node is not None else {}
    additional = node.additional if node is not None else None
    return celtypes.MapType(
        {
            celtypes.StringType(escaped(name) if name in properties else name): to_cel(
                one, properties.get(name, additional)
            )
            for name, one in value.items()
        }
    )


def _of_format(name: str, text: str) -> Any:
    """A text as the type that its format gives it; as a text where it cannot be of that type."""
    from celpy import celtypes

    from meshbox.api.cel.functions import FUNCTIONS

    try:
        if name == "duration":
            made = FUNCTIONS["duration"](text)
            return made if isinstance(made, celtypes.DurationType) else celtypes.StringType(text)
        if name in ("date", "date-time", "datetime"):
            return celtypes.TimestampType(f"{text}T00:00:00Z" if name == "date" else text)
        if name == "byte":
            return celtypes.BytesType(base64.b64decode(text))
    except ValueError:
        pass
    return celtypes.StringType(text)


@functools.lru_cache(maxsize=_KEPT)
def escaped(name: str) -> str:
    """A field's name as rules write it: `self.__namespace__`, `self.x__dash__y`."""
    if name in _KEYWORDS:
        return f"__{name}__"
    if _IDENTIFIER.fullmatch(name) and "__" not in name:
        return name
    for sign, word in _ESCAPES:
        name = name.replace(sign, word)
    return name
