# SPDX-License-Identifier: Apache-2.0
"""What somebody has written in a sandbox: compared before and after those who must leave it as it was.

Every object of every kind is asked for, twice for each module that shares a mesh. So it is done over one kept
connection: a kubectl that lists all of them spends twenty times as much CPU on it, more than a second.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from typing import Any

from labkit.ground.client import Connections
from meshbox.reach import access
from tests.conftest import SandboxUnderTest

__all__ = ["written"]

Json = dict[str, Any]

# Made and written by the cluster itself all the time, or for an object that is compared.
_UNSTEADY = {"Event", "Lease", "Node", "Endpoints", "EndpointSlice"}
_WRITTEN_BY_IT = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")
_SECONDS = 240.0


def written(sandbox: SandboxUnderTest) -> dict[str, Json]:
    """What somebody has written of every object that no other one owns, by its kind, namespace and name."""
    found = {}
    for kind, one in _objects(sandbox):
        about = one["metadata"]
        if about.get("ownerReferences"):
            continue
        kept = {key: value for key, value in one.items() if key not in ("metadata", "status")}
        kept["metadata"] = {key: value for key, value in about.items() if key not in _WRITTEN_BY_IT}
        found[f"{kind} {about.get('namespace', '')}/{about['name']}"] = kept
    return found


def _objects(sandbox: SandboxUnderTest) -> Iterator[tuple[str, Json]]:
    """The kind of each object, and the object; of the version that its group prefers."""
    reached = access(sandbox.kubeconfig)
    trusted = ssl.create_default_context(cadata=reached.authority)
    headers = {"Authorization": f"Bearer {reached.token}", "Accept": "application/json"}
    with Connections(reached.node, reached.port, _SECONDS, trust=lambda: trusted) as api:

        def get(path: str) -> Json:
            answer = api.request("GET", path, headers)
            assert answer.status == 200, f"GET {path}: {answer.status} {answer.text}"
            found: Json = json.loads(answer.body)
            return found

        groups = ["/api/v1", *(f"/apis/{one['preferredVersion']['groupVersion']}" for one in get("/apis")["groups"])]
        for group in groups:
            for resource in get(group)["resources"]:
                if {"list", "delete"} <= set(resource["verbs"]) and resource["kind"] not in _UNSTEADY:
                    for one in get(f"{group}/{resource['name']}")["items"]:
                        yield resource["kind"], one
