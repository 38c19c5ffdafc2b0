# SPDX-License-Identifier: Apache-2.0
"""Istio's own samples, as they stand, beside BookInfo and all add-ons: what a stranger tries first."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chance import likely
from tests.conftest import genuine, wait_until
from tests.shops import Shop

pytestmark = [pytest.mark.genuine, pytest.mark.parametrize("shop_release", ["1.30.3"], indirect=True)]

NAMESPACE = "samples"
PATIENCE = 240
SAMPLES = Path("samples")
WAY_IN = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: tcp-echo-gateway}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 31400, name: tcp, protocol: TCP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: tcp-echo}
spec: {host: tcp-echo, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
"""


@pytest.fixture(scope="module")
def stage(shared_shop: Shop) -> Iterator[Shop]:
    """The shop, with a namespace whose pods are injected, and the genuine client in it."""
    kubectl = shared_shop.sandbox.kubectl
    kubectl("create", "namespace", NAMESPACE)
    kubectl("label", "namespace", NAMESPACE, "istio-injection=enabled")
    apply(shared_shop, "curl/curl.yaml")
    available(shared_shop, "curl")
    yield shared_shop
    kubectl("delete", "namespace", NAMESPACE)


def apply(shop: Shop, sample: str, *, namespace: str = NAMESPACE) -> None:
    file = genuine("1.30.3") / SAMPLES / sample
    applied = shop.sandbox.kubectl("apply", "-n", namespace, "-f", str(file))
    assert "Warning" not in applied.stderr, applied.stderr


def remove(shop: Shop, sample: str, *, namespace: str = NAMESPACE) -> None:
    shop.sandbox.kubectl("delete", "-n", namespace, "-f", str(genuine("1.30.3") / SAMPLES / sample))


@contextlib.contextmanager
def definitions(shop: Shop) -> Iterator[None]:
    """The Gateway API's own, for as long."""
    file = str(genuine("1.30.3").parent / "gateway-api-1.5.1" / "crds.yaml")
    shop.sandbox.kubectl("apply", "--server-side", "-f", file)
    try:
        yield
    finally:
        shop.sandbox.kubectl("delete", "-f", file)


def available(shop: Shop, *names: str, namespace: str = NAMESPACE) -> None:
    deployments = [f"deployment/{name}" for name in names]
    shop.sandbox.kubectl("wait", "--for=condition=Available", *deployments, "-n", namespace, "--timeout=240s")


def inside(shop: Shop, *command: str, check: bool = True) -> str:
    """What a command prints in the client's pod, behind its sidecar."""
    words = ("exec", "-n", NAMESPACE, "deploy/curl", "-c", "curl", "--", *command)
    return shop.sandbox.kubectl(*words, check=check).stdout


def asked(shop: Shop, url: str, times: int) -> set[str]:
    """The versions that answer."""
    loop = f"for i in $(seq {times}); do curl -s {url}; done"
    return set(re.findall(r"version: (v\d)", inside(shop, "sh", "-c", loop, check=False)))


def test_helloworld_by_istios_gateway_and_by_kubernetes(stage: Shop) -> None:
    apply(stage, "helloworld/helloworld.yaml")
    available(stage, "helloworld-v1", "helloworld-v2")
    apply(stage, "helloworld/helloworld-gateway.yaml")
    wait_until(lambda: stage.status("/hello") == 200, PATIENCE, "/hello at the ingress gateway")
    # The gateway's proxy and the client's hear of pods each by itself.
    both = {"v1", "v2"}
    wait_until(lambda: asked(stage, "http://helloworld:5000/hello", 40) == both, PATIENCE, "both versions inside")
    remove(stage, "helloworld/helloworld-gateway.yaml")
    with definitions(stage):
        apply(stage, "helloworld/gateway-api/helloworld-gateway.yaml")
        programmed = ("wait", "--for=condition=programmed", "gtw/helloworld-gateway", "-n", NAMESPACE)
        stage.sandbox.kubectl(*programmed, f"--timeout={PATIENCE}s")
        url = f"http://helloworld-gateway-istio.{NAMESPACE}/hello"
        wait_until(lambda: asked(stage, url, 40) == both, PATIENCE, "both at the Gateway's own Service")


