# SPDX-License-Identifier: Apache-2.0
"""Whatever is written, removed and read anew: what is kept is listed by namespace and name."""

from __future__ import annotations

import random
from pathlib import Path

from meshbox.api.store import Key, Store

# One namespace's name is the beginning of another's, and a character before "-" or after it follows.
SPACES = ("", "a", "a-b", "a-", "ab", "a0", "b")


def listed(store: Store, namespace: str | None = None) -> list[Key]:
    return [
        (one.obj["metadata"].get("namespace", ""), one.obj["metadata"]["name"]) for one in store.entries("x", namespace)
    ]


def test_objects_are_listed_in_order(tmp_path: Path) -> None:
    draw, kept = random.Random(7), set[Key]()
    store = Store(tmp_path / "objects")
    for _ in range(400):
        key = draw.choice(SPACES), f"n{draw.randrange(12)}"
        if key in kept and draw.random() < 0.5:
            store.remove("x", key)
            kept.remove(key)
        else:
            store.put("x", key, {"metadata": {"namespace": key[0], "name": key[1], "uid": "u"}})
            kept.add(key)
        assert listed(store) == sorted(kept)
        space = draw.choice(SPACES)
        assert listed(store, space) == sorted(one for one in kept if one[0] == space)
    store.close()
    again = Store(tmp_path / "objects", expected=True)
    assert listed(again) == sorted(kept)
    again.close()
    assert (store.entries("y"), store.entries("y", "a")) == ([], [])
