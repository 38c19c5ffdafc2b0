# SPDX-License-Identifier: Apache-2.0
"""What a sandbox keeps of itself in small files of its folder, and what becomes of one that is damaged.

    token         the API's bearer token          made anew: the kubeconfig and accounts' tokens follow from it
    identity      a nonce that every reply shows  made anew
    number        X of its addresses 127.X.0.0/16 another block is looked for; the objects move there
    release       the Istio release it plays      read from `state.json`; the objects must be of that release
    state.json    who runs, where, since when     the daemon writes it again
    ca.*, server-*.pem, kubeconfig                see `meshbox.api.identity`
    mesh/ca-*.pem                                 see `meshbox.mesh.certificates`

Nothing of the learner's is in any of these: objects are in `objects`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from labkit.ground import config, files
from labkit.ground.errors import SandboxError
from meshbox.program import program

__all__ = ["alone", "nonce", "number", "release", "state", "token", "write"]

log = logging.getLogger(__name__)

_SECRET = re.compile(r"[A-Za-z0-9_-]{43,128}")
_NUMBER = re.compile(r"[1-9][0-9]{0,2}")
_ADVICE = "make room there, or set LABKIT_HOME to a folder of yours that can be written to"


def write(path: Path, content: bytes) -> None:
    """Write a file of the sandbox's folder that only its owner can read; whole or not at all.

    Raises:
        SandboxError: it cannot be written; the old content stays.
    """
    try:
        files.write(path, content)
    except OSError as error:
        raise SandboxError(f"{path} cannot be written: {error.strerror}", next_step=_ADVICE) from error


def text(path: Path, right: Callable[[str], bool]) -> str:
    """The line in the file `path`; "" where it is missing, or damaged, which the log then says.

    Args:
        path: The file.
        right: Says whether a line is what such a file holds.
    """
    try:
        found = files.read(path, 1024).decode().strip()
        if right(found):
            return found
        problem = "does not hold what it should"
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        problem = "is not text"
    except ValueError as error:
        problem = str(error)
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    log.warning("%s is damaged: it %s", path, problem)
    return ""


def put(path: Path, line: str) -> None:
    """Keep `line` in the file `path`; something else in its place, a folder for one, is moved aside.

    Raises:
        SandboxError: it cannot be written.
    """
    with contextlib.suppress(OSError):
        if path.is_dir():
            log.warning("%s is a folder: moved aside to %s", path, files.aside(path))
    write(path, line.encode())


def _secret(path: Path, what: str) -> str:
    found = text(path, lambda line: _SECRET.fullmatch(line) is not None)
    if not found:
        # Only who makes one needs what it is made with.
        from labkit.ground.guard import new_secret

        found = new_secret()
        put(path, found)
        log.info("%s: a new %s was made", path, what)
    return found


def token(home: Path) -> str:
    """The sandbox's token: 32 random bytes, made once; a damaged one is replaced.

    Raises:
        SandboxError: it cannot be written: a sandbox never runs with a token that the next start would not find.
    """
    return _secret(home / "token", "token")


def nonce(home: Path) -> str:
    """What every reply of the API shows, and no other server can know; made once, a damaged one is replaced.

    Raises:
        SandboxError: it cannot be written.
    """
    return _secret(home / "identity", "nonce")


def number(home: Path) -> int | None:
    """X of the block 127.X.0.0/16 that the sandbox had last; None where it is not known."""
    found = text(home / "number", lambda line: _NUMBER.fullmatch(line) is not None and int(line) < 255)
    return int(found) if found else None


def release(home: Path) -> str:
    """The release that the sandbox was made with; "" where it is not known."""
    return text(home / "release", lambda line: line in config.RELEASES)


def state(home: Path) -> dict[str, object]:
    """What the daemon last wrote to `state.json`; empty if it never ran or the file is damaged."""
    try:
        found = json.loads(files.read(home / "state.json"))
    except (OSError, ValueError, RecursionError):
        return {}
    sound = (
        isinstance(found, dict)
        and isinstance(found.get("pid"), int)
        and isinstance(found.get("started"), float)
        and found.get("release") in config.RELEASES
        and found.get("state") in ("running", "starting", "stopped")
    )
    return found if sound else {}


@contextlib.contextmanager
def alone(home: Path) -> Iterator[None]:
    """Keep the sandbox's folder for this process: one daemon a folder.

    The lock is in a folder of mode 0700, so nobody else can take it, and it ends with the process that has it, however
    that ends: none is ever stale.

    Raises:
        SandboxError: another daemon has it, or it cannot be had.
    """
    path = home / "daemon.lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SandboxError(f"{path} cannot be opened: {error.strerror}", next_step=_ADVICE) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SandboxError(
                f"the sandbox in {home} runs already",
                next_step=f"see `{program()} status`, or end it with `{program()} down`",
            ) from None
        yield
    finally:
        os.close(handle)
