# SPDX-License-Identifier: Apache-2.0
"""What the settings of single proxies do: which statistics each keeps, and how many of its requests are traced."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import yaml

from meshbox.addresses import AddressPlan

from .bookshop import Bookshop, opened, to, virtual_service
from .conftest import RELEASES
from .spans import collected
from .world import Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

Obj = dict[str, Any]

LOG = {"accessLogFile": "/dev/stdout"}
TODAY = pytest.mark.parametrize("shop", ["1.30.3"], indirect=True)
RATINGS = "outbound|9080||ratings.bookinfo.svc.cluster.local"
STATS = "sidecar.istio.io/statsInclusion"


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=RELEASES)
async def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan
) -> AsyncIterator[Bookshop]:
    async with opened(tmp_path_factory.mktemp("mesh"), plan, request.param) as shop:
        yield shop


def config(**settings: Any) -> dict[str, str]:
    """A pod's own settings."""
    return {"proxy.istio.io/config": yaml.safe_dump(settings)}


async def client(shop: Bookshop, name: str, annotations: dict[str, str]) -> None:
    """One more client, that calls ratings once."""
    await shop.pod(name, {"app": name}, app=shop.apps["client"], annotations=annotations)
    await shop.ready(name)
    await shop.until(lambda: answered(shop, name), f"{name} gets an answer")


async def answered(shop: Bookshop, name: str, path: str = "/") -> bool:
    with contextlib.suppress(OSError):
        return (await shop.call(name, "ratings", path)).status == 200
    return False


