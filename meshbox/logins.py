# SPDX-License-Identifier: Apache-2.0
"""Who else has a login on this machine: `labkit doctor` says what they could still do."""

from __future__ import annotations

import contextlib
import os
import pwd

import psutil

__all__ = ["others", "said_of"]

_PEOPLE = range(1000, 60000)
"""The user ids that distributions give to people."""

_NO_LOGIN = ("nologin", "false", "sync", "shutdown", "halt")


def others() -> list[str]:
    """The other people who have an account here, are logged in or run something, by name where there is one; sorted."""
    mine = os.geteuid()
    found = {
        entry.pw_uid: entry.pw_name
        for entry in pwd.getpwall()
        if entry.pw_uid in _PEOPLE and os.path.basename(entry.pw_shell) not in _NO_LOGIN
    }
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            uid = process.uids().real
            if uid in _PEOPLE:
                found.setdefault(uid, f"uid {uid}")
    found.pop(mine, None)
    names = set(found.values())
    for session in psutil.users():
        with contextlib.suppress(KeyError):
            if pwd.getpwnam(session.name).pw_uid != mine:
                names.add(session.name)
    return sorted(names)


def said_of(names: list[str]) -> str:
    """Those in a few words, such as "3 other logins (ann, bob, uid 1003)"; the first few of many."""
    shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return f"{len(names)} other login{'s' * (len(names) != 1)} ({shown})" if names else "no other login"
