# SPDX-License-Identifier: Apache-2.0
"""Services: what connects to their addresses reaches a ready endpoint, or is refused."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from meshbox.addresses import AddressPlan
from meshbox.blocks import claim
from meshbox.node.ipam import PodAddresses
from meshbox.node.relay import RelayServer
from tests.conftest import PATIENCE
from tests.node.conftest import Cluster, running

# The daemon runs on uvloop, which has limits of its own; asyncio is what runs where there is none.
on_both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


@pytest.fixture
def plan(tmp_path: Path) -> Any:
    found, lock = claim(tmp_path)
    with lock:
        yield found


async def echo(address: str, port: int, name: bytes = b"") -> asyncio.Server:
    """A server that sends back what it gets, `name` first."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(name)
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()

    return await asyncio.start_server(serve, address, port)


async def speak(address: str, port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.wait_for(asyncio.open_connection(address, port), 120)
    try:
        writer.write(data)
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), 120)
    finally:
        writer.close()


@on_both_loops
def test_a_relay_passes_everything_both_ways(plan: AddressPlan, run: Any) -> None:
    run(_a_relay_passes_everything_both_ways(plan))


async def _a_relay_passes_everything_both_ways(plan: AddressPlan) -> None:
    server = await echo(plan.local("127.0.64.1").replace("127.0", f"127.{plan.number}"), 9080)
    target = server.sockets[0].getsockname()[:2]
    relay = RelayServer((plan.node, 9080), lambda _: target)
    await relay.start()
    data = b"0123456789abcdef" * 100_000
    reader, writer = await asyncio.open_connection(plan.node, 9080)
    received = asyncio.create_task(reader.readexactly(len(data)))
    writer.write(data)
    await writer.drain()
    assert await asyncio.wait_for(received, 120) == data
    # Half closed: the other direction still works to its end.
    writer.write(b"last")
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 120) == b"last"
    writer.close()
    relay.abort()
    server.close()


@on_both_loops
def test_a_relay_holds_back_a_sender_whose_receiver_is_slow(plan: AddressPlan, run: Any) -> None:
    run(_a_relay_holds_back_a_sender_whose_receiver_is_slow(plan))


async def _a_relay_holds_back_a_sender_whose_receiver_is_slow(plan: AddressPlan) -> None:
    held = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await held.wait()
        count = 0
        while data := await reader.read(65536):
            count += len(data)
        writer.write(str(count).encode())
        writer.close()

    server = await asyncio.start_server(slow, f"127.{plan.number}.64.1", 9080)
    relay = RelayServer((plan.node, 9080), lambda _: (f"127.{plan.number}.64.1", 9080))
    await relay.start()
    reader, writer = await asyncio.open_connection(plan.node, 9080)
    size = 50_000_000
    writer.write(bytes(size))
    drained = asyncio.create_task(writer.drain())
    done, _ = await asyncio.wait({drained}, timeout=0.3)
    assert not done, "fifty megabytes went somewhere though nobody took them"
    held.set()
    await asyncio.wait_for(drained, 120)
    writer.write_eof()
    assert int(await asyncio.wait_for(reader.read(), 120)) == size
    writer.close()
    relay.abort()
    server.close()


@on_both_loops
def test_a_refused_target_is_a_reset(plan: AddressPlan, run: Any) -> None:
    run(_a_refused_target_is_a_reset(plan))


async def _a_refused_target_is_a_reset(plan: AddressPlan) -> None:
    for choose in (lambda _: (f"127.{plan.number}.64.9", 9080), lambda _: None):
        relay = RelayServer((plan.node, 9081), choose)
        await relay.start()
        with pytest.raises(ConnectionResetError):
            await speak(plan.node, 9081, b"x")
        relay.abort()


@on_both_loops
def test_a_client_that_resets_ends_the_connection_to_the_target(plan: AddressPlan, run: Any) -> None:
    run(_a_client_that_resets_ends_the_connection_to_the_target(plan))


