# SPDX-License-Identifier: Apache-2.0
"""Settings of single proxies, seen in what they do: how many threads, whose revision, which addresses."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.conftest import wait_until
from tests.e2e.conftest import Shop
from tests.e2e.test_injection import CURL, PATIENCE, WEB, apply, inside, pod, ready, run, service, shown

__all__ = ["inside"]

pytestmark = pytest.mark.parametrize("shop_release", ["1.30.3"], indirect=True)


def test_a_proxy_config_reaches_the_proxies_it_selects(shop: Shop, inside: str) -> None:
    spec = {
        "selector": {"matchLabels": {"app": "chosen"}},
        "concurrency": 3,
        "environmentVariables": {"MINE": "yes"},
    }
    made = {
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": "ProxyConfig",
        "metadata": {"name": "three"},
        "spec": spec,
    }
    assert "Warning" not in apply(shop, made)
    apply(shop, pod("chosen", [CURL], {}), pod("other", [CURL], {}))
    ready(shop, "chosen", "other")

    def threads(name: str) -> int:
        said = json.loads(run(shop, name, "curl", "curl", "-s", "localhost:15000/server_info"))
        return int(said["command_line_options"]["concurrency"])

    assert (threads("chosen"), threads("other") == 3) == (3, False)
    assert run(shop, "chosen", "istio-proxy", "sh", "-c", "echo $MINE").strip() == "yes"


@pytest.fixture
def revision(shop: Shop) -> Iterator[str]:
    """A namespace that is the default revision's by its label."""
    kubectl = shop.sandbox.kubectl
    kubectl("create", "namespace", "revised")
    kubectl("label", "namespace", "revised", "istio.io/rev=default")
    yield "revised"
    kubectl("delete", "namespace", "revised", "--wait", "--timeout=240s")


def test_a_namespace_is_of_a_revision_and_of_one_that_nobody_serves(shop: Shop, revision: str) -> None:
    kubectl = shop.sandbox.kubectl

    def containers(name: str) -> tuple[list[str], str]:
        made = kubectl("run", name, "-n", revision, "--image=docker.io/curlimages/curl", "--", "sleep", "infinity")
        kubectl("wait", "--for=condition=Ready", f"pod/{name}", "-n", revision, f"--timeout={PATIENCE}s")
        spec = json.loads(kubectl("get", "pod", name, "-n", revision, "-o", "json").stdout)["spec"]
        return [one["name"] for part in ("initContainers", "containers") for one in spec.get(part, [])], made.stderr

    assert containers("one") == (["istio-init", "istio-proxy", "one"], "")
    url = "http://details.bookinfo:9080/details/0"
    asked = ("exec", "-n", revision, "one", "-c", "one", "--", "curl", "-s", "-m", "20", url)
    wait_until(lambda: '"paperback"' in kubectl(*asked, check=False).stdout, 60, "details answers")
    kubectl("label", "namespace", revision, "istio.io/rev=canary", "--overwrite")
    names, said = containers("two")
    assert names == ["two"]
    assert 'revision "canary"' in said


def test_ranges_of_addresses_go_past_the_sidecar(shop: Shop, inside: str) -> None:
    apply(shop, service("ranged", 8000, 8080), pod("ranged", [WEB], {}))
    ready(shop, "ranged")
    address = shown(shop, "ranged", "service")["spec"]["clusterIP"]
    ranges = {"traffic.sidecar.istio.io/excludeOutboundIPRanges": f"{address}/32"}
    apply(shop, pod("left", [CURL], ranges), pod("taken", [CURL], {}))
    ready(shop, "left", "taken")

    def certificate(name: str) -> bool | None:
        said = run(shop, name, "curl", "curl", "-s", "-m", "20", "ranged:8000/headers")
        return "X-Forwarded-Client-Cert" in json.loads(said)["headers"] if said.startswith("{") else None

    wait_until(lambda: certificate("taken") is True, PATIENCE, "a sidecar shows its certificate")
    wait_until(lambda: certificate("left") is False, PATIENCE, "whoever goes past his sidecar shows none")
