# SPDX-License-Identifier: Apache-2.0
"""References to nothing, Gateways nobody answers to, pods without sidecars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from labkit.istio import release
from labkit.istio.analyze import Finding, analyze

Obj = dict[str, Any]


def read(name: str, namespace: str = "bookinfo", version: str = "1.2.2") -> list[Obj]:
    path: Path = release(version).samples / "bookinfo" / name
    objects = [o for o in yaml.load_all(path.read_text(), yaml.CSafeLoader) if o]
    for item in objects:
        item["metadata"]["namespace"] = namespace
    return objects


def an(kind: str, name: str, namespace: str = "", **rest: Any) -> Obj:
    return {"kind": kind, "metadata": {"name": name, "namespace": namespace, **rest.pop("metadata", {})}, **rest}


def pod(name: str, namespace: str = "bookinfo", *, sidecar: bool = True, **metadata: Any) -> Obj:
    containers = [{"name": "app"}, *([{"name": "istio-proxy"}] if sidecar else [])]
    return an("Pod", name, namespace, metadata=metadata, spec={"containers": containers}, status={"phase": "Running"})


OLD_SUBSETS = {("details", "v2"), ("ratings", "v2"), ("ratings", "v2-mysql"), ("ratings", "v2-mysql-vm")}
"""Subsets of the samples whose pods come with other samples."""


def a_mesh() -> list[Obj]:
    """BookInfo as the walk-through leaves it."""
    rules = read("networking/destination-rule-all.yaml")
    for rule in rules:
        host, subsets = rule["spec"]["host"], rule["spec"]["subsets"]
        rule["spec"]["subsets"] = [one for one in subsets if (host, one["name"]) not in OLD_SUBSETS]
    shop = read("platform/kube/bookinfo.yaml")
    made = [one for one in shop if one["kind"] == "Deployment"]
    ports = [
        {"name": name, "port": port, "protocol": "TCP", "targetPort": 8000 + port}
        for name, port in (("http2", 80), ("https", 443))
    ]
    return [
        an("Namespace", "bookinfo", metadata={"labels": {"istio-injection": "enabled"}}),
        an("Namespace", "istio-system", metadata={"labels": {"istio-injection": "disabled"}}),
        an("Namespace", "default", metadata={"labels": {"istio-injection": "disabled"}}),
        pod("istio-ingressgateway-1", "istio-system", labels={"istio": "ingressgateway"}),
        an(
            "Service",
            "istio-ingressgateway",
            "istio-system",
            spec={"selector": {"istio": "ingressgateway"}, "ports": ports},
        ),
        *(pod(f"{name(one)}-1", labels=one["spec"]["template"]["metadata"]["labels"]) for one in made),
        *shop,
        *read("networking/bookinfo-gateway.yaml"),
        *rules,
        *read("networking/virtual-service-reviews-50-v3.yaml"),
    ]


def name(item: Obj) -> str:
    return str(item["metadata"]["name"])


def without(objects: list[Obj], kind: str, name: str) -> list[Obj]:
    return [o for o in objects if (o["kind"], o["metadata"]["name"]) != (kind, name)]


def only(objects: list[Obj], *namespaces: str) -> Finding:
    (finding,) = analyze(objects, namespaces)
    return finding


def test_nothing_is_wrong_with_the_walk_through() -> None:
    assert analyze(a_mesh()) == []


def test_a_subset_without_its_rule() -> None:
    findings = analyze(without(a_mesh(), "DestinationRule", "reviews"))
    where = "Error [IST0101] (VirtualService bookinfo/reviews)"
    assert [str(f) for f in findings] == [
        f'{where} Referenced host+subset in destinationrule not found: "reviews+{subset}"' for subset in ("v1", "v3")
    ]
    assert "503" in findings[0].next_step


def test_a_rule_of_another_namespace_does_not_count() -> None:
    objects = without(a_mesh(), "DestinationRule", "reviews")
    objects += [o for o in read("networking/destination-rule-all.yaml", "other") if o["spec"]["host"] == "reviews"]
    codes = {(f.code, f.where) for f in analyze(objects)}
    assert ("IST0101", "VirtualService bookinfo/reviews") in codes
    assert ("IST0174", "DestinationRule other/reviews") in codes


def test_a_host_that_is_not_there() -> None:
    findings = analyze(without(a_mesh(), "Service", "productpage"))
    nowhere = "The host productpage defined in the DestinationRule does not match any services in the mesh."
    assert {(f.level, f.code, f.where, f.message) for f in findings} == {
        ("Error", "IST0101", "VirtualService bookinfo/bookinfo", 'Referenced host not found: "productpage"'),
        ("Warning", "IST0174", "DestinationRule bookinfo/productpage", nowhere),
    }
    assert "kubectl get services -n bookinfo" in findings[0].next_step


@pytest.mark.parametrize(
    ("host", "there"),
    [
        ("reviews.bookinfo.svc.cluster.local", True),
        ("reviews.default.svc.cluster.local", False),
        ("reviews.bookinfo", False),
        ("api.example.com", True),
        ("www.example.com", False),
        ("a.wild.example.com", True),
        ("*.a.wild.example.com", True),
        ("*.bookinfo.svc.cluster.local", True),
        ("*.nowhere.svc.cluster.local", False),
        ("*", True),
    ],
)
def test_which_hosts_are_there(host: str, there: bool) -> None:
    entry = an("ServiceEntry", "outside", "bookinfo", spec={"hosts": ["api.example.com", "*.wild.example.com"]})
    rule = an("DestinationRule", "rule", "bookinfo", spec={"host": host})
    assert (analyze([*a_mesh(), entry, rule]) == []) is there


def test_a_gateway_that_is_not_there() -> None:
    # A Gateway that is not there has none of the hosts, and Istio says that as well.
    assert [str(one) for one in analyze(without(a_mesh(), "Gateway", "bookinfo-gateway"))] == [
        'Error [IST0101] (VirtualService bookinfo/bookinfo) Referenced gateway not found: "bookinfo-gateway"',
        "Warning [IST0132] (VirtualService bookinfo/bookinfo) one or more host [*] defined in VirtualService "
        "bookinfo/bookinfo not found in Gateway bookinfo/bookinfo-gateway.",
    ]


def test_a_gateway_of_another_namespace_is_named_with_it() -> None:
    objects = without(a_mesh(), "Gateway", "bookinfo-gateway")
    objects += [o for o in read("networking/bookinfo-gateway.yaml", "edge") if o["kind"] == "Gateway"]
    service = next(o for o in objects if o["kind"] == "VirtualService" and o["metadata"]["name"] == "bookinfo")
    service["spec"]["gateways"] = ["edge/bookinfo-gateway", "mesh"]
    assert analyze(objects) == []


@pytest.mark.parametrize(
    "name", ["./bookinfo-gateway", "bookinfo-gateway.bookinfo", "bookinfo-gateway.bookinfo.svc.cluster.local"]
)
def test_every_form_of_a_gateways_name_is_known(name: str) -> None:
    objects = a_mesh()
    service = next(o for o in objects if o["kind"] == "VirtualService" and o["metadata"]["name"] == "bookinfo")
    service["spec"]["gateways"] = [name]
    assert analyze(objects) == []


def test_a_host_that_is_not_exported_is_not_there_for_others() -> None:
    entry = an("ServiceEntry", "outside", "default", spec={"hosts": ["api.example.com"], "exportTo": ["."]})
    rules = [
        an("DestinationRule", "rule", place, spec={"host": "api.example.com"}) for place in ("default", "bookinfo")
    ]
    finding = only([*a_mesh(), entry, *rules])
    assert (finding.where, finding.message) == (
        "DestinationRule bookinfo/rule",
        "The host api.example.com defined in the DestinationRule does not match any services in the mesh.",
    )


def test_a_gateway_that_selects_nothing() -> None:
    finding = only(without(a_mesh(), "Pod", "istio-ingressgateway-1"))
    assert str(finding) == (
        'Error [IST0101] (Gateway bookinfo/bookinfo-gateway) Referenced selector not found: "istio=ingressgateway"'
    )


def test_rules_that_nobody_reaches() -> None:
    route = {"route": [{"destination": {"host": "reviews"}}]}
    match = {"match": [{"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/ab"}}]}
    service = an(
        "VirtualService", "late", "bookinfo", spec={"hosts": ["x.test"], "http": [match | route, route, route]}
    )
    assert [str(f) for f in analyze([*a_mesh(), service])] == [
        "Warning [IST0130] (VirtualService bookinfo/late) VirtualService rule #2 not used "
        "(only the last rule can have no matches).",
        "Info [IST0131] (VirtualService bookinfo/late) VirtualService rule #0 match #1 of prefix /ab is not used "
        "(duplicate/overlapping match in rule #0 of prefix /a on #0).",
    ]


def test_mirrors_are_destinations() -> None:
    route = {"route": [{"destination": {"host": "reviews"}}], "mirror": {"host": "nobody"}}
    service = an("VirtualService", "mirrored", "bookinfo", spec={"hosts": ["details"], "http": [route]})
    assert only([*a_mesh(), service]).message == 'Referenced mirror host not found: "nobody"'


def test_a_pod_made_before_the_label() -> None:
    finding = only([*a_mesh(), pod("early", sidecar=False)])
    assert (finding.level, finding.code, finding.where) == ("Warning", "IST0103", "Pod bookinfo/early")


def test_a_namespace_without_the_label_is_told_once() -> None:
    pods = [pod("a", "mine", sidecar=False), pod("b", "mine", sidecar=False)]
    finding = only([*a_mesh(), an("Namespace", "mine"), *pods])
    assert (finding.level, finding.code, finding.where) == ("Info", "IST0102", "Namespace mine")
    assert finding.message == (
        "The namespace is not enabled for Istio injection. Run 'kubectl label namespace mine istio-injection=enabled' "
        "to enable it, or 'kubectl label namespace mine istio-injection=disabled' to explicitly mark it as not needing "
        "injection."
    )
    assert "kubectl label namespace mine istio-injection=enabled" in finding.next_step


@pytest.mark.parametrize(
    "exempt",
    [
        pod("told", sidecar=False, annotations={"sidecar.istio.io/inject": "false"}),
        pod("labelled", sidecar=False, labels={"sidecar.istio.io/inject": "false"}),
        {**pod("over", sidecar=False), "status": {"phase": "Succeeded"}},
        pod("system", "kube-system", sidecar=False),
        pod("istio", "istio-system", sidecar=False),
    ],
    ids=lambda p: p["metadata"]["name"],
)
def test_pods_that_need_none(exempt: Obj) -> None:
    # That the annotation has become a label is another matter.
    assert [one.code for one in analyze([*a_mesh(), exempt]) if one.code != "IST0135"] == []


def test_a_fault_met_twice_is_told_once() -> None:
    objects = without(a_mesh(), "DestinationRule", "ratings")
    findings = analyze([*objects, *read("networking/virtual-service-ratings-test-delay.yaml")])
    assert [f.where for f in findings] == ["VirtualService bookinfo/ratings"]


def test_only_the_namespaces_asked_for() -> None:
    objects = [*without(a_mesh(), "Gateway", "bookinfo-gateway"), an("Namespace", "mine")]
    assert [f.code for f in analyze(objects, ["mine"])] == ["IST0102"]


SAID_OF_SAMPLES = {
    # Istio's own istioctl says so as well: versions that other samples deploy, and rules for what a gateway asks.
    ("IST0173", "DestinationRule bookinfo/details"),
    ("IST0173", "DestinationRule bookinfo/ratings"),
    ("IST0140", "VirtualService bookinfo/bookinfo"),
}


@pytest.mark.parametrize("version", ["1.2.2", "1.30.3"])
def test_all_samples_refer_to_what_is_there(version: str) -> None:
    objects = [o for o in a_mesh() if o["kind"] not in ("VirtualService", "DestinationRule", "Gateway")]
    networking = release(version).samples / "bookinfo/networking"
    for file in sorted(networking.glob("*.yaml")):
        rules = read("networking/destination-rule-all.yaml", version=version)
        also = read(f"networking/{file.name}", version=version)
        shown = analyze([*objects, *(rules if file.name != "destination-rule-all.yaml" else ()), *also])
        left = {(one.code, one.where) for one in shown} - SAID_OF_SAMPLES
        assert left == set(), file.name


def test_a_credential_has_to_be_where_the_gateways_pods_are() -> None:
    servers: list[Obj] = [
        {"port": {"number": 443}, "hosts": ["books.test"], "tls": {"credentialName": "books-cert"}},
        {"port": {"number": 443}, "hosts": ["stars.test"], "tls": {"credentialNames": ["stars-rsa", "stars-cert"]}},
        {"port": {"number": 443}, "hosts": ["own.test"], "tls": {"credentialName": "builtin://"}},
        {"port": {"number": 80}, "hosts": ["books.test"], "tls": {"httpsRedirect": True}},
    ]
    selector = {"istio": "ingressgateway"}
    door = an("Gateway", "secure", "bookinfo", spec={"selector": selector, "servers": servers})
    objects = [*without(without(a_mesh(), "Gateway", "bookinfo-gateway"), "VirtualService", "bookinfo"), door]
    all_there = [("istio-system", name) for name in ("books-cert", "stars-rsa", "stars-cert")]
    assert analyze(objects, secrets=all_there) == []
    (finding,) = analyze(objects, secrets=[*all_there[:2], ("bookinfo", "stars-cert")])
    assert (finding.level, finding.code, finding.where) == ("Error", "IST0101", "Gateway bookinfo/secure")
    assert finding.message == 'Referenced credentialName not found: "stars-cert"'
    assert finding.next_step.startswith("`kubectl get secrets -n istio-system`")
    # Who may not list Secrets is told nothing of them.
    assert analyze(objects) == []
