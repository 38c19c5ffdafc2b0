# SPDX-License-Identifier: Apache-2.0
"""Places and machines in a whole sandbox: what kubectl writes on the node and beside it reaches the proxies."""

from __future__ import annotations

import json

import pytest

from tests.conftest import wait_until
from tests.shops import Shop

LABELS = {
    "1.2.2": ("failure-domain.beta.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone"),
    "1.30.3": ("topology.kubernetes.io/region", "topology.kubernetes.io/zone"),
}
MACHINE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: machines}
spec:
  hosts: [details.machines.test]
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: machine}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: machine}
spec: {address: ADDRESS, labels: {app: machine}, ports: {http: 9080}, serviceAccount: bookinfo-details}
"""


def places(shop: Shop) -> set[str]:
    """The regions and zones in which productpage's proxy knows details to be."""
    into = ("exec", "-n", "bookinfo", "deployment/productpage-v1", "-c", "istio-proxy", "--")
    said = shop.sandbox.kubectl(*into, "pilot-agent", "request", "GET", "clusters").stdout
    lines = [line.split("::") for line in said.splitlines() if line.startswith("outbound|9080||details.bookinfo.")]
    return {f"{name}={value}" for *_, name, value in lines if name in ("region", "zone") and value}


def test_pods_are_where_their_node_is_said_to_be(shop: Shop) -> None:
    kubectl, (region, zone) = shop.sandbox.kubectl, LABELS[shop.sandbox.release]
    node = kubectl("get", "nodes", "-o", "name").stdout.strip()
    assert places(shop) == set()
    try:
        kubectl("label", node, f"{region}=lab", f"{zone}=desk")
        wait_until(lambda: places(shop) == {"region=lab", "zone=desk"}, 240, "the proxy knows the place")
    finally:
        kubectl("label", node, f"{region}-", f"{zone}-")
    wait_until(lambda: places(shop) == set(), 240, "the place is forgotten")


def test_a_machine_answers_behind_a_service_entry(shop: Shop) -> None:
    if shop.sandbox.release == "1.2.2":
        pytest.skip("Istio 1.2 had no WorkloadEntry")
    kubectl = shop.sandbox.kubectl
    objects = MACHINE.replace("ADDRESS", shop.pod("details")["status"]["podIP"])
    kubectl("apply", "-n", "bookinfo", "-f", "-", stdin=objects)
    try:
        url = "http://details.machines.test/details/0"
        into = ("exec", "-n", "bookinfo", "deployment/ratings-v1", "-c", "ratings", "--")

        def title() -> str:
            said = kubectl(*into, "curl", "-sS", "-m", "20", url, check=False).stdout
            return str(json.loads(said).get("type", "")) if said.startswith("{") else ""

        wait_until(lambda: title() == "paperback", 240, "the machine answers")
        # Who plays the rule and who writes its address down are two.
        address = ("get", "serviceentry", "-n", "bookinfo", "machines", "-o", "jsonpath={.status.addresses[0].value}")
        assert wait_until(lambda: kubectl(*address).stdout, what="an address").startswith("240.240.")
    finally:
        kubectl("delete", "-n", "bookinfo", "serviceentry/machines", "workloadentry/machine")
