# SPDX-License-Identifier: Apache-2.0
"""The stream on which proxies hear of their configuration, as bytes."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from meshbox import failures
from meshbox.addresses import AddressPlan
from meshbox.images.grpc import wire
from meshbox.images.grpc.frames import PREFACE
from meshbox.images.grpc.hpack import Decoder, encoded
from meshbox.mesh import ads, http2
from meshbox.mesh.ads import AdsServer
from meshbox.mesh.envoy import XDS_CLUSTER
from meshbox.mesh.http2 import Http2
from meshbox.mesh.proxies import ProxyState
from tests.conftest import PATIENCE

from .telling import NODE, POD, ends, settled

TOKEN = "the-token-of-this-server-long-enough"
ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
STREAM = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


REFUSALS: list[Any] = []


class Client:
    """A proxy's side of the stream, frame by frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.decoder = Decoder(65536)

    def frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        head = struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, number)
        self.writer.write(head + payload)

    def begin(self, **headers: str) -> None:
        given = {":method": "POST", ":path": STREAM, ":authority": XDS_CLUSTER, "authorization": f"Bearer {TOKEN}"}
        given |= {key.replace("_", ":", 1) if key.startswith("_") else key: value for key, value in headers.items()}
        self.writer.write(PREFACE)
        self.frame(4, 0, 0, b"")
        self.frame(1, 4, 1, encoded(given.items()))

    def send(self, message: bytes) -> None:
        self.frame(0, 0, 1, struct.pack(">BI", 0, len(message)) + message)

    async def next(self, kind: int) -> bytes:
        """The payload of the next frame of a kind."""
        async with asyncio.timeout(PATIENCE):
            while True:
                head = await self.reader.readexactly(9)
                payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
                if head[3] == kind:
                    return payload

    async def headers(self) -> dict[str, str]:
        return dict(self.decoder.read(await self.next(1)))


@pytest.fixture
async def served(plan: AddressPlan, unused_tcp_port: int) -> AsyncIterator[tuple[Client, ProxyState]]:
    made = ProxyState(POD, lambda *refused: REFUSALS.append(refused))

    def find(pod: tuple[str, str]) -> ProxyState:
        assert pod == POD
        return made

    REFUSALS.clear()
    server = AdsServer(plan.node, unused_tcp_port, TOKEN, find, failures.in_log("a test"))
    await server.start()
    client = Client(*await asyncio.open_connection(plan.node, unused_tcp_port))
    yield client, made
    client.writer.close()
    await server.stop()
    made.stop()


def request(*names: str, kind: str = ENDPOINTS, nonce: str = "", reason: str = "") -> bytes:
    metadata = wire.struct({"ISTIO_VERSION": "1.30.3", "LABELS": {"app": "details"}})
    node = wire.text(1, NODE) + wire.length(3, metadata)
    asked = b"".join(wire.text(3, name) for name in names)
    said = wire.length(7, wire.number(1, 13) + wire.text(2, reason)) if reason else b""
    return wire.length(1, node) + wire.text(2, kind) + asked + wire.text(6, nonce) + said


async def again(client: Client) -> Client:
    """Another client of the same server."""
    return Client(*await asyncio.open_connection(*client.writer.get_extra_info("peername")))


async def hung_up_on(client: Client) -> None:
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionError):
            while await client.reader.read(65_536):
                pass
    client.writer.close()


async def answers(client: Client) -> None:
    client.frame(6, 0, 0, b"are you?")
    while await client.next(6) != b"are you?":
        pass


async def test_a_proxy_is_told_on_its_stream(served: tuple[Client, ProxyState]) -> None:
    client, proxy = served
    made = proxy.told["endpoints"]
    client.begin()
    client.send(request("c", "gone"))
    made.offer({"c": ends("c")})
    assert (await client.headers())[":status"] == "200"
    message = (await client.next(0))[5:]
    found = dict(wire.fields(message))
    assert (found[4], found[5], found[6]) == (ENDPOINTS.encode(), b"1", b"gone")
    assert isinstance(found[2], bytes)
    resource = dict(wire.fields(found[2]))
    assert resource[3] == b"c"
    assignment = wire.text(1, "c") + wire.length(4, wire.length(3, wire.number(1, 0)))
    assert resource[2] == wire.text(1, ENDPOINTS) + wire.length(2, assignment)
    assert proxy.connected
    assert (proxy.node, proxy.metadata) == (NODE, {"ISTIO_VERSION": "1.30.3", "LABELS": {"app": "details"}})
    client.send(request(nonce="1"))
    await settled(lambda: made.acknowledged == 1)
    client.writer.close()
    await settled(lambda: made.sent == -1)
    assert not proxy.connected


