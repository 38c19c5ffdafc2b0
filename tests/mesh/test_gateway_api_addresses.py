# SPDX-License-Identifier: Apache-2.0
"""Where a Gateway is reached, and what its status says of it."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.mesh.kinds import KUBERNETES_GATEWAYS

from .istiod import HOST, Istiod

Obj = dict[str, Any]


async def test_a_gateway_is_programmed_once_it_has_an_address(istiod: Istiod) -> None:
    made = istiod.gateway()
    await istiod.deployed()
    assert istiod.condition("Accepted") == ("True", "Accepted", "Resource accepted")
    assert istiod.condition("Programmed") == (
        "False",
        "AddressNotAssigned",
        f"Assigned to service(s) {HOST}:80, but failed to assign to all requested addresses:"
        f' address pending for hostname "{HOST}"',
    )
    assert "addresses" not in istiod.found(KUBERNETES_GATEWAYS, "gw")["status"]
    istiod.balance()
    await istiod.until(lambda: istiod.condition("Programmed")[0] == "True", "it to be programmed")
    assert istiod.condition("Programmed")[1:] == (
        "Programmed",
        f"Resource programmed, assigned to service(s) {HOST}:80",
    )
    status = istiod.found(KUBERNETES_GATEWAYS, "gw")["status"]
    assert status["addresses"] == [{"type": "IPAddress", "value": "127.99.8.1"}]
    assert {one["observedGeneration"] for one in status["conditions"]} == {made["metadata"]["generation"]}
    assert [one["type"] for one in status["conditions"]] == ["Accepted", "Programmed"]
    (listener,) = status["listeners"]
    assert (listener["name"], listener["attachedRoutes"]) == ("web", 0)
    kinds = [(one["group"], one["kind"]) for one in listener["supportedKinds"]]
    assert kinds == [("gateway.networking.k8s.io", "HTTPRoute"), ("gateway.networking.k8s.io", "GRPCRoute")]
    assert {one["type"]: one["status"] for one in listener["conditions"]} == {
        "Accepted": "True",
        "Conflicted": "False",
        "Programmed": "True",
        "ResolvedRefs": "True",
    }


async def test_a_gateway_inside_the_cluster_has_its_hosts_name(istiod: Istiod) -> None:
    istiod.gateway(metadata={"annotations": {"networking.istio.io/service-type": "ClusterIP"}})
    await istiod.until(lambda: istiod.condition("Programmed")[0] == "True", "it to be programmed")
    status = istiod.found(KUBERNETES_GATEWAYS, "gw")["status"]
    assert status["addresses"] == [{"type": "Hostname", "value": HOST}]


async def test_an_unchanged_status_is_not_written_again(istiod: Istiod) -> None:
    istiod.gateway()
    await istiod.deployed()
    istiod.balance()
    await istiod.until(lambda: istiod.condition("Programmed")[0] == "True", "it to be programmed")
    before = istiod.found(KUBERNETES_GATEWAYS, "gw")
    istiod.gateway(name="second")
    await istiod.until(lambda: istiod.condition("Programmed", "second")[0] == "False", "another Gateway")
    assert istiod.found(KUBERNETES_GATEWAYS, "gw") == before
    istiod.gateway(listeners=[{"name": "web", "port": 80, "protocol": "HTTP", "hostname": "a.example"}])

    def seen() -> bool:
        found = istiod.found(KUBERNETES_GATEWAYS, "gw")
        generations = {one["observedGeneration"] for one in found["status"]["conditions"]}
        return generations == {found["metadata"]["generation"]}

    await istiod.until(seen, "the change to be seen")
    times = [one["lastTransitionTime"] for one in before["status"]["conditions"]]
    after = istiod.found(KUBERNETES_GATEWAYS, "gw")["status"]["conditions"]
    assert [one["lastTransitionTime"] for one in after] == times


INGRESS = "istio-ingressgateway.bookinfo.svc.cluster.local"


@pytest.mark.parametrize(
    ("addresses", "reason", "words"),
    [
        (
            [{"type": "Hostname", "value": "gone.bookinfo.svc.cluster.local"}],
            "AddressNotUsable",
            'Failed to assign to any requested addresses: hostname "gone.bookinfo.svc.cluster.local" not found',
        ),
        (
            [{"type": "Hostname", "value": "gone"}],
            "AddressNotUsable",
            'Failed to assign to any requested addresses: hostname "gone.bookinfo.svc.cluster.local" not found',
        ),
        (
            [{"type": "Hostname", "value": "elsewhere.other.svc.cluster.local"}],
            "AddressNotUsable",
            'Failed to assign to any requested addresses: hostname "elsewhere.other.svc.cluster.local" not found in'
            ' namespace "bookinfo", but it was found in namespace(s) "other"',
        ),
        (
            [{"type": "Hostname", "value": "narrow"}],
            "AddressNotUsable",
            'Failed to assign to any requested addresses: port 80 not found for hostname "narrow.bookinfo.svc.cluster'
            '.local" (hint: the service port should be specified, not the workload port. Did you mean one of these'
            " ports: [8000]?)",
        ),
        (
            [{"type": "Hostname", "value": INGRESS}],
            "Programmed",
            f"Resource programmed, assigned to service(s) {INGRESS}:80",
        ),
    ],
)
async def test_a_gateway_at_a_service_that_is_there(istiod: Istiod, addresses: Obj, reason: str, words: str) -> None:
    def service(name: str, port: int, target: int, namespace: str = "bookinfo") -> None:
        ports = [{"name": "http", "port": port, "targetPort": target}]
        spec = {"ports": ports, "selector": {"istio": "ingressgateway"}}
        istiod.cluster.put("services", {"metadata": {"name": name, "namespace": namespace}, "spec": spec})

    service("istio-ingressgateway", 80, 8080)
    service("narrow", 8000, 80)
    service("elsewhere", 80, 80, "other")
    istiod.gateway(addresses=addresses)
    await istiod.until(lambda: istiod.condition("Programmed")[1] != "Pending", "a status")
    assert istiod.condition("Programmed")[1:] == (reason, words)
    assert not istiod.found("deployments.apps")
    assert not istiod.found("services")


async def test_a_remote_gateway_is_only_spoken_of(istiod: Istiod) -> None:
    addresses = [{"type": "IPAddress", "value": "10.1.2.3"}]
    istiod.gateway(gatewayClassName="istio-remote", addresses=addresses)
    await istiod.until(lambda: istiod.condition("Programmed")[0] == "True", "a status")
    assert istiod.condition("Programmed")[2] == "This Gateway is remote; Istio will not program it"
    assert istiod.found(KUBERNETES_GATEWAYS, "gw")["status"]["addresses"] == addresses
    assert not istiod.found("services", "gw-istio-remote")
