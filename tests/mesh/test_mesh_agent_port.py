# SPDX-License-Identifier: Apache-2.0
"""What the agent's port of a real Envoy answers: the application's probes, its metrics, the end of the proxy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from labkit.ground.errors import SandboxError
from meshbox.addresses import AddressPlan
from meshbox.images import ContainerContext, find, launch
from meshbox.images.proxy.agent import Agent
from meshbox.images.proxy.bootstrap import bootstrap
from tests.conftest import PATIENCE
from tests.images.test_registry import context

from .bookshop import Bookshop
from .world import App, Reply


class Agents(Bookshop):
    """A world whose proxies get variables."""

    env: dict[str, str]

    def proxy_context(self, *given: Any) -> ContainerContext:
        return replace(super().proxy_context(*given), env=self.env)


@pytest_asyncio.fixture
async def shop(tmp_path_factory: Any, plan: AddressPlan) -> AsyncIterator[Agents]:
    shop = Agents(tmp_path_factory.mktemp("mesh"), plan, "1.30.3")
    await shop.start()
    yield shop
    await shop.stop()


async def test_what_the_agents_port_answers(shop: Agents) -> None:
    # A second, as by default, is too little for an application on a busy machine.
    patient = {"timeoutSeconds": 60}
    probers: dict[str, Any] = {
        "/app-health/web/readyz": {"httpGet": {"path": "/ready?x=1", "port": 9080, "scheme": "HTTP"}, **patient},
        "/app-health/web/livez": {"tcpSocket": {"port": 9080}},
        "/app-health/web/startupz": {"tcpSocket": {"port": 9999}},
        "/app-health/rpc/livez": {"grpc": {"port": 9999, "service": "a"}},
        "/app-lifecycle/web/prestopz": {"httpGet": {"path": "stop", "port": 9080}, **patient},
    }
    probers["/app-health/web/readyz"]["httpGet"]["httpHeaders"] = [
        {"name": "Host", "value": "books"},
        {"name": "x-asked-by", "value": "50%"},
    ]
    scraped = {"scrape": "true", "path": "/own-metrics", "port": "9080"}
    shop.env = {
        "ISTIO_KUBE_APP_PROBERS": json.dumps(probers),
        "ISTIO_PROMETHEUS_ANNOTATIONS": json.dumps(scraped),
    }
    app = App("web")
    pod = await shop.pod("web", {"app": "web"}, app=app)
    await shop.ready("web")

    async def get(path: str, **more: Any) -> Reply:
        return await shop.http(pod.ip, 15020, path, **more)

    assert (await get("/app-health/web/readyz")).json["path"] == "/ready?x=1"
    assert app.seen[-1][2]["host"] == "books"
    assert app.seen[-1][2]["x-asked-by"] == "50%"
    assert (await get("/app-lifecycle/web/prestopz")).json["path"] == "/stop"

    async def seen() -> bool:
        return (await get("/app-health/web/livez")).status == 200

    await shop.until(seen, "the proxy has connected to the application")
    assert (await get("/app-health/web/startupz")).status == 503
    assert (await get("/app-health/rpc/livez")).status == 503
    app.status = 500
    assert (await get("/app-health/web/readyz")).status == 500
    both = (await get("/stats/prometheus")).body.decode()
    assert "envoy_server_uptime" in both
    assert "/own-metrics" not in both, "an application that answers 500 has no metrics"
    app.status = 200
    for path in ("/stats/prometheus", "/metrics"):
        both = (await get(path)).body.decode()
        assert "envoy_server_uptime" in both
        assert json.loads(both[both.rindex('{"app"') :])["path"] == "/own-metrics"
    assert "/own-metrics" not in (await shop.http(pod.ip, 15090, "/stats/prometheus")).body.decode()
    inside = {"host": "localhost:15020"}
    assert (await get("/quitquitquit", method="POST")).status == 404, "only the pod itself may end it"
    assert (await shop.http(pod.local, 15020, "/quitquitquit", headers=inside)).status == 405
    ended = await shop.http(pod.local, 15020, "/quitquitquit", headers=inside, method="POST")
    assert (ended.status, ended.body) == (200, b"OK\n")
    assert pod.envoy is not None
    assert await asyncio.to_thread(pod.envoy.wait, PATIENCE) == 0


async def test_a_bootstrap_of_ones_own_is_laid_over_the_sandboxs(shop: Agents) -> None:
    shop.env = {"ISTIO_BOOTSTRAP_OVERRIDE": "/etc/istio/custom-bootstrap/custom_bootstrap.json"}
    with pytest.raises(SandboxError, match="the bootstrap override cannot be read"):
        await shop.pod("none", {"app": "none"})
    file = shop.settings.home / "pods" / "own" / "etc" / "istio" / "custom-bootstrap" / "custom_bootstrap.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"node": {"metadata": {"MINE": "yes"}}}')
    shop.pods.pop("none")
    pod = await shop.pod("own", {"app": "own"})
    await shop.ready("own")
    told = (await shop.http(pod.local, 15000, "/server_info", headers={"host": "localhost:15000"})).json
    assert told["node"]["metadata"]["MINE"] == "yes"
    assert told["node"]["metadata"]["NAMESPACE"] == "bookinfo"


async def test_a_proxy_can_go_on_until_nobody_is_connected(shop: Agents) -> None:
    shop.env = {"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true", "MINIMUM_DRAIN_DURATION": "0.1s"}
    pod = await shop.pod("web", {"app": "web"}, app=App("web"))
    await shop.ready("web")
    await shop.listening(pod.ip, 9080)
    reader, writer = await asyncio.open_connection(pod.ip, 9080)
    writer.write(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")
    assert b"200" in await reader.readline()
    proxy = pod.obj["spec"]["containers"][-1]
    image = find(proxy["image"])
    assert image is not None
    drain = launch(image, shop.proxy_context(pod.obj, proxy, shop.settings.home / "drained")).drain
    assert drain is not None
    draining = asyncio.ensure_future(drain())
    done, _ = await asyncio.wait((draining,), timeout=1.0)
    assert not done, "somebody is still connected"
    writer.close()
    await asyncio.wait_for(draining, PATIENCE)


def test_a_gateway_that_is_not_injected_reads_the_mesh_and_its_annotation(tmp_path: Any) -> None:
    given = context(tmp_path, "pilot-agent", "proxy", "router", image="istio/proxyv2:1.30.3")
    given.pod["metadata"]["annotations"] = {
        "proxy.istio.io/config": "proxyStatsMatcher:\n  inclusionRegexps:\n  - .*ratelimit.*\n"
    }
    file = given.path("/etc/istio/config/mesh")
    file.parent.mkdir(parents=True)
    file.write_text("defaultConfig:\n  drainDuration: 7s\n  proxyStatsMatcher: {inclusionPrefixes: [listener]}\n")
    settings = replace(given.settings, release="1.30.3")
    agent = Agent.of(replace(given, settings=settings, env={**given.env, "PROXY_CONFIG": "{}\n"}))
    assert agent.stats == ({"safe_regex": {"regex": ".*ratelimit.*"}},)
    assert agent.drain_time == 7.0


def test_the_proxy_is_set_up_as_its_settings_say(tmp_path: Any) -> None:
    given = context(
        tmp_path, "pilot-agent", "proxy", "sidecar", "--proxyLogLevel=debug", "--proxyComponentLogLevel=misc:error",
        image="istio/proxyv2:1.30.3",
    )  # fmt: skip
    config = {
        "concurrency": 3,
        "drainDuration": "7s",
        "terminationDrainDuration": "9s",
        "runtimeValues": {"a.b": "1"},
        "proxyStatsMatcher": {"inclusionRegexps": [".*osconfig.*"]},
    }
    annotations = {
        "sidecar.istio.io/statsInclusionPrefixes": "cluster.outbound,listener",
        "sidecar.istio.io/statsHistogramBuckets": '{"istiocustom": [1, 5, 10]}',
        "status.sidecar.istio.io/port": "15999",
    }
    given.pod["metadata"]["annotations"] = annotations
    settings = replace(given.settings, release="1.30.3")
    given = replace(given, settings=settings, env={**given.env, "PROXY_CONFIG": json.dumps(config) + "\n"})
    agent = Agent.of(given)
    assert (agent.concurrency, agent.drain, agent.drain_time) == (3, 9.0, 7.0)
    assert (agent.log_level, agent.component_log_level) == ("debug", "misc:error")
    made = bootstrap(given, agent)
    patterns = made["stats_config"]["stats_matcher"]["inclusion_list"]["patterns"]
    wanted = [{"prefix": "cluster.outbound"}, {"prefix": "listener"}, {"safe_regex": {"regex": ".*osconfig.*"}}]
    assert all(one in patterns for one in wanted)
    first = made["stats_config"]["histogram_bucket_settings"][0]
    assert first == {"match": {"prefix": "istiocustom"}, "buckets": [1, 5, 10]}
    assert made["layered_runtime"]["layers"][0]["static_layer"]["a.b"] == "1"
    names = [one["name"] for one in made["static_resources"]["listeners"]]
    assert names == ["admin", "prometheus_stats", "status_15021", "status_15999"]
