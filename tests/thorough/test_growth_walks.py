# SPDX-License-Identifier: Apache-2.0
"""The histories of tests/mesh/test_mesh_growth.py, many more of them, and longer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mesh.cluster import Cluster
from tests.mesh.test_mesh_growth import WRITES, History, emptied, lived


@pytest.mark.parametrize("release", ["1.2.2", "1.30.3"])
def test_a_mesh_that_saw_each_write_of_a_long_history_tells_what_a_new_one_tells(release: str, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, release)
    if release != "1.2.2":
        cluster.install_gateway_api()

    @settings(max_examples=300)
    @given(st.lists(st.lists(WRITES, min_size=1, max_size=4), min_size=5, max_size=40))
    def check(batches: list[list[tuple[Any, ...]]]) -> None:
        asyncio.run(lived(History(emptied(cluster), legacy=release == "1.2.2"), batches))

    check()
    cluster.close()
