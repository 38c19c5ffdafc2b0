# SPDX-License-Identifier: Apache-2.0
"""Names, labels, ports and selectors inside specs: what is well-formed, in the words of Kubernetes' validation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from labkit.ground.int_or_string import percent, percent_problem
from labkit.ground.labels import matches as chosen
from labkit.ground.names import label_value, qualified_name
from meshbox.api.problems import Cause, forbidden, invalid, not_supported, required

__all__ = [
    "NON_NEGATIVE",
    "as_dict",
    "as_list",
    "int_or_percent",
    "label_selector",
    "labels",
    "matches",
    "named",
    "one_of",
    "same",
    "selector_text",
    "supported",
]

Rule = Callable[[str], list[str]]
"""Says what is wrong with a text; an empty list where nothing is."""

NON_NEGATIVE = "must be greater than or equal to 0"


def as_dict(value: Any) -> dict[str, Any]:
    """`value` where it is an object; an empty one for null or absent."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """`value` where it is a list; an empty one for null or absent."""
    return value if isinstance(value, list) else []


def same(a: Any, b: Any) -> bool:
    """Whether two values are the same to the server, for which null, empty and absent are one."""
    if isinstance(a, dict) and isinstance(b, dict):
        return all(same(a.get(key), b.get(key)) for key in a.keys() | b.keys())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(one, other) for one, other in zip(a, b, strict=True))
    if a in (None, "", False, 0) or a == [] or a == {}:
        return not b
    return type(a) is type(b) and bool(a == b)


def named(text: Any, path: str, rule: Rule, causes: list[Cause], *, needed: bool = True) -> None:
    """Check a name by `rule`; an empty one is "Required value" where `needed`."""
    if text:
        causes += [invalid(path, text, words) for words in rule(text)]
    elif needed:
        causes.append(required(path))


def supported(value: Any, path: str, allowed: Iterable[str], causes: list[Cause]) -> None:
    """`value`, where given, is one of `allowed`."""
    choices = list(allowed)
    if value and value not in choices:
        causes.append(not_supported(path, value, choices))


def one_of(obj: Mapping[str, Any], choices: Iterable[str], path: str, what: str, causes: list[Cause]) -> str:
    """Exactly one of `choices` is set, as for handlers and volumes.

    Returns:
        The first that is set, "" where none is.
    """
    given = [name for name in choices if obj.get(name) is not None]
    causes += [forbidden(f"{path}.{name}", f"may not specify more than 1 {what} type") for name in given[1:]]
    if not given:
        causes.append(required(path, f"must specify a {what} type"))
    return given[0] if given else ""


def int_or_percent(value: Any, path: str, causes: list[Cause]) -> int:
    """A count, or a percentage; returned as a number."""
    if isinstance(value, str):
        if problem := percent_problem(value):
            causes.append(invalid(path, value, problem))
            return int(value) if re.fullmatch(r"[-+]?[0-9]+", value) else 0
        return percent(value)
    if (value or 0) < 0:
        causes.append(invalid(path, value, NON_NEGATIVE))
    return value or 0


def labels(given: Any, path: str, causes: list[Cause]) -> None:
    """Keys and values of labels."""
    for key, value in as_dict(given).items():
        causes += [invalid(path, key, words) for words in qualified_name(key)]
        causes += [invalid(path, value, words) for words in label_value(value or "")]


def label_selector(selector: Any, path: str, causes: list[Cause]) -> None:
    """`matchLabels` and `matchExpressions`."""
    labels(as_dict(selector).get("matchLabels"), f"{path}.matchLabels", causes)
    for index, one in enumerate(as_list(as_dict(selector).get("matchExpressions"))):
        where = f"{path}.matchExpressions[{index}]"
        expression = as_dict(one)
        key = expression.get("key") or ""
        operator, values = expression.get("operator"), as_list(expression.get("values"))
        if operator in ("In", "NotIn"):
            if not values:
                detail = "must be specified when `operator` is 'In' or 'NotIn'"
                causes.append(required(f"{where}.values", detail))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                causes.append(forbidden(f"{where}.values", detail))
        else:
            causes.append(invalid(f"{where}.operator", operator or "", "not a valid selector operator"))
        causes += [invalid(f"{where}.key", key, words) for words in qualified_name(key)]
        for position, value in enumerate(values):
            causes += [invalid(f"{where}.values[{position}]", value, words) for words in label_value(value or "")]


def matches(selector: Any, given: Any) -> bool:
    """Whether labels fit a LabelSelector (no selector fits nothing)."""
    if not isinstance(selector, dict):
        return False
    operators = ("In", "NotIn", "Exists", "DoesNotExist")
    sound = [one for one in as_list(selector.get("matchExpressions")) if as_dict(one).get("operator") in operators]
    return chosen({**selector, "matchExpressions": sound}, as_dict(given))


def selector_text(given: Any) -> dict[str, Any]:
    """A LabelSelector or labels with sorted keys, as the server prints maps."""
    return {
        key: selector_text(value) if isinstance(value, dict) else value for key, value in sorted(as_dict(given).items())
    }
