# SPDX-License-Identifier: Apache-2.0
"""A mesh put back to what it was, so that the next module need not open one of its own.

What is put back is what somebody has written: every object is again as it was, to the letter, and what had come is
gone. What was counted, logged and traced meanwhile stays, as it does for a learner who plays one lesson after another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.conftest import SandboxUnderTest, wait_until
from tests.written import Api, Json, api_of, every_object, written_part

__all__ = ["at_rest", "put_back"]


def put_back(sandbox: SandboxUnderTest, before: Mapping[str, Json]) -> None:
    """Make every object what it was, and wait until it is so and all Deployments have their pods.

    Args:
        sandbox: Whose objects.
        before: What `tests.written.written` said of it.

    Raises:
        AssertionError: It does not become so; the message names the objects.
    """
    with api_of(sandbox) as api:
        left = ["never looked at"]

        def done() -> bool:
            left[:] = [*_mend(api, before), *_without_pods(api), *_on_their_way_out(api)]
            return not left

        try:
            wait_until(done, what="the mesh to be what it was")
        except AssertionError as error:
            raise AssertionError(f"{error}: {', '.join(left)}") from None


def _mend(api: Api, before: Mapping[str, Json]) -> list[str]:
    """The paths of what is otherwise than it was; of each, the step that leads back is taken."""
    there = {path: one for path, one in every_object(api) if not one["metadata"].get("ownerReferences")}
    more = [path for path in there if path not in before]
    # What is of a kind goes before the kind.
    for path in sorted(more, key=lambda path: "customresourcedefinitions" in path):
        if "deletionTimestamp" not in there[path]["metadata"]:
            _ask(api, "DELETE", path, None)
    otherwise = [path for path, one in before.items() if path not in there or written_part(there[path]) != one]
    for path in otherwise:
        if path in there:
            version = there[path]["metadata"]["resourceVersion"]
            _ask(api, "PUT", path, before[path] | {"metadata": before[path]["metadata"] | {"resourceVersion": version}})
        else:
            _ask(api, "POST", path.rpartition("/")[0], before[path])
    return [*more, *otherwise]


def _ask(api: Api, method: str, path: str, sent: Json | None) -> None:
    """What somebody else has written or taken away in the meantime is looked at again."""
    status, answer = api(method, path, sent)
    assert status < 300 or status in (404, 409), f"{method} {path}: {status} {answer.get('message')}"


def at_rest(sandbox: SandboxUnderTest) -> None:
    """Wait until all Deployments have their pods, and no pod is on its way out: kubectl does not wait for those.

    Args:
        sandbox: Where.

    Raises:
        AssertionError: It does not become so; the message names what is not.
    """
    with api_of(sandbox) as api:
        left = ["never looked at"]

        def done() -> bool:
            left[:] = [*_without_pods(api), *_on_their_way_out(api)]
            return not left

        try:
            wait_until(done, what="a mesh at rest")
        except AssertionError as error:
            raise AssertionError(f"{error}: {', '.join(left)}") from None


def _on_their_way_out(api: Api) -> Iterator[str]:
    status, found = api("GET", "/api/v1/pods")
    assert status == 200, found
    for one in found["items"]:
        if "deletionTimestamp" in one["metadata"]:
            yield f"the end of pod {one['metadata']['namespace']}/{one['metadata']['name']}"


def _without_pods(api: Api) -> Iterator[str]:
    """Deployments that do not have the pods that are written of them, or have others as well."""
    status, found = api("GET", "/apis/apps/v1/deployments")
    assert status == 200, found
    for one in found["items"]:
        wanted, seen = one["spec"].get("replicas", 1), one.get("status", {})
        counts = [seen.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
        if seen.get("observedGeneration") != one["metadata"]["generation"] or counts != [wanted] * 3:
            yield f"the pods of {one['metadata']['namespace']}/{one['metadata']['name']}"
