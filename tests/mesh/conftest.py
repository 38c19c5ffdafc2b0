# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a sandbox's addresses for a test's own use, and worlds with real Envoys in them."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from meshbox.addresses import AddressPlan
from meshbox.blocks import claim
from meshbox.mesh import resources
from meshbox.mesh.certificates import LIFETIME, Authority

from .cluster import CONTROL_PLANE, Cluster
from .istiod import Istiod

REPOSITORY = Path(__file__).resolve().parents[2]
RELEASES = ("1.2.2", "1.30.3")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AddressPlan]:
    """A free block of loopback addresses, held until the module's tests are over."""
    plan, lock = claim(tmp_path_factory.mktemp("addresses"))
    with lock:
        yield plan


@pytest.fixture(scope="module")
def second_plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AddressPlan]:
    """Another block, for a second world beside the first."""
    plan, lock = claim(tmp_path_factory.mktemp("addresses"))
    with lock:
        yield plan


@pytest.fixture
def cluster_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Cluster]]:
    """Makes a cluster's objects, for a release."""
    made: list[Cluster] = []

    def make(release: str) -> Cluster:
        made.append(Cluster(tmp_path_factory.mktemp("cluster"), release))
        return made[-1]

    yield make
    for cluster in made:
        cluster.close()


@pytest.fixture
async def istiod(cluster_of: Callable[[str], Cluster]) -> AsyncIterator[Istiod]:
    """What istiod writes for the Gateway API, in a cluster with its definitions."""
    cluster = cluster_of("1.30.3")
    cluster.install_gateway_api()
    cluster.install("ConfigMap", "configmaps", CONTROL_PLANE)
    made = Istiod(cluster)
    made.api.start()
    yield made
    await made.api.stop()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The data of a Secret that a listener may show, with the authority's certificate beside it."""
    authority = Authority(tmp_path_factory.mktemp("authority"), LIFETIME)
    authority.load()
    identity = authority.identity("spiffe://cluster.local/ns/bookinfo/sa/shop")
    texts = {"tls.crt": identity.chain, "tls.key": identity.key, "ca.crt": authority.root}
    return {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next step of a change waits for a proxy that is slow on a busy machine; otherwise it comes after a second."""
    monkeypatch.setattr(resources, "STEP", 240.0)


@pytest.fixture
def genuine() -> Path:
    """Where the genuine releases are, or skip."""
    folder = REPOSITORY.parent / "shared" / "releases"
    if not folder.is_dir():
        pytest.skip(f"the genuine manifests of Istio are not at {folder}")
    return folder
