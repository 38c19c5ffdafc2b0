# SPDX-License-Identifier: Apache-2.0
"""Journals to damage: one with a history of objects, and the ways in which disks, copies and people spoil files."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from meshbox.api.journal.format import HEADER_SIZE, Reading, encode, read
from meshbox.api.loading import load
from meshbox.api.store import Store

State = dict[tuple[str, tuple[str, str]], bytes]
"""Resource and key → JSON of the object."""


def obj(name: str, text: str, namespace: str = "default") -> dict[str, object]:
    meta = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"text": text}}


def fill(path: Path, seed: int, writes: int = 60) -> set[tuple[str, tuple[str, str], bytes]]:
    """Write a journal with creations, changes and deletions; every state that any object ever had."""
    chance = random.Random(seed)
    store = Store(path)
    states = set()
    for step in range(writes):
        name = f"m{chance.randrange(12)}"
        key = ("default", name)
        if store.entry("configmaps", key) is not None and chance.random() < 0.2:
            store.remove("configmaps", key)
        else:
            entry = store.put("configmaps", key, obj(name, f"{step}-" + "äx\\" * chance.randrange(40)))
            states.add(("configmaps", key, entry.raw))
    store.close()
    return states


def state(reading: Reading) -> State:
    return {key: raw for key, (_, raw, _) in load(reading).objects.items()}


def flip(content: bytes, chance: random.Random, _other: bytes) -> bytes:
    changed = bytearray(content)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def burst(content: bytes, chance: random.Random, _other: bytes) -> bytes:
    changed = bytearray(content)
    start = chance.randrange(len(changed) - 4)
    for offset in range(start, start + 4):
        changed[offset] = chance.randrange(256)
    return flip(bytes(changed), chance, _other) if bytes(changed) == content else bytes(changed)


def zeros(content: bytes, chance: random.Random, _other: bytes) -> bytes:
    start = chance.randrange(len(content) - 1)
    end = min(len(content), start + chance.choice([1, 16, 512, 4096]))
    return content[:start] + bytes(end - start) + content[end:]


def cut(content: bytes, chance: random.Random, _other: bytes) -> bytes:
    return content[: chance.randrange(len(content))]


def hole(content: bytes, chance: random.Random, _other: bytes) -> bytes:
    start = chance.randrange(len(content) - 1)
    return content[:start] + content[start + chance.randrange(1, 600) :]


def repeated(content: bytes, chance: random.Random, _other: bytes) -> bytes:
    start = chance.randrange(len(content) - 1)
    end = start + chance.randrange(1, 2000)
    return content[:end] + content[start:end] + content[end:]


def repeated_records(content: bytes, chance: random.Random, _other: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    first = chance.randrange(1, len(lines))
    last = chance.randrange(first, len(lines))
    return b"".join([*lines[: last + 1], *lines[first : last + 1], *lines[last + 1 :]])


def dropped_records(content: bytes, chance: random.Random, _other: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    first = chance.randrange(1, len(lines))
    return b"".join([*lines[:first], *lines[first + chance.randrange(1, 4) :]])


def swapped(content: bytes, chance: random.Random, _other: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    one, two = chance.sample(range(1, len(lines)), 2)
    lines[one], lines[two] = lines[two], lines[one]
    return b"".join(lines)


def version(content: bytes, chance: random.Random, _other: bytes) -> bytes:
    return content.replace(b"labkit-journal 2", b"labkit-journal %d" % chance.choice([0, 1, 3, 9]), 1)


def glued(content: bytes, chance: random.Random, other: bytes) -> bytes:
    return content + other if chance.random() < 0.5 else other + content


def spliced(content: bytes, chance: random.Random, other: bytes) -> bytes:
    """The beginning of one journal and the end of another, at the ends of lines or anywhere."""
    if chance.random() < 0.5:
        return content[: chance.randrange(len(content))] + other[chance.randrange(1, len(other)) :]
    mine, others = content.splitlines(keepends=True), other.splitlines(keepends=True)
    return b"".join([*mine[: chance.randrange(1, len(mine))], *others[chance.randrange(1, len(others)) :]])


def put_for_qut(content: bytes, chance: random.Random, _other: bytes) -> bytes:
    places = [one for one in range(len(content)) if content.startswith(b'"put"', one)]
    place = chance.choice(places)
    return content[:place] + b'"qut"' + content[place + 5 :]


def empty(_content: bytes, _chance: random.Random, _other: bytes) -> bytes:
    return b""


WAYS: list[Callable[[bytes, random.Random, bytes], bytes]] = [
    flip,
    burst,
    zeros,
    cut,
    hole,
    repeated,
    repeated_records,
    dropped_records,
    swapped,
    version,
    glued,
    spliced,
    put_for_qut,
    empty,
]


def damaged(content: bytes, other: bytes, seed: int) -> tuple[str, bytes]:
    """A way to damage a journal, and what is left; every way in turn."""
    chance = random.Random(seed)
    way = WAYS[seed % len(WAYS)]
    while (changed := way(content, chance, other)) == content:
        continue
    return way.__name__, changed


def written_by(path: Path, version: str) -> None:
    """Make a journal one that another version of labkit wrote."""
    content = path.read_bytes()
    path.write_bytes(replace(read(content).header, by=version).encode() + content[HEADER_SIZE:])


def appended(path: Path, *payloads: bytes) -> None:
    """Add whole records to a journal, as if the sandbox itself had written them."""
    content = path.read_bytes()
    reading = read(content)
    assert not reading.damages
    number = len(reading.records)
    path.write_bytes(content + b"".join(encode(reading.header.id, number + n, p) for n, p in enumerate(payloads, 1)))


__all__ = ["HEADER_SIZE", "WAYS", "appended", "damaged", "fill", "state", "written_by"]