Series = tuple[str, frozenset[tuple[str, str]]]
_SERIES = re.compile(r"^(\w+)\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


async def page(shop: Bookshop, name: str, port: int = 15090) -> dict[Series, float]:
    """What Prometheus is shown of a pod: each series, its labels in any order, and its value."""
    reply = await shop.http(shop.pods[name].ip, port, "/stats/prometheus")
    found = _SERIES.findall(reply.body.decode())
    return {(metric, frozenset(_LABEL.findall(labels))): float(value) for metric, labels, value in found}


async def statistics(shop: Bookshop, name: str) -> dict[str, str]:
    """Envoy's own page: each statistic and what it says."""
    pod = shop.pods[name]
    reply: Reply = await shop.http(pod.local, 15000, "/stats", headers={"host": "localhost:15000"})
    return dict(line.split(": ", 1) for line in reply.body.decode().splitlines())


def series(metric: str, **labels: str) -> Series:
    return f"envoy_{metric}", frozenset(labels.items())


def ratings(metric: str, **labels: str) -> Series:
    return series(f"cluster_{metric}", cluster_name=RATINGS, **labels)


async def test_a_proxy_keeps_the_statistics_that_its_pod_asks_for(shop: Bookshop) -> None:
    counters = {
        f"{STATS}Prefixes": "listener.{pod_ip}",
        f"{STATS}Suffixes": "upstream_cx_total",
        f"{STATS}Regexps": r"cluster\.outbound.*ratings.*upstream_rq_(total|200|2xx)",
    }
    await client(shop, "plain", {})
    await client(shop, "asks", counters)
    end = "" if shop.settings.legacy else ";"
    asked = [f"cluster.{RATINGS}{end}.{one}" for one in ("upstream_rq_total", "upstream_rq_200", "upstream_cx_total")]
    counted = [
        ratings("upstream_rq_total"),
        ratings("upstream_cx_total"),
        ratings("upstream_rq", response_code="200"),
        ratings("upstream_rq", response_code_class="2xx"),
    ]
    for name, kept in (("asks", True), ("plain", False)):
        raw = await statistics(shop, name)
        assert [one in raw for one in asked] == [kept] * len(asked), name
        assert any(one.startswith(f"listener.{shop.pods[name].ip}") for one in raw) == kept
        for port in (15090, 15020):
            shown = await page(shop, name, port)
            assert [shown.get(one, 0.0) >= 1.0 for one in counted] == [kept] * len(counted), (name, port)
        assert not any("pending" in one for one in raw)


@TODAY
async def test_the_mesh_and_a_pods_settings_say_what_is_kept(shop: Bookshop) -> None:
    wanted = {
        "inclusionRegexps": [r"cluster\.outbound.*;\.upstream_rq_total"],
        "inclusionSuffixes": ["upstream_cx_total"],
    }
    shop.mesh_config(**LOG, defaultConfig={"proxyStatsMatcher": wanted})
    try:
        await client(shop, "as-all", {})
        own = {"proxyStatsMatcher": {"inclusionPrefixes": ["http.outbound_"]}}
        await client(shop, "own", config(**own))
        await client(shop, "replaced", {f"{STATS}Suffixes": "upstream_cx_active"})
    finally:
        shop.mesh_config(**LOG)
    requests, connections, active = (ratings(f"upstream_{one}") for one in ("rq_total", "cx_total", "cx_active"))
    outbound = series("http_downstream_rq_total", http_conn_manager_prefix="outbound_0.0.0.0_9080")
    found = {
        name: [one in await page(shop, name) for one in (requests, connections, outbound, active)]
        for name in ("as-all", "own", "replaced", "client")
    }
    # An annotation of one kind takes the place of what the settings say of that kind, and of no other.
    assert found == {
        "as-all": [True, True, False, False],
        "own": [True, True, True, False],
        "replaced": [True, False, False, True],
        "client": [False, False, False, False],
    }


@TODAY
async def test_names_are_told_whole_whatever_their_namespace_is_called(shop: Bookshop) -> None:
    hosts = ("api.default.test", "a.b.http.dns.test")
    entries = [
        (
            "ServiceEntry",
            host.replace(".", "-"),
            {
                "hosts": [host],
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "resolution": "STATIC",
                "endpoints": [{"address": shop.pods["ratings-v1"].ip, "ports": {"http": 9080}}],
            },
        )
        for host in hosts
    ]
    await client(shop, "prefixed", {f"{STATS}Prefixes": "cluster."})
    async with shop.rules(*entries):
        for host in hosts:

            async def reached(host: str = host) -> bool:
                with contextlib.suppress(OSError):
                    reply = await shop.call("prefixed", "10.9.9.9", port=80, headers={"host": host})
                    return reply.status == 200
                return False

            await shop.until(reached, f"{host} answers")
        shown = await page(shop, "prefixed")
        for host in hosts:
            assert shown[series("cluster_upstream_rq_total", cluster_name=f"outbound|80||{host}")] >= 1.0
        assert all("cluster_name" in dict(labels) for metric, labels in shown if "_cluster_upstream_" in metric)


@TODAY
async def test_a_match_counts_by_its_own_name(shop: Bookshop) -> None:
    rule = {"match": [{"uri": {"prefix": "/a"}, "statPrefix": "first"}], "route": [to(host="ratings")]}
    async with shop.rules(virtual_service(rule, {"route": [to(host="ratings")]}, host="ratings")):
        for path in ("/a", "/a", "/b"):
            assert (await shop.get(path, host="ratings")).status == 200
        raw = await statistics(shop, "client")
        found = {name: value for name, value in raw.items() if name.endswith(".route.first.upstream_rq_total")}
    assert list(found.values()) == ["2"], raw


@TODAY
async def test_a_pod_says_how_many_of_its_requests_are_traced(shop: Bookshop) -> None:
    zipkin = {"address": "zipkin.istio-system:9411"}
    calls = 20

    async def sampled(name: str, path: str) -> set[str]:
        """How the requests of a client were marked, as the application sees them."""
        seen = shop.apps["ratings-v1"].seen
        before = len(seen)
        for _ in range(calls):
            assert await answered(shop, name, path)
        return {headers.get("x-b3-sampled", "") for _, asked, headers in seen[before:] if asked == path}

    async with collected(shop) as spans:

        def traced(path: str) -> set[str]:
            return {
                span["localEndpoint"]["serviceName"]
                for span in spans
                if span["tags"].get("http.url", "").endswith(path)
            }

        try:
            for mesh, own, quiet, loud in ((100, 0, "off", "usual"), (0, 100, "unusual", "on")):
                tracing = {"tracing": {"zipkin": zipkin, "sampling": mesh}}
                shop.mesh_config(**LOG, enableTracing=True, defaultConfig=tracing)
                for name, settings in (
                    (quiet if own == 0 else loud, {"tracing": {"sampling": own}}),
                    (loud if own == 0 else quiet, {}),
                ):
                    await client(shop, name, config(**settings) if settings else {})
                await shop.follow()
                assert await sampled(quiet, f"/{quiet}") == {"0"}
                assert await sampled(loud, f"/{loud}") == {"1"}
                both = {f"{loud}.bookinfo", "ratings.bookinfo"}
                await shop.until(lambda loud=loud, both=both: traced(f"/{loud}") >= both, "both sides sent spans")  # type: ignore[misc]
        finally:
            shop.mesh_config(**LOG)
            await shop.follow()
    assert traced("/off") | traced("/unusual") == set()
