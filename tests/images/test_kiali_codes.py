# SPDX-License-Identifier: Apache-2.0
"""Each code of Kiali 1.31: what provokes it, how grave it is, and where in the object it stands."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.images.kiali.checks.findings import MESSAGES
from tests.images.kiali_world import World, kiali, to, virtual_service
from tests.images.test_kiali_api import get
from tests.images.test_kiali_checks import BOOKINFO, V1, V9, chosen, select, thing, tls
from tests.images.test_kiali_checks_security import policy

SYSTEM, RULE, ROUTE = "istio-system", "spec/rules[0]", "spec/http[0]/route[0]"
STRICT, DISABLE = thing({"mtls": {"mode": "STRICT"}}, "peer"), thing({"mtls": {"mode": "DISABLE"}})
OFF, ON = tls(BOOKINFO, "DISABLE"), tls(BOOKINFO, "ISTIO_MUTUAL")
TWICE = [to("reviews", "v1", weight=50), to("details", "v1", weight=50)]
LISTENS = {"selector": {"app": "details"}, "servers": [{"port": {"number": 80}, "hosts": ["a.example"]}]}


def rooted(one: dict[str, Any]) -> dict[str, Any]:
    return one | {"metadata": one["metadata"] | {"namespace": SYSTEM}}


def policies(spec: Any) -> dict[str, Any]:
    return {"authorizationpolicies": [thing(spec)]}


def rules(*specs: Any, **more: Any) -> dict[str, Any]:
    return {"destinationrules": [thing(spec, name) for spec, name in zip(specs, "abc", strict=False)], **more}


def routes(*targets: Any, **more: Any) -> dict[str, Any]:
    return {"virtualservices": [virtual_service("a", *targets, **more)]}


def sidecars(*specs: Any) -> dict[str, Any]:
    return {"sidecars": [thing(spec, name) for spec, name in zip(specs, "ab", strict=False)]}


def reaches(host: str) -> dict[str, Any]:
    return sidecars({"egress": [{"hosts": [host]}]})


ROWS: list[tuple[str, str, str, str, dict[str, Any]]] = [
    ("KIA0001", "unknown", "virtualservice", f"{ROUTE}/destination/host", routes(to("reviews.istio-system"))),
    ("KIA0002", "error", "sidecar", "spec/workloadSelector", sidecars({}, {})),
    ("KIA0003", "error", "sidecar", "spec/workloadSelector", sidecars(chosen("reviews"), chosen("reviews"))),
    ("KIA0004", "warning", "authorizationpolicy", "spec/selector/matchLabels", policies(select("nobody"))),
    (
        "KIA0101",
        "warning",
        "authorizationpolicy",
        f"{RULE}/from[0]/source/namespaces[0]",
        policies(policy(source={"namespaces": ["nowhere"]})),
    ),
    (
        "KIA0102",
        "warning",
        "authorizationpolicy",
        f"{RULE}/to[0]/operation/methods[0]",
        policies(policy(operation={"methods": ["LOOK"]})),
    ),
    (
        "KIA0104",
        "error",
        "authorizationpolicy",
        f"{RULE}/to[0]/operation/hosts[0]",
        policies(policy(operation={"hosts": ["nobody"]})),
    ),
    (
        "KIA0105",
        "error",
        "authorizationpolicy",
        f"{RULE}/from[0]/source/principals",
        policies(policy(source={"principals": ["*"]})) | {"peerauthentications": [DISABLE]},
    ),
    ("KIA0201", "warning", "destinationrule", "spec/host", rules({"host": "reviews"}, {"host": "reviews"})),
    ("KIA0202", "error", "destinationrule", "spec/host", rules({"host": "nobody"})),
    ("KIA0203", "error", "destinationrule", "spec/subsets[0]", rules({"host": "reviews", "subsets": [V9]})),
    (
        "KIA0204",
        "warning",
        "destinationrule",
        "spec/trafficPolicy",
        rules({"host": "reviews"}, ON, peerauthentications=[STRICT]),
    ),
    ("KIA0205", "error", "destinationrule", "spec/trafficPolicy/tls/mode", rules(tls("*.local", "MUTUAL"))),
    ("KIA0206", "error", "destinationrule", "spec/trafficPolicy/tls/mode", rules(ON)),
    ("KIA0207", "error", "destinationrule", "spec/trafficPolicy/tls/mode", rules(OFF, peerauthentications=[STRICT])),
    (
        "KIA0208",
        "error",
        "destinationrule",
        "spec/trafficPolicy/tls/mode",
        rules(OFF, peerauthentications=[rooted(STRICT)]),
    ),
    (
        "KIA0209",
        "warning",
        "destinationrule",
        "spec/subsets[0]",
        rules({"host": "reviews", "subsets": [{"name": "a"}]}),
    ),
    (
        "KIA0301",
        "warning",
        "gateway",
        "spec/servers[0]/hosts[0]",
        {"gateways": [thing(LISTENS), thing(LISTENS, "b")]},
    ),
    ("KIA0302", "warning", "gateway", "spec/selector", {"gateways": [thing({"selector": {"app": "nobody"}})]}),
    (
        "KIA0401",
        "error",
        "peerauthentication",
        "spec/mtls",
        {"peerauthentications": [thing({"mtls": {"mode": "STRICT"}}, "a", SYSTEM)]},
    ),
    (
        "KIA0501",
        "error",
        "peerauthentication",
        "spec/mtls",
        {"peerauthentications": [thing({"mtls": {"mode": "STRICT"}})]},
    ),
    ("KIA0505", "error", "peerauthentication", "spec/mtls", rules(ON, peerauthentications=[DISABLE])),
    (
        "KIA0506",
        "error",
        "peerauthentication",
        "spec/mtls",
        rules(tls("*.local", "MUTUAL"), peerauthentications=[rooted(DISABLE)]),
    ),
    ("KIA1003", "error", "sidecar", "spec/egress[0]/hosts[0]", reaches("reviews")),
    ("KIA1004", "warning", "sidecar", "spec/egress[0]/hosts[0]", reaches("./nobody")),
    (
        "KIA1006",
        "warning",
        "sidecar",
        "spec/workloadSelector",
        {"sidecars": [thing(chosen("reviews"), "a", SYSTEM)]},
    ),
    ("KIA1101", "error", "virtualservice", f"{ROUTE}/destination/host", routes(to("nobody"))),
    ("KIA1102", "error", "virtualservice", "spec/gateways[0]", routes(to("reviews"), gateways=("none",))),
    ("KIA1103", "error", "virtualservice", "", {"virtualservices": [thing({"hosts": ["reviews"]})]}),
    ("KIA1104", "warning", "virtualservice", f"{ROUTE}/weight", routes(to("reviews", weight=50))),
    (
        "KIA1105",
        "warning",
        "virtualservice",
        f"{ROUTE}/subset",
        routes(*TWICE) | rules({"host": "reviews", "subsets": [V1]}, {"host": "details", "subsets": [V1]}),
    ),
    (
        "KIA1106",
        "warning",
        "virtualservice",
        "spec/hosts",
        {"virtualservices": [virtual_service(name, to("reviews")) for name in "ab"]},
    ),
    ("KIA1107", "warning", "virtualservice", f"{ROUTE}/destination", routes(to("reviews", "v1"))),
    (
        "KIA1108",
        "unknown",
        "virtualservice",
        "spec/gateways[0]",
        routes(to("reviews"), gateways=("web.bookinfo",)) | {"gateways": [thing(LISTENS, "web")]},
    ),
]


@pytest.mark.parametrize(("code", "severity", "kind", "path", "objects"), ROWS, ids=[row[0] for row in ROWS])
def test_each_code_alone(code, severity, kind, path, objects):
    """It is said once of what provokes it, and nothing else with it but of a twin."""
    world = World(istio=objects, mesh_config="enableAutoMtls: false" if code in ("KIA0401", "KIA0501") else "")
    with kiali(world) as address:
        place = objects[_plural(kind)][0]["metadata"]["namespace"]
        found = get(f"{address}/kiali/api/namespaces/{place}/istio?validate=true")[1]["validations"][kind]["a"]
    said = [(one["code"], one["severity"], one["path"]) for one in found["checks"]]
    twin = [(code, severity, path.replace("[0]/subset", "[1]/subset"))] if code == "KIA1105" else []
    assert said == [(code, severity, path), *twin]
    assert found["valid"] is (severity != "error")


def _plural(kind: str) -> str:
    return f"{kind[:-1]}ies" if kind.endswith("cy") else f"{kind}s"


def test_there_are_no_other_codes():
    """Two are of Services, which have a test of their own."""
    assert set(MESSAGES) == {row[0] for row in ROWS} | {"KIA0601", "KIA0701"}
