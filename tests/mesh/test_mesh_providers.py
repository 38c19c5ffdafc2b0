# SPDX-License-Identifier: Apache-2.0
"""Extension providers of the mesh's settings: who takes logs and spans, and what is said of those that nobody has."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshbox.addresses import AddressPlan
from meshbox.contracts import AdmissionRequest
from meshbox.mesh.admission import MeshAdmission
from meshbox.mesh.kinds import CONFIG_MAPS, TELEMETRIES
from meshbox.mesh.reporting import Reports, reports_of
from meshbox.mesh.settings import not_played
from meshbox.mesh.telemetry import FileLog
from meshbox.mesh.telemetry_notices import unheard_telemetries
from meshbox.mesh.tracing import Collector
from meshbox.mesh.translate import translate

from .bookshop import Bookshop
from .cluster import Cluster
from .objects import PLAN, istio, service, snapshot, workload
from .providers import ENVOY, MESH, OTHERS

Obj = dict[str, Any]


def told(*sections: Obj, mesh: str) -> Reports:
    """What the sidecar of reviews-v1 reports where a Telemetry object has these sections about logs."""
    obj = istio("one", {"accessLogging": list(sections)}, namespace="bookinfo")
    snap = snapshot(mesh=mesh, telemetries=[obj])
    return reports_of(snap, workload(snap, "reviews-v1"))


FILES = (
    MESH
    + """
- name: lines
  envoyFileAccessLog: {path: /dev/stderr, logFormat: {text: "%REQ(:PATH)%"}}
- name: json
  envoyFileAccessLog: {path: /dev/stdout, logFormat: {labels: {code: "%RESPONSE_CODE%"}}, omitEmptyValues: true}
