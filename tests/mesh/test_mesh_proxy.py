# SPDX-License-Identifier: Apache-2.0
"""What a proxy shows: its admin and status ports, metrics, logs, spans; and the pods' way into it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from meshbox.addresses import AddressPlan
from meshbox.images import find, launch
from meshbox.images.istio.telemetry import known
from meshbox.images.proxy import commands

from .bookshop import Bookshop, opened
from .conftest import RELEASES
from .spans import collected

pytestmark = pytest.mark.asyncio(loop_scope="module")


def words(text: str) -> list[str]:
    return text.split()


LEGACY_LABELS = words(
    "reporter source_app source_principal source_workload source_workload_namespace source_version "
    "destination_app destination_principal destination_workload destination_workload_namespace "
    "destination_version destination_service destination_service_name destination_service_namespace "
    "request_protocol response_code response_flags permissive_response_code permissive_response_policyid "
    "connection_security_policy"
)
LABELS = words(
    "reporter source_workload source_canonical_service source_canonical_revision source_workload_namespace "
    "source_principal source_app source_version source_cluster destination_workload "
    "destination_workload_namespace destination_principal destination_app destination_version "
    "destination_service destination_canonical_service destination_canonical_revision destination_service_name "
    "destination_service_namespace destination_cluster request_protocol response_code grpc_response_status "
    "response_flags connection_security_policy"
)
HTTP_ONLY = {
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "permissive_response_code",
    "permissive_response_policyid",
}


EMPTY = {True: [], False: ["grpc_response_status"]}
"""Labels without a value where a request is no gRPC."""


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=RELEASES)
async def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan
) -> AsyncIterator[Bookshop]:
    async with opened(tmp_path_factory.mktemp("mesh"), plan, request.param) as shop:
        yield shop


def labels_of(text: str, metric: str, **wanted: str) -> list[dict[str, str]]:
    """The label sets of a metric's series, those with the wanted labels."""
    found = []
    for line in text.splitlines():
        if line.startswith(f"envoy_istio_{metric}{{"):
            series = dict(re.findall(r'([a-z_]+)="([^"]*)"', line)) | {"": line.rsplit(" ", 1)[1]}
            if all(series.get(key) == value for key, value in wanted.items()):
                found.append(series)
    return found


async def stats(shop: Bookshop, pod: str) -> str:
    """What a sidecar has counted; in Istio 1.2 with the labels that Mixer makes of it."""
    text = (await shop.http(shop.pods[pod].ip, 15090, "/stats/prometheus?usedonly&filter=^istio")).body.decode()
    return known(text) if shop.settings.legacy else text


async def test_the_admin_interface_answers_the_pods_own_localhost_only(shop: Bookshop) -> None:
    local = shop.pods["client"].local
    own = {"host": "localhost:15000"}
    assert (await shop.http(local, 15000, "/ready", headers=own)).body == b"LIVE\n"
    dump = (await shop.http(local, 15000, "/config_dump", headers=own)).body.decode()
    assert '"outbound|9080||ratings.bookinfo.svc.cluster.local"' in dump
    assert shop.settings.xds_token not in dump
    assert "BEGIN PRIVATE KEY" not in dump
    assert (await shop.http(local, 15000, "/logging?level=warning", headers=own, method="POST")).status == 200
    assert (await shop.http(local, 15000, "/quitquitquit", headers=own, method="POST")).status == 403
    # By a port-forward, which has any port.
    for name in ("localhost:40123", "127.0.0.1:8080", "localhost"):
        assert (await shop.http(local, 15000, "/ready", headers={"host": name})).body == b"LIVE\n"
    for name in ("evil.example:15000", "localhost.evil.example", "127.0.0.1.evil.example:15000"):
        assert (await shop.http(local, 15000, "/ready", headers={"host": name})).status == 404
    assert (await shop.http(local, 15000, "/ready")).status == 404
    from_page = {**own, "origin": "http://evil.example"}
    assert (await shop.http(local, 15000, "/ready", headers=from_page)).status == 403
    with pytest.raises(ConnectionRefusedError):
        await shop.http(shop.pods["client"].ip, 15000, "/ready", headers=own)