def test_httpbin_by_istios_gateway_and_by_kubernetes(stage: Shop) -> None:
    apply(stage, "httpbin/httpbin.yaml")
    available(stage, "httpbin")
    apply(stage, "httpbin/httpbin-gateway.yaml")
    wait_until(lambda: stage.status("/status/418") == 418, PATIENCE, "httpbin at the ingress gateway")
    remove(stage, "httpbin/httpbin-gateway.yaml")
    with definitions(stage):
        apply(stage, "httpbin/gateway-api/httpbin-gateway.yaml")
        url = f"http://httpbin-gateway-istio.{NAMESPACE}/status/418"
        line = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url)
        wait_until(lambda: inside(stage, *line, check=False) == "418", PATIENCE, "httpbin at the Gateway's own Service")


def test_helloworlds_versions_by_weight(stage: Shop) -> None:
    apply(stage, "helloworld/helloworld.yaml")
    available(stage, "helloworld-v1", "helloworld-v2")
    with definitions(stage):
        apply(stage, "helloworld/gateway-api/helloworld-gateway.yaml")
        apply(stage, "helloworld/gateway-api/helloworld-versions.yaml")
        apply(stage, "helloworld/gateway-api/helloworld-route.yaml")
        url = f"http://helloworld-gateway-istio.{NAMESPACE}/hello"
        # Of 250 answers one in ten is of v2: none with a chance of 4e-12.
        wait_until(lambda: asked(stage, url, 250) == {"v1", "v2"}, PATIENCE, "both versions behind the route")
        backends = stage.sandbox.kubectl(
            "get", "httproute", "helloworld", "-n", NAMESPACE, "-o", "jsonpath={.spec.rules[0].backendRefs[*].weight}"
        )
        assert backends.stdout == "90 10"


def test_bookinfo_by_kubernetes_own_gateway(stage: Shop) -> None:
    with definitions(stage):
        apply(stage, "bookinfo/gateway-api/bookinfo-gateway.yaml", namespace="bookinfo")
        url = "http://bookinfo-gateway-istio.bookinfo/productpage"
        line = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url)
        wait_until(
            lambda: inside(stage, *line, check=False) == "200", PATIENCE, "the page at the Gateway's own Service"
        )


def test_tcp_echos_versions_by_weight(stage: Shop) -> None:
    apply(stage, "tcp-echo/tcp-echo-services.yaml")
    available(stage, "tcp-echo-v1", "tcp-echo-v2")
    apply(stage, "tcp-echo/tcp-echo-20-v2.yaml")
    # Until a Gateway bears its name, the route holds nowhere: of inside calls each version is asked.
    loop = "for i in $(seq {}); do echo w | nc {} {}; done"
    # Pods of the sample without versions bear the same label, and go a moment after their Deployment.
    wait_until(
        lambda: (
            set(inside(stage, "sh", "-c", loop.format(60, "tcp-echo", 9000), check=False).splitlines())
            == {"one w", "two w"}
        ),
        PATIENCE,
        "both to answer",
    )
    # The sample's Gateway and subsets are in a file of their own, which the release folder lacks.
    stage.sandbox.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=WAY_IN)
    where = stage.pod("istio-ingressgateway", "istio-system")["status"]["podIP"]
    calls = 300

    def answers() -> Counter[str]:
        return Counter(inside(stage, "sh", "-c", loop.format(calls, where, 31400), check=False).splitlines())

    wait_until(lambda: set(answers()) == {"one w", "two w"}, PATIENCE, "both to answer at the gateway")
    seen = answers()
    assert likely(seen["one w"], calls, 0.8), seen
    assert seen.total() == calls
    stage.sandbox.kubectl("delete", "-n", NAMESPACE, "-f", "-", stdin=WAY_IN)
    remove(stage, "tcp-echo/tcp-echo-20-v2.yaml")
    remove(stage, "tcp-echo/tcp-echo-services.yaml")