- {name: elsewhere, envoyFileAccessLog: {path: /var/log/access.log}}
- {name: als, envoyOtelAls: {service: spans.istio-system.svc.cluster.local, port: 4317}}
"""
)


def test_another_provider_takes_the_place_of_the_log() -> None:
    expression = "response.code > 400"
    other = {"providers": [{"name": "Lines"}, {"name": "json"}], "filter": {"expression": expression}}
    found = told(other, mesh=FILES).client
    assert found.access_log is False
    text = FileLog("/dev/stderr", "%REQ(:PATH)%", filter=expression)
    labels = FileLog("/dev/stdout", labels='{"code": "%RESPONSE_CODE%"}', omit_empty=True, filter=expression)
    assert found.files == (text, labels)
    found = told(ENVOY, {"providers": [{"name": "lines"}]}, mesh=FILES).client
    assert (found.access_log, found.files) == (True, (FileLog("/dev/stderr", "%REQ(:PATH)%"),))
    own = MESH + "- {name: envoy, envoyFileAccessLog: {path: /dev/stdout, logFormat: {text: mine}}}"
    found = told(ENVOY, mesh=own).client
    assert (found.access_log, found.files) == (False, (FileLog("/dev/stdout", "mine"),)), "a mesh's own takes its place"


@pytest.mark.parametrize(
    ("section", "name", "why"),
    [
        ("accessLogging", "envoy", ""),
        ("accessLogging", "LINES", ""),
        ("metrics", "Prometheus", ""),
        ("tracing", "others", ""),
        (
            "accessLogging",
            "nobody",
            "meshConfig.extensionProviders has no 'nobody' (there are: als, elsewhere, envoy, json, lines, others, "
            "prometheus, spans): nothing is logged",
        ),
        (
            "accessLogging",
            "elsewhere",
            "provider 'elsewhere' logs to /var/log/access.log: the sandbox plays /dev/stdout and /dev/stderr: "
            "nothing is logged",
        ),
        (
            "accessLogging",
            "als",
            "provider 'als' is of kind envoyOtelAls, which the sandbox does not play: nothing is logged",
        ),
        (
            "metrics",
            "lines",
            "provider 'lines' is of kind envoyFileAccessLog, which is not asked for metrics: nothing is counted",
        ),
        (
            "tracing",
            "spans",
            "provider 'spans' sends to spans.istio-system.svc.cluster.local:4317, and the mesh has no such Service: "
            "no spans are sent",
        ),
    ],
)
def test_a_provider_that_cannot_be_asked_is_told_of(section: str, name: str, why: str) -> None:
    obj = istio("one", {section: [{"providers": [{"name": name}]}]}, namespace="bookinfo")
    snap = snapshot(mesh=FILES, telemetries=[obj], services=[OTHERS])
    assert [words for _, words in unheard_telemetries(snap)] == (
        [f"spec.{section}[0].providers[0].name: {why}"] if why else []
    )


@pytest.mark.parametrize(
    ("provider", "paths"),
    [
        ({"zipkin": {"service": "a.b", "port": 9411, "maxTagLength": 9, "enable64bitTraceId": True}}, []),
        ({"zipkin": {"service": "a.b", "port": 9411, "timeout": "1s"}}, ["zipkin.timeout"]),
        (
            {"opentelemetry": {"http": {"path": "/", "headers": [{"name": "a", "envName": "B"}]}}},
            ["opentelemetry.http.headers.envName"],
        ),
        (
            {"envoyExtAuthzHttp": {"includeAdditionalHeadersInCheck": {"a": "b"}, "nope": 1}},
            ["envoyExtAuthzHttp.nope"],
        ),
        ({"envoyFileAccessLog": {"path": "/dev/stdout", "logFormat": {"labels": {"a": "b"}}}}, []),
        ({"datadog": {"service": "a.b", "port": 1}}, []),
        ({"zipkins": {"service": "a.b"}}, ["zipkins"]),
        ({}, []),
    ],
)
def test_a_provider_s_settings_that_change_nothing_are_told(provider: Obj, paths: list[str]) -> None:
    mesh = {"extensionProviders": [{"name": "p", **provider}]}
    config = {"metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": yaml.safe_dump(mesh)}}
    assert not_played(config, legacy=False) == [f"extensionProviders[p].{path}" for path in paths]


def test_what_comes_to_nothing_is_said_when_it_is_applied(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "1.30.3", PLAN)
    admission = MeshAdmission(cluster, cluster.settings)
    meta = {"name": "istio", "namespace": "istio-system"}
    config = {"metadata": meta, "data": {"mesh": "extensionProviders: [{name: p, zipkin: {timeout: 1s}}]"}}
    obj = {**istio("one", {"tracing": [{"providers": [{"name": "q"}]}]}), "kind": "Telemetry"}
    found = []
    for resource, one in (
        (CONFIG_MAPS, config),
        (CONFIG_MAPS, {**config, "data": {"mesh": "extensionProviders: 1"}}),
        (TELEMETRIES, obj),
    ):
        request = AdmissionRequest("UPDATE", resource, "istio-system", one["metadata"]["name"], one)
        admission.validate(request)
        found += request.warnings
    cluster.close()
    assert found == [
        "the mesh's setting extensionProviders[p].zipkin.timeout has no effect in the sandbox",
        "the mesh's settings cannot be read, and change nothing: extensionProviders must be a list",
        "spec.tracing[0].providers[0].name: meshConfig.extensionProviders has no 'q' (there are: envoy, prometheus): "
        "no spans are sent",
    ]


def test_each_side_s_spans_go_to_its_own_provider_by_the_rules_of_that_service() -> None:
    mesh = MESH + "- {name: more, zipkin: {service: spans.istio-system.svc.cluster.local, port: 9411, path: /in}}\n"
    there = [service("spans", ("grpc", 4317), ("http", 9411), namespace="istio-system"), OTHERS]
    tracing = [
        {"providers": [{"name": "others"}], "match": {"mode": "CLIENT"}},
        {"providers": [{"name": "more"}], "match": {"mode": "SERVER"}},
    ]
    host = "spans.istio-system.svc.cluster.local"
    rule = istio("spans", {"host": host, "trafficPolicy": {"connectionPool": {"tcp": {"connectTimeout": "7s"}}}})
    # Out of sight for what the application calls, not for the proxy's own spans.
    near = istio("near", {"egress": [{"hosts": ["./*"]}]}, namespace="bookinfo")
    snap = snapshot(
        mesh=mesh,
        telemetries=[istio("one", {"tracing": tracing}, namespace="bookinfo")],
        services=there,
        destination_rules=[rule],
        sidecars=[near],
    )
    one = workload(snap, "reviews-v1")
    found = reports_of(snap, one)
    assert found.client.collector == Collector(
        "zipkin", "others.istio-system.svc.cluster.local:9411", "outbound|9411||others.istio-system.svc.cluster.local"
    )
    assert found.server.collector == Collector("zipkin", f"{host}:9411", f"outbound|9411||{host}", "/in")
    clusters = {name: json.loads(body) for name, body in translate(snap, one).clusters.items()}
    assert clusters[f"outbound|9411||{host}"]["connect_timeout"] == "7s"
    assert "outbound|9411||others.istio-system.svc.cluster.local" in clusters
    assert f"outbound|4317||{host}" not in clusters


@pytest.fixture
async def shop(tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan) -> AsyncIterator[Bookshop]:
    shop = Bookshop(tmp_path_factory.mktemp("providers"), plan, release="1.30.3")
    await shop.open()
    yield shop
    await shop.stop()


async def test_a_provider_s_log_has_its_own_form(shop: Bookshop) -> None:
    labels = {"code": "%RESPONSE_CODE%", "of": {"path": "%REQ(:PATH)%", "who": "%REQ(end-user)%"}}
    log = {"path": "/dev/stderr", "logFormat": {"labels": labels}, "omitEmptyValues": True}
    shop.mesh_config(accessLogFile="/dev/stdout", extensionProviders=[{"name": "json", "envoyFileAccessLog": log}])
    async with shop.rules(("Telemetry", "under-test", {"accessLogging": [{"providers": [{"name": "json"}]}]})):
        await shop.get("/in-json", host="ratings")
        written = shop.pods["client"].log
        assert written is not None
        await shop.until(lambda: "/in-json" in written.read_text(), "the call is logged")
        (line,) = [one for one in written.read_text().splitlines() if "/in-json" in one]
    assert json.loads(line[line.index("{") :]) == {"code": 200, "of": {"path": "/in-json"}}


async def test_the_mesh_s_own_log_has_the_form_that_it_is_told(shop: Bookshop) -> None:
    written = shop.pods["client"].log
    assert written is not None

    async def line(path: str) -> str:
        await shop.follow()
        await shop.get(path, host="ratings")
        await shop.until(lambda: path in written.read_text(), "the call is logged")
        return next(one for one in written.read_text().splitlines() if path in one)

    shop.mesh_config(accessLogFile="/dev/stdout", accessLogEncoding="JSON")
    told = json.loads(await line("/by-default"))
    assert told["response_code_details"] == "via_upstream"
    assert {"connection_termination_details", "upstream_transport_failure_reason", "route_name"} <= told.keys()
    form = json.dumps({"code": "%RESPONSE_CODE%", "of": {"path": "%REQ_WITHOUT_QUERY(:PATH)%"}})
    shop.mesh_config(accessLogFile="/dev/stderr", accessLogEncoding="JSON", accessLogFormat=form)
    assert json.loads(await line("/mine")) == {"code": 200, "of": {"path": "/mine"}}
    shop.mesh_config(accessLogFile="/dev/stdout", accessLogFormat="now %REQ_WITHOUT_QUERY(:PATH)%")
    assert await line("/plain") == "now /plain"


async def test_a_whole_name_with_its_dot_is_the_same_host(shop: Bookshop) -> None:
    rule = {"name": "r", "directResponse": {"status": 207}}
    async with shop.rules(("VirtualService", "under-test", {"hosts": ["ratings"], "http": [rule]})):
        assert (await shop.get(host="ratings.bookinfo.svc.cluster.local.")).status == 207
