# SPDX-License-Identifier: Apache-2.0
"""A proxy's side of the talk without a proxy: what it has heard, and what it says to that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from meshbox.images.grpc import wire
from meshbox.mesh.proxies import ProxyState
from meshbox.mesh.resources import KINDS, Kind
from meshbox.mesh.translate import Config
from tests.conftest import PATIENCE

POD = ("bookinfo", "details-v1")
NODE = f"sidecar~127.0.0.1~{POD[1]}.{POD[0]}~x"
KIND = {kind.name: kind for kind in KINDS}


def in_any(told: bytes) -> bytes:
    """The message in an Any."""
    return next(value for number, value in wire.fields(told) if number == 2 and isinstance(value, bytes))


class Listener:
    """What a proxy has heard of each kind: the number of each message, the resources in it, and those that are gone."""

    def __init__(self) -> None:
        self.ended = False
        self.heard: dict[str, list[tuple[int, dict[str, bytes], list[str]]]] = {kind.name: [] for kind in KINDS}

    def say(self, kind: Kind, version: int, found: Mapping[str, bytes], gone: Collection[str]) -> int:
        self.heard[kind.name].append((version, {name: in_any(told) for name, told in found.items()}, list(gone)))
        return 100

    def end(self) -> None:
        self.ended = True

    def names(self, kind: str) -> list[list[str]]:
        """Of each message the names of what it holds, and of what is gone with a "-"."""
        return [[*sorted(found), *(f"-{name}" for name in sorted(gone))] for _, found, gone in self.heard[kind]]


class Proxy(Listener):
    """A proxy that listens.

    Args:
        secrets: What there is for it, by name.
        how: Further arguments of its state.
    """

    def __init__(self, secrets: Mapping[str, bytes] | None = None, **how: Any) -> None:
        super().__init__()
        self.refusals: list[tuple[tuple[str, str], str, bytes, str]] = []
        self.state = ProxyState(
            POD, lambda *refused: self.refusals.append(refused), lambda _, name: (secrets or {}).get(name), **how
        )
        self.listen()

    def listen(self) -> None:
        """Begin to listen, as an Envoy that was just started."""
        self.state.opened(self, NODE, {})

    def ask(self, kind: str, *names: str) -> None:
        """Ask for these, or for all of a kind."""
        self.state.ask(kind, names, [])

    def take(self, kind: str, reason: str | None = None) -> None:
        """Take the last message, or refuse it for a reason."""
        self.state.told[kind].settle(self.heard[kind][-1][0], reason)

    async def hears(self, kind: str, count: int) -> None:
        """Wait for as many messages of a kind."""
        await settled(lambda: len(self.heard[kind]) >= count)


async def settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


def ends(name: str, number: int = 0) -> bytes:
    """An assignment, one of many."""
    return json.dumps({"cluster_name": name, "policy": {"overprovisioning_factor": number}}).encode()


def config(clusters: str = "", listeners: str = "", timeout: str = "1s", **routes: str) -> Config:
    """Clusters, listeners, and tables of routes that lead somewhere."""
    made = {name: json.dumps({"name": name, "connect_timeout": timeout}).encode() for name in clusters.split()}
    tables = {name: json.dumps({"name": name, "virtual_hosts": [{"name": to}]}).encode() for name, to in routes.items()}
    doors = {name: json.dumps({"name": name}).encode() for name in listeners.split()}
    return Config(made, doors, tables, {name: ends(name) for name in made})


def leads(table: bytes) -> str:
    """Where a table of `config` leads."""
    host = next(value for number, value in wire.fields(table) if number == 2 and isinstance(value, bytes))
    return next(value.decode() for number, value in wire.fields(host) if number == 1 and isinstance(value, bytes))
