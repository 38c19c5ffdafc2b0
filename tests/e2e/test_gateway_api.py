# SPDX-License-Identifier: Apache-2.0
"""The Gateway API as a learner meets it: a Gateway of the samples is deployed, programmed, and serves BookInfo."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from labkit import istio
from meshbox.addresses import AddressPlan
from tests.conftest import wait_until
from tests.shops import Shop

pytestmark = pytest.mark.parametrize("shop_release", ["1.30.3"], indirect=True)

OWN = "bookinfo-gateway-istio"
PATIENCE = 240


def got(shop: Shop, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shop.sandbox.kubectl("get", *words, "-o", "json").stdout)
    return found


def conditions(obj: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in obj["status"]["conditions"]}


@pytest.fixture(scope="module")
def gateway(shared_shop: Shop) -> Iterator[Shop]:
    """The shop, with the sample's Gateway and route beside its own, and without them in the end."""
    release = istio.release("1.30.3")
    sample = str(release.samples / "bookinfo/gateway-api/bookinfo-gateway.yaml")
    definitions = str(release.path.parent / "gateway-api-1.5.1" / "crds.yaml")
    shared_shop.sandbox.kubectl("apply", "-f", definitions)
    shared_shop.sandbox.kubectl("apply", "-n", "bookinfo", "-f", sample)
    yield shared_shop
    shared_shop.sandbox.kubectl("delete", "-n", "bookinfo", "-f", sample)
    shared_shop.sandbox.kubectl("delete", "-f", definitions)
    wait_until(lambda: OWN not in shared_shop.sandbox.kubectl("get", "svc", "-A").stdout, PATIENCE, "no Service")
    wait_until(lambda: OWN not in shared_shop.sandbox.kubectl("get", "pods", "-A").stdout, PATIENCE, "no pod")


def test_the_classes_come_with_the_definitions_and_come_back(gateway: Shop) -> None:
    def classes() -> dict[str, str]:
        items = got(gateway, "gatewayclasses")["items"]
        accepted = (one for one in items if conditions(one).get("Accepted") == ("True", "Accepted"))
        return {one["metadata"]["name"]: one["spec"]["controllerName"] for one in accepted}

    both = {"istio": "istio.io/gateway-controller", "istio-remote": "istio.io/unmanaged-gateway"}
    wait_until(lambda: classes() == both, PATIENCE, "both classes")
    gateway.sandbox.kubectl("delete", "gatewayclass", "istio")
    wait_until(lambda: classes() == both, PATIENCE, "the class again")


def test_the_samples_gateway_is_programmed_and_serves(gateway: Shop) -> None:
    kubectl = gateway.sandbox.kubectl
    kubectl("wait", "-n", "bookinfo", "--for=condition=programmed", "gtw", "bookinfo-gateway", "--timeout=240s")
    kubectl("wait", "-n", "bookinfo", "--for=condition=Available", f"deployment/{OWN}", "--timeout=240s")
    service = got(gateway, "svc", "-n", "bookinfo", OWN)
    assert service["spec"]["type"] == "LoadBalancer"
    assert [(one["name"], one["port"]) for one in service["spec"]["ports"]] == [("status-port", 15021), ("http", 80)]
    port = next(one["nodePort"] for one in service["spec"]["ports"] if one["port"] == 80)
    served = Shop(gateway.sandbox, f"http://{gateway.sandbox.node}:{port}")
    wait_until(lambda: served.status() == 200, PATIENCE, "a 200 at the Gateway's own Service")
    assert served.status("/nothing") == 404
    found = got(gateway, "gtw", "-n", "bookinfo", "bookinfo-gateway")
    address = service["status"]["loadBalancer"]["ingress"][0]["ip"]
    assert found["status"]["addresses"] == [{"type": "IPAddress", "value": address}]
    plan = AddressPlan.of(int(address.split(".")[1]))
    by_address = Shop(gateway.sandbox, f"http://{address}:{plan.port(80)}")
    wait_until(lambda: by_address.status() == 200, PATIENCE, "a 200 at the Gateway's address")
    wait_until(lambda: attached(gateway) == 1, PATIENCE, "the route to be attached")
    shown = kubectl("get", "gtw", "-n", "bookinfo").stdout.split()
    assert shown[:9] == ["NAME", "CLASS", "ADDRESS", "PROGRAMMED", "AGE", "bookinfo-gateway", "istio", address, "True"]
    assert gateway.status() == 200, "the ingress gateway goes on"


