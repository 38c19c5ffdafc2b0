# SPDX-License-Identifier: Apache-2.0
"""What a machine must give before a sandbox can start on it, looked at in a moment and told in one sentence."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import resource
import shutil
import socket
from pathlib import Path

from labkit.ground.errors import SandboxError

__all__ = ["ROOM", "check", "make_folder", "unmake_folder"]

ROOM = 2 * 2**20
"""Bytes that must be free: a sandbox without pods needs some 200 kB."""

_FILES = 100
"""Files that may still be made: a sandbox without pods needs some 30."""

_DESCRIPTORS = 256
"""Files that a process may have open: the daemon has some 60 before the first pod."""

_PATIENCE = 2.0

_LIBRARIES = ("aiohttp", "bcrypt", "celpy", "croniter", "cryptography", "msgspec", "re2")
"""What the extra `sandbox` brings, besides the programs that `meshbox doctor` looks for."""


def check(home: Path) -> None:
    """Look at what every sandbox needs.

    Args:
        home: The sandbox's folder, which is there.

    Raises:
        SandboxError: one thing is missing.
    """
    _libraries()
    _loopback("127.0.0.1")
    # Where a whole block of addresses is needed, one that answers says little.
    _loopback("127.249.255.254")
    _room(home)
    _descriptors()


def _libraries() -> None:
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise SandboxError(
            f"the sandbox's libraries are not installed: {', '.join(missing)}",
            next_step="pip install 'mesh-workshop[sandbox]'; a cluster of yours needs none of them",
        )


def _loopback(address: str) -> None:
    try:
        with socket.socket() as server:
            server.bind((address, 0))
            server.listen(1)
            with socket.create_connection(server.getsockname(), timeout=_PATIENCE):
                pass
    except OSError as error:
        raise SandboxError(
            f"the loopback address {address} cannot be used: {error.strerror or error}",
            next_step="all of a sandbox listens on 127.0.0.0/8: bring the interface up (as root: `ip link set lo up`)",
        ) from error


def _room(home: Path) -> None:
    disk = os.statvfs(home)
    free = disk.f_bavail * disk.f_frsize
    if free < ROOM:
        raise SandboxError(
            f"{home} has {free // 1024} kB of free space", next_step="make room, or set LABKIT_HOME to another folder"
        )
    # File systems that make inodes as they go count none.
    if disk.f_files and disk.f_favail < _FILES:
        raise SandboxError(
            f"{home} lies where only {disk.f_favail} files (inodes) may still be made",
            next_step="remove files there, or set LABKIT_HOME to another folder",
        )


def _descriptors() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < _DESCRIPTORS:
        raise SandboxError(
            f"a process may have only {most} files open here",
            next_step=f"raise the limit: `ulimit -Hn` must say {_DESCRIPTORS} or more, some thousands for many pods",
        )


def make_folder(path: Path) -> list[Path]:
    """Make `path` and what it lies in, for us alone.

    Returns:
        What was made, the outermost first: for `unmake_folder`.

    Raises:
        OSError: it cannot be made, and nothing was.
    """
    made: list[Path] = []
    try:
        for folder in reversed([path, *path.parents]):
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                made.append(folder)
                # Whatever this user's umask is: others must not look in, and we must.
                folder.chmod(0o700)
        path.chmod(0o700)
    except OSError:
        unmake_folder(path, made)
        raise
    return made


def unmake_folder(path: Path, made: list[Path]) -> None:
    """Remove `path` if it was `made`, and what it lies in where nothing else has come into that."""
    if path in made:
        shutil.rmtree(path, ignore_errors=True)
    for folder in reversed(made):
        with contextlib.suppress(OSError):
            folder.rmdir()
