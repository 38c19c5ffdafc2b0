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
from meshbox.mesh.kinds import CLUSTER_RBAC_CONFIGS, MESH_POLICIES, RBAC_CONFIGS
from meshbox.mesh.kinds import POLICIES as OLD_POLICIES
from meshbox.mesh.security import mtls_mode
from meshbox.mesh.translate import translate

from .cluster import Cluster
from .objects import snapshot, workload

POLICIES, PEERS = "authorizationpolicies.security.istio.io", "peerauthentications.security.istio.io"
BAD_ADDRESS = {"rules": [{"from": [{"source": {"ipBlocks": ["nonsense"]}}]}]}


GATEWAY = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}
CHOSEN = {"selector": {"matchLabels": {"app": "a"}}}


@pytest.mark.parametrize(
    ("spec", "played"),
    [
        ({**BAD_ADDRESS, **CHOSEN}, CHOSEN),
        ({**BAD_ADDRESS, "targetRefs": [GATEWAY]}, {"targetRefs": [GATEWAY]}),
        ({**BAD_ADDRESS, "targetRef": GATEWAY}, {"targetRef": GATEWAY}),
        ({**BAD_ADDRESS, **CHOSEN, "targetRefs": []}, CHOSEN),
        (BAD_ADDRESS, {}),
        # Whom it chooses nobody can tell, or it would choose none: so it is for all of its namespace.
        *(({"selector": {"matchLabels": labels}}, {}) for labels in ("a=b", ["a"], {"a": 1}, {"a": "*"}, {"": "a"})),
        *(({"selector": selector}, {}) for selector in ("a", "", ["a"])),
        *(({"targetRef": target}, {}) for target in ("edge", "", [GATEWAY])),
        *(({"targetRefs": targets}, {}) for targets in ("edge", GATEWAY, ["edge"], [None])),
        *(
            ({"targetRefs": [GATEWAY, {**GATEWAY, key: value}]}, {})
            for key, value in (("kind", "Gate"), ("group", ""), ("name", ""), ("name", 1), ("namespace", "other"))
        ),
        ({**CHOSEN, "targetRefs": [GATEWAY]}, {}),
        ("nonsense", {}),
    ],
)
def test_whom_a_rule_chooses_is_denied(spec: Any, played: dict[str, Any]) -> None:
    made, said = stand_in(POLICIES, {"metadata": {"name": "a"}, "spec": spec})
    assert made == {"metadata": {"name": "a"}, "spec": {"action": "DENY", "rules": [{}], **played}}
    assert said == "all requests to what it chooses are denied (403) until it is mended"


def test_where_nobody_knows_what_is_asked_of_peers_it_is_mtls() -> None:
    made, said = stand_in(PEERS, {"metadata": {"name": "a"}, "spec": {"mtls": {"mode": "MAYBE"}}})
    assert made == {"metadata": {"name": "a"}, "spec": {"mtls": {"mode": "STRICT"}}}
    assert said == "what it chooses takes mTLS only until it is mended"


@pytest.mark.parametrize("resource", [OLD_POLICIES, MESH_POLICIES])
@pytest.mark.parametrize(
    ("spec", "name", "targets"),
    [
        ({"targets": [{"name": "ratings", "ports": "all"}]}, "odd", [{"name": "ratings"}]),
        ({"peers": "nonsense"}, "odd", []),
        ("nonsense", "odd", []),
        # Which Services it is for nobody can tell: so it is for all of them.
        *(
            ({"targets": targets}, "default", [])
            for targets in ("ratings", 5, ["ratings"], [{}], [{"name": "ratings.x"}])
        ),
    ],
)
def test_a_policy_of_the_old_release_asks_for_mtls(
    resource: str, spec: Any, name: str, targets: list[dict[str, Any]]
) -> None:
    made, said = stand_in(resource, {"metadata": {"name": "odd", "namespace": "bookinfo"}, "spec": spec})
    assert made == {
        "metadata": {"name": name, "namespace": "bookinfo"},
        "spec": {"peers": [{"mtls": {}}], **({"targets": targets} if targets else {})},
    }
    assert said == "what it is for takes mTLS only until it is mended"
    if resource == OLD_POLICIES:
        snap = snapshot(legacy=True, kept={resource: [made]})
        modes = [mtls_mode(snap, workload(snap, source), 9080) for source in ("ratings-v1", "details-v1")]
        assert modes == (
            ["STRICT", "PERMISSIVE"] if targets else [("STRICT" if name == "default" else "PERMISSIVE")] * 2
        )


@pytest.mark.parametrize("resource", [CLUSTER_RBAC_CONFIGS, RBAC_CONFIGS])
def test_where_nobody_knows_what_roles_are_for_they_are_for_all(resource: str) -> None:
    spec = {"mode": "ON_WITH_INCLUSION", "inclusion": "nonsense"}
    made, said = stand_in(resource, {"metadata": {"name": "default"}, "spec": spec})
    assert made == {"metadata": {"name": "default"}, "spec": {"mode": "ON"}}
    assert said == "all requests that no role allows are denied until it is mended"
    snap = snapshot(legacy=True, kept={resource: [made]})
    table = translate(snap, workload(snap, "ratings-v1")).routes["inbound|9080|http|ratings.bookinfo.svc.cluster.local"]
    assert b'"rules":{"action":"ALLOW","policies":{}}' in table


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
