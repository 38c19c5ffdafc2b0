# SPDX-License-Identifier: Apache-2.0
"""What CEL says of a write: conditions under which webhooks and policies are asked, and the names that they know."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from meshbox.api.admission.asked import Asked
from meshbox.api.cel import UnsupportedError, evaluated, supported, to_cel
from meshbox.api.resources import Served
from meshbox.contracts import View

__all__ = ["EvaluationError", "Names", "conditions_met", "unreadable"]

_VARIABLE = re.compile(r"\bvariables\.([A-Za-z_]\w*)")
_AUTHORIZER = re.compile(r"\bauthorizer\b")
_WORD = re.compile(r"\b(object|oldObject|request|params|namespaceObject)\b")


class EvaluationError(Exception):
    """An expression that has no value; the text is the API server's."""


def unreadable(text: str, variables: Mapping[str, str] | None = None) -> bool:
    """Whether the sandbox cannot evaluate an expression, or one of `variables` that it names, though others might."""
    if _AUTHORIZER.search(text) or not supported(text):
        return True
    given = variables or {}
    # A variable knows those before it only.
    known = list(given)
    return any(
        unreadable(given[name], {one: given[one] for one in known[: known.index(name)]})
        for name in set(_VARIABLE.findall(text))
        if name in given
    )


class Names:
    """The variables of expressions about one write, each made when it is first named.

    Args:
        asked: The write.
        served: The version in which it is looked at.
        params: A policy's parameters; None: there are none.
        variables: A policy's variables, by name.
    """

    def __init__(
        self, asked: Asked, served: Served, params: Any = None, variables: Mapping[str, str] | None = None
    ) -> None:
        self._made: dict[str, Any] = {}
        self._variables = dict(variables or {})
        self._values: dict[str, Any] = {}
        self._makers: dict[str, Callable[[], Any]] = {
            "object": lambda: asked.shown(asked.obj, served),
            "oldObject": lambda: asked.shown(asked.old, served),
            "request": lambda: asked.summary(served),
            "params": lambda: params,
            "namespaceObject": lambda: asked.namespace if served.resource.namespaced else None,
        }

    def value(self, text: str) -> Any:
        """The value of an expression.

        Raises:
            EvaluationError: It has none.
        """
        result, problem = self._evaluated(text)
        if problem:
            raise EvaluationError(f"expression '{text}' resulted in error: {problem}")
        return result

    def _evaluated(self, text: str) -> tuple[Any, str]:
        """The value of an expression, or None and why it has none."""
        names = {name: self._of(name) for name in set(_WORD.findall(text))}
        try:
            if used := set(_VARIABLE.findall(text)):
                names["variables"] = to_cel({}, None)
                names["variables"].update({to_cel(name, None): self._variable(name) for name in used})
            return evaluated(text, names)
        except EvaluationError as error:
            return None, str(error)
        except UnsupportedError as error:
            return None, "no such overload" if "overload" in str(error) else str(error)

    def _of(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = to_cel(self._makers[name](), None)
        return self._made[name]

    def _variable(self, name: str) -> Any:
        if name not in self._values:
            text = self._variables.get(name)
            if text is None:
                raise EvaluationError(f"undefined field '{name}'")
            self._values[name], problem = self._evaluated(text)
            if problem:
                del self._values[name]
                raise EvaluationError(f'composited variable "{name}" fails to evaluate: {problem}')
        return self._values[name]


def conditions_met(conditions: Iterable[View], names: Names) -> bool:
    """Whether all `matchConditions` are true; one that is false decides whatever the others meet.

    Raises:
        EvaluationError: One has no value, and none is false.
    """
    problems = []
    for problem in _looked_at(conditions, names):
        if problem is None:
            return False
        problems.append(problem)
    if problems:
        raise EvaluationError(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")
    return True


def _looked_at(conditions: Iterable[View], names: Names) -> Iterator[str | None]:
    """A problem of each condition that has one, None for each that is false."""
    for one in conditions:
        try:
            if names.value(str(one["expression"])) is not True:
                yield None
        except EvaluationError as error:
            yield str(error)
