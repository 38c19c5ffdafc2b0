# SPDX-License-Identifier: Apache-2.0
"""A rule about who may come that cannot be played denies: it is not left out, which would open what it closes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from meshbox.mesh.cache import ObjectCache
from meshbox.mesh.denials import stand_in

from .cluster import Cluster

POLICIES, PEERS = "authorizationpolicies.security.istio.io", "peerauthentications.security.istio.io"
BAD_ADDRESS = {"rules": [{"from": [{"source": {"ipBlocks": ["nonsense"]}}]}]}


@pytest.mark.parametrize(
    ("resource", "spec", "played"),
    [
        (
            POLICIES,
            {**BAD_ADDRESS, "selector": {"matchLabels": {"app": "a"}}},
            {"selector": {"matchLabels": {"app": "a"}}},
        ),
        (POLICIES, {**BAD_ADDRESS, "targetRefs": [{"kind": "Gateway"}]}, {"targetRefs": [{"kind": "Gateway"}]}),
        # Whom it chooses nobody can tell: so it is for all of its namespace.
        (POLICIES, {"selector": {"matchLabels": "a=b"}}, {}),
        (POLICIES, "nonsense", {}),
    ],
)
def test_whom_a_rule_chooses_is_denied(resource: str, spec: Any, played: dict[str, Any]) -> None:
    made, said = stand_in(resource, {"metadata": {"name": "a"}, "spec": spec})
    assert made == {"metadata": {"name": "a"}, "spec": {"action": "DENY", "rules": [{}], **played}}
    assert said == "all requests to what it chooses are denied (403) until it is mended"


def test_where_nobody_knows_what_is_asked_of_peers_it_is_mtls() -> None:
    made, said = stand_in(PEERS, {"metadata": {"name": "a"}, "spec": {"mtls": {"mode": "MAYBE"}}})
    assert made == {"metadata": {"name": "a"}, "spec": {"mtls": {"mode": "STRICT"}}}
    assert said == "what it chooses takes mTLS only until it is mended"


def test_other_kinds_open_nothing_by_being_left_out() -> None:
    assert stand_in("destinationrules.networking.istio.io", {"spec": {}}) == (None, "it is left out")


async def test_what_no_webhook_has_seen_denies_until_it_is_mended(cluster_of: Callable[[str], Cluster]) -> None:
    objects = cluster_of("1.30.3")
    changes: list[str] = []
    cache = ObjectCache(objects, legacy=False, changed=changes.append)
    cache.start()

    async def kept(resource: str, spec: dict[str, Any]) -> None:
        deadline = time.monotonic() + 240
        while [one["spec"] for one in cache.current()[resource]] != [spec]:
            assert time.monotonic() < deadline, cache.current()[resource]
            await asyncio.sleep(0.002)

    try:
        meta = {"name": "shut", "namespace": "bookinfo"}
        objects.put(POLICIES, {"metadata": meta, "spec": BAD_ADDRESS})
        await kept(POLICIES, {"action": "DENY", "rules": [{}]})
        [said] = objects.warnings("shut")
        assert said.startswith("configuration is invalid, all requests to what it chooses are denied (403)")
        mended = {"rules": [{"from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}}]}]}
        objects.put(POLICIES, {"metadata": meta, "spec": mended})
        await kept(POLICIES, mended)
    finally:
        await cache.stop()
