# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of a connection on this machine: the user's own processes, or another login's.

Loopback ports have no owner: every login of a machine can connect to them. The kernel knows which user each socket
belongs to and says so to anybody, for Unix sockets by SO_PEERCRED, for TCP by its socket diagnosis (netlink) or, where
that is missing, in /proc/net/tcp. So a server looks once for each connection that it takes.

The user's own processes and root are let in; root could read this process's memory anyway. A peer that is gone again
has no owner any more and is refused: a stranger may have sent a request and left.

Standard library only: programs in pods load this file by its path.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from typing import Any

__all__ = ["able", "ours", "owner", "welcome"]

_DIAG = 4
_BY_FAMILY = 20
_LISTEN = 10
_REQUEST = struct.Struct("=IHHII BBBxI 2s2s16s16sIII")
_ANSWER = struct.Struct("=IHHII BBBB 2s2s16s16s12x III II")
_MAPPED = bytes(10) + b"\xff\xff"

_diagnosed = False
"""Whether the kernel's socket diagnosis has found a connection already: then what it does not find is not there."""


def welcome(uid: int | None) -> bool:
    """Whether the owner of a connection's other end may talk to us; None is an owner that nobody knows."""
    return uid is not None and uid in (0, os.geteuid())


def ours(connection: Any) -> bool:
    """Whether the other end of an accepted connection is a process of this user, or root's.

    Args:
        connection: A connected socket.
    """
    if not sys.platform.startswith("linux"):
        # Elsewhere nobody can tell, and no sandbox runs.
        return True
    try:
        if connection.family == socket.AF_UNIX:
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            return welcome(struct.unpack("3i", credentials)[1])
        return welcome(owner(connection.getpeername(), connection.getsockname()))
    except OSError:
        # It is gone already.
        return False


def able(host: str = "127.0.0.1") -> bool:
    """Whether this system tells whose a connection is; where it does not, nobody is let in.

    Args:
        host: A loopback address to try it at.
    """
    try:
        with socket.create_server((host, 0)) as listener, socket.create_connection(listener.getsockname(), 5):
            accepted, _ = listener.accept()
            with accepted:
                return ours(accepted)
    except OSError:
        return False


def owner(end: tuple[Any, ...], other: tuple[Any, ...]) -> int | None:
    """The user id that one end of a TCP connection on this machine belongs to.

    Args:
        end: Address and port of the end that is asked for.
        other: Address and port of its other end.

    Returns:
        None if there is no such end here, or no process has it any more.
    """
    global _diagnosed
    here, there = _packed(end[0]), _packed(other[0])
    try:
        found = _diagnosis(here, int(end[1]), there, int(other[1]))
        _diagnosed = True
        return found
    except OSError as error:
        if _diagnosed and error.errno == errno.ENOENT:
            return None
    return _listed(here, int(end[1]), there, int(other[1]))


def _packed(host: str) -> bytes:
    """An address in four bytes, or in sixteen; IPv4 written as IPv6 is IPv4."""
    if ":" not in host:
        return socket.inet_aton(host)
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return packed[12:] if packed.startswith(_MAPPED) else packed


def _diagnosis(here: bytes, port: int, there: bytes, other_port: int) -> int | None:
    """Ask the kernel for this one socket.

    Raises:
        OSError: ENOENT: there is none; others: this kernel does not answer such questions.
    """
    family = socket.AF_INET if len(here) == 4 else socket.AF_INET6
    ports = struct.pack("!H", port), struct.pack("!H", other_port)
    question = _REQUEST.pack(
        *(_REQUEST.size, _BY_FAMILY, 1, 0, 0),
        *(family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF),
        *(*ports, here, there, 0, 0xFFFFFFFF, 0xFFFFFFFF),
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _DIAG) as kernel:
        kernel.send(question)
        # It answers while it is asked. One that has not is not waited for: a whole server would wait.
        answer = kernel.recv(4096, socket.MSG_DONTWAIT)
    if len(answer) < _ANSWER.size:
        code = struct.unpack_from("=i", answer, 16)[0] if len(answer) >= 20 else -errno.EPROTO
        raise OSError(-code, os.strerror(-code))
    _, kind, _, _, _, _, state, _, _, sport, dport, src, dst, *_, uid, inode = _ANSWER.unpack_from(answer)
    if kind != _BY_FAMILY:
        code = struct.unpack_from("=i", answer, 16)[0]
        raise OSError(-code, os.strerror(-code))
    # Where there is no such connection the kernel answers with who listens at that address.
    if state == _LISTEN or (sport, dport) != ports or not (_same(src, here) and _same(dst, there)):
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    # A socket that no process has any more says that it is root's.
    return int(uid) if inode else None


def _same(field: bytes, address: bytes) -> bool:
    return field[: len(address)] == address or field == _MAPPED + address


def _listed(here: bytes, port: int, there: bytes, other_port: int) -> int | None:
    """The same from /proc/net/tcp, which grows with the connections of the whole machine."""
    forms = {"tcp": (here, there), "tcp6": tuple(a if len(a) == 16 else _MAPPED + a for a in (here, there))}
    for name, (one, two) in forms.items():
        wanted = [f"{_hexadecimal(one)}:{port:04X}", f"{_hexadecimal(two)}:{other_port:04X}"]
        try:
            with open(f"/proc/net/{name}", encoding="ascii") as table:
                for line in table:
                    fields = line.split()
                    if fields[1:3] == wanted:
                        return int(fields[7]) if fields[9] != "0" else None
        except OSError:
            continue
    return None


def _hexadecimal(address: bytes) -> str:
    """An address as /proc/net/tcp writes it: each four bytes as one number of this machine."""
    return "".join(f"{number:08X}" for number in struct.unpack(f"={len(address) // 4}I", address))
