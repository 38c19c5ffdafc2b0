# SPDX-License-Identifier: Apache-2.0
"""The stream on which proxies hear of endpoints, as bytes."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Callable

import pytest

from meshbox import failures
from meshbox.addresses import AddressPlan
from meshbox.images.grpc import wire
from meshbox.images.grpc.frames import PREFACE
from meshbox.images.grpc.hpack import Decoder, encoded
from meshbox.mesh.ads import EndpointServer, assignment
from meshbox.mesh.assignments import Assignments
from meshbox.mesh.envoy import XDS_CLUSTER
from tests.conftest import PATIENCE

TOKEN = "the-token-of-this-server-long-enough"
POD = ("bookinfo", "details-v1")
STREAM = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


async def settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


def test_an_assignment_in_protobufs_form() -> None:
    where = {"socket_address": {"address": "10.0.0.1", "port_value": 9080}}
    one = {
        "endpoint": {"address": where},
        "load_balancing_weight": 3,
        "metadata": {"filter_metadata": {"istio": {"app": "a"}}},
    }
    other = {"endpoint": {"address": {"pipe": {"path": "/x"}}}, "load_balancing_weight": 1}
    group = {"lb_endpoints": [one, other], "priority": 2, "load_balancing_weight": 5, "locality": {"zone": "z"}}
    found = dict(wire.fields(assignment(json.dumps({"cluster_name": "c", "endpoints": [group]}).encode())))
    assert found[1] == b"c"
    assert isinstance(found[2], bytes)
    parts = list(wire.fields(found[2]))
    assert [number for number, _ in parts] == [1, 2, 2, 3, 5]
    assert parts[0][1] == wire.text(2, "z")
    assert parts[3:] == [(3, wire.number(1, 5)), (5, 2)]
    address = wire.length(1, wire.text(2, "10.0.0.1") + wire.number(3, 9080))
    entry = wire.length(1, wire.text(1, "istio") + wire.length(2, wire.struct({"app": "a"})))
    assert parts[1][1] == b"".join(
        (wire.length(1, wire.length(1, address)), wire.length(3, entry), wire.length(4, wire.number(1, 3)))
    )
    pipe = wire.length(2, wire.text(1, "/x"))
    assert parts[2][1] == wire.length(1, wire.length(1, pipe)) + wire.length(4, wire.number(1, 1))


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
async def served(plan: AddressPlan, unused_tcp_port: int) -> AsyncIterator[tuple[Client, Assignments]]:
    made = Assignments(lambda *_: None)
    asked: list[tuple[str, str]] = []

    def find(pod: tuple[str, str]) -> Assignments:
        asked.append(pod)
        assert pod == POD
        return made

    server = EndpointServer(plan.node, unused_tcp_port, TOKEN, find, failures.in_log("a test"))
    await server.start()
    client = Client(*await asyncio.open_connection(plan.node, unused_tcp_port))
    yield client, made
    client.writer.close()
    await server.stop()


def request(*names: str, kind: str = ENDPOINTS, nonce: str = "") -> bytes:
    node = wire.text(1, f"sidecar~127.0.0.1~{POD[1]}.{POD[0]}~x")
    asked = b"".join(wire.text(3, name) for name in names)
    return wire.length(1, node) + wire.text(2, kind) + asked + wire.text(6, nonce)


async def test_a_proxy_is_told_on_its_stream(served: tuple[Client, Assignments]) -> None:
    client, made = served
    body = json.dumps({"cluster_name": "c", "endpoints": []}).encode()
    client.begin()
    client.send(request("c", "gone"))
    made.offer({"c": body})
    assert (await client.headers())[":status"] == "200"
    message = (await client.next(0))[5:]
    found = dict(wire.fields(message))
    assert (found[4], found[5], found[6]) == (ENDPOINTS.encode(), b"1", b"gone")
    assert isinstance(found[2], bytes)
    resource = dict(wire.fields(found[2]))
    assert resource[3] == b"c"
    assert resource[2] == wire.text(1, ENDPOINTS) + wire.length(2, assignment(body))
    client.send(request(nonce="1"))
    await settled(lambda: made.acknowledged == 1)
    client.writer.close()
    await settled(lambda: made.sent == -1)


async def test_a_long_message_waits_for_room(served: tuple[Client, Assignments]) -> None:
    client, made = served
    names = [f"{number:03}" + "x" * 200 for number in range(400)]
    made.offer({name: json.dumps({"cluster_name": name, "endpoints": []}).encode() for name in names})
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
    served: tuple[Client, Assignments], headers: dict[str, str], status: str
) -> None:
    client, _ = served
    client.begin(**headers)
    client.send(request("c"))
    assert (await client.headers())["grpc-status"] == status


@pytest.mark.parametrize("message", [b"\xff", request("c", kind="type.googleapis.com/other"), wire.text(2, ENDPOINTS)])
async def test_what_is_no_request_ends_the_stream(served: tuple[Client, Assignments], message: bytes) -> None:
    client, _ = served
    client.begin()
    client.send(message)
    assert (await client.headers())["grpc-status"] == "3"


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
async def test_who_speaks_no_http2_is_hung_up_on(served: tuple[Client, Assignments], sent: bytes) -> None:
    client, _ = served
    client.writer.write(sent)
    async with asyncio.timeout(PATIENCE):
        try:
            while await client.reader.read(4096):
                pass
        except ConnectionError:
            pass
