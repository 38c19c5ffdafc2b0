# SPDX-License-Identifier: Apache-2.0
"""``kubectl port-forward``: connections to a pod's ports, over SPDY (native or in a WebSocket) or numbered channels."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable

from aiohttp import web

from meshbox import failures
from meshbox.api.streams.container import node_required
from meshbox.api.streams.peers import Channels
from meshbox.api.streams.spdy import SpdyConnection, SpdyStream
from meshbox.api.streams.upgrade import open_spdy, open_websocket, spdy_protocol, wants_websocket, websocket_protocol
from meshbox.api.streams.wire import WebSocketWire, Wire
from meshbox.contracts import ApiError, ByteStream, Obj, PodRuntime

__all__ = ["serve_portforward"]

_TUNNEL = "SPDY/3.1+portforward.k8s.io"
_CHANNELS = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io")
_SPDY = ("portforward.k8s.io",)


async def serve_portforward(request: web.Request, runtime: PodRuntime, pod: Obj) -> web.StreamResponse:
    """Connect the client to ports of the pod.

    Raises:
        ApiError: 400 or 403, before the upgrade.
    """
    node_required(pod)
    forward = _Forward(runtime, pod)
    if not wants_websocket(request):
        wire, answer = await open_spdy(request, spdy_protocol(request, _SPDY))
        await forward.tunnel(wire)
        return answer
    protocol = websocket_protocol(request, (_TUNNEL, *_CHANNELS))
    if protocol == _TUNNEL:
        socket = await open_websocket(request, protocol)
        await forward.tunnel(WebSocketWire(socket))
    else:
        ports = _ports(request)
        socket = await open_websocket(request, protocol)
        await forward.channels(Channels(socket, protocol), ports)
    return socket


def _port(text: str) -> int:
    """Raises ValueError, in the kubelet's words."""
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise ValueError(f'unable to parse "{text}" as a port: strconv.ParseUint: parsing "{text}": invalid syntax')
    if text.strip("0") == "":
        raise ValueError(f'port "{text}" must be > 0')
    return int(text)


def _ports(request: web.Request) -> list[int]:
    values = request.query.getall("ports", [])
    if not values:
        raise ApiError(400, "BadRequest", 'query parameter "ports" is required')
    try:
        return [_port(text) for value in values for text in value.split(",")]
    except ValueError as error:
        raise ApiError(400, "BadRequest", str(error)) from None


class _Forward:
    def __init__(self, runtime: PodRuntime, pod: Obj) -> None:
        self._runtime = runtime
        self._metadata = pod["metadata"]
        self._tasks: set[asyncio.Task[None]] = set()

    async def _connect(self, port: int) -> ByteStream:
        """Raises ConnectionError, in the kubelet's words."""
        try:
            return await self._runtime.connect(self._metadata["namespace"], self._metadata["name"], port)
        except ConnectionRefusedError:
            reason = f"dial tcp4 127.0.0.1:{port}: connect: connection refused"
        except (ApiError, OSError) as error:
            reason = error.message if isinstance(error, ApiError) else str(error)
        about = f"error forwarding port {port} to pod {self._metadata['name']}, uid {self._metadata.get('uid', '')}"
        raise ConnectionError(f"{about}: {reason}")

    async def tunnel(self, wire: Wire) -> None:
        """Serve SPDY: for each connection of the client's a stream of data and one of errors, with one request id."""
        halves: dict[str, SpdyStream] = {}

        def accept(stream: SpdyStream) -> None:
            kind, request_id = stream.headers.get("streamtype", ""), stream.headers.get("requestid", "")
            if kind not in ("data", "error"):
                raise ValueError(f"invalid stream type {kind!r}")
            port = _port(stream.headers.get("port", ""))
            # Old clients send no id, but open the stream of errors right before that of data.
            request_id = request_id or str(stream.number - 2 * (kind == "data"))
            other = halves.pop(request_id, None)
            if other is None:
                halves[request_id] = stream
                return
            if other.headers["streamtype"] == kind:
                raise ValueError(f"{kind} stream already assigned")
            pair = (stream, other) if kind == "data" else (other, stream)
            task = asyncio.ensure_future(self._pair(port, *pair))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        try:
            await SpdyConnection(wire, accept).run()
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pair(self, port: int, data: SpdyStream, errors: SpdyStream) -> None:
        # The client's end going away is the regular end of a forward.
        with contextlib.suppress(ConnectionError):
            try:
                pod = await self._connect(port)
            except ConnectionError as error:
                await errors.write(str(error).encode())
                await errors.close()
                await data.reset()
                return
            except Exception as error:
                await errors.write(failures.noted(error, f"port {port} could not be forwarded").encode())
                await errors.close()
                await data.reset()
                return
            await _splice(pod, data.read, data.write, data.close, was_reset=lambda: data.was_reset)
            data.discard()
            await data.close()
            await errors.close()

    async def channels(self, channels: Channels, ports: list[int]) -> None:
        """Serve numbered channels: port i has data on 2i and errors on 2i + 1."""
        inbound: list[asyncio.Queue[bytes]] = [asyncio.Queue(maxsize=4) for _ in ports]
        served = [asyncio.ensure_future(self._channel(channels, n, port, inbound[n])) for n, port in enumerate(ports)]
        receiving = asyncio.ensure_future(_receive(channels, inbound))
        ended = asyncio.ensure_future(asyncio.wait(served))
        try:
            await asyncio.wait({ended, receiving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*served, receiving, ended):
                task.cancel()
            await asyncio.gather(*served, receiving, ended, return_exceptions=True)
        await channels.close()

    async def _channel(self, channels: Channels, number: int, port: int, inbound: asyncio.Queue[bytes]) -> None:
        async def end() -> None:
            """The protocol has no way to say that one of several ports has ended."""

        async def write(data: bytes) -> None:
            await channels.send(2 * number, data)

        for channel in (2 * number, 2 * number + 1):
            await channels.send(channel, struct.pack("<H", port))
        try:
            pod = await self._connect(port)
        except ConnectionError as error:
            await channels.send(2 * number + 1, str(error).encode())
            return
        except Exception as error:
            said = failures.noted(error, f"port {port} could not be forwarded")
            await channels.send(2 * number + 1, said.encode())
            return
        await _splice(pod, inbound.get, write, end)


async def _receive(channels: Channels, inbound: list[asyncio.Queue[bytes]]) -> None:
    while (message := await channels.receive()) is not None:
        channel, data = message
        if data and channel % 2 == 0 and channel // 2 < len(inbound):
            await inbound[channel // 2].put(data)


async def _splice(
    pod: ByteStream,
    read: Callable[[], Awaitable[bytes]],
    write: Callable[[bytes], Awaitable[None]],
    end: Callable[[], Awaitable[None]],
    *,
    was_reset: Callable[[], bool] = lambda: False,
) -> None:
    """Relay between the client and a connection to the pod, until the pod has no more to say or the client is gone."""

    async def to_pod() -> None:
        while data := await read():
            await pod.write(data)
        if was_reset():
            pod.close()
        else:
            await pod.write_eof()

    async def to_client() -> None:
        while data := await pod.read():
            await write(data)
        await end()

    sending, receiving = asyncio.ensure_future(to_pod()), asyncio.ensure_future(to_client())
    try:
        await asyncio.wait({receiving})
    finally:
        for task in (sending, receiving):
            task.cancel()
        results = await asyncio.gather(sending, receiving, return_exceptions=True)
        pod.close()
    for result in results:
        # A connection that breaks on either side has ended, no more.
        if isinstance(result, Exception) and not isinstance(result, OSError):
            raise result
