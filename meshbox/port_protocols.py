# SPDX-License-Identifier: Apache-2.0
"""What Istio takes a Service's port for: the mesh routes by it, and the node tells clients which ports are no HTTP."""

from __future__ import annotations

__all__ = ["HTTP_PROTOCOLS", "TLS_PROTOCOLS", "is_raw", "protocol_of"]

HTTP_PROTOCOLS = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB"})
TLS_PROTOCOLS = frozenset({"HTTPS", "TLS"})
_KNOWN = HTTP_PROTOCOLS | TLS_PROTOCOLS | {"TCP", "UDP", "MONGO", "MYSQL", "REDIS"}

# Ports of SMTP, DNS, MySQL and MongoDB: Istio does not look for HTTP there, since some of their servers speak first.
_TCP_PORTS = frozenset({25, 53, 3306, 27017})

_STANDARD = {"kubernetes.io/h2c": "HTTP2", "kubernetes.io/ws": "HTTP", "kubernetes.io/wss": "HTTPS"}
"""What Kubernetes has words of its own for."""


def protocol_of(name: str, number: int, app_protocol: str = "", *, transport: str = "TCP", legacy: bool = False) -> str:
    """The protocol Istio takes a Service port for, by its name ("http-web") or `appProtocol`; AUTO where it looks for
    itself.
    """
    if transport != "TCP":
        return "UDP"
    # Where an `appProtocol` is given the name says nothing, whether or not Istio knows the word.
    for candidate in (app_protocol, name) if legacy or not app_protocol else (app_protocol,):
        word = _STANDARD.get(candidate, candidate.upper())
        if word.startswith("GRPC-WEB"):
            return "GRPC-WEB"
        word = word.split("-", 1)[0]
        if word in _KNOWN:
            return word
    return "TCP" if legacy or number in _TCP_PORTS else "AUTO"


def is_raw(protocol: str) -> bool:
    """Whether connections of a protocol pass through proxies as they are."""
    return protocol not in HTTP_PROTOCOLS and protocol not in ("AUTO", "UDP")
