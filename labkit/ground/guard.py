# SPDX-License-Identifier: Apache-2.0
"""Whom a server on a loopback address must not answer: foreign web pages, and who does not know its secret.

A web page from elsewhere can make a browser send requests to loopback addresses. Such a request shows itself: its
`Host` is a foreign name (DNS rebinding), or its `Origin` is another site.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from urllib.parse import urlsplit

__all__ = ["LEAST_SECRET", "new_secret", "own_host", "refusal", "same_secret"]

LEAST_SECRET = 32
"""Characters that a secret has at least: whatever is shorter was lost on its way to the disk, and lets nobody in."""

_SERVICE_NAMES = (["svc"], ["svc", "cluster"], ["svc", "cluster", "local"])


def own_host(host: str) -> bool:
    """Whether a `Host` header names an address that only this machine or cluster answers to.

    Args:
        host: The header, with or without a port. An IP address, "localhost" and what is below it, and a Service's name
            ("tracing", "tracing.istio-system", "tracing.istio-system.svc.cluster.local" and what lies between) are our
            own; any other name could have been pointed here by somebody else's DNS.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        # A bracket without the other one: no name at all.
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        labels = name.split(".") if host else []
        # Names below localhost are this machine's for every browser (RFC 6761), whatever a DNS says.
        ours = len(labels) == 1 or labels[-1:] == ["localhost"] or labels[1:] == ["istio-system"]
        return ours or labels[2:] in _SERVICE_NAMES
    return True


def _same_site(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc == host
    except ValueError:
        return False


def refusal(method: str, host: str, origin: str, *, nameless: bool = False) -> str:
    """Why a request must not be answered; empty if it may.

    Args:
        method: "GET", "POST", …
        host: The Host header, empty if there is none.
        origin: The Origin header, empty if there is none.
        nameless: Whether a request without a Host header is answered: no browser sends one, but probes and scripts
            that speak HTTP/1.0 do.
    """
    if not (nameless and not host) and not own_host(host):
        return f"this server does not answer to the name {host!r}"
    if origin and not _same_site(origin, host) and (method not in ("GET", "HEAD") or origin == "null"):
        return f"requests from {origin} are refused"
    return ""


def new_secret() -> str:
    """A new secret of 32 random bytes, as 43 letters, digits, "-" and "_"."""
    return secrets.token_urlsafe(32)


def same_secret(given: str, wanted: str, *, least: int = LEAST_SECRET) -> bool:
    """Whether somebody gave the right secret; takes as long for a wrong one as for the right.

    Args:
        given: What a client sent; it may hold what is no character.
        wanted: The secret. One of fewer than `least` characters is never the right one, whoever gives it.
        least: Characters that `wanted` has at least.
    """
    known = wanted.encode(errors="surrogateescape")
    equal = hmac.compare_digest(given.encode(errors="surrogateescape"), known)
    return equal and len(known) >= least
