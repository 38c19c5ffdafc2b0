# SPDX-License-Identifier: Apache-2.0
"""The release's own routes between BookInfo's services, as a learner applies them."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit import istio
from tests.conftest import REPOSITORY, wait_until
from tests.shops import Shop

pytestmark = pytest.mark.parametrize("shop_release", ["1.30.3"], indirect=True)

GENUINE = REPOSITORY.parent / "shared" / "releases" / "istio-1.30.3" / "samples"
PATIENCE = 240
PAGES = 40
"""Of two halves one is never seen in so many pages with a chance of 2e-12."""


@pytest.fixture(scope="module")
def samples() -> Path:
    """Where the release's samples are: the genuine ones, where they are at hand."""
    return GENUINE if GENUINE.is_dir() else istio.release("1.30.3").samples


@pytest.fixture(scope="module")
def shop(shared_shop: Shop) -> Iterator[Shop]:
    """The shop, with a Service for each version and the Gateway API, and without them in the end."""
    release = istio.release("1.30.3")
    versions = str(release.samples / "bookinfo/platform/kube/bookinfo-versions.yaml")
    definitions = str(release.path.parent / "gateway-api-1.5.1" / "crds.yaml")
    kubectl = shared_shop.sandbox.kubectl
    kubectl("apply", "-f", definitions)
    kubectl("apply", "-n", "bookinfo", "-f", versions)
    yield shared_shop
    kubectl("delete", "-n", "bookinfo", "-f", versions)
    kubectl("delete", "-f", definitions)


def versions_seen(shop: Shop) -> set[str]:
    """Which versions of reviews some pages were made with."""
    seen: set[str] = set()
    for _ in range(PAGES):
        with urllib.request.urlopen(f"{shop.url}/productpage", timeout=60) as page:
            seen.update(re.findall(r"reviews-(v\d)-", page.read().decode()))
    return seen


def test_routes_between_services_are_followed(shop: Shop, samples: Path) -> None:
    kubectl, folder = shop.sandbox.kubectl, samples / "bookinfo" / "gateway-api"
    every = str(folder / "route-all-v1.yaml")
    kubectl("apply", "-n", "bookinfo", "-f", every)
    wait_until(lambda: versions_seen(shop) == {"v1"}, PATIENCE, "reviews v1 alone")
    kubectl("apply", "-n", "bookinfo", "-f", str(folder / "route-reviews-50-v3.yaml"))
    wait_until(lambda: versions_seen(shop) == {"v1", "v3"}, PATIENCE, "reviews v1 and v3")

    def parents() -> list[dict[str, Any]]:
        told = json.loads(kubectl("get", "httproute", "reviews", "-n", "bookinfo", "-o", "json").stdout)
        found: list[dict[str, Any]] = told.get("status", {}).get("parents", [])
        return found

    # Nobody who follows a route waits until its status is written.
    (parent,) = wait_until(parents, PATIENCE, "a status")
    assert parent["parentRef"]["kind"] == "Service"
    assert {one["type"]: one["status"] for one in parent["conditions"]} == {"Accepted": "True", "ResolvedRefs": "True"}
    kubectl("delete", "-n", "bookinfo", "-f", every)
    wait_until(lambda: versions_seen(shop) == {"v1", "v2", "v3"}, PATIENCE, "all versions again")
