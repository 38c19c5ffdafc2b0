# SPDX-License-Identifier: Apache-2.0
"""Images are tried in pods of a node of their own, as the node's own tests do; Kiali in front of a small world."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.images.kiali_world import World, kiali
from tests.node.conftest import cluster

__all__ = ["api", "cluster", "world"]


@pytest.fixture
def world() -> World:
    """What Kiali sees."""
    return World()


@pytest.fixture
def api(world: World) -> Iterator[str]:
    """The address of Kiali's API in that world."""
    with kiali(world) as address:
        yield f"{address}/kiali/api"
