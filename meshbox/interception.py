# SPDX-License-Identifier: Apache-2.0
"""Which of a pod's connections its sidecar takes: what the arguments of `istio-iptables` say.

Standard library only: programs in pods load this file by its path.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["EVERYTHING", "Interception"]

_WITH_VALUE = {"-m": "mode", "-i": "ranges", "-x": "not_ranges", "-b": "inbound", "-d": "not_inbound"}
_WITH_VALUE |= {"-q": "ports", "-o": "not_ports"}
_OWN = frozenset({15000, 15001, 15006, 15008, 15020, 15021, 15053, 15090})
"""The proxy's own ports, which are never led to its listeners."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in (part.strip() for part in text.split(",")) if word)


def _numbers(text: str) -> frozenset[int]:
    # What is longer is no port, and may be longer than Python reads.
    return frozenset(int(word) for word in _words(text) if word.isascii() and word.isdigit() and len(word) < 6)


def _within(host: str, ranges: tuple[str, ...]) -> bool:
    try:
        address = ipaddress.ip_address(host)
        return any(address in ipaddress.ip_network(one, strict=False) for one in ranges)
    except ValueError:
        return False


class Interception:
    """What a sidecar takes of the connections of its pod.

    Args:
        told: Values by the names of `_WITH_VALUE`, as texts; what is missing is as Istio's default: all is taken.
    """

    __slots__ = ("_inbound", "_not_inbound", "_not_ports", "_not_ranges", "_ports", "_ranges", "_told", "none")

    def __init__(self, told: Mapping[str, str]) -> None:
        self._told = tuple(sorted(told.items()))
        self.none = told.get("mode") == "NONE"
        inbound = told.get("inbound", "*")
        self._inbound = None if inbound == "*" else _numbers(inbound)
        self._not_inbound = _numbers(told.get("not_inbound", ""))
        self._ranges, self._not_ranges = _words(told.get("ranges", "*")), _words(told.get("not_ranges", ""))
        self._ports, self._not_ports = _numbers(told.get("ports", "")), _numbers(told.get("not_ports", ""))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Interception) and other._told == self._told

    def __hash__(self) -> int:
        return hash(self._told)

    def __repr__(self) -> str:
        return f"Interception({dict(self._told)!r})"

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Interception:
        """What the containers of a pod's `spec` have set up.

        A pod that has a sidecar and nothing that sets it up is as one where everything is taken, unless the proxy is
        told that its mode is NONE.
        """
        for container in spec.get("initContainers") or ():
            if container["name"] in ("istio-init", "istio-validation"):
                return cls(_told(container.get("args") or []))
        for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
            for one in (container.get("env") or ()) if container["name"] == "istio-proxy" else ():
                if one.get("name") == "ISTIO_META_INTERCEPTION_MODE" and one.get("value") == "NONE":
                    return cls({"mode": "NONE"})
        return cls({})

    @classmethod
    def read(cls, text: str) -> Interception:
        """What `written` wrote."""
        return cls(json.loads(text) if text else {})

    def written(self) -> str:
        """As a text for a variable; empty where a program need not know, as all that it does is taken."""
        usual = self._inbound is None and self._not_inbound <= _OWN and not self.none
        if usual and self._ranges == ("*",) and not (self._not_ranges or self._not_ports):
            return ""
        return json.dumps(dict(self._told))

    def takes_inbound(self, port: int) -> bool:
        """Whether connections to a port of the pod meet the sidecar first."""
        if self.none or port in self._not_inbound:
            return False
        return self._inbound is None or port in self._inbound

    def leaves(self, port: int) -> bool:
        """Whether a port is an application's that callers reach without the sidecar."""
        return port not in _OWN and not self.takes_inbound(port)

    def takes_outbound(self, host: str, port: int) -> bool:
        """Whether a connection of the pod to an address goes by way of the sidecar."""
        if self.none or port in self._not_ports or _within(host, self._not_ranges):
            return False
        return port in self._ports or "*" in self._ranges or _within(host, self._ranges)


def _told(arguments: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    words = iter(arguments)
    for word in words:
        if name := _WITH_VALUE.get(word):
            found[name] = str(next(words, ""))
    return found


EVERYTHING = Interception({})
"""As where nobody says otherwise: the sidecar takes all."""
