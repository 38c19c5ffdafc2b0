# SPDX-License-Identifier: Apache-2.0
"""Why a text is no host, label, header or pattern, in the words that Istio's webhook has for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import zip_longest
from typing import Any

import re2  # type: ignore[import-untyped]

from meshbox.mesh.claims import claim_of

__all__ = [
    "domain_problem",
    "header_problem",
    "header_value_problem",
    "is_claim",
    "is_label",
    "label_problems",
    "listing",
    "number",
    "parsing_problem",
    "partial_wildcard",
    "quoted",
    "regex_problem",
]

_LABEL = re.compile("[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?")
"""Istio's label; Kubernetes' knows no capitals."""
_WILD_LABEL = re.compile(rf"(\*|(\*|\*-)?{_LABEL.pattern})")
_NAME = "[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?"
_TAG = re.compile(rf"(?:(?P<prefix>{_LABEL.pattern}(?:\.{_LABEL.pattern})*)/)?(?P<name>{_NAME})")
_TAG_VALUE = re.compile(f"(?:{_NAME})?")
_HEADER = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_PSEUDO = (":method", ":scheme", ":authority", ":path", ":status")

_QUIET = re2.Options()
_QUIET.log_errors = False
_ENVOYS = re2.Options()
_ENVOYS.log_errors = False
_ENVOYS.encoding = re2.Options.Encoding.LATIN1
"""Envoy matches bytes: a letter beyond them can be written as it is, but not by its number."""


_ESCAPED = {"\\": "\\\\", '"': '\\"', **dict(zip("\a\b\f\n\r\t\v", map("\\{}".format, "abfnrtv"), strict=True))}


def quoted(text: Any) -> str:
    """As Go prints a string with %q."""
    return f'"{"".join(c if c.isprintable() and c not in _ESCAPED else _escaped(c) for c in str(text))}"'


def _escaped(character: str) -> str:
    number = ord(character)
    form = "x{:02x}" if number < 0x80 else "u{:04x}" if number < 0x10000 else "U{:08x}"
    return _ESCAPED.get(character) or "\\" + form.format(number)


def number(value: float) -> str:
    """As Go prints a float64 with %v."""
    digits = Decimal(repr(float(value))).normalize()
    power = digits.adjusted()
    if -4 <= power < 6:
        return f"{digits:f}"
    shown = "".join(map(str, digits.as_tuple().digits))
    return f"{'-' if value < 0 else ''}{shown[0]}{'.' if shown[1:] else ''}{shown[1:]}e{power:+03d}"


def listing(errors: Iterable[str]) -> str:
    """Errors as Go's multierror prints them."""
    found = list(errors)
    listed = "\n".join(f"\t* {error}" for error in found)
    return f"{len(found)} error{'s' if len(found) != 1 else ''} occurred:\n{listed}\n\n"


def is_label(text: str) -> bool:
    """Whether it is a DNS label."""
    return len(text) <= 63 and _LABEL.fullmatch(text) is not None


def domain_problem(host: str, *, wildcard: bool) -> str:
    """Why it is no host name; `wildcard`: "*" may stand first."""
    if len(host) > 255:
        return f"domain name {quoted(host)} too long (max 255)"
    if not host:
        return "empty domain name not allowed"
    labels = host.split(".")
    if wildcard:
        first, labels = labels[0], labels[1:]
        if len(first) > 63 or not _WILD_LABEL.fullmatch(first):
            return f"domain name {quoted(host)} invalid (label {quoted(first)} invalid)"
        if not labels:
            return ""
    rest = ".".join(labels)
    if re.fullmatch("[+-]?[0-9]+", labels[-1]):
        return f"domain name {quoted(rest)} invalid (top level domain {quoted(labels[-1])} cannot be all-numeric)"
    if not labels[-1]:
        # The dot at the end of a name that is meant to be whole.
        labels = labels[:-1]
    for label in labels:
        if not is_label(label):
            return f"domain name {quoted(rest)} invalid (label {quoted(label)} invalid)"
    return ""


def partial_wildcard(host: str) -> str:
    """Why "*" does not stand for a whole label at the beginning; empty where it does, or there is none."""
    partial = "*" in host and len(host) != 1 and not host.startswith("*.")
    return f"partial wildcard {quoted(host)} not allowed" if partial else ""


