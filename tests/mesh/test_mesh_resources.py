# SPDX-License-Identifier: Apache-2.0
"""Resources of one kind on their way to a proxy: only what is new, one message at a time."""

from __future__ import annotations

import asyncio

import pytest

from meshbox.images.grpc import wire
from meshbox.mesh import resources
from meshbox.mesh.resources import Resources, in_protobuf

from .telling import KIND, Listener, ends, in_any, settled


class Told(Listener):
    """A listener, and what it is told of one kind."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.refusals: list[tuple[str, bytes, str]] = []
        self.anew: list[list[str]] = []
        self.kind = kind
        self.made = Resources(
            KIND[kind],
            lambda *refused: self.refusals.append(refused),
            made=lambda names: self.anew.append(sorted(names)),
        )
        self.made.opened(self)

    @property
    def last(self) -> tuple[int, dict[str, bytes], list[str]]:
        return self.heard[self.kind][-1]

    @property
    def all(self) -> list[list[str]]:
        return self.names(self.kind)


def cluster(name: str, timeout: str = "1s") -> bytes:
    return b'{"name": "%s", "connect_timeout": "%s"}' % (name.encode(), timeout.encode())


async def test_only_what_was_asked_for_is_told_and_only_what_is_new_of_it() -> None:
    told = Told("endpoints")
    told.made.ask(["a", "b", "none"], [])
    assert told.all == []
    told.made.offer({name: ends(name, 1) for name in "abc"})
    message = wire.text(1, "a") + wire.length(4, wire.length(3, wire.number(1, 1)))
    assert told.last[:2] == (1, {"a": message, "b": message.replace(b"\x01a", b"\x01b")})
    assert told.all == [["a", "b", "-none"]]
    told.made.settle(1)
    told.made.offer({"a": ends("a", 1), "b": ends("b", 2), "c": ends("c", 2)})
    assert told.all[1:] == [["b"]]
    told.made.settle(2)
    told.made.ask([], ["b"])
    told.made.offer({"a": ends("a", 1), "b": ends("b", 3)})
    assert len(told.all) == 2
    assert (told.made.version, told.made.sent, told.made.acknowledged) == (2, 2, 2)


async def test_a_wave_is_one_message_however_slow_the_proxy() -> None:
    told = Told("endpoints")
    told.made.ask(["a", "b"], [])
    for number in range(9):
        told.made.offer({"a": ends("a", number), "b": ends("b")})
    assert told.all == [["a", "b"]]
    assert not told.made.told
    told.made.settle(1)
    assert told.all[1:] == [["a"]]
    assert told.last[1]["a"] == in_any(in_protobuf(KIND["endpoints"], ends("a", 8)))
    assert told.made.told
    assert not told.made.settled
    told.made.settle(2)
    assert told.made.settled


async def test_of_what_is_refused_together_only_what_is_at_fault_is_lost() -> None:
    told = Told("clusters")
    told.made.ask(["*"], [])
    told.made.offer({"bad": cluster("bad"), "good": cluster("good")})
    told.made.settle(1, "one is bad")
    assert told.refusals == []
    for _ in range(2):
        number, found, _ = told.last
        told.made.settle(number, "it is bad" if "bad" in found else None)
    assert told.all == [["bad", "good"], ["good"], ["bad"]]
    assert told.refusals == [("bad", cluster("bad"), "it is bad")]
    assert told.made.refusing
    assert told.made.refuses(["good", "bad"])
    assert not told.made.refuses(["good"])
    assert told.made.settled
    # It is not told of again until it is another one.
    told.made.offer({"bad": cluster("bad", "2s"), "good": cluster("good")})
    assert told.all[3:] == [["bad"]]
    assert not told.made.refusing


@pytest.mark.parametrize("kind", ["routes", "secrets"])
async def test_of_what_is_refused_together_what_is_gone_since_stays_with_who_has_it(kind: str) -> None:
    told, there = Told(kind), {name: b'{"name": "%s"}' % name.encode() for name in ("a", "b")}
    told.made.ask(["a", "b"], [])
    told.made.offer(there)
    told.made.settle(1, "one is bad")
    told.made.offer({"b": there["b"]})
    told.made.settle(2, "it is bad")
    assert told.all == [["a", "b"], ["b"]]
    assert told.made.settled
    # It was never taken, so that it is told when it is there again.
    told.made.offer(there)
    assert told.all[2:] == [["a"]]


async def test_of_what_is_refused_together_what_nobody_asks_for_any_more_is_not_told() -> None:
    told = Told("endpoints")
    told.made.ask(["a", "b"], [])
    told.made.offer({"a": ends("a"), "b": ends("b")})
    told.made.settle(1, "one is bad")
    told.made.ask([], ["a"])
    told.made.settle(2)
    assert told.all == [["a", "b"], ["b"]]
    assert told.made.settled


async def test_what_was_refused_is_told_again_after_a_while_and_complained_of_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resources, "TRY_AGAIN", 0.001)
    told = Told("listeners")
    told.made.ask([], [])
    told.made.offer({"door": b'{"name": "door"}'})
    for count in range(1, 4):
        await settled(lambda count=count: len(told.all) == count)
        told.made.settle(count, "the address is in use")
    await settled(lambda: len(told.all) == 4)
    assert told.refusals == [("door", b'{"name": "door"}', "the address is in use")]
    told.made.settle(4)
    assert not told.made.refusing
    assert told.all == [["door"]] * 4


async def test_what_no_envoy_could_read_is_refused_without_being_told() -> None:
    told = Told("clusters")
    told.made.ask([], [])
    told.made.offer({"odd": b'{"name": "odd", "colour": "red"}', "good": cluster("good")})
    assert told.all == [["good"]]
    reason = "it is no envoy.config.cluster.v3.Cluster: colour: envoy.config.cluster.v3.Cluster has no such field"
    assert told.refusals == [("odd", b'{"name": "odd", "colour": "red"}', reason)]
    told.made.settle(1)
    waiting = asyncio.create_task(told.made.taken(["odd", "good"]))
    await asyncio.sleep(0)
    assert waiting.done()
    assert told.made.refuses(["odd"])


async def test_who_asks_for_all_is_told_even_if_there_is_nothing() -> None:
    for names in ([], ["*"]):
        told = Told("listeners")
        told.made.offer({})
        assert told.all == []
        told.made.ask(names, [])
        assert told.all == [[]]
        told.made.settle(1)
        told.made.offer({"door": b"{}"})
        told.made.settle(2)
        told.made.offer({})
        assert told.all == [[], ["door"], ["-door"]]


async def test_another_envoy_is_told_of_all() -> None:
    told = Told("endpoints")
    told.made.ask(["a"], [])
    told.made.offer({"a": ends("a")})
    after = Listener()
    told.made.opened(after)
    told.made.closed(told)
    told.made.ask(["a"], [])
    assert after.names("endpoints") == [["a"]]
    told.made.closed(after)
    assert told.made.sent == -1


async def test_what_an_envoy_has_from_before_its_stream_and_is_gone_meanwhile_ends() -> None:
    told = Told("clusters")
    told.made.offer({"kept": cluster("kept")})
    told.made.ask([], [], ["kept", "gone"])
    assert told.all == [["kept", "-gone"]]
    # It may be another one than before: whoever asks for its endpoints begins without.
    assert told.anew == [["kept"]]


@pytest.mark.parametrize("kind", ["routes", "secrets"])
async def test_tables_and_secrets_stay_with_who_has_them(kind: str) -> None:
    told, body = Told(kind), b'{"name": "x"}'
    told.made.ask(["x"], [])
    told.made.offer({"x": body})
    told.made.settle(1)
    told.made.offer({})
    assert told.all == [["x"]]
    # Nobody else gets it.
    after = Listener()
    told.made.opened(after)
    told.made.ask(["x"], [])
    assert after.names(kind) == []
    told.made.offer({"x": body})
    assert after.names(kind) == [["x"]]


async def test_who_asks_anew_for_what_has_not_changed_is_answered() -> None:
    told = Told("routes")
    told.made.offer({"r": b'{"name": "r"}'})
    for count in range(1, 4):
        told.made.ask(["r"], [])
        assert told.all == [["r"]] * count
        told.made.settle(count)
        told.made.ask([], ["r"])


async def test_a_cluster_that_is_another_one_is_made_anew_and_a_new_one_is_not() -> None:
    told = Told("clusters")
    told.made.ask([], [])
    told.made.offer({"a": cluster("a"), "b": cluster("b")})
    told.made.settle(1)
    assert told.anew == []
    told.made.offer({"a": cluster("a", "2s"), "b": cluster("b"), "c": cluster("c")})
    # An Envoy says that it took the clusters when they have their endpoints: it has to be told of these before.
    assert told.anew == [["a"]]


async def test_who_thinks_long_is_told_the_next_thing_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "STEP", 0.001)
    told = Told("clusters")
    told.made.ask([], [])
    told.made.offer({"slow": cluster("slow")})
    told.made.offer({"slow": cluster("slow"), "next": cluster("next")})
    await settled(lambda: len(told.all) == 2)
    assert told.all[1] == ["next"]
    # What it says of the first one counts, whenever it comes.
    told.made.settle(1, "no such name")
    assert told.refusals == [("slow", cluster("slow"), "no such name")]
    told.made.settle(2)
    assert told.made.settled


async def test_what_was_refused_late_is_not_held_against_what_was_told_since(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "STEP", 0.001)
    told = Told("clusters")
    told.made.ask([], [])
    told.made.offer({"a": cluster("a")})
    told.made.offer({"a": cluster("a", "2s")})
    await settled(lambda: len(told.all) == 2)
    told.made.settle(1, "it is bad")
    told.made.settle(2)
    assert told.refusals == [("a", cluster("a"), "it is bad")]
    assert not told.made.refusing


async def test_who_answers_nothing_is_not_told_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "STEP", 0.0)
    told = Told("clusters")
    told.made.ask([], [])
    for number in range(20):
        told.made.offer({"a": cluster("a", f"{number + 1}s")})
        # So that it counts as one that thinks long.
        await asyncio.sleep(0.001)
    assert len(told.all) == 8
    told.made.settle(1)
    assert len(told.all) == 9
    assert told.last[1]["a"] == in_any(in_protobuf(KIND["clusters"], cluster("a", "20s")))


async def test_an_answer_to_no_message_is_passed_over() -> None:
    told = Told("clusters")
    told.made.ask([], [])
    told.made.offer({"a": cluster("a")})
    told.made.settle(7, "of another stream")
    told.made.settle(1)
    told.made.settle(1, "twice")
    assert told.refusals == []
    assert told.made.acknowledged == 1