async def test_what_a_proxy_refuses_is_told_with_its_reason(served: tuple[Client, ProxyState]) -> None:
    client, proxy = served
    client.begin()
    proxy.told["endpoints"].offer({"c": ends("c")})
    client.send(request("c"))
    client.send(request(nonce="1", reason="no such priority"))
    await settled(lambda: bool(REFUSALS))
    assert [(POD, "endpoints c", ends("c"), "no such priority")] == REFUSALS


async def test_what_there_is_none_of_costs_a_proxy_nothing_else(served: tuple[Client, ProxyState]) -> None:
    client, proxy = served
    client.begin()
    client.send(request("x", kind="type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"))
    client.send(request("c"))
    proxy.told["endpoints"].offer({"c": ends("c")})
    assert dict(wire.fields((await client.next(0))[5:]))[4] == ENDPOINTS.encode()


async def test_whose_pod_is_gone_hears_that_it_ends(served: tuple[Client, ProxyState]) -> None:
    client, proxy = served
    client.begin()
    client.send(request("c"))
    await settled(lambda: proxy.connected)
    proxy.stop()
    assert (await client.headers())["grpc-status"] == "14"
    # What it says after that concerns nobody.
    client.send(request("d"))
    assert proxy.told["endpoints"].asked == set()


async def test_of_two_for_one_pod_the_former_hears_that_it_is_told_no_more(served: tuple[Client, ProxyState]) -> None:
    client, proxy = served
    client.begin()
    client.send(request("c"))
    await settled(lambda: proxy.connected)
    later = await again(client)
    later.begin()
    later.send(request("d"))
    # Else it would wait for ever with what it has, and go on asking in the other one's name.
    assert (await client.headers())["grpc-status"] == "14"
    client.send(request("e"))
    await answers(client)
    assert proxy.told["endpoints"].asked == {"d"}
    assert proxy.connected
    later.writer.close()


async def test_room_is_made_again_for_what_came_once_it_is_much(served: tuple[Client, ProxyState]) -> None:
    client, _ = served
    client.begin()
    first = request("x" * 12_000)
    for _ in range(3):
        client.send(first)
    # Nothing was said of the first two, as a proxy's answers are short and many; then of all three: of the connection
    # and of the stream.
    taken = 3 * (5 + len(first))
    assert [await client.next(8) for _ in range(2)] == [struct.pack(">I", taken)] * 2


async def test_a_long_message_waits_for_room(served: tuple[Client, ProxyState]) -> None:
    client, proxy = served
    made = proxy.told["endpoints"]
    names = [f"{number:03}" + "x" * 200 for number in range(400)]
    made.offer({name: ends(name) for name in names})
    client.begin()
    for start in range(0, 400, 50):
        client.send(request(*names[start : start + 50]))
    first = await client.next(0)
    client.send(request(nonce="1"))
    size = 5 + struct.unpack_from(">BI", first)[1]
    came = len(first)
    while came < size:
        came += len(await client.next(0))
    # All that is left, in one message that is longer than the 65 535 bytes that a side takes at first.
    rest = await client.next(0)
    whole = 5 + struct.unpack_from(">BI", rest)[1]
    assert whole > 100_000
    while len(rest) < 65_535 - size:
        rest += await client.next(0)
    assert len(rest) == 65_535 - size
    for number in (0, 1):
        client.frame(8, 0, number, struct.pack(">I", whole))
    while len(rest) < whole:
        rest += await client.next(0)
    assert len(rest) == whole


