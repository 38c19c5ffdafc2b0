"""A sandbox with Istio and BookInfo behind its gateway, from the workshop's own manifests."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from labkit import cluster, istio
from labkit.cluster import Target
from labkit.istio.model import Facts
from labkit.observe.jaeger import Jaeger
from labkit.observe.prometheus import Prometheus
from tests.conftest import SandboxUnderTest, wait_until

DEPLOYED = "--for=condition=Available"
TELEMETRY = """
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: mesh-default, namespace: istio-system}
spec: {tracing: [{providers: [{name: jaeger}], randomSamplingPercentage: 100}]}
"""


@dataclass
class Shop:
    """BookInfo in a mesh.

    Args:
        sandbox: Where.
        url: Of the ingress gateway.
    """

    sandbox: SandboxUnderTest
    url: str

    def status(self, path: str = "/productpage", headers: dict[str, str] | None = None) -> int:
        """Status of one request through the gateway; 0 if nobody answers."""
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.url + path, headers=headers or {}), timeout=10
            ) as got:
                got.read()
                return got.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    def pod(self, app: str, namespace: str = "bookinfo") -> dict[str, Any]:
        """The newest pod of an app."""
        listed = self.sandbox.kubectl("get", "pods", "-n", namespace, "-l", f"app={app}", "-o", "json").stdout
        return max(json.loads(listed)["items"], key=lambda pod: pod["metadata"]["creationTimestamp"])

    def restarts(self, app: str, container: str, namespace: str = "bookinfo") -> int:
        """How often a container of an app was restarted."""
        status = self.pod(app, namespace)["status"]
        every = [*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])]
        return next(one["restartCount"] for one in every if one["name"] == container)


def open_shop(start: Callable[..., SandboxUnderTest], release: str) -> Shop:
    """Install Istio and BookInfo, and wait until its page is served."""
    sandbox = start(release, name="shop")
    files = istio.release(release)
    if release != "1.2.2":
        sandbox.kubectl("create", "namespace", "istio-system")
    for file in (*files.crd_files, *files.demo_files, *files.addon_files):
        sandbox.kubectl("apply", "-f", str(file))
    sandbox.kubectl("create", "namespace", "bookinfo")
    sandbox.kubectl("label", "namespace", "bookinfo", "istio-injection=enabled")
    samples = files.samples / "bookinfo"
    for name in (
        "platform/kube/bookinfo.yaml",
        "networking/bookinfo-gateway.yaml",
        "networking/destination-rule-all.yaml",
    ):
        sandbox.kubectl("apply", "-n", "bookinfo", "-f", str(samples / name))
    for namespace in ("istio-system", "bookinfo"):
        sandbox.kubectl("wait", DEPLOYED, "deployment", "--all", "-n", namespace, "--timeout=60s")
    service = json.loads(
        sandbox.kubectl("get", "svc", "-n", "istio-system", "istio-ingressgateway", "-o", "json").stdout
    )
    port = next(one["nodePort"] for one in service["spec"]["ports"] if one["name"] == "http2")
    shop = Shop(sandbox, f"http://{sandbox.node}:{port}")
    wait_until(lambda: shop.status() == 200, 20, "a 200 at /productpage")
    return shop


@pytest.fixture(scope="module", params=["1.2.2", "1.30.3"])
def shop(request: pytest.FixtureRequest, start_shared_sandbox) -> Iterator[Shop]:
    opened = open_shop(start_shared_sandbox, request.param)
    cluster.use(Target(str(opened.sandbox.kubeconfig)))
    yield opened
    cluster.leave()


@pytest.fixture(scope="module")
def facts(shop: Shop) -> Facts:
    return istio.facts(shop.sandbox.release)


@pytest.fixture(scope="module")
def prometheus(shop: Shop) -> Iterator[Prometheus]:
    with cluster.port_forward("svc/prometheus", 9090, namespace="istio-system", show=False) as forward:
        yield Prometheus(forward.url)


@pytest.fixture(scope="module")
def jaeger(shop: Shop, facts: Facts) -> Iterator[Jaeger]:
    if facts.version != "1.2.2":
        shop.sandbox.kubectl("apply", "-f", "-", stdin=TELEMETRY)
    addon = next(one for one in facts.addons if one.name == "jaeger")
    with cluster.port_forward(f"svc/{addon.service}", addon.port, namespace="istio-system", show=False) as forward:
        yield Jaeger(forward.url + addon.path.rstrip("/"))
