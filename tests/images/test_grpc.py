# SPDX-License-Identifier: Apache-2.0
"""gRPC with the standard library: the wire format, headers, and calls over real connections."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from meshbox.images.grpc import client, hpack, wire
from meshbox.images.grpc import server as grpc
from meshbox.images.grpc.frames import PREFACE, Connection, Stream

ECHO = "/test.Service/Twice"


def twice(call: grpc.Call) -> bytes:
    if call.message == b"no":
        raise grpc.CallError(grpc.INVALID_ARGUMENT, "100% no: ñ")
    return call.message * 2 + call.headers.get("more", "").encode()


@pytest.fixture
def where() -> Iterator[str]:
    server = grpc.listen(0, {ECHO: twice}, "127.0.0.1")
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


# RFC 7541, appendix C: a connection's three requests, and its three responses with a table of 256 bytes.
REQUESTS = (
    ("828684418cf1e3c2e5f23a6ba0ab90f4ff", [(":authority", "www.example.com")]),
    ("828684be5886a8eb10649cbf", [(":authority", "www.example.com"), ("cache-control", "no-cache")]),
)


def test_headers_are_read_as_the_rfcs_own_examples() -> None:
    decoder = hpack.Decoder()
    first = [(":method", "GET"), (":scheme", "http"), (":path", "/")]
    for block, rest in REQUESTS:
        assert decoder.read(bytes.fromhex(block)) == [*first, *rest]
    third = "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"
    assert decoder.read(bytes.fromhex(third)) == [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ]


def test_what_is_written_is_read_again() -> None:
    headers = [("a", ""), ("long", "x" * 5000), (":path", "/b?c=d")]
    assert hpack.Decoder().read(hpack.encoded(headers)) == headers


@pytest.mark.parametrize("block", ["bf", "80", "7fffffffffffff", "0001", "00ff", "3fe21f", "00017f05"])
def test_bytes_that_are_no_headers_are_refused(block: str) -> None:
    with pytest.raises(hpack.HeaderError):
        hpack.Decoder().read(bytes.fromhex(block))


def test_more_headers_than_are_taken_are_refused() -> None:
    with pytest.raises(hpack.HeaderError, match="too large"):
        hpack.Decoder(most=100).read(hpack.encoded([("a", "x" * 100)]))


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**63, 2**64 - 1])
def test_whole_numbers(value: int) -> None:
    assert list(wire.fields(wire.number(3, value))) == [(3, value)]
    assert wire.signed(value) == (value if value < 2**63 else value - 2**64)
    assert list(wire.fields(wire.fixed64(4, value))) == [(4, struct.pack("<Q", value))]


@pytest.mark.parametrize("message", [b"\x0a", b"\x0a\x05abc", b"\xff" * 12, b"\x0f", b"\x0d\x00"])
def test_bytes_that_are_no_message_are_refused(message: bytes) -> None:
    with pytest.raises(wire.WireError):
        list(wire.fields(message))


@pytest.mark.parametrize("size", [0, 1, 16_384, 70_000, 1_000_000])
def test_a_call_is_answered_whatever_its_size(where: str, size: int) -> None:
    assert client.call(where, ECHO, b"a" * size, headers=[("more", "!")]) == b"a" * size * 2 + b"!"


@pytest.mark.parametrize(
    ("path", "message", "code", "words"),
    [
        (ECHO, b"no", 3, "100% no: ñ"),
        ("/test.Service/Thrice", b"", 12, "unknown method Thrice for service test.Service"),
        ("/other.Service/Twice", b"", 12, "unknown service other.Service"),
    ],
)
def test_a_call_that_fails_says_why(where: str, path: str, message: bytes, code: int, words: str) -> None:
    with pytest.raises(grpc.CallError) as failed:
        client.call(where, path, message)
    assert (failed.value.code, failed.value.words) == (code, words)


def test_who_cannot_be_asked_is_unavailable() -> None:
    # A port that nobody listens at, and that nobody else is given meanwhile.
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(grpc.CallError) as failed:
            client.call(f"127.0.0.1:{closed.getsockname()[1]}", ECHO, b"")
    assert failed.value.code == grpc.UNAVAILABLE
    with socket.create_server(("127.0.0.1", 0)) as other:
        where = f"127.0.0.1:{other.getsockname()[1]}"

        def hang_up() -> None:
            other.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(grpc.CallError) as failed:
            client.call(where, ECHO, b"")
        thread.join()
    assert failed.value.code == grpc.UNAVAILABLE


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        PREFACE + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
        PREFACE + b"\x00\x00\x01\x01\x04\x00\x00\x00\x01\xbf",
        PREFACE + b"\x00\x00\x01\x09\x04\x00\x00\x00\x01\x82",
    ],
)
def test_what_is_no_http2_ends_the_connection_and_nothing_else(where: str, sent: bytes) -> None:
    host, _, port = where.partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(sent)
        while connection.recv(4096):
            pass
    assert client.call(where, ECHO, b"b") == b"bb"


@pytest.mark.parametrize(
    ("body", "encoding", "code"),
    [
        (b"", "", 13),
        (b"\x00\x00\x00\x00\x02a", "", 12),
        (b"\x01\x00\x00\x00\x01a", "br", 12),
        (b"\x01\x00\x00\x00\x01a", "gzip", 13),
    ],
)
def test_a_body_that_holds_no_message(body: bytes, encoding: str, code: int) -> None:
    with pytest.raises(grpc.CallError) as failed:
        grpc.unframed(body, encoding)
    assert failed.value.code == code


# --- conversations: messages are answered while the other side goes on asking ------------------------------


@pytest.fixture
def talk() -> Iterator[tuple[Connection, Stream]]:
    """A stream to a method that converses, of which nothing has ended yet."""
    server = grpc.listen(0, {}, "127.0.0.1", conversations={ECHO: twice})
    with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=60) as plain:
        connection = Connection(plain, accepts=False)
        plain.sendall(PREFACE)
        connection.begin()
        about = [(":method", "POST"), (":scheme", "http"), (":path", ECHO), ("content-type", "application/grpc")]
        yield connection, connection.open(1, about)
    server.shutdown()
    server.server_close()


def answer(connection: Connection, stream: Stream) -> bytes:
    while (message := grpc.taken(stream.body)) is None:
        assert connection.step()
    return message


def test_each_message_of_a_conversation_is_answered_as_it_comes(talk: tuple[Connection, Stream]) -> None:
    connection, stream = talk
    connection.data(stream, grpc.framed(b"a"), end=False)
    assert answer(connection, stream) == b"aa"
    both = grpc.framed(b"b") + grpc.framed(b"c")
    connection.data(stream, both[:3], end=False)
    connection.data(stream, both[3:], end=False)
    assert [answer(connection, stream), answer(connection, stream)] == [b"bb", b"cc"]
    assert not stream.ended
    connection.data(stream, b"", end=True)
    while not stream.ended:
        assert connection.step()
    assert dict(stream.trailers) == {"grpc-status": "0"}


def test_a_conversation_ends_with_what_is_refused(talk: tuple[Connection, Stream]) -> None:
    connection, stream = talk
    connection.data(stream, grpc.framed(b"a"), end=False)
    connection.data(stream, grpc.framed(b"no"), end=False)
    while not stream.ended:
        assert connection.step()
    assert grpc.taken(stream.body) == b"aa"
    assert dict(stream.trailers)["grpc-status"] == "3"


def test_packed_messages_are_not_taken_in_a_conversation(talk: tuple[Connection, Stream]) -> None:
    connection, stream = talk
    connection.data(stream, b"\x01" + grpc.framed(b"a")[1:], end=False)
    while not stream.ended:
        assert connection.step()
    assert dict(stream.headers)["grpc-status"] == "12"
