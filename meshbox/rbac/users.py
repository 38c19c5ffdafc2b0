# SPDX-License-Identifier: Apache-2.0
"""Who asks."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

__all__ = ["ADMIN", "ANONYMOUS", "MASTERS", "User", "user_of"]

MASTERS = "system:masters"
"""Who is in this group may do everything, whatever roles say."""

AUTHENTICATED, UNAUTHENTICATED = "system:authenticated", "system:unauthenticated"
_ACCOUNT = "system:serviceaccount:"


class User(Struct, frozen=True):
    """One who asks.

    Args:
        name: e.g. "jane", "system:serviceaccount:shop:robot".
        groups: All that he is in.
    """

    name: str
    groups: tuple[str, ...]

    @property
    def anonymous(self) -> bool:
        """Whether nobody knows who it is."""
        return UNAUTHENTICATED in self.groups

    @property
    def may_all(self) -> bool:
        """Whether no rule is needed."""
        return MASTERS in self.groups

    @property
    def account(self) -> tuple[str, str] | None:
        """Namespace and name of a ServiceAccount; None for others."""
        namespace, _, name = self.name.removeprefix(_ACCOUNT).partition(":")
        return (namespace, name) if self.name.startswith(_ACCOUNT) and name else None


def user_of(name: str, groups: Sequence[str] = ()) -> User:
    """The user of that name; `groups` are those that were named, none for those that go without saying."""
    found = list(groups)
    known = User(name, ())
    if known.account and not groups:
        found = ["system:serviceaccounts", f"system:serviceaccounts:{known.account[0]}"]
    last = UNAUTHENTICATED if name == "system:anonymous" else AUTHENTICATED
    if last not in found and UNAUTHENTICATED not in found:
        found.append(last)
    return User(name, tuple(found))


ADMIN = user_of("kubernetes-admin", [MASTERS])
"""Who holds the sandbox's own token."""

ANONYMOUS = user_of("system:anonymous")
