# SPDX-License-Identifier: Apache-2.0
"""The words of data/rules.txt: what each says is wrong with a value."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from labkit.ground import names
from labkit.ground.int_or_string import percent, percent_problem
from meshbox.api.builtin.well_formed import NON_NEGATIVE, label_selector
from meshbox.api.problems import Cause, duplicate, forbidden, invalid, not_supported, required
from meshbox.ip_texts import read_ip, read_network

__all__ = ["CIDR", "IP", "VOCABULARY", "Check"]

Arguments = tuple[str, ...]
Check = Callable[[Any, str, Arguments], list[Cause]]

IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
_HEADER = names.regex_words(
    "a valid HTTP header must consist of alphanumeric characters or '-'", "[-A-Za-z0-9]+", "X-Header-Name"
)


def _text(rule: Callable[[str], list[str]]) -> Check:
    """A rule about a text."""
    return lambda value, path, _: [invalid(path, value or "", words) for words in rule(value or "")]


def _number(holds: Callable[[Any, list[int]], bool], words: str) -> Check:
    """A rule about a number; the words may name its bounds, and an argument may replace them."""

    def check(value: Any, path: str, arguments: Arguments) -> list[Cause]:
        bounds = [int(one) for one in arguments if one.lstrip("-").isdigit()]
        own = [one for one in arguments if not one.lstrip("-").isdigit()]
        value = value or 0
        return [] if holds(value, bounds) else [invalid(path, value, own[0] if own else words.format(*bounds))]

    return check


def _choices(value: Any, path: str, arguments: Arguments) -> list[Cause]:
    choices = arguments[0].split("|")
    return [] if (value or "") in choices else [not_supported(path, value or "", choices)]


def _named_choices(value: Any, path: str, arguments: Arguments) -> list[Cause]:
    return [] if (value or "") in arguments[0].split("|") else [invalid(path, value or "", arguments[1])]


def _labels(value: Any, path: str, _arguments: Arguments) -> list[Cause]:
    found = []
    for key, text in value.items():
        found += [invalid(path, key, words) for words in names.qualified_name(key)]
        found += [invalid(path, text, words) for words in names.label_value(text or "")]
    return found


def _selector(value: Any, path: str, _arguments: Arguments) -> list[Cause]:
    found: list[Cause] = []
    label_selector(value, path, found)
    return found


def _unique(value: Any, path: str, arguments: Arguments) -> list[Cause]:
    seen, found = [], []
    for index, one in enumerate(value):
        known = (one or {}).get(arguments[0]) if arguments else one
        if known in seen and not (arguments and known in (None, "")):
            found.append(duplicate(f"{path}[{index}]" + (f".{arguments[0]}" if arguments else ""), known))
        seen.append(known)
    return found


def _amount(value: Any, path: str, _arguments: Arguments) -> list[Cause]:
    if not isinstance(value, str):
        return VOCABULARY["nonneg"](value, path, ())
    words = percent_problem(value)
    if not words and percent(value) > 100:
        words = "must not be greater than 100%"
    return [invalid(path, value, words)] if words else []


def _starts(value: Any, path: str, arguments: Arguments) -> list[Cause]:
    return [] if (value or "").startswith(arguments[0]) else [not_supported(path, value or "", [arguments[1]])]


_ABSOLUTE, _RELATIVE, _NO_STEP_BACK = "must be an absolute path", "must be a relative path", "must not contain '..'"


def _forward(text: str) -> list[str]:
    return [_NO_STEP_BACK] if ".." in text.split("/") else []


_TEXTS: dict[str, Callable[[str], list[str]]] = {
    "absolute": lambda text: [] if text.startswith("/") else [_ABSOLUTE],
    "cidr": lambda text: [] if read_network(text) else [CIDR],
    "dns1035": names.dns1035_label,
    "forward": _forward,
    "header": lambda text: [] if re.fullmatch("[-A-Za-z0-9]+", text) else [_HEADER],
    "ip": lambda text: [] if read_ip(text) else [IP],
    "kind": lambda text: [
        words if words.startswith("must be no more") else f"may have mixed case, but should otherwise match: {words}"
        for words in names.dns1035_label(text.lower())
    ],
    "label": names.dns1123_label,
    "labelvalue": names.label_value,
    "relative": lambda text: [_RELATIVE] * text.startswith("/") + _forward(text),
    "qualified": names.qualified_name,
    "segment": names.path_segment,
    "trimmed": lambda text: [] if text == text.strip() else ["must not be padded with whitespace"],
    "subdomain": names.dns1123_subdomain,
}

VOCABULARY: dict[str, Check] = {
    **{name: _text(rule) for name, rule in _TEXTS.items()},
    "amount": _amount,
    "at-most": lambda value, path, arguments: (
        [] if len(value) <= int(arguments[0]) else [invalid(path, value, arguments[1])]
    ),
    "bad": lambda value, path, arguments: [invalid(path, value, arguments[0])],
    "between": _number(lambda value, b: b[0] <= value <= b[1], "must be between {0} and {1}, inclusive"),
    "filled": lambda value, path, arguments: [] if value else [invalid(path, value, arguments[0])],
    "forbidden": lambda _value, path, arguments: [forbidden(path, arguments[0])],
    "in": _choices,
    "labels": _labels,
    "nonneg": _number(lambda value, _: value >= 0, NON_NEGATIVE),
    "one-of": _named_choices,
    "port": _number(lambda value, _: 1 <= value <= 65535, "must be between 1 and 65535, inclusive"),
    "positive": _number(lambda value, _: value > 0, "must be greater than 0"),
    "required": lambda value, path, arguments: [] if value not in (None, "", [], {}) else [required(path, *arguments)],
    "selector": _selector,
    "starts": _starts,
    "unique": _unique,
}
"""A word → the check it stands for: called with the value, its path and what stands behind the word."""
