# SPDX-License-Identifier: Apache-2.0
"""One kind of what a proxy is told, on the way to it (incremental xDS): only what is new, and what it asked for.

One message is on its way at a time, unless a proxy thinks long. What changes meanwhile goes with the next one, so that
a wave of changes is a few messages, however slow the proxy. Where a message is refused that holds several, each is told
again alone: those that are sound are taken, and the one at fault is known by its name and by Envoy's own words.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple, Protocol

import msgspec

from meshbox.images.grpc import wire
from meshbox.mesh.messages import MessageError, encoded

__all__ = ["KINDS", "STEP", "Kind", "Mouth", "Resources", "in_protobuf"]

STEP = 1.0
"""Seconds to wait for a proxy to take one step of a change before the next is taken all the same. An Envoy says that it
took clusters when all of them are there, and the name of one may be long in being looked up.
"""

TRY_AGAIN = 20.0
"""Seconds after which what was refused is told again: an address may be free by then."""

_MOST = 8
"""Messages that wait for an answer: who answers nothing at all, as an Envoy that was stopped, is not told for ever."""

_NOTHING = b""
"""Stands for what the proxy asks for, or has, and that is not to be there."""

_UNKNOWN = b"?"
"""Stands for what a proxy has from before its stream: of which time is not known."""


class Kind(NamedTuple):
    """What there is of one kind.

    Args:
        name: What it is called.
        message: Envoy's message.
        all_of_them: Whether a proxy asks for all there are; else by name.
        ends: Whether it is told of what is gone. Tables and secrets stay with who has them, whom nothing leads there
            any more or who goes on with the last one there was.
    """

    name: str
    message: str
    all_of_them: bool
    ends: bool

    @property
    def url(self) -> str:
        """How a proxy names it."""
        return f"type.googleapis.com/{self.message}"


KINDS = (
    Kind("clusters", "envoy.config.cluster.v3.Cluster", all_of_them=True, ends=True),
    Kind("endpoints", "envoy.config.endpoint.v3.ClusterLoadAssignment", all_of_them=False, ends=True),
    Kind("listeners", "envoy.config.listener.v3.Listener", all_of_them=True, ends=True),
    Kind("routes", "envoy.config.route.v3.RouteConfiguration", all_of_them=False, ends=False),
    Kind("secrets", "envoy.extensions.transport_sockets.tls.v3.Secret", all_of_them=False, ends=False),
)


class Mouth(Protocol):
    """What tells a proxy."""

    def say(self, kind: Kind, version: int, found: Mapping[str, bytes], gone: Collection[str]) -> int:
        """Send these, each as an Any in protobuf's form, and that those are not there; how many bytes that took."""

    def end(self) -> None:
        """It will not be told anything any more."""


def in_protobuf(kind: Kind, body: bytes) -> bytes:
    """A resource, which the mesh has made as JSON, as an Any in protobuf's form.

    Raises:
        MessageError: Envoy has no such message.
    """
    # Listeners name whose they are in each of their metrics: no two proxies have the same, and each is sent once.
    return _any(kind, body) if kind.name == "listeners" else _shared(kind, body)


def _any(kind: Kind, body: bytes) -> bytes:
    made = msgspec.json.decode(body)
    made.pop("@type", None)
    return wire.text(1, kind.url) + wire.length(2, encoded(kind.message, made))


_shared = functools.lru_cache(4096)(_any)


