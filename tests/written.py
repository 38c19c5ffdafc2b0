# SPDX-License-Identifier: Apache-2.0
"""What somebody has written in a sandbox: compared before and after those who must leave it as it was.

Every object of every kind is asked for, twice for each module that shares a mesh. So it is done over one kept
connection: a kubectl that lists all of them spends twenty times as much CPU on it, more than a second.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from labkit.ground.client import Connections
from meshbox.reach import access
from tests.conftest import SandboxUnderTest

__all__ = ["Api", "Json", "api_of", "every_object", "written", "written_part"]

Json = dict[str, Any]

# Made and written by the cluster itself all the time, or for an object that is compared.
_UNSTEADY = {"Event", "Lease", "Node", "Endpoints", "EndpointSlice"}
_WRITTEN_BY_IT = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")
_STATUS_AS_ANNOTATION = ("autoscaling.alpha.kubernetes.io/", "deployment.kubernetes.io/revision")
"""In autoscaling/v1, which Kubernetes 1.14 prefers, an autoscaler's conditions and metrics stand in annotations; and a
Deployment's revision counts how often its pods were changed, also back."""
_SECONDS = 240.0


@dataclass
class Api:
    """A sandbox's API, over one kept connection, as its administrator."""

    connections: Connections
    token: str

    def __call__(self, method: str, path: str, sent: Json | None = None) -> tuple[int, Json]:
        """The status of an answer, and what is in it."""
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        body = None
        if sent is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(sent)
        answer = self.connections.request(method, path, headers, body)
        found: Json = json.loads(answer.body)
        return answer.status, found


@contextmanager
def api_of(sandbox: SandboxUnderTest) -> Iterator[Api]:
    """Ask a sandbox's API."""
    reached = access(sandbox.kubeconfig)
    trusted = ssl.create_default_context(cadata=reached.authority)
    with Connections(reached.node, reached.port, _SECONDS, trust=lambda: trusted) as connections:
        yield Api(connections, reached.token)


def written(sandbox: SandboxUnderTest) -> dict[str, Json]:
    """What somebody has written of every object that no other one owns, by its path in the API."""
    with api_of(sandbox) as api:
        return {
            path: written_part(one) for path, one in every_object(api) if not one["metadata"].get("ownerReferences")
        }


def written_part(one: Json) -> Json:
    """An object without what the cluster itself writes."""
    about = one["metadata"]
    kept = {key: value for key, value in one.items() if key not in ("metadata", "status")}
    kept["metadata"] = {key: value for key, value in about.items() if key not in _WRITTEN_BY_IT}
    if notes := about.get("annotations"):
        kept["metadata"]["annotations"] = {
            key: value for key, value in notes.items() if not key.startswith(_STATUS_AS_ANNOTATION)
        }
    return kept


def every_object(api: Api) -> Iterator[tuple[str, Json]]:
    """The path of each object, and the object; of the version that its group prefers."""

    def get(path: str) -> Json:
        status, found = api("GET", path)
        # A kind may go while it is asked for: then there are none of it.
        assert status in (200, 404), f"GET {path}: {status} {found}"
        return found if status == 200 else {}

    groups = ["/api/v1", *(f"/apis/{one['preferredVersion']['groupVersion']}" for one in get("/apis")["groups"])]
    for group in groups:
        for resource in get(group).get("resources", ()):
            if {"list", "delete"} <= set(resource["verbs"]) and resource["kind"] not in _UNSTEADY:
                listed = get(f"{group}/{resource['name']}")
                for item in listed.get("items", ()):
                    # Items of a list need not say what they are.
                    one = {"apiVersion": listed["apiVersion"], "kind": resource["kind"]} | item
                    about = one["metadata"]
                    within = f"/namespaces/{about['namespace']}" if resource["namespaced"] else ""
                    yield f"{group}{within}/{resource['name']}/{about['name']}", one
