# SPDX-License-Identifier: Apache-2.0
"""A sandbox with a whole mesh moves to another block: traffic, telemetry and identities are all there again."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from meshbox import blocks
from tests.shops import open_shop

FETCH = (
    "import urllib.request as u;"
    "print(u.urlopen('http://prometheus.istio-system:9090/api/v1/query?query=istio_requests_total').read().decode())"
)


@pytest.mark.parametrize("release", ["1.2.2", "1.30.3"])
def test_a_whole_mesh_moves(start_sandbox, until, figure: Callable[[str, object, str], None], release: str) -> None:
    shop = open_shop(start_sandbox, release)
    sandbox = shop.sandbox
    old = sandbox.node
    names = sandbox.kubectl("get", "pods,services,secrets,configmaps", "-A", "-o", "name").stdout
    sandbox.labkit("down", "--name", "shop")
    held = blocks.hold(int(old.split(".")[1]))
    assert held is not None
    with held:
        up = sandbox.labkit("up", "--name", "shop")
        assert up.returncode == 0, up.stderr
        assert "moved from" in up.stdout
        node = json.loads(sandbox.labkit("status", "--name", "shop", "--json").stdout)["node"]
        shop.url = shop.url.replace(old, node)
        until(lambda: shop.status() == 200, 60, "the page")
        for namespace in ("istio-system", "bookinfo"):
            sandbox.kubectl(
                "wait", "--for=condition=Available", "deployment", "--all", "-n", namespace, "--timeout=240s"
            )
        assert sandbox.kubectl("get", "pods,services,secrets,configmaps", "-A", "-o", "name").stdout == names
        kinds = sandbox.kubectl("api-resources", "--verbs=list", "-o", "name").stdout.split()
        listed = sandbox.kubectl(
            "get", ",".join(kind for kind in kinds if not kind.startswith("events")), "-A", "-o", "json"
        )
        left = [line for line in listed.stdout.splitlines() if old.removesuffix("0.1") in line]
        figure(f"addresses of the old block in objects, Istio {release}", len(left), "0")
        assert left == []

        def counted() -> bool:
            shop.status()
            inside = (
                "exec",
                "-n",
                "bookinfo",
                "deploy/productpage-v1",
                "-c",
                "productpage",
                "--",
                "python",
                "-c",
                FETCH,
            )
            return '"destination_workload":"productpage-v1"' in sandbox.kubectl(*inside, check=False).stdout

        until(counted, 60, "requests counted by Prometheus")
