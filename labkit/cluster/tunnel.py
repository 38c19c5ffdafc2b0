# SPDX-License-Identifier: Apache-2.0
"""Connections to ports of pods, each a WebSocket of the API server's, in the API's own words (`v4.channel.k8s.io`).

The official client's own port-forward drops what it has not passed on when the other side closes, and while one is
opened no other thread may ask. So what is taken of it is how one logs in.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from websocket import ABNF, WebSocketConnectionClosedException, WebSocketException

from labkit.cluster.client import Client

__all__ = ["Stream", "relay"]

_PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1
_BLOCK = 65536
_MOST = 4 * _BLOCK
"""Bytes that may wait for either side, before no more are taken from the other."""

_GONE = 2.0
"""Seconds between two looks whether a client that sends no more is still there."""

_LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Stream:
    """A connection to a port of a pod, as bytes. Once it is made, nothing here waits for the other side.

    Args:
        client: The way to the cluster.
        namespace: The pod's.
        pod: Its name.
        port: The port.

    Raises:
        OSError: It does not come about.
    """

    def __init__(self, client: Client, namespace: str, pod: str, port: int) -> None:
        path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/portforward?ports={port}"
        self._made = client.websocket(path, _PROTOCOL)
        self.way: Any = self._made.sock
        self.way.setblocking(False)
        self.waiting = bytearray()
        """What is still to be sent."""
        self._message = bytearray()
        self._begun: set[int] = set()

    def add(self, data: bytes) -> None:
        """Have data sent by and by."""
        if data:
            self.waiting += ABNF.create_frame(bytes([_DATA]) + data, ABNF.OPCODE_BINARY).format()

    def flush(self) -> None:
        """Send what can be sent now."""
        with contextlib.suppress(*_LATER):
            while self.waiting:
                del self.waiting[: self.way.send(self.waiting[:_BLOCK])]

    def come(self) -> Iterator[bytes]:
        """What has come; b"" at the end.

        Raises:
            ConnectionError: With what the cluster says of it.
        """
        while True:
            try:
                # Half a frame is kept until the rest has come.
                frame = self._made.recv_frame()
            except _LATER:
                return
            except WebSocketConnectionClosedException:
                yield b""
                return
            except WebSocketException as error:
                raise ConnectionError(str(error)) from error
            if frame.opcode == ABNF.OPCODE_PING:
                self.waiting += ABNF.create_frame(frame.data, ABNF.OPCODE_PONG).format()
            elif frame.opcode == ABNF.OPCODE_CLOSE:
                yield b""
                return
            else:
                self._message += frame.data
                if frame.fin and self._message:
                    whole, self._message = bytes(self._message), bytearray()
                    yield from self._content(whole[0], whole[1:])

    def _content(self, channel: int, data: bytes) -> Iterator[bytes]:
        if channel not in self._begun:
            # Each channel begins with the port that it belongs to.
            self._begun.add(channel)
        elif channel == _ERROR:
            raise ConnectionError(data.decode(errors="replace"))
        elif data:
            yield data

    def close(self) -> None:
        """End it, in both directions at once."""
        self.way.close()


def relay(client: socket.socket, pod: Stream, there: Callable[[], bool]) -> None:
    """Pass on what comes on either side, until the pod's side ends or the client is gone.

    The protocol cannot say that nothing more comes; a client that only listens now is still served. One that has gone
    altogether looks the same for a moment, and would keep a silent pod's connection for good.

    Args:
        client: The connection that was accepted.
        pod: The one to the pod.
        there: Whether the client is still there.

    Raises:
        OSError: Either of them broke.
    """
    client.setblocking(False)
    back = bytearray()
    sends, ended, more = True, False, False
    with selectors.DefaultSelector() as selector:
        while not ended or back:
            takes, reads = sends and len(pod.waiting) < _MOST, not ended and len(back) < _MOST
            _watch(selector, client, takes, bool(back))
            _watch(selector, pod.way, reads, bool(pod.waiting))
            # Of what TLS has read ahead no selector knows.
            selector.select(0 if more and reads else None if sends else _GONE)
            with contextlib.suppress(*_LATER):
                if takes:
                    data = client.recv(_BLOCK)
                    sends = bool(data)
                    pod.add(data)
            if not sends and not there():
                return
            pod.flush()
            more = more and not reads
            for data in pod.come() if reads else ():
                back += data
                ended, more = not data, len(back) >= _MOST
                if ended or more:
                    break
            if ended:
                pod.waiting.clear()
            with contextlib.suppress(*_LATER):
                while back:
                    del back[: client.send(back[:_BLOCK])]


def _watch(selector: selectors.BaseSelector, what: Any, reads: bool, writes: bool) -> None:
    """Wait for this of a socket; for nothing, where neither is wanted."""
    events = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if writes else 0)
    known = selector.get_map().get(what)
    if known is None and events:
        selector.register(what, events)
    elif known is not None and not events:
        selector.unregister(what)
    elif known is not None and known.events != events:
        selector.modify(what, events)
