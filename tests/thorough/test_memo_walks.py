# SPDX-License-Identifier: Apache-2.0
"""The walks of tests/mesh/test_mesh_memo.py, much further."""

from __future__ import annotations

import pytest

from tests.mesh.test_mesh_memo import walk


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("seed", range(100, 140))
def test_a_memory_changes_nothing_on_long_walks(seed: int, legacy: bool) -> None:
    walk(seed, 80, legacy=legacy)