async def test_the_bootstrap_with_the_token_is_the_owners_alone(shop: Bookshop) -> None:
    files = list((shop.settings.home / "pods").glob("*/etc/istio/proxy/envoy-rev0.json"))
    assert {file.parents[3].name for file in files} == {pod.name for pod in shop.pods.values() if pod.envoy is not None}
    assert {oct(file.stat().st_mode & 0o777) for file in files} == {"0o600"}


async def test_readiness_is_told_at_the_releases_port(shop: Bookshop) -> None:
    pod = shop.pods["client"]
    for port in (15020,) if shop.settings.legacy else (15020, 15021):
        assert (await shop.http(pod.ip, port, "/healthz/ready")).status == 200


async def test_http_metrics_have_the_releases_labels_on_both_sides(shop: Bookshop) -> None:
    expected = set(LEGACY_LABELS if shop.settings.legacy else LABELS)
    await shop.many(7, host="ratings")
    where = {"destination_service_name": "ratings", "response_code": "200", "source_workload": "client"}

    async def counted() -> bool:
        both = [labels_of(await stats(shop, pod), "requests_total", **where) for pod in ("client", "ratings-v1")]
        return all(sum(int(one[""]) for one in found) >= 7 for found in both)

    await shop.until(counted, "both sides have counted")
    source = labels_of(await stats(shop, "client"), "requests_total", reporter="source", **where)
    target = labels_of(await stats(shop, "ratings-v1"), "requests_total", reporter="destination", **where)
    for series in (source, target):
        assert len(series) == 1
        assert set(series[0]) - {""} == expected
        assert int(series[0][""]) >= 7
        assert [key for key, value in series[0].items() if not value] == EMPTY[shop.settings.legacy]
        assert series[0]["request_protocol"] == "http"
        assert series[0]["destination_workload"] == "ratings-v1"
        assert series[0]["destination_service"] == "ratings.bookinfo.svc.cluster.local"
    assert source[0]["connection_security_policy"] == "unknown"
    assert target[0]["connection_security_policy"] == ("none" if shop.settings.legacy else "mutual_tls")
    if not shop.settings.legacy:
        assert target[0]["source_principal"] == "spiffe://cluster.local/ns/bookinfo/sa/client-sa"
        assert source[0]["destination_principal"] == "spiffe://cluster.local/ns/bookinfo/sa/ratings-sa"


async def test_mixer_takes_no_notice_of_the_kubelet(shop: Bookshop) -> None:
    pod = await shop.pod("asked", {"app": "asked"}, app=shop.apps["ratings-v1"])
    shop.service("asked")
    await shop.ready("asked")
    await shop.follow()
    await shop.until(lambda: plainly(shop, pod.ip, "kube-probe/1.14"), "the kubelet is answered")
    assert await plainly(shop, pod.ip, "somebody")

    expected = 1 if shop.settings.legacy else 2

    async def counted() -> int:
        found = labels_of(await stats(shop, "asked"), "requests_total", reporter="destination")
        total = sum(int(one[""]) for one in found)
        return total if total >= expected else 0

    assert await shop.until(counted, "whoever is to be is counted") == expected


async def plainly(shop: Bookshop, address: str, agent: str) -> bool:
    """Whether a call from outside the mesh is answered."""
    with contextlib.suppress(OSError):
        return (await shop.http(address, 9080, headers={"user-agent": agent})).status == 200
    return False


async def test_durations_and_sizes_are_histograms(shop: Bookshop) -> None:
    await shop.many(5, host="ratings")

    async def published() -> bool:
        text = await stats(shop, "client")
        return all(
            f"envoy_istio_{name}_count" in text
            for name in ("request_duration_milliseconds", "request_bytes", "response_bytes")
        )

    await shop.until(published, "histograms are published")
    bounds = {s["le"] for s in labels_of(await stats(shop, "client"), "request_duration_milliseconds_bucket")}
    expected = {"5", "10", "10000", "+Inf"} if shop.settings.legacy else {"0.5", "1", "3.6e+06", "+Inf"}
    assert expected <= {b.replace("3600000", "3.6e+06") for b in bounds}


