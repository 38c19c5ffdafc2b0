# SPDX-License-Identifier: Apache-2.0
"""``kubectl exec``: a command's streams, relayed to the client."""

from __future__ import annotations

import asyncio

from aiohttp import web

from meshbox import failures
from meshbox.api import refusals
from meshbox.api.streams.container import chosen_container, node_required
from meshbox.api.streams.peers import ERROR, RESIZE, STDERR, STDIN, STDOUT, Peer, SocketPeer, SpdyPeer
from meshbox.api.streams.upgrade import flag, wants_websocket
from meshbox.contracts import ApiError, ExecSession, Obj, PodRuntime

__all__ = ["SilentSession", "converse", "requested_streams", "serve_exec"]

_DRAIN = 1.0
"""Seconds without output after which an ended command's streams count as ended, though a child still holds them."""


async def serve_exec(request: web.Request, runtime: PodRuntime, pod: Obj) -> web.StreamResponse:
    """Run a command in a container, its streams connected to the client.

    Raises:
        ApiError: 400, 403 or 404, before the upgrade.
    """
    streams = requested_streams(request)
    container = chosen_container(pod, request.query.get("container", ""))
    node_required(pod)
    command = request.query.getall("command", [])
    if not command:
        raise ApiError(400, "BadRequest", "you must specify at least one command for the container")
    metadata = pod["metadata"]
    try:
        session = await runtime.exec(
            metadata["namespace"],
            metadata["name"],
            container,
            command,
            stdin=STDIN in streams,
            tty=RESIZE in streams,
        )
    except ApiError as error:
        if error.code < 500:
            raise
        # The command itself could not start, which a client learns on the stream, as from a container runtime.
        return await converse(request, streams, _Failed(error))
    return await converse(request, streams, session, command)


def requested_streams(request: web.Request) -> set[int]:
    """The channels that the query asks for; RESIZE among them means a terminal.

    Raises:
        ApiError: 400 where there is none, 403 where the client's protocols are unknown.
    """
    (SocketPeer if wants_websocket(request) else SpdyPeer).protocol(request)
    names = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR}
    streams = {channel for name, channel in names.items() if flag(request, name)}
    if flag(request, "tty"):
        # A terminal has one output.
        streams = (streams - {STDERR}) | {RESIZE}
    if not streams & {STDIN, STDOUT, STDERR}:
        raise ApiError(400, "BadRequest", "you must specify at least 1 of stdin, stdout, stderr")
    return streams | {ERROR}


async def converse(
    request: web.Request, streams: set[int], session: ExecSession, command: list[str] | None = None
) -> web.StreamResponse:
    """Upgrade, and connect the client with `session` until one of them ends; a vanished client ends `session`.

    Raises:
        ApiError: 403 where the client's protocols are unknown.
    """
    ended = False
    try:
        peer: Peer
        if wants_websocket(request):
            peer, response = await SocketPeer.open(
                request, stdin=STDIN in streams, first=min(streams & {STDOUT, STDERR, ERROR})
            )
        else:
            peer, response = await SpdyPeer.open(request, streams)
        ended = await _relay(peer, session, streams, command or [])
    except ConnectionError:
        # The client went away, which needs no answer.
        return web.Response(status=499)
    finally:
        if not ended:
            session.kill()
    return response


async def _relay(peer: Peer, session: ExecSession, streams: set[int], command: list[str]) -> bool:
    """Connect the client and the command until one of them ends; whether the command did."""
    receiving = asyncio.ensure_future(peer.receive(session))
    running = asyncio.ensure_future(_run(peer, session, streams, command))
    try:
        await asyncio.wait({receiving, running}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            error = receiving.exception()
            if isinstance(error, Exception) and not isinstance(error, OSError):
                failures.noted(error, "a client's input could not be read")
            return False
        status = running.result()
    finally:
        for task in (receiving, running):
            task.cancel()
        await asyncio.gather(receiving, running, return_exceptions=True)
    try:
        await peer.finish(status)
    except ConnectionError:
        # Gone before it heard how the command ended.
        pass
    return True


async def _run(peer: Peer, session: ExecSession, streams: set[int], command: list[str]) -> Obj:
    """Relay the output until it ends; the Status that says how the command ended."""
    progress = [0]
    reads = {STDOUT: session.read_stdout, STDERR: session.read_stderr}
    if RESIZE in streams:
        del reads[STDERR]

    async def pump(channel: int) -> None:
        while data := await reads[channel]():
            progress[0] += len(data)
            if channel in streams:
                await peer.send(channel, data)

    pumps = {asyncio.ensure_future(pump(channel)) for channel in reads}
    try:
        try:
            code = await session.wait()
        except ApiError as error:
            return error.status()
        except Exception as error:
            return refusals.internal(error, "a command's end could not be waited for").status()
        seen, pending = -1, pumps
        while pending and seen != progress[0]:
            seen = progress[0]
            _, pending = await asyncio.wait(pending, timeout=_DRAIN)
        for done in pumps - pending:
            met = done.exception()
            if isinstance(met, ConnectionError):
                raise met
            if isinstance(met, Exception):
                return refusals.internal(met, "a command's output could not be read").status()
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
    return _status(code, command)


def _status(code: int, command: list[str]) -> Obj:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    message = f"error executing command [{' '.join(command)}], exit code {code}"
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: {message}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


class SilentSession:
    """What is common to sessions that are no command of their own: nothing to write to, size or end."""

    async def read_stdout(self) -> bytes:
        """No output."""
        return b""

    async def read_stderr(self) -> bytes:
        """No output."""
        return b""

    async def write_stdin(self, data: bytes) -> None:
        """Dropped."""

    async def close_stdin(self) -> None:
        """Of no effect."""

    def resize(self, width: int, height: int) -> None:
        """Of no effect."""

    async def wait(self) -> int:
        """Success."""
        return 0

    def kill(self) -> None:
        """Nothing to end."""


class _Failed(SilentSession):
    """A command that could not start."""

    def __init__(self, error: ApiError) -> None:
        self._error = error

    async def wait(self) -> int:
        raise self._error
