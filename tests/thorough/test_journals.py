# SPDX-License-Identifier: Apache-2.0
"""Damaged journals by the hundred, and a disk that is full at each byte of the first 64 kB."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from meshbox.api.journal.format import read
from tests.api.journals import damaged, fill, state
from tests.api.test_journal_disk import full_at_each

Figure = Callable[[str, object, str], None]


def test_500_damaged_journals(tmp_path: Path, figure: Figure) -> None:
    silent: Counter[str] = Counter()
    invented = 0
    for seed in range(500):
        if seed % 50 == 0:
            for name in ("one", "two"):
                (tmp_path / name).unlink(missing_ok=True)
            states = fill(tmp_path / "one", seed, 80) | fill(tmp_path / "two", seed + 1, 80)
            one, two = (tmp_path / "one").read_bytes(), (tmp_path / "two").read_bytes()
        way, content = damaged(one, two, seed)
        reading = read(content)
        if not reading.damages:
            silent[way] += 1
        invented += sum((*key, raw) not in states for key, raw in state(reading).items())
    figure("500 damaged journals, silent", sum(silent.values()), "0")
    assert (dict(silent), invented) == ({}, 0)


def test_a_disk_full_at_each_of_the_first_64_kb(tmp_path: Path, figure: Figure) -> None:
    tried = full_at_each(tmp_path / "objects" / "journal.jsonl", 64 << 10, step=1)
    figure("offsets of a full disk, each refused whole", tried, "all of the first 65536")
    assert tried >= (64 << 10) - 200
