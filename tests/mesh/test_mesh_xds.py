# SPDX-License-Identifier: Apache-2.0
"""The xDS server as a proxy sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from meshbox.addresses import AddressPlan
from meshbox.mesh import xds
from meshbox.mesh.envoy import XDS_CLUSTER
from meshbox.mesh.translate import Config
from meshbox.mesh.xds import ProxyState, XdsServer
from tests.conftest import PATIENCE

TOKEN = "the-token-of-this-server-long-enough"
POD = ("bookinfo", "details-v1")


class Served:
    """A server with one proxy, and that proxy's side of the talk."""

    suspects: list[tuple[bytes, ...]]
    secrets: dict[str, bytes]

    def __init__(self, base: str, state: ProxyState, refusals: list[tuple[tuple[str, str], str]]) -> None:
        self.base = base
        self.state = state
        self.refusals = refusals
        self.session = aiohttp.ClientSession()

    async def ask(
        self,
        kind: str,
        version: str = "",
        names: list[str] | None = None,
        instance: str = "one",
        timeout: float = PATIENCE,
        **headers: str,
    ) -> tuple[int, Any]:
        node = {"id": f"sidecar~127.0.0.1~{POD[1]}.{POD[0]}~x", "metadata": {"INSTANCE": instance}}
        body = {"version_info": version, "node": node, **({"resource_names": names} if names else {})}
        sent = {"Host": XDS_CLUSTER, "Authorization": f"Bearer {TOKEN}", **headers}
        limit = aiohttp.ClientTimeout(total=timeout)
        async with self.session.post(
            f"{self.base}:{kind}", data=json.dumps(body), headers=sent, timeout=limit
        ) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if answer.status == 200 else text


@pytest.fixture
async def served(plan: AddressPlan, unused_tcp_port: int) -> AsyncIterator[Served]:
    refusals: list[tuple[tuple[str, str], str]] = []
    suspects: list[tuple[bytes, ...]] = []

    def refused(name: tuple[str, str], what: str, resources: tuple[bytes, ...]) -> None:
        refusals.append((name, what))
        suspects.append(resources)

    state = ProxyState(POD, refused)
    secrets = {"default": b'{"name":"default"}'}
    server = XdsServer(plan.node, unused_tcp_port, TOKEN, lambda _: state, lambda _, name: secrets.get(name))
    await server.start()
    proxy = Served(f"http://{plan.node}:{unused_tcp_port}/v3/discovery", state, refusals)
    proxy.suspects, proxy.secrets = suspects, secrets
    try:
        yield proxy
    finally:
        await proxy.session.close()
        state.stop()
        await server.stop()


def config(clusters: str = "", listeners: str = "", **routes: str) -> Config:
    def named(names: str) -> dict[str, bytes]:
        return {name: json.dumps({"name": name}).encode() for name in names.split()}

    tables = {name: json.dumps({"name": name, "to": to}).encode() for name, to in routes.items()}
    return Config(named(clusters), named(listeners), tables)


def names(answer: tuple[int, Any]) -> list[str]:
    status, body = answer
    assert status == 200, body
    return [resource["name"] for resource in body["resources"]]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": ""}, 401),
        ({"Host": "127.0.0.1:15010"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
    ],
)
async def test_only_proxies_with_the_token_are_answered(served: Served, headers: dict[str, str], status: int) -> None:
    served.state.update(config("a"))
    assert (await served.ask("clusters", **headers))[0] == status


async def test_nonsense_is_refused(served: Served) -> None:
    assert (await served.ask("nonsense"))[0] == 404
    assert (await served.ask("clusters", version="x"))[0] == 400
    headers = {"Host": XDS_CLUSTER, "Authorization": f"Bearer {TOKEN}"}
    for body in ("", "[]", '{"node": {"id": "x"}}', '{"node": null}'):
        async with served.session.post(f"{served.base}:clusters", data=body, headers=headers) as answer:
            assert answer.status == 400


