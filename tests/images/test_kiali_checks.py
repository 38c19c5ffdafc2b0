# SPDX-License-Identifier: Apache-2.0
"""What Kiali finds wrong with objects: codes and paths as the genuine checkers give them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.images.kiali_world import World, meta, to, virtual_service
from tests.images.test_kiali_api import get

BOOKINFO = "*.bookinfo.svc.cluster.local"
V9 = {"name": "v9", "labels": {"version": "v9"}}
V1 = {"name": "v1", "labels": {"version": "v1"}}


def thing(spec: Any, name: str = "a", namespace: str = "bookinfo") -> dict[str, Any]:
    return {"metadata": meta(name, namespace), "spec": spec}


def select(app: str) -> dict[str, Any]:
    return {"selector": {"matchLabels": {"app": app}}}


def tls(host: str, mode: str) -> dict[str, Any]:
    return {"host": host, "trafficPolicy": {"tls": {"mode": mode}}}


def said(api: str, kind: str, name: str = "a", namespace: str = "bookinfo") -> list[tuple[str, str]]:
    """Code and path of what is said of an object."""
    found = get(f"{api}/namespaces/{namespace}/istio?validate=true")[1]["validations"][kind][name]
    assert [one["message"].split()[0] for one in found["checks"]] == [one["code"] for one in found["checks"]]
    assert found["valid"] is all(one["severity"] != "error" for one in found["checks"])
    return [(one["code"], one["path"]) for one in found["checks"]]


ROUTES = "spec/http[0]/route"


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        ([to("nobody")], [("KIA1101", f"{ROUTES}[0]/destination/host")]),
        ([to("reviews", "v9")], [("KIA1107", f"{ROUTES}[0]/destination")]),
        (
            [to("nobody", "v9")],
            [("KIA1101", f"{ROUTES}[0]/destination/host"), ("KIA1107", f"{ROUTES}[0]/destination")],
        ),
        ([to("reviews", weight=50)], [("KIA1104", f"{ROUTES}[0]/weight")]),
        ([to("reviews", weight=100)], []),
        ([to("reviews", weight=0)], []),
        ([to("reviews", weight=50), to("details", weight=40)], []),
        (
            [to("reviews", "v1", weight=50), to("details", "v9", weight=40), to("details", "v1", weight=10)],
            [
                ("KIA1105", f"{ROUTES}[0]/subset"),
                ("KIA1105", f"{ROUTES}[2]/subset"),
                *[("KIA1107", f"{ROUTES}[{index}]/destination") for index in range(3)],
            ],
        ),
        ([to("reviews", weight=50), to("reviews.bookinfo", weight=50)], []),
        ([to("reviews.istio-system")], [("KIA0001", f"{ROUTES}[0]/destination/host")]),
        ([to("reviews.istio-system.svc.cluster.local")], [("KIA0001", f"{ROUTES}[0]/destination/host")]),
        ([to("reviews.bookinfo")], []),
        ([to("reviews.bookinfo.svc.cluster.local")], []),
        ([to("reviews.elsewhere")], [("KIA1101", f"{ROUTES}[0]/destination/host")]),
    ],
)
def test_routes(api, world, routes, expected):
    world.istio = {"virtualservices": [virtual_service("a", *routes)]}
    assert said(api, "virtualservice") == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web", []),
        ("bookinfo/web", []),
        ("mesh", []),
        ("none", [("KIA1102", "spec/gateways[0]")]),
        ("elsewhere/web", [("KIA1102", "spec/gateways[0]")]),
        ("web.bookinfo", [("KIA1108", "spec/gateways[0]")]),
        ("web.bookinfo.svc.cluster.local", [("KIA1108", "spec/gateways[0]")]),
    ],
)
def test_gateways_of_virtual_services(api, world, name, expected):
    served = virtual_service("a", to("reviews"), gateways=(name,))
    world.istio = {"gateways": [thing({"servers": []}, "web")], "virtualservices": [served]}
    assert said(api, "virtualservice") == expected


def test_gateways_within_a_match(api, world):
    spec = {"hosts": ["reviews"], "http": [{"match": [{"gateways": ["none"]}], "route": [to("reviews")]}]}
    world.istio = {"virtualservices": [thing(spec)]}
    assert said(api, "virtualservice") == [("KIA1102", "spec/http[0]/match/gateways[0]")]


@pytest.mark.parametrize(
    ("one", "other", "collide"),
    [
        (("reviews", ()), ("reviews.bookinfo.svc.cluster.local", ()), True),
        (("reviews", ()), ("details", ()), False),
        (("reviews", ("web",)), ("reviews", ()), False),
        (("reviews", ("web",)), ("reviews", ("web", "mesh")), True),
        (("*", ("web",)), ("shop.example.com", ("web",)), True),
        ((BOOKINFO, ()), ("reviews", ()), True),
    ],
)
def test_two_for_one_host(api, world, one, other, collide):
    world.istio = {
        "gateways": [thing({"servers": []}, "web")],
        "virtualservices": [
            virtual_service(name, to("reviews"), host=host, gateways=gateways)
            for name, (host, gateways) in (("a", one), ("b", other))
        ],
    }
    assert said(api, "virtualservice") == ([("KIA1106", "spec/hosts")] if collide else [])
    found = get(f"{api}/namespaces/bookinfo/istio?validate=true")[1]["validations"]["virtualservice"]["b"]
    reference = {"objectType": "virtualservice", "namespace": "bookinfo", "name": "a"}
    assert found["references"] == ([reference] if collide else None)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"host": "nobody"}, [("KIA0202", "spec/host")]),
        ({"host": "reviews.elsewhere"}, [("KIA0202", "spec/host")]),
        ({"host": "reviews", "subsets": [V1]}, []),
        ({"host": "reviews", "subsets": [V9, V1]}, [("KIA0203", "spec/subsets[0]")]),
        ({"host": "reviews", "subsets": [V1, {"name": "all"}]}, [("KIA0209", "spec/subsets[1]")]),
        ({"host": "reviews.istio-system", "subsets": [V1]}, [("KIA0001", "spec/host")]),
        ({"host": "reviews", "exportTo": [".", "nowhere"]}, []),
        (tls(BOOKINFO, "ISTIO_MUTUAL"), [("KIA0206", "spec/trafficPolicy/tls/mode")]),
        (tls("*.local", "ISTIO_MUTUAL"), [("KIA0205", "spec/trafficPolicy/tls/mode")]),
        (tls(BOOKINFO, "DISABLE"), []),
    ],
)
def test_destination_rules(api, world, spec, expected):
    world.istio = {"destinationrules": [thing(spec)]}
    assert said(api, "destinationrule") == expected


@pytest.mark.parametrize(
    ("place", "mode", "host", "sent", "code"),
    [
        ("bookinfo", "STRICT", BOOKINFO, "DISABLE", "KIA0207"),
        ("istio-system", "STRICT", BOOKINFO, "DISABLE", "KIA0208"),
        ("istio-system", "STRICT", "*.local", "DISABLE", "KIA0208"),
        ("bookinfo", "PERMISSIVE", BOOKINFO, "DISABLE", ""),
        ("bookinfo", "STRICT", BOOKINFO, "ISTIO_MUTUAL", ""),
        ("istio-system", "STRICT", "*.local", "ISTIO_MUTUAL", ""),
        ("bookinfo", "STRICT", "*.local", "ISTIO_MUTUAL", "KIA0205"),
    ],
)
def test_what_is_sent_against_what_is_asked_for(api, world, place, mode, host, sent, code):
    peer = thing({"mtls": {"mode": mode}}, "peer", place)
    world.istio = {"destinationrules": [thing(tls(host, sent))], "peerauthentications": [peer]}
    assert said(api, "destinationrule") == ([(code, "spec/trafficPolicy/tls/mode")] if code else [])


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"host": "reviews"}, {"host": "reviews"}, ["KIA0201"]),
        ({"host": "reviews", "subsets": [V1]}, {"host": "reviews"}, ["KIA0201"]),
        ({"host": "reviews", "subsets": [V1]}, {"host": "reviews", "subsets": [V1]}, ["KIA0201"]),
        ({"host": "reviews", "subsets": [V1]}, {"host": "reviews", "subsets": [{**V1, "name": "other"}]}, []),
        ({"host": "reviews"}, {"host": "details"}, []),
        ({"host": "reviews"}, {"host": BOOKINFO}, ["KIA0201"]),
        ({"host": "reviews"}, tls(BOOKINFO, "ISTIO_MUTUAL"), ["KIA0204"]),
        (tls("reviews", "SIMPLE"), tls(BOOKINFO, "ISTIO_MUTUAL"), []),
    ],
)
def test_two_rules_for_one_host(api, world, one, other, expected):
    peer = thing({"mtls": {"mode": "STRICT"}}, "peer")
    world.istio = {"destinationrules": [thing(one), thing(other, "b")], "peerauthentications": [peer]}
    paths = {"KIA0201": "spec/host", "KIA0204": "spec/trafficPolicy"}
    assert said(api, "destinationrule") == [(code, paths[code]) for code in expected]


@pytest.mark.parametrize(
    ("hosts", "other", "expected"),
    [
        (["shop.example.com"], ["shop.example.com"], ["spec/servers[0]/hosts[0]"]),
        (
            ["a.example.com", "shop.example.com"],
            ["*.example.com"],
            ["spec/servers[0]/hosts[0]", "spec/servers[0]/hosts[1]"],
        ),
        (["shop.example.com"], ["*"], ["spec/servers[0]/hosts[0]"]),
        (["shop.example.com"], ["other.example.com"], []),
        (["./shop.example.com"], ["elsewhere/shop.example.com"], []),
        (["./shop.example.com"], ["*/SHOP.example.com"], ["spec/servers[0]/hosts[0]"]),
    ],
)
def test_gateways_for_one_host(api, world, hosts, other, expected):
    def listening(names: list[str]) -> dict[str, Any]:
        return {"selector": {"app": "details"}, "servers": [{"port": {"number": 80}, "hosts": names}]}

    world.istio = {"gateways": [thing(listening(hosts)), thing(listening(other), "b")]}
    assert said(api, "gateway") == [("KIA0301", path) for path in expected]


def test_a_gateway_that_nobody_plays(api, world):
    world.istio = {"gateways": [thing({"selector": {"istio": "nobody"}, "servers": []})]}
    assert said(api, "gateway") == [("KIA0302", "spec/selector")]


def chosen(app: str) -> dict[str, Any]:
    return {"workloadSelector": {"labels": {"app": app}}}


@pytest.mark.parametrize(
    ("place", "specs", "expected"),
    [
        ("bookinfo", [{}, {}], [("KIA0002", "spec/workloadSelector")]),
        ("bookinfo", [chosen("reviews"), chosen("reviews")], [("KIA0003", "spec/workloadSelector")]),
        ("bookinfo", [chosen("nobody")], [("KIA0004", "spec/workloadSelector/labels")]),
        ("istio-system", [chosen("reviews")], [("KIA1006", "spec/workloadSelector")]),
        (
            "bookinfo",
            [
                {
                    "egress": [
                        {"hosts": ["./*", "*/*", "~/*"]},
                        {"hosts": ["./reviews", "./nobody.bookinfo", f"./{BOOKINFO}", "./reviews.bookinfo"]},
                        {"hosts": ["istio-system/nobody", "other/*", "*/reviews", "./a.other.svc.cluster.local"]},
                        {"hosts": ["reviews", "a/b/c"]},
                    ]
                }
            ],
            [
                *[("KIA1004", f"spec/egress[1]/hosts[{index}]") for index in (1, 3)],
                *[("KIA0001", f"spec/egress[2]/hosts[{index}]") for index in (1, 2, 3)],
                *[("KIA1003", f"spec/egress[3]/hosts[{index}]") for index in (0, 1)],
            ],
        ),
    ],
)
def test_sidecars(api, world, place, specs, expected):
    world.istio = {"sidecars": [thing(spec, name, place) for name, spec in zip("ab", specs, strict=False)]}
    assert said(api, "sidecar", "a", place) == expected


def test_what_lies_in_other_namespaces_does_not_count(api, world):
    """A rule and a VirtualService for the same hosts are no rivals, an entry is not seen, subsets are none."""
    world.istio = {
        "virtualservices": [
            virtual_service("a", to("reviews.bookinfo", "v1"), to("example.org")),
            thing({"hosts": ["reviews.bookinfo.svc.cluster.local"], "http": []}, "b", "istio-system"),
        ],
        "destinationrules": [thing({"host": "reviews.bookinfo", "subsets": [V1]}, "a", "istio-system")],
        "serviceentries": [thing({"hosts": ["example.org"]}, "a", "istio-system")],
    }
    assert said(api, "virtualservice") == [
        ("KIA1107", f"{ROUTES}[0]/destination"),
        ("KIA1101", f"{ROUTES}[1]/destination/host"),
    ]
    assert said(api, "destinationrule", "a", "istio-system") == [("KIA0001", "spec/host")]
    assert said(api, "virtualservice", "b", "istio-system") == [("KIA1103", "")]


@pytest.mark.parametrize("subsets", [[], [{"name": "all"}], [V1]])
def test_subsets_of_what_is_no_service(api, world, subsets):
    """Labels are looked for behind Services alone."""
    world.istio = {
        "destinationrules": [thing({"host": "example.org", "subsets": subsets})],
        "serviceentries": [thing({"hosts": ["*.org"]}, "entry")],
    }
    codes = ["KIA0203" if one.get("labels") else "KIA0209" for one in subsets]
    assert said(api, "destinationrule") == [(code, "spec/subsets[0]") for code in codes]


def test_what_is_counted(api, world):
    weighed = virtual_service("a", to("nobody", weight=50))
    world.istio = {"virtualservices": [weighed], "destinationrules": [thing({"host": "reviews", "subsets": [V1]})]}
    counted = get(f"{api}/namespaces/bookinfo/validations")[1]
    assert counted == {"errors": 1, "warnings": 1, "objectCount": 2}


def of_services(api: str, world: World, ports: list[dict[str, Any]], labels: dict[str, str]) -> dict[str, Any]:
    """What is said of each Service, where details has `ports` and its Deployment has `labels` of its own."""
    made = world.objects()
    made["/api/v1/services"][0]["spec"]["ports"] = ports
    deployment = made["/apis/apps/v1/deployments"][1]
    deployment["metadata"]["labels"] = labels
    listening = [{"name": "details", "ports": [{"name": "web", "containerPort": 9080}]}]
    deployment["spec"]["template"]["spec"] = {"containers": listening}
    world.objects = lambda: made
    found: dict[str, Any] = get(f"{api}/namespaces/bookinfo/services")[1]["validations"]["service"]
    return found


def test_ports_of_services_have_to_name_a_protocol(api, world):
    ports = [
        {"name": "web", "port": 80, "appProtocol": "http"},
        {"name": "grpc-web", "port": 81},
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"port": 82},
    ]
    found = of_services(api, world, ports, {})
    assert [(check["code"], check["path"]) for check in found["details"]["checks"]] == [
        ("KIA0601", "spec/ports[0]"),
        ("KIA0601", "spec/ports[3]"),
    ]
    assert found["details"]["valid"] is False
    assert found["reviews"]["checks"] == []


def test_ports_of_services_without_sidecars_may_be_called_anything(api, world):
    made = world.objects()
    made["/api/v1/services"][0]["spec"]["ports"] = [{"name": "web", "port": 80}]
    for pod in made["/api/v1/pods"]:
        pod["spec"]["containers"].pop()
    world.objects = lambda: made
    assert get(f"{api}/namespaces/bookinfo/services")[1]["validations"]["service"]["details"]["checks"] == []


@pytest.mark.parametrize("labels", [{"app": "details"}, {"app": "other"}, {}])
def test_a_deployment_is_to_listen_where_a_service_leads(api, world, labels):
    ports = [
        {"name": "http", "port": 80, "targetPort": 9080},
        {"name": "http-a", "port": 9080},
        {"name": "http-b", "port": 81, "targetPort": "web"},
        {"name": "http-c", "port": 82, "targetPort": "api"},
        {"name": "http-d", "port": 83},
        {"name": "http-e", "port": 9080, "targetPort": 84},
    ]
    found = of_services(api, world, ports, labels)["details"]
    said = [(check["code"], check["severity"], check["path"]) for check in found["checks"]]
    missed = (3, 4, 5) if labels == {"app": "details"} else ()
    assert said == [("KIA0701", "warning", f"spec/ports[{index}]") for index in missed]
    assert found["valid"] is True