async def test_a_fault_and_an_unknown_host_are_counted_as_istio_counts_them(shop: Bookshop) -> None:
    percent = {"percent": 100} if shop.settings.legacy else {"percentage": {"value": 100}}
    rule = {"fault": {"abort": {"httpStatus": 418, **percent}}, "route": [{"destination": {"host": "ratings"}}]}
    async with shop.rules(("VirtualService", "fault", {"hosts": ["ratings"], "http": [rule]})):
        await shop.get(host="ratings")

        async def counted() -> list[dict[str, str]]:
            return labels_of(await stats(shop, "client"), "requests_total", response_code="418")

        faults = await shop.until(counted, "the fault is counted")
    assert [(s["destination_service_name"], s["destination_workload"], s["response_flags"]) for s in faults] == [
        ("ratings", "unknown", "FI")
    ]


async def test_tcp_connections_and_bytes_are_counted_once(shop: Bookshop) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1000):
                writer.write(data * 2)
        writer.close()

    pod = await shop.pod("echo", {"app": "echo", "version": "v1"}, ports=(7000,))
    address = shop.service("echo", [{"name": "tcp-echo", "port": 7000}])
    server = await asyncio.start_server(echo, pod.local, 7000)
    async with server:
        await shop.ready("echo")
        await shop.follow()
        reader, writer = await shop.captured("client", address, 7000)
        writer.write(b"12345")
        assert await reader.readexactly(10) == b"1234512345"
        writer.close()

        values = {
            "tcp_connections_opened_total": "1",
            "tcp_connections_closed_total": "1",
            "tcp_sent_bytes_total": "10",
            "tcp_received_bytes_total": "5",
        }

        async def counted() -> str:
            text = await stats(shop, "client")
            return text if all(labels_of(text, one, destination_service_name="echo") for one in values) else ""

        text = await shop.until(counted, "the connection's end is counted")
    for metric, value in values.items():
        (series,) = labels_of(text, metric, destination_service_name="echo")
        assert series[""] == value, metric
        expected = (
            set(LEGACY_LABELS) - HTTP_ONLY if shop.settings.legacy else set(LABELS) - HTTP_ONLY | {"request_protocol"}
        )
        assert set(series) - {""} == expected


async def test_requests_are_logged_to_stdout_in_the_releases_form(shop: Bookshop) -> None:
    await shop.get("/logged", host="ratings", headers={"user-agent": "a-tester"})
    log = shop.pods["client"].log
    assert log is not None
    line = await shop.until(
        lambda: next((text for text in log.read_text().splitlines() if "/logged" in text), ""), "the request is logged"
    )
    assert re.match(r'\[\d{4}-\d\d-\d\dT[\d:.]+Z\] "GET /logged HTTP/1\.1" 200 - ', line)
    assert '"a-tester"' in line
    assert "outbound|9080||ratings.bookinfo.svc.cluster.local" in line
    assert line.endswith(" -" if shop.settings.legacy else " default")


async def test_spans_go_to_zipkin_when_and_only_when_the_release_says(shop: Bookshop) -> None:
    mesh: dict = {"accessLogFile": "/dev/stdout"}  # type: ignore[type-arg]
    if shop.settings.legacy:
        mesh |= {
            "enableTracing": True,
            "defaultConfig": {"tracing": {"zipkin": {"address": "zipkin.istio-system:9411"}, "sampling": 100}},
        }
    else:
        service = {"service": "zipkin.istio-system.svc.cluster.local", "port": 9411}
        mesh |= {"extensionProviders": [{"name": "zipkin", "zipkin": service}]}
    async with collected(shop) as spans:
        shop.mesh_config(**mesh)
        await shop.follow()
        if not shop.settings.legacy:
            await shop.get("/untraced", host="ratings")
            tracing = [{"providers": [{"name": "zipkin"}], "randomSamplingPercentage": 100.0}]
            shop.istio("Telemetry", "mesh-default", {"tracing": tracing}, namespace="istio-system")
            await shop.follow()

        def sides(trace: str) -> set[str]:
            return {s["localEndpoint"]["serviceName"] for s in spans if trace in ("", s["traceId"])}

        both = {"client.bookinfo", "ratings.bookinfo"}

        async def traced() -> bool:
            await shop.get("/traced", host="ratings")
            return sides("") >= both

        await shop.until(traced, "both sides sent spans")
        # Each side sends its spans when it will, so those of the last request are waited for too.
        heard = shop.apps["ratings-v1"].seen[-1][2]
        last = heard["x-b3-traceid"]
        await shop.until(lambda: sides(last) >= both, "both sides' spans of the last request came")
        shop.mesh_config(accessLogFile="/dev/stdout")
        if not shop.settings.legacy:
            shop.objects.drop("telemetries.telemetry.istio.io", "mesh-default", "istio-system")
        await shop.follow()
    paths = {s["tags"]["http.url"].rsplit("/", 1)[1] for s in spans if "http.url" in s["tags"]}
    assert "untraced" not in paths
    # Whoever is called gets the trace in Zipkin's headers, and in no others.
    assert (heard["x-b3-sampled"], "traceparent" in heard) == ("1", False)
    client = next(s for s in spans if s["kind"] == "CLIENT" and "traced" in s["tags"]["http.url"])
    assert client["name"] == "ratings.bookinfo.svc.cluster.local:9080/*"


