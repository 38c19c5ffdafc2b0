# SPDX-License-Identifier: Apache-2.0
"""Who may see the console where it asks for a password: sessions, in a cookie or in the path.

A cookie of a page inside a frame is dropped by browsers where the frame's site is not the page's, and cookies of
127.0.0.1 are shared by all its ports. So a notebook logs in with the password that it reads from the Secret, and opens
the console below a path that holds the session's random name: a page from elsewhere can neither guess nor read it.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable

from labkit.ground.guard import new_secret, same_secret

__all__ = ["COOKIE", "Sessions", "basic"]

COOKIE = "kiali-session"
_LIFETIME = 12 * 3600.0
_MOST = 1000
_FIRST_PAUSE = 0.25
"""Seconds that an answer to a wrong password takes; the password of the demo is known anyway."""


def basic(header: str) -> tuple[str, str]:
    """User and password of an Authorization header; ("", "") if it has none."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return user, password


class Sessions:
    """Sessions of users who knew the password.

    Args:
        credentials: Gives the user and password that are right at this moment; None if nobody may come in.
    """

    def __init__(self, credentials: Callable[[], tuple[str, str] | None]) -> None:
        self._credentials = credentials
        self._open: dict[str, float] = {}
        self._lock = threading.Lock()

    def begin(self, user: str, password: str) -> str:
        """A new session; "" if the password is wrong."""
        wanted = self._credentials()
        # A learner chooses this password; one that is empty opens nothing.
        if wanted is None or not all(wanted) or not same_secret(f"{user}\0{password}", "\0".join(wanted), least=1):
            time.sleep(_FIRST_PAUSE)
            return ""
        name = new_secret()
        now = time.monotonic()
        with self._lock:
            self._open = {one: until for one, until in self._open.items() if until > now}
            while len(self._open) >= _MOST:
                self._open.pop(next(iter(self._open)))
            self._open[name] = now + _LIFETIME
        return name

    def valid(self, name: str) -> bool:
        """Whether a session is open."""
        with self._lock:
            return self._open.get(name, 0.0) > time.monotonic()

    def end(self, name: str) -> None:
        """End a session."""
        with self._lock:
            self._open.pop(name, None)
