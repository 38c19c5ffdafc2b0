# SPDX-License-Identifier: Apache-2.0
"""Settings of single proxies, seen in what they do: threads, revisions, addresses, statistics, what they ask for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.e2e.conftest import Shop
from tests.e2e.test_injection import CURL, PATIENCE, WEB, apply, inside, pod, ready, run, service, shown

__all__ = ["inside"]

pytestmark = pytest.mark.parametrize("shop_release", ["1.30.3"], indirect=True)


def asks_details(shop: Shop, namespace: str, pod: str, container: str) -> None:
    """Wait until a container gets its answer from another of the mesh."""
    url = "http://details.bookinfo:9080/details/0"
    asked = ("exec", "-n", namespace, pod, "-c", container, "--", "curl", "-s", "-m", "20", url)
    wait_until(lambda: '"paperback"' in shop.sandbox.kubectl(*asked, check=False).stdout, 60, "details answers")


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
    asks_details(shop, revision, "one", "one")
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
        said = run(shop, name, "curl", "curl", "-s", "-m", "20", "ranged:8000/headers", check=False)
        return "X-Forwarded-Client-Cert" in json.loads(said)["headers"] if said.startswith("{") else None

    wait_until(lambda: certificate("taken") is True, PATIENCE, "a sidecar shows its certificate")
    wait_until(lambda: certificate("left") is False, PATIENCE, "whoever goes past his sidecar shows none")


TAG = "istio-revision-tag-prod"


@pytest.fixture
def tag(shop: Shop) -> Iterator[str]:
    """What `istioctl tag set prod --revision default` writes: the injector's own webhooks of revisions, for the tag."""
    kubectl = shop.sandbox.kubectl
    kind = "mutatingwebhookconfiguration"
    found = json.loads(kubectl("get", kind, "istio-sidecar-injector", "-o", "json").stdout)
    hooks = [one for one in found["webhooks"] if one["name"].startswith("rev.")]
    for hook in hooks:
        for selector in (hook["namespaceSelector"], hook["objectSelector"]):
            for one in selector["matchExpressions"]:
                if one["key"] == "istio.io/rev" and one["operator"] == "In":
                    one["values"] = ["prod"]
    labels = {**found["metadata"]["labels"], "istio.io/tag": "prod"}
    made = {"apiVersion": found["apiVersion"], "kind": found["kind"], "metadata": {"name": TAG, "labels": labels}}
    kubectl("apply", "-f", "-", stdin=json.dumps({**made, "webhooks": hooks}))
    yield "prod"
    kubectl("delete", kind, TAG, "--ignore-not-found")


@pytest.fixture
def spaces(shop: Shop, tag: str) -> Iterator[tuple[str, str]]:
    """A namespace of the tag's, and one that is nobody's."""
    kubectl = shop.sandbox.kubectl
    for name in ("tagged", "bare"):
        kubectl("create", "namespace", name)
    kubectl("label", "namespace", "tagged", f"istio.io/rev={tag}")
    yield "tagged", "bare"
    for name in ("tagged", "bare"):
        kubectl("delete", "namespace", name, "--wait", "--timeout=240s")


def test_a_revision_has_further_names(shop: Shop, spaces: tuple[str, str], tag: str) -> None:
    kubectl = shop.sandbox.kubectl
    tagged, bare = spaces

    def made(name: str, namespace: str, *labels: str) -> tuple[bool, str]:
        """Whether a new pod has a sidecar, and what was said."""
        image = "--image=docker.io/curlimages/curl"
        said = kubectl("run", name, "-n", namespace, image, *labels, "--", "sleep", "infinity").stderr
        spec = json.loads(kubectl("get", "pod", name, "-n", namespace, "-o", "json").stdout)["spec"]
        return "istio-proxy" in {one["name"] for one in spec.get("initContainers", [])}, said

    assert made("one", tagged) == (True, "")
    assert made("two", bare, f"--labels=istio.io/rev={tag}") == (True, "")
    assert made("three", bare) == (False, "")
    injected, said = made("four", bare, "--labels=istio.io/rev=canary")
    assert (injected, 'revision "canary"' in said, "there is default, prod" in said) == (False, True, True)
    for name, namespace in (("one", tagged), ("two", bare)):
        kubectl("wait", "--for=condition=Ready", f"pod/{name}", "-n", namespace, f"--timeout={PATIENCE}s")
        asks_details(shop, namespace, name, name)
    kubectl("delete", "mutatingwebhookconfiguration", TAG)
    injected, said = made("five", tagged)
    assert (injected, 'revision "prod"' in said) == (False, True)


def test_a_proxy_asks_for_what_its_pod_says(shop: Shop, inside: str) -> None:
    def sized(name: str, **amounts: str) -> dict[str, Any]:
        return pod(name, [CURL], {f"sidecar.istio.io/proxy{key}": value for key, value in amounts.items()})

    apply(
        shop,
        sized("sized", CPU="250m", Memory="200Mi", CPULimit="1", MemoryLimit="500Mi"),
        sized("limited", CPULimit="300m"),
        sized("too-large", CPU="1000"),
    )

    def resources(name: str) -> Any:
        spec = shown(shop, name)["spec"]
        return next(one["resources"] for one in spec["initContainers"] if one["name"] == "istio-proxy")

    requests, limits = {"cpu": "250m", "memory": "200Mi"}, {"cpu": "1", "memory": "500Mi"}
    assert resources("sized") == {"requests": requests, "limits": limits}
    # Kubernetes asks for what is the limit, where nobody asks for less.
    assert resources("limited") == {"requests": {"cpu": "300m"}, "limits": {"cpu": "300m"}}
    assert {shown(shop, name)["status"]["qosClass"] for name in ("sized", "limited")} == {"Burstable"}
    ready(shop, "sized", "limited")

    def pending() -> list[str]:
        told = shown(shop, "too-large")["status"].get("conditions", [])
        return [one.get("message", "") for one in told if one["type"] == "PodScheduled" and one["status"] == "False"]

    wait_until(lambda: any("Insufficient cpu" in one for one in pending()), PATIENCE, "no node has that much")


def test_a_pod_says_which_statistics_its_proxy_keeps(shop: Shop, inside: str) -> None:
    own = "proxyStatsMatcher:\n  inclusionRegexps:\n  - '.*details.*upstream_rq_(total|200)'\n"
    apply(shop, pod("counting", [CURL], {"proxy.istio.io/config": own}), pod("usual", [CURL], {}))
    ready(shop, "counting", "usual")
    named = 'cluster_name="outbound|9080||details.bookinfo.svc.cluster.local"'

    def counted(name: str, port: int, metric: str) -> list[str]:
        page = run(shop, name, "curl", "curl", "-s", f"localhost:{port}/stats/prometheus")
        return [one for one in page.splitlines() if one.startswith(f"{metric}{{") and named in one]

    for name in ("counting", "usual"):
        asks_details(shop, inside, name, "curl")
        for port in (15020, 15090):
            found = [bool(counted(name, port, f"envoy_cluster_{one}")) for one in ("upstream_rq_total", "upstream_rq")]
            assert found == [name == "counting"] * 2, (name, port)
        assert counted(name, 15090, "envoy_cluster_upstream_cx_total") == []
