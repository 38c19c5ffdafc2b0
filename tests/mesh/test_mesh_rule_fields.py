# SPDX-License-Identifier: Apache-2.0
"""Every field of a VirtualService changes what proxies are told, or a warning names it; without any Envoy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from labkit.ground.typed import virtual_services as api
from meshbox.mesh.translate import translate
from meshbox.mesh.unplayed import unplayed

from .objects import istio, pod, snapshot, workload

Json = dict[str, Any]

PATH = {"uri": {"prefix": "/a"}}
V1 = {"destination": {"host": "reviews", "subset": "v1"}}
GATEWAY = {
    "selector": {"istio": "edge"},
    "servers": [{"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
}


def told(spec: Json, *, legacy: bool = False) -> tuple[list[dict[str, bytes]], list[str]]:
    """All that a sidecar and a gateway are told, and what is warned of."""
    whole = {"hosts": ["reviews"], "gateways": ["mesh", "edge"], **spec}
    snap = snapshot(
        legacy=legacy,
        pods=[
            pod("edge-v1", "127.99.64.50", role="router", istio="edge"),
            pod("far-v1", "127.99.64.51", namespace="far"),
        ],
        gateways=[istio("edge", GATEWAY)],
        kept={"virtualservices.networking.istio.io": [istio("under-test", whole), istio("part", PART)]},
    )
    everyone = [workload(snap, "productpage-v1"), workload(snap, "edge-v1"), workload(snap, "far-v1", "far")]
    made = [translate(snap, one) for one in everyone]
    return [{**one.clusters, **one.listeners, **one.routes} for one in made], warned(spec, legacy=legacy)


def warned(spec: Json, *, legacy: bool = False) -> list[str]:
    return unplayed({"kind": "VirtualService", "metadata": {"name": "under-test"}, "spec": spec}, legacy=legacy)


PART = {"http": [{"match": [{"uri": {"prefix": "/part"}}], "route": [V1]}]}

MATCH: Json = {
    "authority": {"exact": "x"},
    "gateways": ["edge"],
    "headers": {"x": {"exact": "1"}},
    "ignoreUriCase": True,
    "method": {"exact": "PUT"},
    "name": "n",
    "port": 9081,
    "queryParams": {"x": {"exact": "1"}},
    "scheme": {"exact": "https"},
    "sourceLabels": {"app": "other"},
    "sourceNamespace": "other",
    "statPrefix": "s",
    "uri": {"prefix": "/b"},
    "withoutHeaders": {"x": {}},
}
ROUTE: Json = {
    "appendHeaders": {"a": "1"},
    "appendRequestHeaders": {"a": "1"},
    "appendResponseHeaders": {"a": "1"},
    "corsPolicy": {"allowOrigins": [{"exact": "x"}]},
    "delegate": {"name": "part", "namespace": "bookinfo"},
    "directResponse": {"status": 418},
    "fault": {"abort": {"httpStatus": 500, "percentage": {"value": 1}}},
    "headers": {"request": {"remove": ["a"]}},
    "match": [PATH],
    "mirror": {"host": "ratings"},
    "mirrorPercent": 5,
    "mirrorPercentage": {"value": 5},
    "mirror_percent": 5,
    "mirrors": [{"destination": {"host": "ratings"}}],
    "name": "n",
    "redirect": {"uri": "/x"},
    "removeRequestHeaders": ["a"],
    "removeResponseHeaders": ["a"],
    "retries": {"attempts": 9},
    "rewrite": {"uri": "/x"},
    "route": [{"destination": {"host": "ratings"}}],
    "timeout": "3s",
    # Connections are upgraded whether it is set or not, as from Istio 1.1 on.
    "websocketUpgrade": None,
}
INNER: list[tuple[str, type, Json, Json]] = [
    (
        "corsPolicy",
        api.CorsPolicy,
        {"allowOrigins": [{"exact": "a"}]},
        {
            "allowCredentials": True,
            "allowHeaders": ["a"],
            "allowMethods": ["GET"],
            "allowOrigin": ["b"],
            "allowOrigins": [{"prefix": "a"}],
            "exposeHeaders": ["a"],
            "maxAge": "5s",
            "unmatchedPreflights": "IGNORE",
        },
    ),
    (
        "redirect",
        api.HTTPRedirect,
        {"uri": "/x"},
        {
            "authority": "a",
            "derivePort": "FROM_REQUEST_PORT",
            "port": 81,
            "redirectCode": 308,
            "scheme": "https",
            "uri": "/y",
        },
    ),
    (
        "retries",
        api.HTTPRetry,
        {"attempts": 1},
        {
            "attempts": 2,
            "backoff": "1s",
            "perTryTimeout": "1s",
            "retryIgnorePreviousHosts": False,
            "retryOn": "5xx",
            "retryRemoteLocalities": True,
        },
    ),
    (
        "rewrite",
        api.HTTPRewrite,
        {},
        {"authority": "a", "uri": "/x", "uriRegexRewrite": {"match": "a", "rewrite": "b"}},
    ),
    ("directResponse", api.HTTPDirectResponse, {"status": 200}, {"status": 201, "body": {"bytes": "YQ=="}}),
    (
        "fault",
        api.HTTPFaultInjection,
        {},
        {
            "abort": {"grpcStatus": "ABORTED", "percentage": {"value": 1}},
            "delay": {"fixedDelay": "1s", "percentage": {"value": 1}},
        },
    ),
]
DESTINATION: Json = {
    "appendRequestHeaders": {"a": "1"},
    "appendResponseHeaders": {"a": "1"},
    "destination": {"host": "ratings", "port": {"number": 9081}},
    "headers": {"request": {"set": {"host": "a"}}},
    "removeRequestHeaders": ["a"],
    "removeResponseHeaders": ["a"],
    "weight": 30,
}


def http(**rule: Any) -> Json:
    return {"http": [{"route": [V1], **rule}]}


@pytest.mark.parametrize("field", sorted(MATCH))
def test_every_field_of_a_match(field: str) -> None:
    assert MATCH.keys() == api.HTTPMatchRequest.__annotations__.keys()
    assert told(http(match=[{**PATH, field: MATCH[field]}])) != told(http(match=[PATH]))


@pytest.mark.parametrize("field", sorted(ROUTE))
def test_every_field_of_a_route(field: str) -> None:
    assert ROUTE.keys() == api.HTTPRoute.__annotations__.keys()
    value, base = ROUTE[field], {}
    if value is None:
        return
    if field.lower().replace("_", "").startswith("mirrorp"):
        base = {"mirror": {"host": "ratings"}}
    rule = {**base, field: value}
    spec = {"http": [rule]} if field in ("delegate", "redirect", "directResponse") else http(**rule)
    assert told(spec) != told(http(**base))


@pytest.mark.parametrize(
    ("section", "kind", "base", "field"),
    [(section, kind, base, field) for section, kind, base, fields in INNER for field in sorted(fields)],
)
def test_every_field_within_a_route(section: str, kind: type, base: Json, field: str) -> None:
    fields = next(found for name, _, _, found in INNER if name == section)
    assert fields.keys() == kind.__annotations__.keys()
    route = {} if section in ("redirect", "directResponse") else {"route": [V1]}
    one = told({"http": [{**route, section: {**base, field: fields[field]}}]})
    assert one != told({"http": [{**route, section: base}]} if base else http())


@pytest.mark.parametrize("field", sorted(DESTINATION))
def test_every_field_of_a_destination(field: str) -> None:
    assert DESTINATION.keys() == api.HTTPRouteDestination.__annotations__.keys()
    other = {"destination": {"host": "details"}, "weight": 50}
    base = {**V1, "weight": 50}
    assert told(http(route=[{**base, field: DESTINATION[field]}, other])) != told(http(route=[base, other]))


@pytest.mark.parametrize(
    ("section", "kind", "fields"),
    [
        (
            "tcp",
            api.L4MatchAttributes,
            {
                "destinationSubnets": ["10.0.0.0/8"],
                "gateways": ["edge"],
                "port": 9081,
                "sourceLabels": {"app": "other"},
                "sourceNamespace": "other",
                "sourceSubnet": "10.0.0.0/8",
            },
        ),
        (
            "tls",
            api.TLSMatchAttributes,
            {
                "destinationSubnets": ["10.0.0.0/8"],
                "gateways": ["edge"],
                "port": 9081,
                "sniHosts": ["other"],
                "sourceLabels": {"app": "other"},
                "sourceNamespace": "other",
                "sourceSubnet": "10.0.0.0/8",
            },
        ),
    ],
)
def test_every_field_of_a_match_of_connections(section: str, kind: type, fields: Json) -> None:
    assert fields.keys() == kind.__annotations__.keys()
    base = {"sniHosts": ["reviews"]} if section == "tls" else {}
    db = {
        "hosts": ["db.test"],
        "ports": [{"number": 5000, "name": section, "protocol": section.upper()}],
        "addresses": ["10.1.1.1"],
    }

    def seen(match: Json) -> tuple[list[bytes], list[str]]:
        # Today's `tls` has no sourceSubnet: who writes it is told so before.
        legacy = section == "tls" and "sourceSubnet" in match
        spec = {"hosts": ["db.test"], section: [{"match": [match], "route": [V1]}]}
        snap = snapshot(
            service_entries=[istio("db", db)],
            kept={"virtualservices.networking.istio.io": [istio("under-test", spec)]},
        )
        made = translate(snap, workload(snap, "productpage-v1"))
        return [made.listeners[name] for name in sorted(made.listeners)], warned(spec, legacy=legacy)

    for field, value in fields.items():
        assert seen({**base, field: value}) != seen(base), field


def test_the_fields_of_the_whole() -> None:
    assert {"exportTo", "gateways", "hosts", "http", "tcp", "tls"} == api.VirtualServiceSpec.__annotations__.keys()
    base = http()
    for change in ({"exportTo": ["."]}, {"gateways": ["mesh"]}, {"hosts": ["ratings"]}):
        assert told({**base, **change}) != told(base), change
    assert json.loads(told(base)[0][0]["9080"])["name"] == "9080"
