# SPDX-License-Identifier: Apache-2.0
"""What proxies do with what comes in, compared with what istiod's own configuration for the same objects does.

The first line of `istiod/inbound.jsonl` holds calls, each other one objects and what istiod's configuration makes of
connections and of those calls, told by the same functions as ours is here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from meshbox.mesh.envoy_filters.patches import chosen
from meshbox.mesh.envoy_filters.player import patched
from meshbox.mesh.envoy_filters.site import Site
from meshbox.mesh.translate import translate
from meshbox.values import clone

from .istiods_answers import WIRES, Answer
from .istiods_gateways import served
from .objects import pod, service, snapshot, workload

Json = dict[str, Any]

_FIRST, *CASES = map(json.loads, (Path(__file__).parent / "istiod/inbound.jsonl").read_text().splitlines())
CALLS = _FIRST["calls"]
"""What is asked of all policies."""

SIDECAR, GATEWAY = ("app-v1", "bookinfo"), ("istio-ingressgateway-1", "istio-system")
NAMES = ["a.test", "b.test", "x.a.test", "other.org"]
KNOWN = {
    # istiod leaves TLS without a sidecar's ALPN to the chain for bytes, also where all must show certificates; here
    # clients that are no sidecars are taken for callers of HTTP.
    "certificates of others": ("tls", "tls h2"),
}
"""What is other on purpose, and the kinds of connections that it is about."""


def world(config: list[Json], mesh: str) -> Any:
    """The cluster in which all cases are."""
    named = [("http", 8080, 8080), ("tcp", 9000, 9000), ("misc", 7070, 7070), ("grpc", 7071, 7071)]
    named += [("https", 8443, 8443), ("http-web", 81, 8081)]
    ports = [{"name": name, "port": number, "targetPort": target} for name, number, target in named]
    app = service("app", ports=ports, ip="127.99.17.72")
    border = [("http2", 80, 8080), ("https", 443, 8443), ("tcp", 31400, 31400), ("tls", 15443, 15443)]
    ports = [{"name": name, "port": number, "targetPort": target} for name, number, target in border]
    gateway = service(
        GATEWAY[0][:-2], ports=ports, namespace=GATEWAY[1], ip="127.99.17.9", selector={"istio": "ingressgateway"}
    )
    own = (8080, 9000, 7070, 7071, 8443, 8081, 5555)
    pods = [
        pod("app-v1", "127.99.65.1", ports=own, version="v1"),
        pod(
            GATEWAY[0],
            "127.99.65.2",
            namespace=GATEWAY[1],
            role="router",
            ports=(8080, 8443, 31400, 15443),
            app="istio-ingressgateway",
            istio="ingressgateway",
        ),
    ]
    by_kind: dict[str, list[Json]] = {}
    for obj in clone(config):
        by_kind.setdefault(obj.pop("kind"), []).append(obj)
    return snapshot(mesh=mesh, services=[app, gateway], pods=pods, **by_kind)


def told(case: Json) -> Json:
    """What the proxy that a case is about is told."""
    snap = world(case["config"], json.dumps(case["mesh"]) if case["mesh"] else "")
    mine = workload(snap, *(GATEWAY if case["gateway"] else SIDECAR))
    config = translate(snap, mine)
    if any(one["kind"] == "envoy_filters" for one in case["config"]):
        config = patched(snap, mine, Site.of(snap, mine), config, chosen(snap, mine)).config
    kinds = ("listeners", "routes", "clusters")
    return {kind: [json.loads(body) for body in getattr(config, kind).values()] for kind in kinds}


def facts(case: Json, answer: Json) -> Json:
    """What a configuration does in a case, as far as it is about that."""
    if case["gateway"]:
        found = served(answer, case["ports"], NAMES)
    else:
        found = Answer(answer).incoming(case["ports"], WIRES, CALLS)
    chains = found["chains"]
    asked = [one if one == "closed" else {k: v for k, v in one.items() if k in case["about"]} for one in chains]
    return {"chains": asked, "ways": found["ways"]}


def ways(case: Json, found: Json) -> Json:
    """The chain for each way in, but for those of which it is known that they differ."""
    if case["gateway"]:
        return {way: found["chains"][index] for way, index in found["ways"].items()}
    skipped = {wire for name in case.get("known", ()) for wire in KNOWN[name]}
    return {
        f"{port} {wire}": found["chains"][ord(letter) - ord("a")]
        for port, letters in found["ways"].items()
        for wire, letter in zip(WIRES, letters, strict=True)
        if wire not in skipped
    }


@pytest.mark.parametrize("case", [pytest.param(one, id=one["id"]) for one in CASES])
def test_a_proxy_does_as_istiod_says(case: Json) -> None:
    assert ways(case, facts(case, told(case))) == ways(case, case["facts"])
