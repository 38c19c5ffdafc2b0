# SPDX-License-Identifier: Apache-2.0
"""The shared mesh with BookInfo behind its gateway, and what tells of its traffic."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labkit import cluster, istio
from labkit.istio.model import Facts
from labkit.observe.jaeger import Jaeger
from labkit.observe.prometheus import Prometheus
from tests.shops import Shop, open_shop, pytest_runtest_teardown, shared_shop, shop_release

__all__ = ["Shop", "open_shop", "pytest_runtest_teardown", "shared_shop", "shop_release"]


@pytest.fixture(scope="module")
def shop(shared_shop: Shop) -> Shop:
    """A mesh that is put back to what it was."""
    return shared_shop


@pytest.fixture(scope="module")
def facts(shop: Shop) -> Facts:
    return istio.facts(shop.sandbox.release)


@pytest.fixture(scope="module")
def prometheus(shop: Shop) -> Iterator[Prometheus]:
    with cluster.port_forward("svc/prometheus", 9090, namespace="istio-system", show=False) as forward:
        yield Prometheus(forward.url)


@pytest.fixture(scope="module")
def jaeger(shop: Shop, facts: Facts) -> Iterator[Jaeger]:
    addon = next(one for one in facts.addons if one.name == "jaeger")
    with cluster.port_forward(f"svc/{addon.service}", addon.port, namespace="istio-system", show=False) as forward:
        yield Jaeger(forward.url + addon.path.rstrip("/"))