class Resources:
    """What a proxy has of one kind, and what it should have.

    Args:
        kind: Which.
        refused: Called with the name of what the proxy refused, with that, and with the proxy's words.
        pushed: Called with the bytes of each message.
        made: Called with the names of what the proxy had otherwise before, and makes anew.

    Attributes:
        version: The number of the last message.
        sent: The same, where a proxy is there to take it; else -1.
        acknowledged: The last one that was taken.
        asked: What the proxy asked for by name.
        told: Whether it has been sent all that there is for it.
    """

    def __init__(
        self,
        kind: Kind,
        refused: Callable[[str, bytes, str], None],
        pushed: Callable[[int], None] = lambda _: None,
        made: Callable[[Collection[str]], None] = lambda _: None,
    ) -> None:
        self.kind = kind
        self._refused, self._pushed, self._made = refused, pushed, made
        self.version = 0
        self._mouth: Mouth | None = None
        self._wanted: Mapping[str, bytes] | None = None
        self._settled = asyncio.Event()
        self._retry: asyncio.TimerHandle | None = None
        self._late: asyncio.TimerHandle | None = None
        self._forget()

    def _forget(self) -> None:
        self.sent = self.acknowledged = -1
        self.told = True
        self.asked: set[str] = set()
        self._said: dict[str, bytes] = {}
        self._taken: dict[str, bytes] = {}
        self._bad: dict[str, bytes] = {}
        self._complained: dict[str, bytes] = {}
        self._alone: list[str] = []
        self._on_their_way: dict[int, dict[str, bytes]] = {}
        self._listens = self._thinks = False
        for timer in (self._retry, self._late):
            if timer is not None:
                timer.cancel()
        self._retry = None

    def offer(self, wanted: Mapping[str, bytes]) -> None:
        """What the proxy should have, by name: as JSON."""
        if wanted is not self._wanted:
            self._wanted = wanted
            self._speak()

    def opened(self, mouth: Mouth) -> None:
        """A proxy listens, and has nothing yet; the one before is gone."""
        self._forget()
        self._mouth = mouth

    def closed(self, mouth: Mouth) -> None:
        """That proxy listens no more."""
        if self._mouth is mouth:
            self._forget()
            self._mouth = None
            self._wake()

    def ask(self, more: Collection[str], fewer: Collection[str], had: Iterable[str] = ()) -> None:
        """The proxy wants to know of `more`, what it knows included, and no more of `fewer`.

        Args:
            more: Names; none, or "*", for all of a kind that is told whole.
            fewer: Names.
            had: What it has from before its stream.
        """
        self._listens = True
        for name in fewer:
            self.asked.discard(name)
            for known in (self._said, self._taken, self._bad):
                known.pop(name, None)
        self._said |= dict.fromkeys(had, _UNKNOWN)
        self._taken |= dict.fromkeys(had, _UNKNOWN)
        if not self.kind.all_of_them:
            self.asked.update(more)
        self.again(more)

    def again(self, names: Collection[str]) -> None:
        """Tell of these once more: the proxy has made anew what asks for them, which begins without."""
        for name in names:
            self._said.pop(name, None)
            self._taken.pop(name, None)
        self._speak()

    def settle(self, version: int, reason: str | None = None) -> None:
        """The proxy has taken the message `version`, or has refused it for a reason."""
        came = self._on_their_way.pop(version, None)
        if came is None:
            return
        if not self._on_their_way:
            self._thinks = False
        if reason is None:
            self.acknowledged = version
            # What was asked for again meanwhile has not been taken as it was meant.
            self._taken |= {name: body for name, body in came.items() if self._said.get(name) is body}
        elif len(came) > 1:
            self._alone += came
        else:
            for name, body in came.items():
                self._complain(name, body, reason)
        self._wake()
        self._speak()

    @property
    def settled(self) -> bool:
        """Whether the proxy has taken, or has refused, all that there is for it."""
        return self.told and not self._on_their_way

    @property
    def refusing(self) -> bool:
        """Whether the proxy will not have something as it should be."""
        return bool(self._bad)

    def refuses(self, names: Iterable[str]) -> bool:
        """Whether the proxy will not have one of these as it should be."""
        wanted = self._wanted or {}
        return any(name in self._bad and self._bad[name] == wanted.get(name, _NOTHING) for name in names)

    async def taken(self, names: Collection[str]) -> None:
        """Wait until the proxy has taken or refused these, or `STEP` seconds; not at all where none listens."""
        ends = asyncio.get_running_loop().time() + STEP
        while self._mouth is not None and self._wanted is not None and (self._listens or not self.kind.all_of_them):
            wanted = self._wanted
            if all(wanted.get(name, _NOTHING) in (self._taken.get(name), self._bad.get(name)) for name in names):
                return
            try:
                await asyncio.wait_for(self._settled.wait(), ends - asyncio.get_running_loop().time())
            except TimeoutError:
                return

    def _wake(self) -> None:
        self._settled.set()
        self._settled = asyncio.Event()

    def _complain(self, name: str, body: bytes, reason: str) -> None:
        if self._said.get(name) == body:
            # Else it has been told of another one since, and what it says of that one counts.
            self._bad[name] = body
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(TRY_AGAIN, self._try_again)
        if self._complained.get(name) != body:
            self._complained[name] = body
            self._refused(name, body, reason)

    def _go_on(self) -> None:
        self._thinks = True
        self._speak()

    def _try_again(self) -> None:
        self._retry = None
        for name, body in self._bad.items():
            if self._said.get(name) == body:
                del self._said[name]
        self._speak()

    def _news(self, wanted: Mapping[str, bytes]) -> dict[str, bytes]:
        said = self._said
        news = {
            name: body
            for name, body in wanted.items()
            if said.get(name) != body and (self.kind.all_of_them or name in self.asked)
        }
        if self.kind.ends:
            asked = said if self.kind.all_of_them else self.asked
            gone = (name for name in asked if name not in wanted and said.get(name) != _NOTHING)
            news |= dict.fromkeys(gone, _NOTHING)
        return news

    def _next_alone(self, wanted: Mapping[str, bytes]) -> dict[str, bytes]:
        """One of what was refused together; not what it has let go of since, nor that a table or a secret is gone."""
        while self._alone:
            name = self._alone.pop()
            if (self.kind.all_of_them or name in self.asked) and (self.kind.ends or name in wanted):
                return {name: wanted.get(name, _NOTHING)}
            # It has not taken that, should it be there again.
            self._said.pop(name, None)
        return {}

    def _speak(self) -> None:
        if self._mouth is None or self._wanted is None or not self._listens:
            return
        if self._on_their_way and (not self._thinks or len(self._on_their_way) >= _MOST):
            self.told = False
            return
        wanted = self._wanted
        news = self._next_alone(wanted) or self._news(wanted)
        self.told = not self._alone
        # A proxy waits for the first word on a kind that it asked for whole, even if there is nothing of it.
        if not news and (self.sent >= 0 or not self.kind.all_of_them):
            return
        found: dict[str, bytes] = {}
        problems: dict[str, str] = {}
        for name, body in news.items():
            try:
                if body:
                    found[name] = in_protobuf(self.kind, body)
            except MessageError as error:
                problems[name] = f"it is no {self.kind.message}: {error}"
        anew = [name for name, body in news.items() if body and self._taken.get(name, body) != body]
        self._said |= news
        for name in news:
            self._bad.pop(name, None)
        self.version += 1
        self.sent = self.version
        self._on_their_way[self.version] = {name: body for name, body in news.items() if name not in problems}
        self._thinks = False
        if self._late is not None:
            self._late.cancel()
        self._late = asyncio.get_running_loop().call_later(STEP, self._go_on) if self.kind.all_of_them else None
        gone = [name for name, body in news.items() if not body]
        self._pushed(self._mouth.say(self.kind, self.version, found, gone))
        for name, reason in problems.items():
            self._complain(name, news[name], reason)
        if anew:
            self._made(anew)
