# SPDX-License-Identifier: Apache-2.0
"""The answers of istiod that `tests/mesh/test_istiod_outbound.py` compares with are those that its code gives."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshbox.values import clone
from tests.mesh.istiods_calls import answer, differences, patched
from tests.mesh.test_istiod_outbound import CASES, WORLDS

from .oracle import Ask, built, needs_go

Json = dict[str, Any]

pytestmark = [pytest.mark.thorough, pytest.mark.genuine, needs_go]

VERSIONS = {"EndpointSlice": "discovery.k8s.io/v1", "EnvoyFilter": "networking.istio.io/v1alpha3"}
ISTIO = "networking.istio.io/v1"
REGION, ZONE = "topology.kubernetes.io/region", "topology.kubernetes.io/zone"


@pytest.fixture(scope="module")
def send(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """What Istio's own code would send to proxies."""
    return built("send", tmp_path_factory)


def documents(objects: list[Json]) -> str:
    """YAML, of which JSON is a part that nobody reads otherwise."""
    return "\n---\n".join(map(json.dumps, objects))


def question(name: str) -> Json:
    """A case as the oracle is asked it: what a sidecar is told in a world with some objects more."""
    case = CASES[name]
    objects = WORLDS[case["world"]]["objects"]
    pod = next(one for kind, one in objects if kind == "Pod" and one["metadata"]["name"] == "client-v1")
    nodes = [one for kind, one in objects if kind == "Node" and one["metadata"]["name"] == pod["spec"].get("nodeName")]
    place = nodes[0]["metadata"].get("labels", {}) if nodes else {}
    # As istiod learns of a proxy's place: by labels.
    labels = {**pod["metadata"]["labels"], **{key: place[key] for key in (REGION, ZONE) if key in place}}
    written = []
    for age, (kind, where, spec, notes) in enumerate(case["config"]):
        namespace, _, own = where.partition("/")
        stamp = f"2020-01-01T00:00:{age:02d}Z"
        meta = {"name": own, "namespace": namespace, "creationTimestamp": stamp, "annotations": notes}
        written.append({"apiVersion": VERSIONS.get(kind, ISTIO), "kind": kind, "metadata": meta, "spec": spec})
    return {
        "id": name,
        "objects": documents([{"apiVersion": VERSIONS.get(kind, "v1"), "kind": kind, **one} for kind, one in objects]),
        "config": documents(written),
        "meshConfig": case.get("mesh", ""),
        "proxies": [
            {
                "type": "sidecar",
                "name": "client-v1",
                "namespace": "shop",
                "ip": pod["status"]["podIP"],
                "labels": labels,
                "serviceAccount": pod["spec"].get("serviceAccountName", ""),
                "region": place.get(REGION, ""),
                "zone": place.get(ZONE, ""),
            }
        ],
    }


def by_chance(name: str) -> bool:
    """Of a host with two addresses istiod keeps now the one as a name, now the other."""
    return any(len(spec.get("addresses") or []) > 1 for _, _, spec, _ in CASES[name]["config"])


def test_istiod_answers_as_it_is_written(send: Ask) -> None:
    asked = [name for name in CASES if not by_chance(name)]
    told = send([question(name) for name in asked])
    assert [(one["id"], one.get("error")) for one in told] == [(name, None) for name in asked]
    otherwise = {}
    for name, one in zip(asked, told, strict=True):
        made = one["proxies"][0]
        now = json.loads(json.dumps(answer(*(made[kind] for kind in ("Listeners", "Routes", "Clusters", "Endpoints")))))
        case = CASES[name]
        kept = patched(clone(WORLDS[case["world"]]["told"]), case["told"])
        if found := list(differences(kept, now)):
            otherwise[name] = found
    assert otherwise == {}
