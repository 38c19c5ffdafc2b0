# SPDX-License-Identifier: Apache-2.0
"""Telemetry objects: which of them count, what they change of logs, metrics and spans, and that real Envoys do it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from meshbox.addresses import AddressPlan
from meshbox.mesh import security_notices
from meshbox.mesh.attributes import parse_problem, value_format
from meshbox.mesh.kinds import TELEMETRIES
from meshbox.mesh.metric_overrides import Override
from meshbox.mesh.model import _own_tracing
from meshbox.mesh.reporting import Reports, reports_of
from meshbox.mesh.tracing import SpanTag

from .bookshop import Bookshop
from .objects import istio, snapshot, workload
from .providers import ENVOY, MESH, OTHERS, SPANS
from .test_mesh_proxy import labels_of, stats

Obj = dict[str, Any]


def told(*objects: Obj, mesh: str = MESH) -> Reports:
    """What the sidecar of reviews-v1 reports."""
    snap = snapshot(mesh=mesh, telemetries=list(objects), services=[SPANS, OTHERS])
    return reports_of(snap, workload(snap, "reviews-v1"))


def object_of(name: str, namespace: str = "bookinfo", age: int = 0, **spec: Any) -> Obj:
    made = istio(name, spec, namespace=namespace)
    made["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:0{9 - age}Z"
    return made


def logging(*sections: Obj, name: str = "one", **more: Any) -> Obj:
    return object_of(name, accessLogging=list(sections), **more)


def metrics(*overrides: Obj, name: str = "one", **more: Any) -> Obj:
    return object_of(name, metrics=[{"providers": [{"name": "prometheus"}], "overrides": list(overrides)}], **more)


def test_a_filter_is_for_the_provider_that_is_named_beside_it() -> None:
    found = told(logging({**ENVOY, "filter": {"expression": "response.code >= 500"}}))
    assert (found.client.access_log, found.client.access_log_filter) == (True, "response.code >= 500")
    assert found.server == found.client


def test_a_log_is_switched_off_by_the_providers_name_and_on_one_side_alone() -> None:
    off = {**ENVOY, "disabled": True}
    assert told(logging(off)).client.access_log is False
    found = told(logging({**off, "match": {"mode": "CLIENT"}}))
    assert (found.client.access_log, found.server.access_log) == (False, True)
    # Nobody is meant, so the mesh's own setting holds; as in Istio.
    assert told(logging({"disabled": True})).client.access_log is True
    default = MESH + "defaultProviders: {accessLogging: [envoy]}\n"
    assert told(logging({"disabled": True}), mesh=default).client.access_log is False
    assert told(mesh=default.replace("accessLogFile", "accessLogNone")).client.access_log is True


def test_the_narrower_object_has_the_last_word_and_of_a_namespace_the_oldest_counts() -> None:
    wide = logging({**ENVOY, "disabled": True}, namespace="istio-system", name="wide")
    own = logging(ENVOY, name="own", selector={"matchLabels": {"app": "reviews"}})
    assert told(wide, own).client.access_log is True
    old, young = logging({**ENVOY, "disabled": True}, name="b", age=5), logging(ENVOY, name="a", age=1)
    assert told(young, old).client.access_log is False


def test_overrides_add_up_tag_by_tag_and_are_of_a_side() -> None:
    wide = metrics(
        {"match": {"metric": "REQUEST_COUNT"}, "tagOverrides": {"a": {"value": "request.host"}}},
        {"match": {"metric": "REQUEST_SIZE", "mode": "SERVER"}, "disabled": True},
        namespace="istio-system",
    )
    own = metrics(
        {"match": {"metric": "REQUEST_COUNT", "mode": "CLIENT"}, "tagOverrides": {"b": {"operation": "REMOVE"}}}
    )
    found = told(wide, own)
    assert found.client.overrides == (("REQUEST_COUNT", Override(tags=(("a", "request.host"), ("b", "")))),)
    assert dict(found.server.overrides) == {
        "REQUEST_COUNT": Override(tags=(("a", "request.host"),)),
        "REQUEST_SIZE": Override(dropped=True),
    }


@pytest.mark.parametrize(
    ("overrides", "on"),
    [
        ([{"match": {"metric": "ALL_METRICS"}, "disabled": True}], False),
        # What comes later brings them back.
        ([{"match": {"metric": "ALL_METRICS"}, "disabled": True}, {"match": {"metric": "REQUEST_COUNT"}}], True),
        ([{"match": {"metric": "REQUEST_COUNT"}, "disabled": True}], True),
    ],
)
def test_all_metrics_at_once(overrides: list[Obj], on: bool) -> None:
    assert told(metrics(*overrides)).client.metrics is on


def test_only_prometheus_takes_metrics() -> None:
    found = told(object_of("one", metrics=[{"providers": [{"name": "stackdriver"}]}]))
    assert found.client.metrics is False


def test_spans_of_a_side_and_their_tags() -> None:
    tags = {"a": {"literal": {"value": "x"}}, "b": {"header": {"name": "cookie", "defaultValue": "none"}}, "c": {}}
    wide = {"providers": [{"name": "spans"}], "randomSamplingPercentage": 20, "customTags": {"z": tags["a"]}}
    here = {"match": {"mode": "SERVER"}, "randomSamplingPercentage": 0, "customTags": tags}
    found = told(
        object_of("wide", "istio-system", tracing=[wide]),
        object_of("here", tracing=[here]),
    )
    assert (found.client.sampling, found.client.tags) == (20.0, (SpanTag("z", "literal", "x"),))
    # Not tag by tag: the narrower list takes the place of the wider one.
    assert (found.server.sampling, found.server.tags) == (
        0.0,
        (SpanTag("a", "literal", "x"), SpanTag("b", "header", "cookie", "none")),
    )
    assert found.client.collector is not None
    assert found.client.collector == found.server.collector
    silent = object_of("here", tracing=[{"disableSpanReporting": True}])
    assert told(object_of("wide", "istio-system", tracing=[wide]), silent).client.collector is None


OF_PROXY = {"tracing": {"customTags": {"host": {"header": {"name": ":authority"}}, "odd": "x"}}}


@pytest.mark.parametrize("written", ["customTags", "custom_tags"])
def test_tags_of_the_mesh_hold_where_a_proxys_settings_and_telemetry_give_none(written: str) -> None:
    tags = {"a": {"environment": {"name": "A", "defaultValue": "none"}}, "b": "no tag"}
    mesh = f"{MESH}\ndefaultConfig: {json.dumps({'tracing': {written: tags}})}"
    of_mesh = (SpanTag("a", "environment", "A", "none"),)
    assert told(mesh=mesh).server.tags == of_mesh
    empty = object_of("one", tracing=[{"providers": [{"name": "spans"}], "customTags": {}}])
    assert told(empty, mesh=mesh).client.tags == of_mesh
    own = object_of("one", tracing=[{"customTags": {"z": {"literal": {"value": "x"}}}}])
    assert told(own, mesh=mesh).client.tags == (SpanTag("z", "literal", "x"),)
    found = snapshot(mesh=mesh)
    proxy: Any = {"name": "istio-proxy", "env": [{"name": "PROXY_CONFIG", "value": json.dumps(OF_PROXY)}]}
    here = replace(workload(found, "reviews-v1"), tracing=_own_tracing(proxy))
    assert reports_of(found, here).client.tags == (SpanTag("host", "header", ":authority"),)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("response.code >= 500 && request.method == 'GET'", ""),
        ("has(request.headers.cookie)", ""),
        ("has(request.headers['cookie'])", "invalid argument to has() macro"),
        ("response.code >=", "response.code >="),
        ("'", "'"),
    ],
)
def test_what_is_no_expression_is_refused(expression: str, why: str) -> None:
    found = parse_problem(expression)
    assert found.startswith(why)
    assert bool(found) == bool(why)


@pytest.mark.parametrize(
    "expression", ["startsWith('a')", "request.path.startsWith()", "nope(1)", "[1].exists(x, x == 1)"]
)
def test_what_no_envoy_can_read_gives_no_tag_and_is_told(expression: str) -> None:
    assert value_format(expression) == ""
    made = metrics({"tagOverrides": {"mine": {"value": expression}}})
    (said,) = security_notices.unplayed(TELEMETRIES, made)
    assert said.startswith("no metric gets the tag mine, as its expression cannot be read: ")


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("filter_state.upstream_peer.app", ""),
        ("filter_state.downstream_peer.namespace", ""),
        ("filter_state.upstream_peer.name", 'the tag mine says "unknown": '),
        ("upstream_peer.labels['app'].value", 'the tag mine says "unknown": '),
        ("has(filter_state.upstream_peer.app) ? 'a' : 'b'", 'the tag mine says "unknown": '),
    ],
)
def test_what_is_asked_of_the_other_side_is_played_or_said(expression: str, said: str) -> None:
    found = list(security_notices.unplayed(TELEMETRIES, metrics({"tagOverrides": {"mine": {"value": expression}}})))
    assert len(found) == bool(said)
    assert all(one.startswith(said) for one in found)


def test_a_text_of_the_whole_is_that_of_its_value() -> None:
    assert value_format("string(destination.port)") == value_format("destination.port") != ""


@pytest.fixture
async def shop(tmp_path_factory: pytest.TempPathFactory, plan: AddressPlan) -> AsyncIterator[Bookshop]:
    shop = Bookshop(tmp_path_factory.mktemp("reporting"), plan, release="1.30.3")
    await shop.open()
    yield shop
    await shop.stop()


async def test_envoys_log_and_count_as_they_are_told(shop: Bookshop) -> None:
    expression = "response.code >= 400 || request.headers['user-agent'] == 'a-tester'"
    spec = {
        "accessLogging": [{**ENVOY, "filter": {"expression": expression}}],
        "metrics": [
            {
                "overrides": [
                    {
                        "match": {"metric": "REQUEST_COUNT"},
                        "tagOverrides": {
                            "who": {"value": "request.headers['end-user']"},
                            "place": {"value": "request.url_path.startsWith('/a') ? '(a)' : \"b\""},
                            "number": {"value": "string(response.code % 100)"},
                            "caller": {"value": "filter_state.downstream_peer.app"},
                            "callee": {"value": "filter_state.upstream_peer.workload"},
                            "broken": {"value": "nope("},
                            "source_principal": {"operation": "REMOVE"},
                        },
                    },
                    {"match": {"metric": "REQUEST_SIZE", "mode": "SERVER"}, "disabled": True},
                ]
            }
        ],
    }
    async with shop.rules(("Telemetry", "under-test", spec)):
        await shop.get("/silent", host="ratings")
        for path, headers in (("/a?b=1", {"end-user": "jason"}), ("/c", {})):
            await shop.get(path, host="ratings", headers={"user-agent": "a-tester", **headers})
        log = shop.pods["client"].log
        assert log is not None
        await shop.until(lambda: '"GET /c HTTP/1.1"' in log.read_text(), "what is meant is logged")
        assert "/a?b=1" in log.read_text()
        assert "/silent" not in log.read_text()

        for pod in ("client", "ratings-v1"):

            async def counted(pod: str = pod) -> str:
                text = await stats(shop, pod)
                requests = labels_of(text, "requests_total", destination_service_name="ratings")
                durations = labels_of(text, "request_duration_milliseconds_count", destination_service_name="ratings")
                every = [sum(int(one[""]) for one in found) for found in (requests, durations)]
                return text if every == [3, 3] else ""

            text = await shop.until(counted, f"{pod} has counted the three calls")
            (of_jason,) = labels_of(text, "requests_total", who="jason")
            assert (of_jason["place"], of_jason["number"]) == ("(a)", "0")
            # Each side knows the other one only.
            others = {"client": ("unknown", "ratings-v1"), "ratings-v1": ("client", "unknown")}
            assert (of_jason["caller"], of_jason["callee"]) == others[pod]
            assert not {"source_principal", "broken"} & of_jason.keys()
            (others,) = labels_of(text, "requests_total", who="unknown", place="b", destination_service_name="ratings")
            assert others[""] == "2"
            (other, *_) = labels_of(text, "request_duration_milliseconds_count", destination_service_name="ratings")
            assert "source_principal" in other
            assert "who" not in other
        assert labels_of(await stats(shop, "client"), "request_bytes_count", destination_service_name="ratings")
        assert not labels_of(await stats(shop, "ratings-v1"), "request_bytes_count")
