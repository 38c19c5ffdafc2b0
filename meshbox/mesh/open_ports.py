# SPDX-License-Identifier: Apache-2.0
"""Which ports the applications behind sidecars listen on.

A pod's ports need not be declared anywhere, and elsewhere iptables hands the sidecar what comes for any of them. Here a
sidecar listens at its pod's address on the ports it is told of: so the kernel is asked who listens at the address where
applications behind sidecars do.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from meshbox import failures
from meshbox.addresses import LOW_PORT_SHIFT, AddressPlan

__all__ = ["OpenPorts", "listeners"]

PAUSE = 0.5
"""Seconds between looks: to the kernel it is one question, however many pods there are."""

_DIAG, _BY_FAMILY, _DONE, _ERROR = 4, 20, 3, 2
_REQUEST_AND_DUMP = 0x301
_LISTEN = 10
_REQUEST = struct.Struct("=IHHIIBBBBI48x")
_HEADER = struct.Struct("=IHHII")
_SOCKET = struct.Struct("=BBBB2s2s4s")
_OWNER, _OWNER_AT = struct.Struct("=I"), 80
_OURS = (0, os.geteuid())
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def listeners() -> Iterator[tuple[str, int]]:
    """Address and port of every IPv4 socket of this user's, or of root's, that takes connections.

    What somebody else listens at is no application of a pod, and no sidecar is to open a port for it.
    """
    try:
        yield from _diagnosed()
    except OSError:
        # This kernel does not answer such questions.
        yield from _listed()


def _diagnosed() -> Iterator[tuple[str, int]]:
    question = _REQUEST.pack(
        *(_REQUEST.size, _BY_FAMILY, _REQUEST_AND_DUMP, 0, 0),
        *(socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 1 << _LISTEN),
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _DIAG) as kernel:
        kernel.send(question)
        while True:
            # It answers while it is asked, and is never waited for.
            answer = kernel.recv(1 << 16, socket.MSG_DONTWAIT)
            at = 0
            while at + _HEADER.size <= len(answer):
                size, kind, *_ = _HEADER.unpack_from(answer, at)
                if kind == _DONE:
                    return
                if kind == _ERROR or size < _HEADER.size:
                    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
                *_, port, _, address = _SOCKET.unpack_from(answer, at + _HEADER.size)
                (uid,) = _OWNER.unpack_from(answer, at + _OWNER_AT)
                if uid in _OURS:
                    yield socket.inet_ntoa(address), int.from_bytes(port, "big")
                at += (size + 3) & ~3


def _listed() -> Iterator[tuple[str, int]]:
    try:
        lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if int(fields[3], 16) == _LISTEN and int(fields[7]) in _OURS:
            address, port = fields[1].split(":")
            yield socket.inet_ntoa(struct.pack("=I", int(address, 16))), int(port, 16)


class OpenPorts:
    """Keeps what applications listen on, by their pods' addresses.

    Args:
        plan: The sandbox's addresses.
        changed: Called when it is no more what it was.
        tell: Called with an error that nobody foresaw; looking goes on.
    """

    def __init__(self, plan: AddressPlan, changed: Callable[[], None], tell: failures.Tell) -> None:
        self._plan = plan
        self._changed = changed
        self._tell = tell
        self._task: asyncio.Task[None] | None = None
        self.now: dict[str, tuple[int, ...]] = {}

    def start(self) -> None:
        """Look, and go on looking."""
        self._task = failures.minded(self._follow(), self._tell)

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            with failures.spared(self._tell):
                found = self.look()
                if found != self.now:
                    self.now = found
                    self._changed()
            await asyncio.sleep(PAUSE)

    def look(self) -> dict[str, tuple[int, ...]]:
        """What is listened on at this moment: pod address → ports, as the applications know them.

        Ports that the kernel gives out are left out: they are somebody's for a moment only.
        """
        first_given = _first_given()
        found: dict[str, set[int]] = {}
        for address, port in listeners():
            pod = self._pod(address)
            if pod and port < first_given:
                shifted = port - LOW_PORT_SHIFT
                found.setdefault(pod, set()).add(shifted if self._plan.port(max(shifted, 0)) == port else port)
        return {pod: tuple(sorted(ports)) for pod, ports in found.items()}

    def _pod(self, local: str) -> str:
        """The pod whose localhost an address is; empty where it is none's."""
        a, b, c, d = local.split(".")
        pod = f"{a}.{b}.{int(c) - 64}.{d}"
        inside = (a, int(b)) == ("127", self._plan.number) and 128 <= int(c) < 192
        return pod if inside and self._plan.local(pod) == local else ""


def _first_given() -> int:
    try:
        return int(_RANGE.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 32768