def test_the_way_through_it_is_foretold(gateway: Shop) -> None:
    kubectl = gateway.sandbox.kubectl
    # What does not exist yet kubectl does not wait for.
    kubectl("wait", "-n", "bookinfo", "--for=condition=programmed", "gtw", "bookinfo-gateway", "--timeout=240s")
    kubectl("wait", "-n", "bookinfo", "--for=condition=Available", f"deployment/{OWN}", "--timeout=240s")

    def foretold(path: str) -> istio.Trace:
        return istio.trace_route(f"{OWN} → productpage", path)

    def arrived() -> istio.Trace | None:
        trace = foretold("/productpage")
        return trace if any(one.workloads for one in trace.branches) else None

    (branch,) = wait_until(arrived, PATIENCE, "the route and whom it leads to").branches
    assert (branch.workloads, branch.tls, branch.answer) == (("productpage-v1",), "mutual TLS", None)
    refused = foretold("/nothing")
    assert (refused.branches, refused.flag) == ((), "NR")
    assert refused.request.authority == f"{OWN}.bookinfo"


def test_httpbin_is_served_by_a_gateway_of_its_own(gateway: Shop) -> None:
    kubectl = gateway.sandbox.kubectl
    samples = istio.release("1.30.3").samples / "httpbin"
    files = [str(samples / name) for name in ("httpbin.yaml", "gateway-api/httpbin-gateway.yaml")]
    for file in files:
        kubectl("apply", "-n", "bookinfo", "-f", file)
    kubectl("wait", "-n", "bookinfo", "--for=condition=programmed", "gtw", "httpbin-gateway", "--timeout=240s")
    ports = got(gateway, "svc", "-n", "bookinfo", "httpbin-gateway-istio")["spec"]["ports"]
    served = Shop(gateway.sandbox, f"http://{gateway.sandbox.node}:{ports[1]['nodePort']}")
    wait_until(lambda: served.status("/status/418") == 418, PATIENCE, "httpbin at its Gateway")
    for file in files:
        kubectl("delete", "-n", "bookinfo", "-f", file)
    wait_until(lambda: "httpbin" not in kubectl("get", "pods", "-n", "bookinfo").stdout, PATIENCE, "no httpbin")


def attached(shop: Shop) -> int:
    listener = got(shop, "gtw", "-n", "bookinfo", "bookinfo-gateway")["status"]["listeners"][0]
    return int(listener["attachedRoutes"])


def test_what_runs_goes_with_its_gateway(gateway: Shop) -> None:
    kubectl = gateway.sandbox.kubectl
    second = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "second", "namespace": "bookinfo"},
        "spec": {"gatewayClassName": "istio", "listeners": [{"name": "web", "port": 8080, "protocol": "HTTP"}]},
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(second))
    kubectl("wait", "-n", "bookinfo", "--for=condition=programmed", "gtw", "second", "--timeout=240s")
    kinds = ("serviceaccount", "service", "deployment")
    assert all(got(gateway, kind, "-n", "bookinfo", "second-istio") for kind in kinds)
    kubectl("delete", "gtw", "second", "-n", "bookinfo")

    def left() -> str:
        return kubectl("get", ",".join(kinds), "-n", "bookinfo", "-o", "name").stdout

    wait_until(lambda: "second-istio" not in left(), PATIENCE, "what was made for it to be gone")
