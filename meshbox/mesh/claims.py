# SPDX-License-Identifier: Apache-2.0
"""Names in a VirtualService's `headers` that mean claims of a token: `@request.auth.claims.NAME` and
`@request.auth.claims[NAME]`.
"""

from __future__ import annotations

__all__ = ["claim_of"]

_PREFIX = "@request.auth.claims"


def claim_of(name: str) -> tuple[str, ...]:
    """The way to the claim that a name means, from the outermost to the one asked for; empty where it is a header.

    Dots part the names of nested claims; names with dots of their own stand in brackets.
    """
    if not name.lower().startswith(_PREFIX):
        return ()
    rest = name[len(_PREFIX) :]
    if rest.startswith(".") and len(rest) > 1:
        return tuple(rest[1:].split("."))
    if rest.startswith("[") and rest.endswith("]") and len(rest) > 2:
        return tuple(rest[1:-1].split("]["))
    return ()
