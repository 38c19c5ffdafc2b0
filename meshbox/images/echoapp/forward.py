# SPDX-License-Identifier: Apache-2.0
"""The echo application's method ForwardEcho: it calls others in the caller's place, and tells what they answered."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from meshbox.images.echoapp.answers import ECHO
from meshbox.images.grpc import client, wire
from meshbox.images.grpc.server import INTERNAL, INVALID_ARGUMENT, UNIMPLEMENTED, Call, CallError

__all__ = ["FORWARD", "Asked", "answers", "forward"]

FORWARD = "/proto.EchoTestService/ForwardEcho"
_NUMBERS: Mapping[int, str] = {1: "count", 2: "qps", 3: "timeout_micros"}
_TEXTS: Mapping[int, str] = {4: "url", 6: "message", 9: "method"}
_NOT_HERE: Mapping[int, str] = {7: "http2", 8: "serverFirst", 15: "http3", 24: "hbone", 25: "proxyProtocolVersion",
                                27: "double_hbone"}  # fmt: skip
_LONGEST = 30.0
_MOST = 10_000


@dataclass
class Asked:
    """What is to be called.

    Args:
        url: "http://…", "grpc://…" or "tcp://…".
        count: How often.
        qps: How often a second at most; 0 for no bound.
        timeout_micros: Microseconds for each call; 0 for the longest.
        headers: Sent along.
        message: What is sent.
        method: Of HTTP.
    """

    url: str = ""
    count: int = 1
    qps: int = 0
    timeout_micros: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    message: str = ""
    method: str = "GET"

    @property
    def seconds(self) -> float:
        """For each call."""
        return self.timeout_micros / 1e6 or _LONGEST

    @classmethod
    def read(cls, message: bytes) -> Asked:
        """Read a ForwardEchoRequest.

        Raises:
            CallError: it is none, or asks for what is not played.
        """
        found = cls()
        try:
            for number, value in wire.fields(message):
                if number in _NOT_HERE and value:
                    raise CallError(UNIMPLEMENTED, f"{_NOT_HERE[number]} is not played by the sandbox")
                if isinstance(value, int):
                    if name := _NUMBERS.get(number):
                        setattr(found, name, wire.signed(value))
                elif name := _TEXTS.get(number):
                    setattr(found, name, value.decode(errors="replace"))
                elif number == 5:
                    pair = {n: one.decode(errors="replace") for n, one in wire.fields(value) if isinstance(one, bytes)}
                    found.headers.append((pair.get(1, ""), pair.get(2, "")))
        except wire.WireError as error:
            raise CallError(INVALID_ARGUMENT, str(error)) from error
        if found.count > _MOST:
            raise CallError(INVALID_ARGUMENT, f"count {found.count} is more than {_MOST}")
        found.count, found.method = max(found.count, 1), found.method or "GET"
        return found


def forward(call: Call) -> bytes:
    """The method.

    Raises:
        CallError: whoever was called did not answer.
    """
    return b"".join(wire.length(1, one.encode()) for one in answers(Asked.read(call.message)))


def answers(asked: Asked) -> list[str]:
    """What was answered to each of the calls.

    Raises:
        CallError: whoever was called did not answer.
    """
    scheme = urlsplit(asked.url).scheme
    if scheme not in _CALLS:
        words = "proxyless gRPC (xds:///) is not played by the sandbox: use grpc://" if scheme == "xds" else ""
        raise CallError(UNIMPLEMENTED, words or f"scheme {scheme!r} is not played by the sandbox: {', '.join(_CALLS)}")
    output = []
    for number in range(asked.count):
        began = time.monotonic()
        try:
            head, body = _CALLS[scheme](asked)
        except (OSError, http.client.HTTPException, CallError) as error:
            raise CallError(INTERNAL, f"{number}/{asked.count} requests had errors; first error: {error}") from error
        lines = [*(f"[{number}] {line}" for line in head), *(f"[{number} body] {line}" for line in body)]
        output.append("".join(f"{line}\n" for line in lines))
        if asked.qps > 0 and number + 1 < asked.count:
            time.sleep(max(0.0, 1 / asked.qps - (time.monotonic() - began)))
    return output


_Answer = tuple[Iterable[str], Iterable[str]]


def _http(asked: Asked) -> _Answer:
    url = urlsplit(asked.url)
    target = f"{url.path or '/'}{f'?{url.query}' if url.query else ''}"
    headers = dict(asked.headers)
    host = next((headers.pop(name) for name in list(headers) if name.lower() == "host"), url.netloc)
    connection = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=asked.seconds)
    try:
        connection.request(asked.method, target, asked.message.encode() or None, {"Host": host, **headers})
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace").splitlines()
    finally:
        connection.close()
    told = [f"Url={asked.url}", *(f"Header={name}:{value}" for name, value in asked.headers)]
    got = [f"ResponseHeader={name}:{value}" for name, value in sorted(answer.getheaders())]
    return [*told, f"StatusCode={answer.status}", *got], body


def _grpc(asked: Asked) -> _Answer:
    where = urlsplit(asked.url).netloc
    headers = [(name.lower(), value) for name, value in asked.headers]
    told = wire.text(1, asked.message)
    answer = client.call(where, ECHO, told, headers=headers, seconds=asked.seconds)
    said = next((one for number, one in wire.fields(answer) if number == 1 and isinstance(one, bytes)), b"")
    return [f"grpcecho.Echo({asked.message})"], said.decode(errors="replace").splitlines()


def _tcp(asked: Asked) -> _Answer:
    url = urlsplit(asked.url)
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=asked.seconds) as connection:
        connection.sendall(f"{asked.message or 'HelloWorld'}\n".encode())
        got = b""
        while data := connection.recv(65536):
            got += data
    return [f"Url={asked.url}"], got.decode(errors="replace").splitlines()


_CALLS: Mapping[str, Callable[[Asked], _Answer]] = {"http": _http, "grpc": _grpc, "tcp": _tcp}
