# SPDX-License-Identifier: Apache-2.0
"""One change at a time: of what was made before it, nothing is told that the change has spoilt.

tests/mesh/test_mesh_memo.py walks at random.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from meshbox.mesh.memo import Memo
from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.translate import Config, translate

from .objects import PLAN, istio, pod, service, snapshot

Json = dict[str, Any]
Objects = dict[str, Any]

APP = pod("app-v1", "127.99.64.60", ports=(7000, 7001), app="app")
BASE: Objects = {"pods": [APP], "services": [service("app", ("http", 7000), ("tcp", 7001), ip="127.99.16.9")]}

INGRESS = {"port": {"number": 9443, "name": "http", "protocol": "HTTP"}, "defaultEndpoint": "127.0.0.1:7000"}
EVERYTHING = [{"hosts": ["*/*"]}]
RAW = {
    "hosts": ["raw.test"],
    "ports": [{"number": 7000, "name": "tcp", "protocol": "TCP"}],
    "resolution": "STATIC",
    "location": "MESH_INTERNAL",
    "workloadSelector": {"labels": {"app": "app"}},
}
RANGE = {
    "hosts": ["far.test"],
    "addresses": ["10.1.0.0/16"],
    "ports": [{"number": 7000, "name": "tcp", "protocol": "TCP"}],
}
ROUTE = {"hosts": ["app"], "tcp": [{"route": [{"destination": {"host": "ratings"}}]}]}
SLOW = {"host": "app", "trafficPolicy": {"connectionPool": {"tcp": {"idleTimeout": "7s"}}}}

CHANGES: dict[str, Objects] = {
    "a port of its application": {"sidecars": [istio("default", {"ingress": [INGRESS], "egress": EVERYTHING})]},
    "limits": {"sidecars": [istio("default", {"inboundConnectionPool": {"tcp": {"maxConnections": 3}}})]},
    "other limits": {"sidecars": [istio("default", {"inboundConnectionPool": {"tcp": {"maxConnections": 5}}})]},
    "a port that others take for bytes": {"service_entries": [istio("raw", RAW)]},
    "who may call": {"authorization_policies": [istio("none", {"action": "DENY", "rules": [{}]})]},
    "who shows a certificate": {"peer_authentications": [istio("default", {"mtls": {"mode": "STRICT"}})]},
    "what is spoken": {"services": [service("app", ("grpc", 7000), ("http", 7001), ip="127.99.16.9")]},
    "what is unknown": {"mesh": "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"},
    "what is in sight": {"sidecars": [istio("default", {"egress": [{"hosts": ["istio-system/*"]}]})]},
    "a range": {"service_entries": [istio("far", RANGE)]},
    "a rule for bytes": {"virtual_services": [istio("app", ROUTE)]},
    "how long connections last": {"destination_rules": [istio("app", SLOW)]},
}
BEFORE: dict[str, Objects] = {
    "other limits": {"sidecars": [istio("default", {"inboundConnectionPool": {"tcp": {"maxConnections": 4}}})]},
}
"""Where a change is not from what is in `BASE` alone."""

OLD: dict[str, Objects] = {
    "who may call": {"cluster_rbac_configs": [istio("default", {"mode": "ON"}, "")]},
    "who shows a certificate": {"policies": [istio("default", {"peers": [{"mtls": {}}]})]},
    **{
        name: CHANGES[name]
        for name in ("a port of its application", "what is spoken", "what is unknown", "a range", "a rule for bytes")
    },
}


def objects(legacy: bool, given: Objects) -> dict[str, list[Json]]:
    return snapshot(legacy=legacy, **copy.deepcopy({**BASE, **given}))._objects


def told(snap: Snapshot) -> dict[tuple[str, str], Config]:
    return {key: translate(snap, one) for key, one in snap.workloads.items()}


@pytest.mark.parametrize("undone", [False, True])
@pytest.mark.parametrize(("legacy", "change"), [*((False, name) for name in CHANGES), *((True, name) for name in OLD)])
def test_what_a_change_spoils_is_made_anew(legacy: bool, change: str, undone: bool) -> None:
    changed = (OLD if legacy else CHANGES)[change]
    first, second = BEFORE.get(change, {}), changed
    if undone:
        first, second = second, first
    before, after = objects(legacy, first), objects(legacy, second)
    # A store keeps an object that nobody has written.
    kept = {
        resource: [next((o for o in before[resource] if o == one), one) for one in each]
        for resource, each in after.items()
    }
    memo = Memo()
    remembered = told(Snapshot(before, PLAN, legacy=legacy, memo=memo))
    again = told(Snapshot(kept, PLAN, legacy=legacy, memo=memo))
    assert again == told(Snapshot(kept, PLAN, legacy=legacy))
    assert again != remembered
