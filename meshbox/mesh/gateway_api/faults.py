# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the rules of a route, in Istio's words."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

__all__ = ["Fault", "RouteFault", "joined"]


class Fault(Struct, frozen=True):
    """What a route names and cannot have: requests for it are answered with 500, the rest of the route is played.

    Args:
        reason: Of the condition ResolvedRefs.
        message: What a reader sees.
    """

    reason: str
    message: str


class RouteFault(Exception):  # noqa: N818 - no error of the program: it says what the user's route is about
    """A rule that has no meaning: nothing of its route is played.

    Args:
        reason: Of the condition ResolvedRefs.
        message: What a reader sees.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(reason, message)


def joined(one: Fault | None, other: Fault | None) -> Fault | None:
    """Both of a rule's faults: the first one's reason, and what both say."""
    if one is None or other is None:
        return one or other
    return replace(one, message=f"{one.message}; {other.message}")
