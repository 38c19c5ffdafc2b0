# SPDX-License-Identifier: Apache-2.0
"""Memory after 200 Services and 200 pods have come and gone."""

from __future__ import annotations

import json

import psutil
import pytest

from tests.conftest import SandboxUnderTest

pytestmark = pytest.mark.timeout(3600)

MANY = 200
KEPT = 0.2
"""The share of what they took that may be kept: the C library gives back whole pages only, and a page is in use as long
as one small object on it is."""

MIB = 1 << 20


def service(number: int) -> dict[str, object]:
    """It selects all pods: what a mesh and the endpoints keep grows with the product."""
    spec = {"selector": {"all": "yes"}, "ports": [{"name": "http", "port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"s{number}"}, "spec": spec}


DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "many"},
    "spec": {
        "replicas": MANY,
        "selector": {"matchLabels": {"all": "yes"}},
        "template": {
            "metadata": {"labels": {"all": "yes"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "c", "image": "busybox:1.28", "command": ["sleep", "infinity"]}],
            },
        },
    },
}


def daemon_mib(sandbox: SandboxUnderTest) -> float:
    pid = json.loads(sandbox.labkit("status", "--name", sandbox.name, "--json").stdout)["pid"]
    return float(psutil.Process(pid).memory_full_info().pss / MIB)


def come_and_go(sandbox: SandboxUnderTest, until) -> float:
    """MiB of the daemon while all are there."""
    items = [*map(service, range(MANY)), DEPLOYMENT]
    sandbox.kubectl("create", "namespace", "many")
    sandbox.kubectl(
        "create", "-n", "many", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    )
    until(
        lambda: (
            sandbox.kubectl("get", "deployment", "many", "-n", "many", "-o", "jsonpath={.status.readyReplicas}").stdout
            == f"{MANY}"
        ),
        600,
        "all pods are ready",
    )
    full = daemon_mib(sandbox)
    sandbox.kubectl("delete", "namespace", "many", "--wait=false")
    until(
        lambda: sandbox.kubectl("get", "namespace", "many", "--ignore-not-found", "-o", "name").stdout == "",
        600,
        "the namespace is gone",
    )
    return full


def test_memory_comes_back(start_sandbox, until, figure):
    sandbox = start_sandbox("1.30.3", name="memory")
    before = daemon_mib(sandbox)
    kept: list[float] = []
    for _ in range(2):
        full = come_and_go(sandbox, until)
        bound = before + KEPT * (full - before)
        kept.append(full)

        def small(bound: float = bound) -> bool:
            kept[-1] = daemon_mib(sandbox)
            return kept[-1] <= bound

        try:
            # It is given back once nothing has been written for a moment.
            until(small, 60, "memory given back")
        finally:
            was = f"{before:.0f} MiB before, {full:.0f} MiB with them, {kept[-1]:.0f} MiB after"
            figure(f"daemon and {MANY} Services x {MANY} pods", was, f"<= {bound:.0f} MiB")
    # A leak would show as growth from one time to the next.
    assert kept[1] <= kept[0] + 10