async def test_pilot_agents_commands(
    shop: Bookshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LABKIT_LOCAL_IP", shop.pods["client"].local)

    async def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["pilot-agent", *arguments])
        command = {"request": commands.request, "wait": commands.wait, "istio-iptables": commands.iptables}[
            arguments[0]
        ]
        return await asyncio.to_thread(command)

    assert await call("request", "GET", "server_info") == 0
    assert '"state": "LIVE"' in capsys.readouterr().out
    assert await call("request", "GET", "/no/such/page") == 1
    assert await call("wait") == 0
    assert await call("wait", "--url=http://localhost:15020/nothing", "--timeoutSeconds", "0.1") == 1
    assert "timeout waiting for Envoy proxy to become ready after 0.1 s" in capsys.readouterr().err
    assert await call("wait", "--timeoutSeconds", "x") == 1
    assert await call("request", "--debug-port=15020", "GET", "healthz/ready") == 0
    assert await call("istio-iptables") == 0
    assert "no iptables rules" in capsys.readouterr().out
    monkeypatch.setenv("LABKIT_LOCAL_IP", str(shop.settings.plan.node))
    assert await call("request", "GET", "stats") == 1
    assert "does not answer" in capsys.readouterr().err


async def test_draining_waits_for_what_is_in_flight(shop: Bookshop) -> None:
    pod = await shop.pod("slow", {"app": "slow"}, app=shop.apps["ratings-v1"])
    shop.service("slow")
    await shop.ready("slow")
    await shop.follow()
    shop.apps["ratings-v1"].delay = 0.3
    try:
        asked = asyncio.create_task(shop.get(host="slow"))
        await shop.until(
            lambda: any("slow" in h["host"] for _, _, h in shop.apps["ratings-v1"].seen), "the call arrived"
        )
        drain = draining(shop, pod.obj)
        await drain()
        assert (await asked).status == 200
    finally:
        shop.apps["ratings-v1"].delay = 0.0


def draining(shop: Bookshop, obj: dict):  # type: ignore[no-untyped-def,type-arg]
    proxy = obj["spec"]["containers"][-1]
    context = shop.proxy_context(obj, proxy, shop.settings.home / "drained")
    image = find(proxy["image"])
    assert image is not None
    drain = launch(image, context).drain
    assert drain is not None
    return drain


async def test_what_is_no_host_of_the_mesh_is_counted_in_the_releases_words(shop: Bookshop) -> None:
    refused = {"egress": [{"hosts": ["./*"]}], "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}
    asked = {"host": "10.9.9.9", "port": 80, "headers": {"host": "casino.test"}}
    async with shop.rules(("Sidecar", "closed", refused)):
        assert (await shop.get(**asked)).status == 502

        async def counted() -> bool:
            return bool(labels_of(await stats(shop, "client"), "requests_total", response_code="502"))

        await shop.until(counted, "the client's side has counted")
        (seen,) = labels_of(await stats(shop, "client"), "requests_total", response_code="502")
    assert seen["request_protocol"] == "http"
    names = seen["destination_service"], seen["destination_service_name"], seen["destination_workload"]
    old = ("unknown", "unknown", "unknown")
    assert names == (old if shop.settings.legacy else ("casino.test", "BlackHoleCluster", "unknown"))