async def test_who_does_not_read_is_not_heard_until_it_does(
    served: tuple[Client, ProxyState], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Http2] = []

    class Seen(Http2):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(ads, "Http2", Seen)
    client = await again(served[0])
    client.begin()
    # More than a kernel keeps, each of which is answered by as much.
    for _ in range(2_000):
        client.frame(6, 0, 0, b"x" * 16_384)
    await settled(lambda: bool(made) and made[0]._transport is not None and not made[0]._transport.is_reading())
    transport = made[0]._transport
    assert transport is not None
    assert transport.get_write_buffer_size() < 1_000_000
    for _ in range(2_000):
        assert len(await client.next(6)) == 16_384
    client.writer.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": "Bearer wrong"}, "16"),
        ({"authorization": ""}, "16"),
        ({"_authority": "evil.example"}, "12"),
        ({"_path": "/other"}, "12"),
        ({"origin": "http://evil.example"}, "12"),
    ],
)
async def test_only_proxies_with_the_token_are_told(
    served: tuple[Client, ProxyState], headers: dict[str, str], status: str
) -> None:
    client, _ = served
    client.begin(**headers)
    client.send(request("c"))
    assert (await client.headers())["grpc-status"] == status


async def test_who_makes_no_call_that_is_taken_is_hung_up_on_after_a_while(
    served: tuple[Client, ProxyState], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = served[0]
    proxy.begin()
    await answers(proxy)
    monkeypatch.setattr(http2, "_FIRST_CALL", 0.01)
    silent, refused = await again(proxy), await again(proxy)
    refused.begin(authorization="Bearer wrong")
    for other in (silent, refused):
        await hung_up_on(other)
    await answers(proxy)


async def test_who_makes_no_call_that_is_taken_is_not_heard_for_long(served: tuple[Client, ProxyState]) -> None:
    proxy, refused = served[0], await again(served[0])
    proxy.begin()
    refused.begin(authorization="Bearer wrong")
    # As much as an Envoy may have said before it hears that.
    refused.send(b"x" * 16_000)
    assert (await refused.headers())["grpc-status"] == "16"
    for _ in range(8):
        for client in (refused, proxy):
            client.frame(6, 0, 0, b"x" * 16_384)
    await hung_up_on(refused)
    await answers(proxy)


async def test_of_many_connections_those_go_whose_token_nobody_has_seen(
    served: tuple[Client, ProxyState], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ads, "_MOST_CONNECTIONS", 2)
    proxy = served[0]
    proxy.begin()
    await proxy.next(4)
    await answers(proxy)
    former = await again(proxy)
    # Whom there is no room beside.
    for _ in range(3):
        later = await again(proxy)
        await hung_up_on(former)
        former = later
    await answers(proxy)
    former.writer.close()


async def test_our_own_fault_is_told_and_is_not_called_the_proxys(
    served: tuple[Client, ProxyState], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client, proxy = served

    def broken(*_: object) -> None:
        raise ValueError("unforeseen")

    client.begin()
    with monkeypatch.context() as patched:
        patched.setattr(proxy, "ask", broken)
        client.send(request("c"))
        await settled(lambda: "unforeseen" in caplog.text)
    client.send(request("c"))
    proxy.told["endpoints"].offer({"c": ends("c")})
    assert dict(wire.fields((await client.next(0))[5:]))[4] == ENDPOINTS.encode()


@pytest.mark.parametrize("message", [b"\xff", request("c", nonce="x"), wire.text(2, ENDPOINTS)])
async def test_what_is_no_request_ends_the_stream(served: tuple[Client, ProxyState], message: bytes) -> None:
    client, _ = served
    client.begin()
    client.send(message)
    assert (await client.headers())["grpc-status"] == "3"


async def test_what_comes_behind_what_ends_the_stream_opens_nothing(served: tuple[Client, ProxyState]) -> None:
    client, proxy = served
    client.begin()
    said = [b"\xff", request("c")]
    client.frame(0, 0, 1, b"".join(struct.pack(">BI", 0, len(one)) + one for one in said))
    assert (await client.headers())["grpc-status"] == "3"
    await answers(client)
    # On a stream that is gone it would never hear anything, nor be known to have gone.
    assert not proxy.connected
    assert proxy.told["endpoints"].asked == set()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        PREFACE + b"\xff" * 9,
        PREFACE + b"\x00\x00\x01\x09\x04\x00\x00\x00\x01x",
        PREFACE + b"\x00\x00\x02\x08\x00\x00\x00\x00\x00xx",
        PREFACE + b"\x00\x00\x01\x01\x04\x00\x00\x00\x01\xff",
    ],
)
async def test_who_speaks_no_http2_is_hung_up_on(served: tuple[Client, ProxyState], sent: bytes) -> None:
    client, _ = served
    client.writer.write(sent)
    await hung_up_on(client)
