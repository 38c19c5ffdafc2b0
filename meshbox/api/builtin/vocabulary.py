# SPDX-License-Identifier: Apache-2.0
"""The words of data/rules.txt: what each says is wrong with a value."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from labkit.ground import names, quantity
from labkit.ground.int_or_string import percent, percent_problem
from meshbox.api.builtin.internal import internal
from meshbox.api.builtin.well_formed import NON_NEGATIVE, label_selector, labels, same
from meshbox.api.problems import (
    OMITTED,
    Cause,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    too_long,
    too_many,
)
from meshbox.ip_texts import read_ip, read_network

__all__ = ["CIDR", "IP", "VOCABULARY", "Check"]

Arguments = tuple[str, ...]
Check = Callable[[Any, str, Arguments], list[Cause]]

IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
_WILDCARD = r"\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_WILDCARD_WORDS = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', "
    f"regex used for validation is '{_WILDCARD}')"
)
_SEARCH = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*"
_SEARCH_WORDS = names.regex_words(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must "
    "start and end with an alphanumeric character",
    _SEARCH,
    "example.com",
)
_NO_ADDRESS = "must be a DNS name, not an IP address"
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


def _once(found: Any, path: str, arguments: Arguments) -> list[Cause]:
    """Of a value and those of the items before: `as` names a type in protobuf that it is shown as, words say more."""
    value, *before = ["" if one is None else one for one in (found[0], *found[1])]
    if value not in before:
        return []
    if arguments[:1] == ("as",):
        return [duplicate(path, internal(arguments[1], value))]
    return [invalid(path, value, arguments[0])] if arguments else [duplicate(path, value)]


def _kept(found: Any, path: str, arguments: Arguments) -> list[Cause]:
    """Of a value and the one before: `as` names a type in protobuf that it is shown as."""
    value, before = found
    if same(before, value):
        return []
    told = "as" in arguments and (value is not None or arguments[-1] == "string")
    shown = internal(arguments[-1], value) if told else value
    words = arguments[0] if arguments and arguments[0] != "as" else "field is immutable"
    return [invalid(path, shown, words)]


def _measured(holds: Callable[[Any, int], bool]) -> Check:
    """A rule about an amount such as "1Gi", with a bound and words."""
    return lambda value, path, arguments: (
        [] if holds(quantity.parse(value or 0), int(arguments[0])) else [invalid(path, value, arguments[1])]
    )


def _union(value: Any, path: str, arguments: Arguments) -> list[Cause]:
    """Exactly one of these fields is set, of what the words name."""
    given = [name for name in arguments[0].split("|") if value.get(name) is not None]
    found = [forbidden(f"{path}.{name}", f"may not specify more than 1 {arguments[1]} type") for name in given[1:]]
    return found if given else [required(path, f"must specify a {arguments[1]} type")]


def _labels(value: Any, path: str, _arguments: Arguments) -> list[Cause]:
    found: list[Cause] = []
    labels(value, path, found)
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


def _domain(least: int, count: str) -> Callable[[str], list[str]]:
    said = [f"should be a domain with at least {count} segments separated by dots"]
    return lambda text: names.dns1123_subdomain(text) or said * (text.count(".") < least - 1)


def _finalizer(text: str) -> list[str]:
    said = names.qualified_name(text)
    short = "/" not in text and text not in ("kubernetes", "orphan")
    return said + ["name is neither a standard finalizer name nor is it fully qualified"] * short


def _host(text: str) -> list[str]:
    if names.is_ip(text):
        return [_NO_ADDRESS]
    if "*" not in text:
        return names.dns1123_subdomain(text)
    return [] if re.fullmatch(_WILDCARD, text) else [_WILDCARD_WORDS]


def _http_path(text: str) -> list[str]:
    said = [] if text.startswith("/") else [_ABSOLUTE]
    said += [f"must not contain '{sign}'" for sign in ("//", "/./", "/../", "%2f", "%2F") if sign in text]
    return said + [f"cannot end with '{sign}'" for sign in ("/..", "/.") if text.endswith(sign)]


def _port_or_name(value: Any, path: str, _arguments: Arguments) -> list[Cause]:
    return VOCABULARY["portname" if isinstance(value, str) else "port"](value, path, ())


def _search(text: str) -> list[str]:
    text = text.removesuffix(".")
    said = names.at_most(text, 253)
    return said if re.fullmatch(_SEARCH, text) else [*said, _SEARCH_WORDS]


_TEXTS: dict[str, Callable[[str], list[str]]] = {
    "absolute": lambda text: [] if text.startswith("/") else [_ABSOLUTE],
    "cidr": lambda text: [] if read_network(text) else [CIDR],
    "clusterip": lambda text: [] if names.is_ip(text) else [IP],
    "configkey": names.config_key,
    "dns1035": names.dns1035_label,
    "domain2": _domain(2, "two"),
    "domain3": _domain(3, "three"),
    "envname": names.env_name,
    "finalizer": _finalizer,
    "forward": _forward,
    "header": lambda text: [] if re.fullmatch("[-A-Za-z0-9]+", text) else [_HEADER],
    "host": _host,
    "httppath": _http_path,
    "ip": lambda text: [] if read_ip(text) else [IP],
    "kind": lambda text: [
        words if words.startswith("must be no more") else f"may have mixed case, but should otherwise match: {words}"
        for words in names.dns1035_label(text.lower())
    ],
    "label": names.dns1123_label,
    "labelvalue": names.label_value,
    "noip": lambda text: [_NO_ADDRESS] if read_ip(text) else [],
    "portname": names.port_name,
    "relative": lambda text: [_RELATIVE] * text.startswith("/") + _forward(text),
    "qualified": names.qualified_name,
    "search": lambda text: [] if text == "." else _search(text),
    "segment": names.path_segment,
    "trimmed": lambda text: [] if text == text.strip() else ["must not be padded with whitespace"],
    "subdomain": names.dns1123_subdomain,
    "subdomain-lowered": lambda text: names.dns1123_subdomain(text.lower()),
    "togethervalue": lambda text: [";".join(said)] if (said := names.label_value(text)) else [],
}

VOCABULARY: dict[str, Check] = {
    **{name: _text(rule) for name, rule in _TEXTS.items()},
    "amount": _amount,
    "at-most": lambda value, path, given: [] if len(value) <= int(given[0]) else [invalid(path, value, given[1])],
    "bad": lambda value, path, given: [invalid(path, "" if value is None else value, given[0])],
    "bad-as": lambda value, path, given: [invalid(path, internal(given[0], value), given[1])],
    "between": _number(lambda value, b: b[0] <= value <= b[1], "must be between {0} and {1}, inclusive"),
    "few": lambda value, path, given: [too_many(path, len(value), int(given[0]))] * (len(value) > int(given[0])),
    "filled": lambda value, path, given: [] if value else [invalid(path, value, given[0])],
    "forbidden": lambda _value, path, given: [forbidden(path, given[0])],
    "given": lambda value, path, given: [] if value else [required(path, *given)],
    "in": _choices,
    "includes": lambda value, path, given: (
        [] if {*given[0].split("|")} & {*value} else [invalid(path, value, given[1])]
    ),
    "kept": _kept,
    "labels": _labels,
    "longest": lambda value, path, given: [too_long(path, int(given[0]))] * (len(value) > int(given[0])),
    "matches": lambda value, path, given: (
        [] if re.fullmatch(given[0], value or "") else [invalid(path, value or "", given[1])]
    ),
    "nonneg": _number(lambda value, _: value >= 0, NON_NEGATIVE),
    "null": lambda _value, path, given: [invalid(path, None, given[0])],
    "once": _once,
    "one-of": _named_choices,
    "port": _number(lambda value, _: 1 <= value <= 65535, "must be between 1 and 65535, inclusive"),
    "port-or-name": _port_or_name,
    "positive": _number(lambda value, _: value > 0, "must be greater than 0"),
    "quantity-above": _measured(lambda amount, bound: amount > bound),
    "quantity-from": _measured(lambda amount, bound: amount >= bound),
    "required": lambda value, path, given: [] if value not in (None, "", [], {}) else [required(path, *given)],
    "sealed": lambda found, path, given: [] if same(*found) else [forbidden(path, given[0])],
    "selector": _selector,
    "single": lambda value, path, given: [] if len(value or ()) == 1 else [required(path, given[0])],
    "starts": _starts,
    "told": lambda _value, path, given: [invalid(path, given[0], given[1])],
    "union": _union,
    "unique": _unique,
    "unshown": lambda _value, path, given: [invalid(path, OMITTED, given[0])],
}
"""A word → the check it stands for: called with the value, its path and what stands behind the word."""
