# SPDX-License-Identifier: Apache-2.0
"""What the mesh tells the pods of the control plane: debug pages, reviews of pods, and whom to trust."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from meshbox.mesh.certificates import Authority
from meshbox.mesh.debug_pages import PAGES, About
from meshbox.mesh.inject.reviews import reviewed
from meshbox.mesh.proxies import ProxyState
from meshbox.mesh.translate import Config
from meshbox.mesh.webhook_trust import WebhookTrust
from meshbox.mesh.webhooks import MUTATING, VALIDATING

from .cluster import CONTROL_PLANE, Cluster
from .objects import snapshot
from .syncz import SYNCZ
from .telling import Listener

Obj = dict[str, Any]

DEADLINE = 240.0


def a_proxy(name: tuple[str, str], **acknowledged: tuple[int, int]) -> ProxyState:
    """One that is connected, with the versions that it was sent, and has taken, of each kind."""
    state = ProxyState(name, lambda *_: None)
    state.opened(Listener(), f"sidecar~10.0.0.1~{name[1]}.{name[0]}~x", {"ISTIO_VERSION": "1.30.3"})
    for kind, (sent, taken) in acknowledged.items():
        one = state.told[kind]
        one.version, one.sent, one.acknowledged = sent, sent, taken
    return state


def told(page: str, proxies: list[ProxyState], **query: str) -> Any:
    about = About(None, snapshot(), {one.name: one for one in proxies}, "1.30.3")  # type: ignore[arg-type]
    return PAGES[page][1](about, query)


def test_syncz_says_what_was_sent_and_what_was_taken() -> None:
    sent = {"clusters": (3, 3), "listeners": (2, 1), "routes": (4, 3), "endpoints": (7, 7)}
    state = a_proxy(("bookinfo", "web-1"), **sent)
    state.told["routes"]._bad["80"] = b"{}"
    gone = a_proxy(("bookinfo", "gone"), clusters=(1, 1))
    gone.stop()
    assert told("syncz", [gone, state]) == [SYNCZ]


def test_what_nobody_asked_for_is_not_told() -> None:
    (row,) = told("syncz", [a_proxy(("istio-system", "door"), clusters=(1, 1))])
    assert "route_sent" not in row
    assert "listener_sent" not in row


def test_a_config_dump_is_what_a_proxy_should_have() -> None:
    state = a_proxy(("bookinfo", "web-1"))
    state.config = Config(
        {"c": b'{"name": "c"}'}, {"l": b'{"name": "l"}'}, {"80": b'{"name": "80"}'}, {"c": b'{"cluster_name": "c"}'}
    )
    dump = told("config_dump", [state], proxyID="web-1.bookinfo")
    assert dump == {
        "configs": [
            {
                "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
                "dynamic_active_clusters": [{"cluster": {"name": "c"}}],
            },
            {
                "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
                "dynamic_listeners": [{"name": "l", "active_state": {"listener": {"name": "l"}}}],
            },
            {
                "@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump",
                "dynamic_route_configs": [{"route_config": {"name": "80"}}],
            },
            {
                "@type": "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump",
                "dynamic_endpoint_configs": [{"endpoint_config": {"cluster_name": "c"}}],
            },
        ]
    }
    assert told("config_dump", [state], proxyID="nobody.bookinfo") is None


def test_each_page_is_listed() -> None:
    assert {one["name"] for one in told("list", [])} == {f"debug/{name}" for name in PAGES}


def a_review(**labels: str) -> Obj:
    pod = {
        "metadata": {"generateName": "web-", "labels": labels},
        "spec": {"containers": [{"name": "web", "image": "nginx"}]},
    }
    return {"apiVersion": "admission.k8s.io/v1", "request": {"uid": "7", "namespace": "bookinfo", "object": pod}}


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path, "1.30.3")


def test_a_pod_is_reviewed_whatever_webhooks_choose(cluster: Cluster) -> None:
    answer = reviewed(cluster, cluster.settings, a_review(app="web"))
    assert answer["response"]["uid"] == "7"
    assert answer["response"]["allowed"] is True
    steps = {one["path"]: one for one in json.loads(base64.b64decode(answer["response"]["patch"]))}
    assert {one["op"] for one in steps.values()} == {"add"}
    spec = steps["/spec"]["value"]
    names = {one["name"] for part in ("containers", "initContainers") for one in spec.get(part, [])}
    assert {"web", "istio-proxy"} <= names
    assert steps["/metadata"]["value"]["labels"]["security.istio.io/tlsMode"] == "istio"


def test_a_pod_that_wants_no_sidecar_is_left_as_it_is(cluster: Cluster) -> None:
    answer = reviewed(cluster, cluster.settings, a_review(**{"sidecar.istio.io/inject": "false"}))
    assert answer["response"] == {"uid": "7", "allowed": True}


def ready(name: str) -> Obj:
    return {
        "metadata": {"name": name, "namespace": "istio-system", "labels": {"app": "istiod"}},
        "spec": {"containers": [{"name": "discovery", "image": "istio/pilot:1.30.3"}]},
    }


async def test_webhooks_that_lead_to_istiod_are_given_its_authority(cluster: Cluster, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "mesh")
    authority.load()
    trust = base64.b64encode(authority.root.encode()).decode()
    foreign = {
        "metadata": {"name": "foreign"},
        "webhooks": [
            {
                "name": "a.example.com",
                "clientConfig": {"service": {"name": "other", "namespace": "plain"}},
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }
        ],
    }
    cluster.create(MUTATING, foreign)
    cluster.install("MutatingWebhookConfiguration", MUTATING, CONTROL_PLANE)
    cluster.install("ValidatingWebhookConfiguration", VALIDATING, CONTROL_PLANE)

    def bundles(resource: str) -> dict[str, list[str]]:
        return {
            one["metadata"]["name"]: [hook["clientConfig"].get("caBundle", "") for hook in one["webhooks"]]
            for one in cluster.list(resource)
        }

    keeper = WebhookTrust(cluster, authority)
    keeper.start()
    try:
        cluster.create("pods", ready("istiod-1"), "istio-system")
        pod = cluster.get("pods", "istiod-1", "istio-system")
        pod["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
        cluster.update("pods", pod, subresource="status")
        deadline = asyncio.get_running_loop().time() + DEADLINE
        while not all(one == trust for one in bundles(MUTATING)["istio-sidecar-injector"]):
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.005)
    finally:
        await keeper.stop()
    assert bundles(MUTATING)["foreign"] == [""]
    assert len(bundles(MUTATING)["istio-sidecar-injector"]) == 4
