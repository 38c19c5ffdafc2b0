# SPDX-License-Identifier: Apache-2.0
"""The disk is full at the first start, with each number of pages left from none to 64 kB."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.sandbox.test_full_disk import first_start


def test_a_disk_full_at_any_moment_of_the_first_start(
    tmp_path: Path, figure: Callable[[str, object, str], None]
) -> None:
    sizes = range(0, 68, 4)
    for size in sizes:
        home = tmp_path / str(size)
        home.mkdir()
        first_start(home, f"{size}k", may_work=True)
    figure("first starts on a full disk without a token that is short", len(sizes), str(len(sizes)))
