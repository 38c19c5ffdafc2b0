# SPDX-License-Identifier: Apache-2.0
"""What istiod 1.30 tells a sidecar for what its application calls, and what ours is told for the same objects.

`istiod/outbound.jsonl` has istiod's answers: first the worlds (Services, pods, nodes, and what the sidecar is told
there), then cases, each with the objects that are written in a world (kind, namespace and name, spec, annotations;
the oldest first) and what becomes different by them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from meshbox.mesh.snapshot import Snapshot
from meshbox.mesh.translate import translate
from meshbox.values import clone

from .istiods_calls import answer, differences, patched
from .objects import PLAN, stored

Json = dict[str, Any]

# Whole names are most of what is there.
_TEXT = (Path(__file__).parent / "istiod/outbound.jsonl").read_text().replace("~~", ".svc.cluster.local")
_LINES = [json.loads(line) for line in _TEXT.splitlines()]
WORLDS = {line["world"]: line for line in _LINES if "objects" in line}
CASES = {line["id"]: line for line in _LINES if "id" in line}

KNOWN = {
    "http-redirectpfx": "`%PREFIX()%` is our word, too, for what was matched; nobody means it literally.",
    "http-redirectpfx2": "As before.",
    "dr-tls9-reviews": "TLS whose credential only a gateway has is left out, and so is all that is said of it.",
    "drm-pls-reviews": "A port with settings of its own has endpoints that lost mTLS by the whole host's `tls`.",
    "drh-upper": "Istio takes a host in capitals for another one.",
    "se-upper": "Istio takes a host in capitals for another one.",
    "sc-cap": "A listener that binds a port of its own is not played, and warned of.",
    "sc-port2": "Istio tells of ports that no listener lets through; nothing leads there.",
    "sc-port6": "A listener for bytes on a port for HTTP stays one for HTTP with Istio where another serves all ports.",
    "sc-vsonly": "Port 80 is listened on in any case.",
    "se-svc": "A Service whose host a ServiceEntry has, too, loses its address as a name with Istio.",
    "se-svc2": "Istio listens on the port that such a ServiceEntry adds, and has nothing behind it; it is warned of.",
    "sec-http-STATIC": "Istio has the endpoints once for each address; the only other name is a range.",
}
"""Cases of which something is otherwise on purpose, or is known and left."""

BYTES = (443, 1003, 1004, 1006, 1007, 1008, 1010, 3306, 3307, 8443, 9000, 27017)
"""Ports of the worlds and cases at which no HTTP is spoken."""


_PLAIN = ("Service", "Pod", "Node")
_RESOURCES = {"ServiceEntry": "serviceentries", "WorkloadEntry": "workloadentries"}


def _resource(kind: str) -> str:
    name = _RESOURCES.get(kind, f"{kind.lower()}s")
    group = "discovery.k8s.io" if kind == "EndpointSlice" else "networking.istio.io"
    return name if kind in _PLAIN else f"{name}.{group}"


def _ours(world: Json, config: list[list[Any]], mesh: str) -> Json:
    objects: dict[str, list[Json]] = {}
    for kind, obj in world["objects"]:
        objects.setdefault(_resource(kind), []).append(stored(_resource(kind), clone(obj)))
    for age, (kind, where, spec, notes) in enumerate(config):
        namespace, _, name = where.partition("/")
        meta = {"name": name, "namespace": namespace, "creationTimestamp": f"2020-01-01T00:00:{age:02d}Z"}
        written = {"metadata": {**meta, "annotations": notes}, "spec": clone(spec)}
        objects.setdefault(_resource(kind), []).append(stored(_resource(kind), written))
    settings = {"metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": mesh}}
    snap = Snapshot({**objects, "configmaps": [stored("configmaps", settings)]}, PLAN, legacy=False)
    made = translate(snap, snap.workloads["shop", "client-v1"])
    kinds = (made.listeners, made.routes, made.clusters, made.endpoints)
    # As it comes from a file: without tuples.
    found: Json = json.loads(json.dumps(answer(*([json.loads(one) for one in kind.values()] for kind in kinds))))
    return found


def _deliberate(path: tuple[Any, ...], theirs: Any, ours: Any) -> bool:
    kind, where = path[0], str(path[1])
    if kind == "listeners":
        # Port 80 is listened on in any case, since programs that know an HTTP proxy only ask for hosts there.
        if where == "0.0.0.0:80" and theirs is None:
            return True
        # On a port for HTTP, what is no HTTP goes nowhere instead of where it was meant for.
        if where.startswith("0.0.0.0:") and theirs and ours and "http" in theirs[0] and "http" in ours[0]:
            return len(theirs) == 2 and not theirs[1]["match"] and theirs[0]["http"] == ours[0]["http"]
    if kind == "routes":
        # So is there a table for it; and where anything may be spoken hosts share the port's, with all their names.
        if where.endswith((" allow_any", " block_all")) and theirs is None:
            return True
        if path[2:] == ("domains",) and theirs == []:
            return True
    # What each request says is of no use where there are none.
    port = int(where.split("|")[1]) if kind == "clusters" else 0
    return "typed_extension_protocol_options" in path and ours is None and port in BYTES


def _differing(name: str) -> list[tuple[tuple[Any, ...], Any, Any]]:
    case = CASES[name]
    world = WORLDS[case["world"]]
    theirs = patched(clone(world["told"]), case["told"])
    ours = _ours(world, case["config"], case.get("mesh", ""))
    return [one for one in differences(theirs, ours) if not _deliberate(*one)]


@pytest.mark.parametrize("name", [name for name in CASES if name not in KNOWN])
def test_a_sidecar_calls_as_with_istiod(name: str) -> None:
    assert _differing(name) == []


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_known_to_be_otherwise_still_is(name: str) -> None:
    assert KNOWN[name]
    assert _differing(name)