async def test_a_request_waits_until_there_is_something(served: Served) -> None:
    waiting = asyncio.create_task(served.ask("clusters"))
    await asyncio.sleep(0)
    assert not waiting.done()
    served.state.update(config("a b"))
    assert names(await waiting) == ["a", "b"]


async def test_a_proxy_is_woken_by_its_own_changes_only(served: Served) -> None:
    served.state.update(config("a", "l", r1="x", r2="x"))
    version = (await served.ask("routes", names=["r1"]))[1]["version_info"]
    waiting = asyncio.create_task(served.ask("routes", version, names=["r1"]))
    other = (await served.ask("routes", names=["r2"]))[1]["version_info"]
    served.state.update(config("a", "l", r1="x", r2="y"))
    status, body = await served.ask("routes", other, names=["r2"])
    assert (status, body["resources"][0]["to"]) == (200, "y")
    assert not waiting.done()
    served.state.update(config("a", "l", r1="z", r2="y"))
    assert (await waiting)[1]["resources"][0]["to"] == "z"


@pytest.mark.usefixtures("patient")
async def test_new_clusters_come_before_routes_and_old_ones_leave_after(served: Served) -> None:
    served.state.update(config("old", r="old"))
    clusters = (await served.ask("clusters"))[1]["version_info"]
    routes = (await served.ask("routes", names=["r"]))[1]["version_info"]
    on_routes = asyncio.create_task(served.ask("routes", routes, names=["r"]))
    on_clusters = asyncio.create_task(served.ask("clusters", clusters))
    served.state.update(config("new", r="new"))
    answer = await on_clusters
    assert sorted(names(answer)) == ["new", "old"]
    assert not on_routes.done()
    # The proxy says that it has the clusters: now the routes, and only then the old cluster leaves.
    rest = asyncio.create_task(served.ask("clusters", answer[1]["version_info"]))
    status, body = await on_routes
    assert (status, body["resources"][0]["to"]) == (200, "new")
    assert not rest.done()
    held = asyncio.create_task(served.ask("routes", body["version_info"], names=["r"]))
    assert names(await rest) == ["new"]
    held.cancel()


async def offer_bad(served: Served) -> str:
    """Offer clusters that a proxy with "a" will refuse; the version of "a"."""
    served.state.update(config("a"))
    first = (await served.ask("clusters"))[1]["version_info"]
    held = asyncio.create_task(served.ask("clusters", first))
    while served.state.channel("clusters").acknowledged != int(first):
        await asyncio.sleep(0.001)
    served.state.update(config("a bad"))
    await held
    return str(first)


