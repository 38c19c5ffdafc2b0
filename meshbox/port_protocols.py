# SPDX-License-Identifier: Apache-2.0
"""What Istio takes a Service's port for: the mesh routes by it, and the node tells clients which ports are no HTTP."""

from __future__ import annotations

__all__ = ["HTTP_PROTOCOLS", "TLS_PROTOCOLS", "is_raw", "protocol_of"]

HTTP_PROTOCOLS = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB"})
TLS_PROTOCOLS = frozenset({"HTTPS", "TLS"})
_KNOWN = HTTP_PROTOCOLS | TLS_PROTOCOLS | {"TCP", "UDP", "MONGO", "MYSQL", "REDIS"}

# Server-first protocols on their usual ports: Istio does not sniff these, since it would wait for a client that waits
# too.
_TCP_PORTS = frozenset({22, 25, 3306, 3307, 5432, 6379, 9300, 27017})


def protocol_of(name: str, number: int, app_protocol: str = "", *, transport: str = "TCP", legacy: bool = False) -> str:
    """The protocol Istio takes a Service port for, by its name ("http-web") or `appProtocol`; AUTO where it looks for
    itself.
    """
    if transport != "TCP":
        return "UDP"
    declared = (app_protocol or "").removeprefix("kubernetes.io/")
    for candidate in (declared, name):
        word = {"h2c": "HTTP2"}.get(candidate, candidate.upper())
        if word == "GRPC-WEB" or word.startswith("GRPC-WEB-"):
            return "GRPC-WEB"
        word = word.split("-", 1)[0]
        if word in _KNOWN:
            return word
        if candidate and candidate is declared and not legacy:
            return "TCP"
    return "TCP" if legacy or number in _TCP_PORTS else "AUTO"


def is_raw(protocol: str) -> bool:
    """Whether connections of a protocol pass through proxies as they are."""
    return protocol not in HTTP_PROTOCOLS and protocol not in ("AUTO", "UDP")
