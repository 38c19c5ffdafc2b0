# SPDX-License-Identifier: Apache-2.0
"""What is wrong with an object, and the checks that several kinds share, in Istio's own words."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

import re2  # type: ignore[import-untyped]

from labkit.ground.names import is_ip
from meshbox.mesh.field_values import ConfigError, nanoseconds

__all__ = ["Problems", "quoted"]

_LABEL = re.compile("[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?")
"""Istio's label; Kubernetes' knows no capitals."""
_WILD_LABEL = re.compile(rf"(\*|(\*|\*-)?{_LABEL.pattern})")
_TAG = re.compile(r"(?:[\w.-]+/)?[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?")
_TAG_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)?")
_HEADER = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")

_QUIET = re2.Options()
_QUIET.log_errors = False


def quoted(text: Any) -> str:
    """As Go prints a string with %q."""
    return '"' + str(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


class Problems:
    """Collects errors, which refuse an object, and warnings, which do not.

    Args:
        legacy: Whether Istio 1.2 speaks.

    Attributes:
        decoding: Why the object cannot even be read; empty where it can.
    """

    def __init__(self, *, legacy: bool) -> None:
        self.legacy = legacy
        self.decoding = ""
        self.errors: list[str] = []
        self.warnings: list[str] = []

    def error(self, text: str) -> None:
        """Refuse."""
        self.errors.append(text)

    def warn(self, text: str) -> None:
        """Let pass with a warning; Istio 1.2 had none."""
        if not self.legacy:
            self.warnings.append(text)

    def require(self, holds: object, text: str) -> None:
        """Refuse unless `holds`."""
        if not holds:
            self.errors.append(text)

    def text(self) -> str:
        """All errors, as Istio lists them."""
        if len(self.errors) == 1:
            return self.errors[0]
        listed = "\n".join(f"\t* {error}" for error in self.errors)
        return f"{len(self.errors)} errors occurred:\n{listed}\n\n"

    def label(self, value: str) -> bool:
        """Whether `value` is a DNS label."""
        return len(value) <= 63 and _LABEL.fullmatch(value) is not None

    def domain(self, host: Any, *, wildcard: bool = True, ip: bool = False) -> bool:
        """A host name; `wildcard`: "*" may stand first; `ip`: an address will do as well. Whether it is one."""
        problem = _domain_problem(str(host or ""), wildcard=wildcard)
        if problem and ip and is_ip(str(host)):
            return True
        if problem:
            self.errors.append(problem)
        return not problem

    def subnet(self, text: Any) -> None:
        """An address or a range of them."""
        try:
            network = ipaddress.ip_network(str(text), strict=False)
        except ValueError:
            what = "a valid CIDR block" if "/" in str(text) else "a valid IP"
            self.errors.append(f"{text} is not {what}")
            return
        if self.legacy and network.version != 4:
            self.errors.append(f"{text} is not a valid IPv4 address")

    def port(self, number: Any) -> None:
        """A port number."""
        value = number if isinstance(number, int) else 0
        self.require(1 <= value <= 65535, f"port number {value} must be in the range 1..65535")

    def duration(self, text: Any) -> None:
        """A duration of at least a millisecond."""
        try:
            value = nanoseconds(text)
        except ConfigError as error:
            self.errors.append(str(error.message))
            return
        if value < 10**6:
            self.errors.append("duration must be greater than 1ms")
        elif value % 10**6:
            self.errors.append("only durations to ms precision are supported")

    def percent(self, value: Any) -> None:
        """A whole percentage."""
        number = value or 0
        self.require(0 <= number <= 100, f"percentage {number} is not in range 0..100")

    def fraction(self, percentage: Mapping[str, Any] | None, old: Any) -> None:
        """A percentage with a fraction, else the older whole one."""
        if percentage is None:
            self.percent(old)
            return
        value = percentage.get("value") or 0.0
        if value < 0 or value > 100 or 0 < value < 0.0001:
            self.errors.append(f"percentage {value:g} is neither 0.0, nor in range [0.0001, 100.0]")

    def tags(self, labels: Mapping[str, Any] | None) -> None:
        """Labels of pods."""
        for key, value in (labels or {}).items():
            self.require(_TAG.fullmatch(key), f"invalid tag key: {quoted(key)}")
            self.require(_TAG_VALUE.fullmatch(str(value)), f"invalid tag value: {quoted(value)}")

    def header_name(self, name: str, *, operation: str = "") -> None:
        """A header's name; `operation`: "request" or "response" where it is set, added or removed."""
        if not name:
            self.errors.append("header name cannot be empty")
        elif self.legacy:
            # Istio 1.2 asked for no more; Envoy does.
            plain = name.removeprefix(":")
            self.require(_HEADER.fullmatch(plain), f"header name {name} is not a valid header name")
        elif operation:
            authority = name.lower() in ("host", ":authority")
            if name.lower() == "host" and operation == "response":
                self.errors.append(f"invalid header {quoted(name)}: cannot set Host header")
            elif name.startswith(":") and not (authority and operation == "request"):
                self.errors.append(f'invalid header {quoted(name)}: header cannot have ":" prefix')
            else:
                self.require(
                    _HEADER.fullmatch(name.removeprefix(":")), f"header name {name} is not a valid header name"
                )
        elif name not in (":method", ":scheme", ":authority", ":path", ":status"):
            self.require(_HEADER.fullmatch(name), f"header name {name} is not a valid header name")

    def header_value(self, value: Any) -> None:
        """A header's value."""
        self.require(_HEADER_VALUE.fullmatch(str(value)), f"header value configuration {value} is invalid")

    def regex(self, pattern: str, where: str) -> None:
        """A pattern that Envoy can compile."""
        try:
            re2.compile(pattern, options=_QUIET)
        except re2.error as error:
            self.errors.append(
                f"{quoted(where)}: error parsing regexp: {_reason(error, pattern)}; Istio uses RE2 style regex-based "
                "match (https://github.com/google/re2/wiki/Syntax)"
            )

    def string_match(self, match: Mapping[str, Any] | None, where: str) -> None:
        """A StringMatch."""
        if match and "regex" in match:
            if match["regex"]:
                self.regex(match["regex"], where)
            elif not self.legacy:
                self.errors.append(f"{quoted(where)}: regex string match should not be empty")

    def each(self, items: Any, check: Callable[[Any], None]) -> None:
        """Check every item of a list that may be missing."""
        for item in items or []:
            check(item)


def _reason(error: Exception, pattern: str) -> str:
    """RE2's complaint in the words of Go's parser of the same syntax."""
    said = error.args[0] if error.args else ""
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    code, _, part = text.partition(": ")
    words = {"missing )": "missing closing )", "invalid perl operator": "invalid or unsupported Perl syntax"}
    return f"{words.get(code, code)}: `{part or pattern}`"


def _domain_problem(host: str, *, wildcard: bool) -> str:
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
    if labels[-1].isdigit():
        return f"domain name {quoted(rest)} invalid (top level domain {quoted(labels[-1])} cannot be all-numeric)"
    for label in labels:
        if len(label) > 63 or not _LABEL.fullmatch(label):
            return f"domain name {quoted(rest)} invalid (label {quoted(label)} invalid)"
    return ""