def label_problems(labels: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with labels of pods."""
    for key, value in sorted(labels.items()):
        found = _TAG.fullmatch(key)
        if found is None:
            yield f"invalid tag key: {quoted(key)}"
        elif len(found["prefix"] or "") > 253:
            yield f"invalid tag key: {quoted(key)} (DNS prefix is too long)"
        elif len(found["name"]) > 63:
            yield f"invalid tag key: {quoted(key)} (name is too long)"
        if not _TAG_VALUE.fullmatch(str(value)):
            yield f"invalid tag value: {quoted(value)}"


def is_claim(name: str) -> bool:
    """Whether a header that a VirtualService names stands for a claim of the request's token."""
    return bool(claim_of(name))


def header_problem(name: str, *, operation: str = "", legacy: bool = False) -> str:
    """Why it is no header's name; `operation`: "request" or "response" where it is set, added or removed."""
    if not name:
        return "header name cannot be empty"
    odd = f"header name {name} is not a valid header name"
    if legacy:
        # Istio 1.2 asked for no more than a name; Envoy does.
        return "" if _HEADER.fullmatch(name.removeprefix(":")) else odd
    if operation:
        authority = name.lower() in ("host", ":authority")
        if operation == "response" and name.lower() == "host":
            return f"invalid header {quoted(name)}: cannot set Host header"
        if name.startswith(":") and not (authority and operation == "request"):
            return f'invalid header {quoted(name)}: header cannot have ":" prefix'
        return "" if _HEADER.fullmatch(name.removeprefix(":")) else odd
    return "" if is_claim(name) or name in _PSEUDO or _HEADER.fullmatch(name) else odd


def header_value_problem(value: str, *, legacy: bool = False) -> str:
    """Why Envoy cannot take it for a header's value."""
    if not _HEADER_VALUE.fullmatch(value):
        return f"header value configuration {value} is invalid"
    said = "" if legacy else _variables_problem(value)
    return f"header value configuration: invalid header configuration. {said}" if said else ""


_STEPS: dict[str, tuple[dict[str, str], str]] = {
    "name": ({"%": "text", "(": "arguments"}, "name"),
    "arguments": ({"[": "quote", " ": "arguments"}, "inside"),
    "quote": ({'"': "inside", " ": "quote"}, "Expecting '\"'"),
    "inside": ({")": "end", '"': "comma"}, "inside"),
    "comma": ({",": "quote", "]": "close", " ": "comma"}, "Expecting ',', ']', or whitespace"),
    "close": ({")": "end", " ": "close"}, "Expecting ')' or whitespace after '{}', but found '{}'"),
    "end": ({"%": "text", " ": "end"}, "Expecting '%' or whitespace after"),
}
"""Envoy's way through %VAR% and %VAR(["a", "b"])%: where each character leads, and where any other, or what is said."""


def _variables_problem(value: str) -> str:
    """What is wrong with the variables in a header's value."""
    state, skip = "text", False
    for character, following in zip_longest(value, value[1:], fillvalue=""):
        if skip:
            skip = False
        elif state == "text":
            if character == "%" and not following:
                return "Un-escaped %"
            skip = character == "%" == following
            state = "name" if character == "%" and not skip else state
        elif state == "inside" and character == "\\":
            if not following:
                return "Un-terminated backslash in JSON string"
            skip = True
        else:
            known, other = _STEPS[state]
            state = known.get(character, other)
            if state != "text" and state not in _STEPS:
                return state
    return f"Un-terminated variable expression '{value}'" if state != "text" else ""


def regex_problem(pattern: str, where: str) -> str:
    """Why Envoy cannot compile it."""
    if len(pattern.encode()) > 1024:
        return f"{quoted(where)}: regex is too large, max length allowed is 1024"
    said = parsing_problem(pattern) or _complaint(pattern, _ENVOYS)
    syntax = "Istio uses RE2 style regex-based match (https://github.com/google/re2/wiki/Syntax)"
    return f"{quoted(where)}: {said}; {syntax}" if said else ""


_GO_WORDS = {
    "missing )": "missing closing )",
    "missing ]": "missing closing ]",
    "no argument for repetition operator": "missing argument to repetition operator",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid named capture group": "invalid named capture",
    "invalid repetition size": "invalid repeat count",
    "trailing \\": "trailing backslash at end of expression",
}


def parsing_problem(pattern: str) -> str:
    """RE2's complaint in the words of Go's parser of the same syntax; empty where it has none."""
    return _complaint(pattern, _QUIET)


def _complaint(pattern: str, options: Any) -> str:
    try:
        re2.compile(pattern.encode(), options=options)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        code, _, part = text.partition(": ")
        shown = "" if code.startswith("trailing") else part or pattern
        return f"error parsing regexp: {_GO_WORDS.get(code, code)}: `{shown}`"
    return ""