async def _a_client_that_resets_ends_the_connection_to_the_target(plan: AddressPlan) -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        try:
            await reader.read()
        except ConnectionResetError:
            ended.set()
        writer.close()

    server = await asyncio.start_server(serve, f"127.{plan.number}.64.1", 9080)
    relay = RelayServer((plan.node, 9080), lambda _: (f"127.{plan.number}.64.1", 9080))
    await relay.start()
    reader, writer = await asyncio.open_connection(plan.node, 9080)
    assert await reader.readexactly(5) == b"hello"
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()
    await asyncio.wait_for(ended.wait(), 120)
    relay.abort()
    server.close()


class Net:
    """A cluster, with endpoints that the test makes up."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.servers: list[asyncio.Server] = []

    def address(self, last: int) -> str:
        return f"127.{self.cluster.settings.plan.number}.100.{last}"

    async def backend(self, last: int, name: bytes, port: int = 9080) -> str:
        self.servers.append(await echo(self.address(last), port, name))
        return self.address(last)

    def service(self, name: str = "web", **spec: Any) -> dict[str, Any]:
        body = {"metadata": {"name": name}, "spec": {"ports": [{"port": 9080}], **spec}}
        return self.cluster.objects.create("services", body, "default")

    def endpoints(self, *addresses: str, name: str = "web", ready: bool = True, port: int = 9080) -> None:
        body = {
            "metadata": {"name": f"{name}-x", "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": ready}} for address in addresses],
            "ports": [{"name": "", "port": port, "protocol": "TCP"}],
        }
        resource = "endpointslices.discovery.k8s.io"
        if self.cluster.objects.find(resource, f"{name}-x", "default"):
            self.cluster.objects.update(resource, body)
        else:
            self.cluster.objects.create(resource, body, "default")

    async def says(self, address: str, port: int = 9080) -> bytes:
        """What answers there; b"" while connections are refused."""
        try:
            return await speak(address, port, b"")
        except OSError as error:
            # Reset, and so connected no more: it was about to be accepted when the listener closed.
            if error.errno not in (errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOTCONN):
                raise
            return b""

    async def until(self, address: str, wanted: set[bytes], port: int = 9080) -> None:
        """Wait until exactly `wanted` answer."""
        deadline = time.monotonic() + PATIENCE
        while (seen := {await self.says(address, port) for _ in range(20)}) != wanted:
            assert time.monotonic() < deadline, f"{address}:{port}: {seen}, not {wanted}"
            await asyncio.sleep(0.01)


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Net]:
    async with running(tmp_path / "home") as cluster:
        made = Net(cluster)
        yield made
        for server in made.servers:
            server.close()


async def test_a_cluster_ip_follows_its_endpoints(net: Net) -> None:
    ip = net.service()["spec"]["clusterIP"]
    one, two = await net.backend(1, b"one"), await net.backend(2, b"two")
    assert await net.says(ip) == b""
    net.endpoints(one)
    await net.until(ip, {b"one"})
    net.endpoints(one, two)
    await net.until(ip, {b"one", b"two"})
    net.endpoints(two)
    await net.until(ip, {b"two"})
    net.endpoints(two, ready=False)
    await net.until(ip, {b""})
    net.endpoints(one)
    await net.until(ip, {b"one"})
    net.cluster.objects.delete("services", "web", "default")
    await net.until(ip, {b""})


async def test_connections_that_stand_survive_a_change_of_endpoints(net: Net) -> None:
    ip = net.service()["spec"]["clusterIP"]
    one, two = await net.backend(1, b"1"), await net.backend(2, b"2")
    net.endpoints(one)
    await net.until(ip, {b"1"})
    reader, writer = await asyncio.open_connection(ip, 9080)
    assert await reader.readexactly(1) == b"1"
    net.endpoints(two)
    await net.until(ip, {b"2"})
    writer.write(b"still here")
    assert await reader.readexactly(10) == b"still here"
    writer.close()


async def test_node_port_and_load_balancer_addresses(net: Net) -> None:
    service = net.service(type="LoadBalancer", ports=[{"name": "http", "port": 9080, "nodePort": 31380}])
    one = await net.backend(1, b"one")
    body = {"name": "http", "port": 9080, "protocol": "TCP"}
    net.endpoints(one)
    slices = "endpointslices.discovery.k8s.io"
    net.cluster.objects.patch(slices, "web-x", {"ports": [body]}, "default")
    plan = net.cluster.settings.plan
    await net.until(plan.node, {b"one"}, 31380)
    external = str(plan.loadbalancer_cidr[1])
    status = {"loadBalancer": {"ingress": [{"ip": external}]}}
    net.cluster.objects.update("services", {**service, "status": status}, subresource="status")
    await net.until(external, {b"one"})


async def test_ports_are_matched_by_name(net: Net) -> None:
    ports = [{"name": "http", "port": 80, "targetPort": 9080}, {"name": "admin", "port": 81, "targetPort": 9081}]
    ip = net.service(ports=ports)["spec"]["clusterIP"]
    await net.backend(1, b"http")
    address = await net.backend(1, b"admin", port=9081)
    net.endpoints(address)
    named = [{"name": "http", "port": 9080}, {"name": "admin", "port": 9081}]
    net.cluster.objects.patch("endpointslices.discovery.k8s.io", "web-x", {"ports": named}, "default")
    plan = net.cluster.settings.plan
    await net.until(ip, {b"http"}, plan.port(80))
    await net.until(ip, {b"admin"}, plan.port(81))


async def test_client_ip_affinity_stays_with_one_endpoint(net: Net) -> None:
    ip = net.service(sessionAffinity="ClientIP")["spec"]["clusterIP"]
    names = [b"%d" % number for number in range(5)]
    net.endpoints(*[await net.backend(number + 1, name) for number, name in enumerate(names)])
    await net.cluster.until(lambda: net.cluster.node._proxy._listeners)
    first = b""
    while not first:
        first = await net.says(ip)
        await asyncio.sleep(0.01)
    assert {await net.says(ip) for _ in range(30)} == {first}


async def test_an_address_in_use_is_taken_once_it_is_free(net: Net, caplog: pytest.LogCaptureFixture) -> None:
    node = net.cluster.settings.plan.node
    blocker = await asyncio.start_server(lambda _r, w: w.close(), node, 31390)
    net.service(type="NodePort", ports=[{"port": 9080, "nodePort": 31390}])
    net.endpoints(await net.backend(1, b"one"))
    await net.cluster.until(lambda: f"cannot be reached at {node}:31390" in caplog.text)
    blocker.close()
    await blocker.wait_closed()
    await net.until(node, {b"one"}, 31390)


async def test_names_are_written_for_the_pods(net: Net) -> None:
    def names() -> dict[str, Any]:
        found: dict[str, Any] = json.loads((net.cluster.settings.home / "dns.json").read_text())
        return found

    ip = net.service("reviews")["spec"]["clusterIP"]
    net.service("agents", clusterIP="None")
    net.service("books", type="ExternalName", externalName="www.example.com")
    net.endpoints(net.address(7), net.address(3), name="agents")
    # Services and their endpoints are followed apart.
    await net.cluster.until(lambda: names()["headless"].get("default/agents") and names()["external"])
    assert names()["services"]["reviews.default"] == {"ip": ip, "ports": [9080], "raw": [9080]}
    assert names()["headless"] == {"default/agents": [net.address(3), net.address(7)]}
    assert names()["external"] == {"default/books": "www.example.com"}
    assert names()["pods"] == {}
    net.cluster.objects.delete("services", "reviews", "default")
    await net.cluster.until(lambda: "reviews.default" not in names()["services"])


def test_pod_addresses_are_not_reused_at_once() -> None:
    addresses = PodAddresses(AddressPlan(7).pod_cidr)
    first, second = addresses.take("a"), addresses.take("b")
    assert (first, second) == ("127.7.64.1", "127.7.64.2")
    addresses.free("a")
    assert addresses.take("c") == "127.7.64.3"
    assert addresses.reserve("127.7.64.9", "d")
    assert not addresses.reserve("127.7.64.9", "e")
    assert addresses.reserve("127.7.64.9", "d")
    assert not addresses.reserve("127.8.64.9", "e")
    assert addresses.take("e") == "127.7.64.10"
    taken = {addresses.take(f"x{n}") for n in range(600)}
    assert len(taken) == 600
    assert not any(address.endswith((".0", ".255")) for address in taken)
