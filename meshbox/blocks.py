# SPDX-License-Identifier: Apache-2.0
"""Which block 127.X.0.0/16 a sandbox gets: one that nobody on this machine uses, proven by binding in it.

A block is held by a UDP socket bound at port 29127 of its node address. The kernel gives that to one process only,
whoever its user is and wherever that keeps its files, frees it when the process ends, and keeps it apart for each
network namespace, as it does the addresses themselves: so no lock is ever stale, and none is in the way of a sandbox
elsewhere. Nothing is ever read from it. A UDP socket, because the kernel shows in `/proc/net/udp` whose each is.
"""

from __future__ import annotations

import collections
import errno
import hashlib
import logging
import os
import pwd
import socket
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from labkit.ground.errors import SandboxError
from meshbox import kept
from meshbox.addresses import AddressPlan
from meshbox.program import program

__all__ = ["HOLD_PORT", "NUMBERS", "claim", "hold", "holder"]

log = logging.getLogger(__name__)

NUMBERS = range(10, 250)
"""X of the blocks that sandboxes use."""

HOLD_PORT = 29127
"""Below the ports that systems and Kubernetes give out, above those that ports below 1024 are moved to."""

_LISTENING = "0A"


class _Socket(Struct, frozen=True):
    """A line of `/proc/net/tcp` or `udp`."""

    block: int
    port: int
    state: str
    uid: int
    inode: str


def hold(number: int) -> socket.socket | None:
    """Take the block 127.`number`.0.0/16 for as long as the socket that is returned stays open; None if it is taken.

    Raises:
        SandboxError: this machine has no such addresses.
    """
    node = AddressPlan(number).node
    held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        held.bind((node, HOLD_PORT))
    except OSError as error:
        held.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise SandboxError(
            f"this machine does not let the sandbox use the loopback address {node}: {error.strerror}",
            next_step="it takes Linux, with the interface `lo` up (`ip link set lo up`)",
        ) from error
    return held


def claim(home: Path) -> tuple[AddressPlan, socket.socket]:
    """Take an address block for the sandbox in `home`: the one it had before if nobody else uses it, else a free one.

    Returns:
        The plan, and what holds the block for as long as it stays open.

    Raises:
        SandboxError: no block is free, or the choice cannot be written down.
    """
    before = kept.number(home)
    if before is not None and before in NUMBERS:
        # What is left of our own last run may still be listening there; the sweep at start ends it.
        if (held := hold(before)) is not None:
            if not any(one.uid != os.geteuid() for one in _listeners() if one.block == before):
                return AddressPlan.of(before), held
            held.close()
        log.warning("127.%d.0.0/16 is used by %s: the sandbox moves to another block", before, holder(before))
    used = {one.block for one in _listeners()}
    # Sandboxes of different homes begin their search at different places, so that a stopped one seldom loses its block.
    start = int.from_bytes(hashlib.sha256(str(home).encode()).digest()[:4], "big")
    for step in range(len(NUMBERS)):
        number = NUMBERS[(start + step) % len(NUMBERS)]
        if number in used or (held := hold(number)) is None:
            continue
        try:
            kept.put(home / "number", str(number))
        except BaseException:
            held.close()
            raise
        return AddressPlan.of(number), held
    holders = collections.Counter(holder(number, command=False) for number in NUMBERS)
    said = ", ".join(f"{count} are used by {who}" for who, count in holders.most_common(5))
    raise SandboxError(
        f"no free block of loopback addresses (127.{NUMBERS[0]}.0.0/16 to 127.{NUMBERS[-1]}.0.0/16) is left on this "
        f"machine: of {len(NUMBERS)}, {said}",
        next_step=f"end sandboxes that nobody needs (`{program()} down --all`), or ask whoever has them to",
    )


def holder(number: int, *, command: bool = True) -> str:
    """Who uses the block 127.`number`.0.0/16, in words: the user, and the process if it can be seen.

    Args:
        number: Of the block.
        command: Whether to look for the process.
    """
    found = [one for one in _table("udp") if (one.block, one.port) == (number, HOLD_PORT)]
    found += [one for one in _listeners() if one.block == number]
    if not found:
        return "somebody who cannot be seen from here"
    user = _user(found[0].uid)
    process = _process(found[0].inode) if command else ""
    return f"{user}, {process}" if process else user


def _listeners() -> list[_Socket]:
    """Everything that listens in some block."""
    return [one for one in _table("tcp") if one.state == _LISTENING]


def _table(protocol: str) -> Iterator[_Socket]:
    """The sockets of this network namespace at addresses that sandboxes use."""
    try:
        lines = Path(f"/proc/net/{protocol}").read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        address, _, port = fields[1].partition(":")
        # 127.20.0.1 is written 0100147F.
        if address[6:] == "7F" and (block := int(address[4:6], 16)) in NUMBERS:
            yield _Socket(block, int(port, 16), fields[3], int(fields[7]), fields[9])


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user with uid {uid}"


def _process(inode: str) -> str:
    """The process that has a socket open; "" if it is not ours to see."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(one) == f"socket:[{inode}]" for one in (folder / "fd").iterdir()):
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                return f"process {folder.name} ({words[:200]})"
        except OSError:
            continue
    return ""