async def test_what_comes_in_the_moment_of_a_refusal_is_told(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await offer_bad(served)
    assert names(await served.ask("clusters", first)) == ["a", "bad"]
    # Before the one that waits for what became of it has heard of that.
    monkeypatch.setattr(served.state, "refused", lambda *_: served.state.update(config("good")))
    assert "good" in names(await served.ask("clusters", first))


async def test_a_refusal_is_told_once_and_held(served: Served) -> None:
    first = await offer_bad(served)
    # An answer that was lost on its way is given again, and nothing is said of it.
    assert names(await served.ask("clusters", first)) == ["a", "bad"]
    assert served.refusals == []
    again = asyncio.create_task(served.ask("clusters", first))
    while not served.refusals:
        await asyncio.sleep(0.001)
    assert served.refusals == [(POD, "clusters")]
    assert served.suspects == [(b'{"name": "bad"}',)]
    assert not again.done()
    served.state.update(config("good"))
    assert "good" in names(await again)


async def test_another_envoy_of_the_same_pod_starts_from_nothing(served: Served) -> None:
    served.state.update(config("a"))
    version = (await served.ask("clusters"))[1]["version_info"]
    waiting = asyncio.create_task(served.ask("clusters", version))
    assert names(await served.ask("clusters", instance="two")) == ["a"]
    assert served.refusals == []
    waiting.cancel()


async def test_secrets_are_asked_for_by_name(served: Served) -> None:
    assert names(await served.ask("secrets", names=["default"])) == ["default"]
    waiting = asyncio.create_task(served.ask("secrets", names=["kubernetes://missing"]))
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


async def taken(served: Served, kind: str, name: str) -> asyncio.Task[Any]:
    """Ask for a resource and take it; the request for the next version."""
    version = (await served.ask(kind, names=[name]))[1]["version_info"]
    waiting = asyncio.create_task(served.ask(kind, version, names=[name]))
    async with asyncio.timeout(PATIENCE):
        while served.state.channel(kind, name).acknowledged != int(version):
            await asyncio.sleep(0.001)
    return waiting


@pytest.mark.parametrize(("kind", "name"), [("secrets", "default"), ("routes", "r")])
@pytest.mark.parametrize("let_go", [True, False], ids=["before", "at-the-same-time"])
async def test_who_asks_anew_for_what_has_not_changed_is_answered(
    served: Served, kind: str, name: str, let_go: bool
) -> None:
    served.state.update(config("a", "l", r="x"))
    for _ in range(3):
        waiting = await taken(served, kind, name)
        if let_go:
            waiting.cancel()
            async with asyncio.timeout(PATIENCE):
                while served.state.asking:
                    await asyncio.sleep(0.001)
        # Of the two requests only this one is new.
        assert names(await served.ask(kind, names=[name])) == [name]
        waiting.cancel()
        # Who lets go of a resource while it takes the next one would be taken to have none.
        async with asyncio.timeout(PATIENCE):
            while served.state.asking:
                await asyncio.sleep(0.001)
    assert served.refusals == []


async def test_a_secret_that_is_gone_stays_with_who_has_it_and_goes_to_nobody_else(served: Served) -> None:
    channel = served.state.channel("secrets", "default")
    waiting = await taken(served, "secrets", "default")
    body = served.secrets.pop("default")
    channel.withdraw()
    other = asyncio.create_task(served.ask("secrets", names=["default"]))
    async with asyncio.timeout(PATIENCE):
        while served.state.asking < 2:
            await asyncio.sleep(0.001)
    assert not waiting.done()
    assert not other.done()
    # The same again is news to those who wait for it.
    served.secrets["default"] = body
    channel.offer([body])
    assert names(await waiting) == names(await other) == ["default"]
    assert served.refusals == []


async def test_what_was_sent_to_a_killed_envoy_was_not_sent_to_its_successor(served: Served) -> None:
    served.state.update(config("a", "l", r="first"))
    held = (await served.ask("routes", names=["r"]))[1]["version_info"]
    # Its connection has not been closed yet when the next one asks for its first resources.
    of_the_dead = asyncio.create_task(served.ask("routes", held, names=["r"]))
    while served.state.asking == 0:
        await asyncio.sleep(0.001)
    assert names(await served.ask("clusters", instance="two")) == ["a"]
    served.state.update(config("a", "l", r="second"))
    assert (await of_the_dead)[0] == 304
    status, body = await served.ask("routes", names=["r"], instance="two")
    assert (status, body["resources"][0]["to"]) == (200, "second")
    assert served.refusals == []


async def test_a_request_ends_with_its_connection(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    # No longer held than this waits, it would be answered.
    monkeypatch.setattr(xds, "HOLD", 2 * PATIENCE)
    served.state.update(config("a"))
    held = (await served.ask("clusters"))[1]["version_info"]
    waiting = asyncio.create_task(served.ask("clusters", held))
    async with asyncio.timeout(PATIENCE):
        while served.state.asking == 0:
            await asyncio.sleep(0.001)
        waiting.cancel()
        while served.state.asking:
            await asyncio.sleep(0.001)
