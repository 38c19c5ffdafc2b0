# SPDX-License-Identifier: Apache-2.0
"""A sandbox that plays somebody's cluster: a context of a kubeconfig, which labkit does not know to have started."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from labkit import cluster
from labkit.cluster import Target, watching
from tests.conftest import SandboxUnderTest, wait_until

CONTEXT = "class"
# Written by the cluster itself all the time.
_UNSTEADY = {"Event", "Lease", "Node", "Endpoints", "EndpointSlice"}

State = dict[str, tuple[str, str]]
"""Of every object what it is, by uid, and its resourceVersion."""


@contextmanager
def somebodys(sandbox: SandboxUnderTest, tmp_path: Path) -> Iterator[SandboxUnderTest]:
    """`sandbox` as a context of a kubeconfig, chosen; labkit's own folder is another one than the sandbox's."""
    own = tmp_path / "own-kubeconfig"
    own.write_text(sandbox.kubeconfig.read_text().replace(f"labkit-{sandbox.name}", CONTEXT))
    own.chmod(0o600)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_HOME", str(tmp_path / "labkit"))
        patch.setenv("KUBECONFIG", str(own))
        patch.delenv("LABKIT_ISTIO_DIR", raising=False)
        patch.chdir(tmp_path)
        cluster.use(Target(str(own), CONTEXT))
        try:
            yield sandbox
        finally:
            cluster.leave()
            watching.in_lesson("")


def state(sandbox: SandboxUnderTest) -> State:
    """Every object of the cluster, once controllers have put into each namespace what every one has."""
    kinds = sandbox.kubectl("api-resources", "--verbs=list,delete", "-o", "name").stdout.split()

    def furnished() -> list[dict[str, Any]] | None:
        items = json.loads(sandbox.kubectl("get", ",".join(kinds), "-A", "-o", "json").stdout)["items"]
        return None if _unfurnished(items, legacy=sandbox.release == "1.2.2") else items

    items = wait_until(furnished, what="each namespace to have its ServiceAccount and what belongs to it")
    return {
        one["metadata"]["uid"]: (
            f"{one['kind']} {one['metadata'].get('namespace', '')}/{one['metadata']['name']}",
            one["metadata"]["resourceVersion"],
        )
        for one in items
        if one["kind"] not in _UNSTEADY
    }


def _unfurnished(items: list[dict[str, Any]], *, legacy: bool) -> set[str]:
    """What controllers have still to make: it comes a moment after its namespace, and would be a difference.

    Args:
        items: Every object.
        legacy: Whether ServiceAccounts name a Secret with a token, as in 1.14; otherwise namespaces have an authority.
    """
    there = {f"{one['kind']} {one['metadata'].get('namespace', '')}/{one['metadata']['name']}": one for one in items}
    namespaces = [one["metadata"]["name"] for one in items if one["kind"] == "Namespace"]
    wanted = {f"ServiceAccount {name}/default" for name in namespaces}
    if not legacy:
        wanted |= {f"ConfigMap {name}/kube-root-ca.crt" for name in namespaces}
        return wanted - there.keys()
    for account in (one for one in items if one["kind"] == "ServiceAccount"):
        place = account["metadata"]["namespace"]
        named = {f"Secret {place}/{secret['name']}" for secret in account.get("secrets") or ()}
        wanted |= named or {f"token of {place}/{account['metadata']['name']}"}
    return wanted - there.keys()


def names(some: State) -> set[str]:
    """What they are."""
    return {what for what, _version in some.values()}


def apply(sandbox: SandboxUnderTest, *objects: dict[str, Any]) -> None:
    """Somebody else applies objects."""
    items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    sandbox.kubectl("apply", "-f", "-", stdin=json.dumps(items))


def config_map(namespace: str, name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


def namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
