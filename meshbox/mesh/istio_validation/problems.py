# SPDX-License-Identifier: Apache-2.0
"""What is wrong with an object, and the checks that several kinds share, in Istio's own words.

Istio's errors are lists in lists, which it flattens. A list of one is told as the one, unless it was a list from the
start (`listed`).
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from labkit.ground.names import is_ip
from meshbox.mesh.field_values import ConfigError, nanoseconds
from meshbox.mesh.istio_validation import texts
from meshbox.mesh.istio_validation.texts import quoted

__all__ = ["UNIX", "Problems"]

UNIX = "unix://"
"""How the address of a Unix socket begins."""
_LONGEST_PATH = 107

_PROTOCOLS = {
    "tcp", "udp", "grpc", "grpc-web", "http", "http_proxy", "http2", "https", "tls", "mongo", "redis", "mysql", "hbone",
    "double-hbone",
}  # fmt: skip


class Problems:
    """Collects errors, which refuse an object, and warnings, which do not.

    Args:
        legacy: Whether Istio 1.2 speaks.

    Attributes:
        decoding: Why the object cannot even be read; empty where it can.
        unplayed: What the object asks for and the sandbox does not play; no business of Istio's webhook.
    """

    def __init__(self, *, legacy: bool) -> None:
        self.legacy = legacy
        self.decoding = ""
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.unplayed: list[str] = []
        self._listed = False

    def error(self, text: str, *, listed: bool = False) -> None:
        """Refuse; `listed`: even where it is the only reason, it is told as a list of one."""
        self._listed = listed if not self.errors else self._listed
        self.errors.append(text)

    def warn(self, text: str) -> None:
        """Let pass with a warning; Istio 1.2 had none."""
        if not self.legacy:
            self.warnings.append(text)

    @contextlib.contextmanager
    def unheard(self) -> Iterator[None]:
        """For what Istio looks at for errors alone: warnings about it get lost there."""
        heard = len(self.warnings)
        yield
        del self.warnings[heard:]

    def require(self, holds: object, text: str, *, listed: bool = False) -> None:
        """Refuse unless `holds`."""
        if not holds:
            self.error(text, listed=listed)

    def text(self) -> str:
        """All errors, as Istio lists them."""
        return self.errors[0] if len(self.errors) == 1 and not self._listed else texts.listing(self.errors)

    def label(self, value: Any) -> bool:
        """Whether `value` is a DNS label."""
        return texts.is_label(str(value or ""))

    def domain(self, host: Any, *, wildcard: bool = True, ip: bool = False) -> bool:
        """A host name; `wildcard`: "*" may stand first; `ip`: an address will do as well. Whether it is one."""
        problem = texts.domain_problem(str(host or ""), wildcard=wildcard)
        if problem and ip and is_ip(str(host)):
            return True
        self.require(not problem, problem)
        return not problem

    def address(self, text: Any) -> None:
        """An address."""
        try:
            ipaddress.ip_address(str(text))
        except ValueError:
            self.error(f"{text} is not a valid IP")

    def subnet(self, text: Any) -> None:
        """An address or a range of them."""
        if not self.legacy and str(text).count("/") != 1:
            self.address(text)
            return
        try:
            network = ipaddress.ip_network(str(text), strict=False)
        except ValueError:
            what = "a valid CIDR block" if "/" in str(text) else "a valid IP"
            self.error(f"{text} is not {what}")
            return
        if self.legacy and network.version != 4:
            self.error(f"{text} is not a valid IPv4 address")

    def socket(self, path: str) -> None:
        """Where a Unix socket is, without what such an address begins with."""
        if not path:
            self.error("unix address must not be empty")
        elif not path.startswith("@") and (not path.startswith("/") or path.endswith("/")):
            self.error(f"{path} is not an absolute path to a file")
        elif len(path.encode()) > _LONGEST_PATH:
            # No socket can be there, and Envoy refuses all that a proxy is told of clusters for it.
            self.error(f"unix address must have at most {_LONGEST_PATH} bytes")

    def protocol(self, name: Any) -> None:
        """A protocol's name; none is one as well, today."""
        known = str(name or "").lower() in _PROTOCOLS or (not name and not self.legacy)
        self.require(known, f"unsupported protocol: {name or ''}")

    def port_name(self, name: Any) -> None:
        """A port's name."""
        self.require(self.label(name), f"invalid port name: {name or ''}")

    def port(self, number: Any) -> None:
        """A port number."""
        value = number if isinstance(number, int) else 0
        self.require(1 <= value <= 65535, f"port number {value} must be in the range 1..65535")

    def duration(self, text: Any) -> None:
        """A duration of at least a millisecond."""
        try:
            value = nanoseconds(text)
        except ConfigError as error:
            self.error(str(error.message))
            return
        if value < 10**6:
            self.error("duration must be greater than 1ms")
        elif value % 10**6:
            self.error("only durations to ms precision are supported")

    def percent(self, value: Any) -> None:
        """A whole percentage."""
        number = value or 0
        self.require(0 <= number <= 100, f"percentage {number} is not in range 0..100")

    def fraction(self, percentage: Mapping[str, Any] | None, old: Any) -> None:
        """A percentage with a fraction, else (in Istio 1.2) the older whole one."""
        if percentage is None:
            self.percent(old if self.legacy else 0)
            return
        value = percentage.get("value") or 0.0
        if value < 0 or value > 100 or 0 < value < 0.0001:
            self.error(f"percentage {texts.number(value)} is neither 0.0, nor in range [0.0001, 100.0]")

    def tags(self, labels: Mapping[str, Any] | None) -> None:
        """Labels of pods."""
        for problem in texts.label_problems(labels or {}):
            self.error(problem, listed=True)

    def header_name(self, name: str, *, operation: str = "") -> None:
        """A header's name; `operation`: "request" or "response" where it is set, added or removed."""
        problem = texts.header_problem(name, operation=operation, legacy=self.legacy)
        self.require(not problem, problem)

    def header_value(self, value: Any) -> None:
        """A header's value."""
        problem = texts.header_value_problem(str(value), legacy=self.legacy)
        self.require(not problem, problem)

    def regex(self, pattern: str, where: str) -> None:
        """A pattern that Envoy can compile."""
        problem = texts.regex_problem(pattern, where)
        self.require(not problem, problem)

    def string_match(self, match: Mapping[str, Any] | None, where: str, *, prefix: bool = True) -> None:
        """A StringMatch; `prefix`: an empty one is none."""
        if not match:
            return
        if match.get("regex"):
            self.regex(match["regex"], where)
        elif "regex" in match and not self.legacy:
            self.error(f"{quoted(where)}: regex string match should not be empty")
        elif prefix and not self.legacy and match.get("prefix") == "":
            self.error(f"{quoted(where)}: prefix string match should not be empty")

    def each(self, items: Any, check: Callable[[Any], None]) -> None:
        """Check every item of a list that may be missing."""
        for item in items or []:
            check(item)