def test_tcp_echo_on_the_ports_it_says_and_on_the_one_it_does_not(stage: Shop) -> None:
    apply(stage, "tcp-echo/tcp-echo.yaml")
    available(stage, "tcp-echo")
    said = ("sh", "-c", "echo a | nc tcp-echo 9000")
    wait_until(lambda: inside(stage, *said, check=False) == "hello a\n", PATIENCE, "an answer at the Service's port")
    pod = stage.pod("tcp-echo", NAMESPACE)["status"]["podIP"]
    wait_until(
        lambda: inside(stage, "sh", "-c", f"echo b | nc -w 10 {pod} 9002", check=False) == "hello b\n",
        PATIENCE,
        "an answer at the port that nobody declares",
    )
    remove(stage, "tcp-echo/tcp-echo.yaml")


def test_fortio_loads_httpbin_through_both_sidecars(stage: Shop) -> None:
    apply(stage, "httpbin/httpbin.yaml")
    apply(stage, "httpbin/sample-client/fortio-deploy.yaml")
    available(stage, "httpbin", "fortio-deploy")
    line = ("/usr/bin/fortio", "load", "-c", "2", "-qps", "0", "-n", "20", "-loglevel", "Warning")
    where = ("-n", NAMESPACE, "deploy/fortio-deploy", "-c", "fortio", "--")
    url = "http://httpbin:8000/headers"

    def answered(client: str, container: str) -> bool:
        """Whether a client's proxy knows the way."""
        into = ("exec", "-n", NAMESPACE, f"deploy/{client}", "-c", container, "--")
        asks = ("/usr/bin/fortio", "curl") if client == "fortio-deploy" else ("curl", "-sf")
        return '"headers"' in stage.sandbox.kubectl(*into, *asks, url, check=False).stdout

    for client, container in (("fortio-deploy", "fortio"), ("curl", "curl")):
        wait_until(lambda of=(client, container): answered(*of), PATIENCE, f"the way of {client}")
    said = stage.sandbox.kubectl("exec", *where, *line, url).stdout
    assert "Code 200 : 20 (100.0 %)" in said
    headers = json.loads(inside(stage, "curl", "-s", url))["headers"]
    assert headers["X-Forwarded-Client-Cert"][0].endswith(f"spiffe://cluster.local/ns/{NAMESPACE}/sa/curl")


def test_an_external_authorizer_decides(stage: Shop) -> None:
    apply(stage, "httpbin/httpbin.yaml")
    apply(stage, "extauthz/ext-authz.yaml")
    available(stage, "httpbin", "ext-authz")

    def code(*words: str) -> str:
        return inside(stage, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *words, check=False)

    allowed = ("http://ext-authz:8000", "-H", "x-ext-authz: allow")
    wait_until(lambda: code(*allowed) == "200", PATIENCE, "the authorizer's answer")
    assert code("http://ext-authz:8000", "-H", "x-ext-authz: deny") == "403"


@pytest.mark.parametrize("database", ["mongodb", "mysqldb"])
def test_bookinfos_ratings_come_from_a_database(stage: Shop, database: str) -> None:
    apply(stage, "bookinfo/platform/kube/bookinfo-db.yaml")
    apply(stage, "bookinfo/platform/kube/bookinfo-mysql.yaml")
    apply(stage, "bookinfo/platform/kube/bookinfo-ratings-v2.yaml")
    available(stage, "mongodb-v1", "mysqldb-v1", "ratings-v2")
    if database == "mysqldb":
        variables = ("DB_TYPE=mysql", "MYSQL_DB_HOST=mysqldb", "MYSQL_DB_USER=root", "MYSQL_DB_PASSWORD=password")
        stage.sandbox.kubectl("set", "env", "-n", NAMESPACE, "deployment/ratings-v2", *variables)
        stage.sandbox.kubectl("rollout", "status", "-n", NAMESPACE, "deployment/ratings-v2", "--timeout=240s")
    url = f"http://{stage.pod('ratings', NAMESPACE)['status']['podIP']}:9080/ratings/0"
    said = wait_until(lambda: inside(stage, "curl", "-sf", url, check=False), PATIENCE, "ratings of the database")
    assert json.loads(said)["ratings"] == {"Reviewer1": 5, "Reviewer2": 4}
