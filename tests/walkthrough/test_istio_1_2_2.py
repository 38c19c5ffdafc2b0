# SPDX-License-Identifier: Apache-2.0
"""The walk-through's own commands, verbatim and in order: BookInfo behind the ingress of an empty cluster, and back."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator

import pytest
import yaml

from labkit.istio import facts
from tests.conftest import SandboxUnderTest

from .play import Played, Step, all_up, nothing, play, ready_column, release_folder, session
from .terminal import Result

TITLE = "<title>Simple Bookstore App</title>"


def says(text: str) -> Callable[[Result], bool]:
    return lambda result: text in result.stdout


def completed(result: Result) -> int:
    return [row[2] for row in result.rows].count("Completed")


# Fetching the archive (`curl -L https://git.io/getLatestIstio | ISTIO_VERSION=1.2.2 sh -`) is replaced by a folder with
# its files. `docker image ls` and `docker rmi` have nothing to act on: the sandbox's images are what its node reports.
STEPS = [
    Step("enter", "cd istio-1.2.2"),
    Step("path", "export PATH=$PWD/bin:$PATH"),
    Step("crds", "for i in install/kubernetes/helm/istio-init/files/crd*yaml; do kubectl apply -f $i; done"),
    Step("get crd", "kubectl get crd | grep istio"),
    Step("demo", "kubectl apply -f install/kubernetes/istio-demo.yaml"),
    Step("get svc", "kubectl get svc -n istio-system"),
    Step("get pods", "kubectl get pods -n istio-system", lambda result: all_up(result) and completed(result) == 3),
    Step("namespace", "kubectl create namespace bookinfo"),
    Step("label", "kubectl label namespace bookinfo istio-injection=enabled"),
    Step("bookinfo", "kubectl apply -f samples/bookinfo/platform/kube/bookinfo.yaml -n bookinfo"),
    Step("bookinfo services", "kubectl get services -n bookinfo"),
    Step("bookinfo pods", "kubectl get pods -n bookinfo", all_up),
    Step(
        "exec",
        "kubectl exec -it $(kubectl get pod -n bookinfo -l app=ratings -o jsonpath='{.items[0].metadata.name}') "
        '-n bookinfo  -c ratings -- curl productpage:9080/productpage | grep -o "<title>.*</title>"',
        # Each proxy hears of the others' pods by itself.
        says(TITLE),
    ),
    Step("gateway", "kubectl apply -f samples/bookinfo/networking/bookinfo-gateway.yaml  -n bookinfo"),
    Step("get gateway", "kubectl get gateway -n bookinfo"),
    Step("ingress svc", "kubectl get svc istio-ingressgateway -n istio-system"),
    Step(
        "port",
        "export INGRESS_PORT=$(kubectl -n istio-system get service istio-ingressgateway "
        "-o jsonpath='{.spec.ports[?(@.name==\"http2\")].nodePort}')",
    ),
    Step(
        "secure port",
        "export SECURE_INGRESS_PORT=$(kubectl -n istio-system get service istio-ingressgateway "
        "-o jsonpath='{.spec.ports[?(@.name==\"https\")].nodePort}')",
    ),
    Step(
        "host",
        "export INGRESS_HOST=$(kubectl get po -l istio=ingressgateway -n istio-system "
        "-o 'jsonpath={.items[0].status.hostIP}')",
    ),
    Step("url", "export GATEWAY_URL=$INGRESS_HOST:$INGRESS_PORT"),
    Step("shown", "echo $INGRESS_HOST $INGRESS_PORT $SECURE_INGRESS_PORT $GATEWAY_URL"),
    Step(
        "curl title",
        'curl -s http://${GATEWAY_URL}/productpage | grep -o "<title>.*</title>"',
        says(TITLE),
    ),
    Step("rules", "kubectl apply -f samples/bookinfo/networking/destination-rule-all.yaml -n bookinfo"),
    Step("get rules", "kubectl get destinationrules -o yaml"),
    Step("get rules there", "kubectl get destinationrules -n bookinfo -o yaml"),
    Step(
        "curl code",
        'curl -o /dev/null -s -w "%{http_code}\\n" http://${GATEWAY_URL}/productpage',
        says("200"),
    ),
    Step("prometheus svc", "kubectl -n istio-system get svc prometheus"),
    Step("grafana svc", "kubectl -n istio-system get svc grafana"),
    Step("kiali svc", "kubectl -n istio-system get svc kiali"),
    Step("images", "kubectl get nodes -o jsonpath='{.items[*].status.images[*].names[*]}'"),
    Step("cleanup", "samples/bookinfo/platform/kube/cleanup.sh", typed="bookinfo\n"),
    Step("no virtual services", "kubectl get virtualservices   #-- there should be no virtual services"),
    Step("no rules", "kubectl get destinationrules  #-- there should be no destination rules"),
    Step("no gateway", "kubectl get gateway           #-- there should be no gateway"),
    Step("no pods", "kubectl get pods               #-- the Bookinfo pods should be deleted"),
    Step("nothing of bookinfo", "kubectl get vs,dr,gw,pods,services -n bookinfo", nothing),
    Step("no httpbin gateway", "kubectl delete gateway httpbin-gateway"),
    Step("no httpbin service", "kubectl delete virtualservice httpbin"),
    Step("no httpbin", "kubectl delete --ignore-not-found=true -f samples/httpbin/httpbin.yaml"),
    # The walk-through removes httpbin without ever having applied it; here it is there as well.
    Step("httpbin", "kubectl apply -f samples/httpbin/httpbin.yaml -f samples/httpbin/httpbin-gateway.yaml"),
    Step("delete httpbin gateway", "kubectl delete gateway httpbin-gateway"),
    Step("delete httpbin service", "kubectl delete virtualservice httpbin"),
    Step("delete httpbin", "kubectl delete --ignore-not-found=true -f samples/httpbin/httpbin.yaml"),
    Step(
        "delete crds",
        "for i in install/kubernetes/helm/istio-init/files/crd*yaml; do kubectl delete  -f $i  -n bookinfo ; done",
    ),
    Step("no crd", "kubectl get crd | grep istio"),
    Step("no crd at all", "kubectl get crd"),
]


# That genuine manifests are taken as ours are `make test` plays in today's release.
GENUINE = pytest.param("genuine", marks=[pytest.mark.genuine, pytest.mark.again])


@pytest.fixture(scope="module", params=["workshop", GENUINE])
def played(
    request: pytest.FixtureRequest,
    start_shared_sandbox: Callable[..., SandboxUnderTest],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Played]:
    folder = release_folder("1.2.2", request.param, tmp_path_factory.mktemp("walk"))
    sandbox = start_shared_sandbox("1.2.2", name=request.param)
    with session(sandbox, folder) as terminal:
        yield Played(sandbox, play(terminal, STEPS))


MUST_FAIL = {"no httpbin gateway", "no httpbin service", "no crd"}


@pytest.mark.parametrize("name", [step.name for step in STEPS if step.name not in MUST_FAIL])
def test_succeeds(played: Played, name: str) -> None:
    assert played[name].code == 0, str(played[name])


def test_28_definitions_are_created(played: Played) -> None:
    assert [line.split()[-1] for line in played["crds"].lines] == ["created"] * 28


def test_the_23_of_istio_are_listed(played: Played) -> None:
    listed = [line.split() for line in played["get crd"].lines]
    assert [name for name, _ in listed] == list(facts("1.2.2").crds)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", created) for _, created in listed)


def test_the_demo_profile_is_created(played: Played) -> None:
    said = [line.split() for line in played["demo"].lines]
    assert {verb for _, verb in said} == {"created", "unchanged"}
    assert all("customresourcedefinition" in name for name, verb in said if verb == "unchanged")
    assert "service/istio-ingressgateway created" in played["demo"].stdout


def test_16_services(played: Played) -> None:
    table = played["get svc"]
    assert table.lines[0].split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    rows = {row[0]: row[1:] for row in table.rows}
    expected = facts("1.2.2").services
    assert list(rows) == [service.name for service in expected]
    for service in expected:
        kind, address, external, ports, _age = rows[service.name]
        assert kind == service.type
        assert external == ("<pending>" if service.type == "LoadBalancer" else "<none>")
        assert re.sub(r":\d+", "", ports) == service.shown
        if service.headless:
            assert address == "None"
        else:
            ipaddress.ip_address(address)
    assert "80:31380/TCP,443:31390/TCP,31400:31400/TCP" in rows["istio-ingressgateway"][3]


def test_15_pods(played: Played) -> None:
    table = played["get pods"]
    assert table.lines[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert len(table.rows) == 15
    assert ready_column(table) == {c.name: (c.ready, c.status) for c in facts("1.2.2").components}
    assert {row[3] for row in table.rows} == {"0"}


def test_4_services_of_bookinfo(played: Played) -> None:
    assert [(row[0], row[1], row[4]) for row in played["bookinfo services"].rows] == [
        (name, "ClusterIP", "9080/TCP") for name in ("details", "productpage", "ratings", "reviews")
    ]


def test_6_pods_with_sidecars(played: Played) -> None:
    names = ("details-v1", "productpage-v1", "ratings-v1", "reviews-v1", "reviews-v2", "reviews-v3")
    assert ready_column(played["bookinfo pods"]) == dict.fromkeys(names, ("2/2", "Running"))
    assert {row[3] for row in played["bookinfo pods"].rows} == {"0"}


@pytest.mark.parametrize("name", ["exec", "curl title"])
def test_the_title(played: Played, name: str) -> None:
    assert played[name].lines == [TITLE]


def test_the_gateway_is_listed(played: Played) -> None:
    table = played["get gateway"]
    assert table.lines[0].split() == ["NAME", "AGE"]
    assert [row[0] for row in table.rows] == ["bookinfo-gateway"]


def test_the_address_stays_pending(played: Played) -> None:
    (row,) = played["ingress svc"].rows
    assert row[:2] + row[3:4] == ["istio-ingressgateway", "LoadBalancer", "<pending>"]
    assert row[2] == {r[0]: r[2] for r in played["get svc"].rows}["istio-ingressgateway"]


def test_host_and_ports(played: Played) -> None:
    node = played.sandbox.node
    assert played["shown"].lines == [f"{node} 31380 31390 {node}:31380"]


def test_200(played: Played) -> None:
    assert played["curl code"].lines == ["200"]


def test_rules_are_in_the_namespace_they_were_applied_to(played: Played) -> None:
    assert yaml.safe_load(played["get rules"].stdout)["items"] == []
    rules = {r["metadata"]["name"]: r["spec"] for r in yaml.safe_load(played["get rules there"].stdout)["items"]}
    assert {name: [s["name"] for s in spec["subsets"]] for name, spec in rules.items()} == {
        "details": ["v1", "v2"],
        "productpage": ["v1"],
        "ratings": ["v1", "v2", "v2-mysql", "v2-mysql-vm"],
        "reviews": ["v1", "v2", "v3"],
    }


@pytest.mark.parametrize(("name", "port"), [("prometheus", "9090"), ("grafana", "3000"), ("kiali", "20001")])
def test_services_to_look_with(played: Played, name: str, port: str) -> None:
    (row,) = played[f"{name} svc"].rows
    assert [row[0], row[1], row[3], row[4]] == [name, "ClusterIP", "<none>", f"{port}/TCP"]


def test_the_node_has_the_images_of_one_version(played: Played) -> None:
    names = [name for name in played["images"].stdout.split() if "istio/" in name and "@" not in name]
    found = {name.rpartition("/")[2] for name in names if "examples" not in name}
    assert {"pilot:1.2.2", "proxyv2:1.2.2", "mixer:1.2.2", "citadel:1.2.2", "galley:1.2.2"} <= found
    assert {image.rpartition(":")[2] for image in found} == {"1.2.2"}


def test_clean_up_removes_rules_and_application(played: Played) -> None:
    said = played["cleanup"].stdout
    for name in ("details", "productpage", "ratings", "reviews"):
        assert f'destinationrule.networking.istio.io "{name}" deleted' in said
    assert 'virtualservice.networking.istio.io "bookinfo" deleted' in said
    assert 'gateway.networking.istio.io "bookinfo-gateway" deleted' in said
    assert len(re.findall(r'^deployment\.apps ".*" deleted', said, re.MULTILINE)) == 6
    assert len(re.findall(r'^service ".*" deleted', said, re.MULTILINE)) == 4


@pytest.mark.parametrize("name", ["no virtual services", "no rules", "no gateway", "no pods"])
def test_nothing_is_left_by_default(played: Played, name: str) -> None:
    assert played[name].stdout == ""
    assert "No resources found" in played[name].stderr


def test_nothing_is_left_of_bookinfo(played: Played) -> None:
    assert played["nothing of bookinfo"].stdout == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no httpbin gateway", 'gateways.networking.istio.io "httpbin-gateway" not found'),
        ("no httpbin service", 'virtualservices.networking.istio.io "httpbin" not found'),
    ],
)
def test_deleting_what_is_not_there(played: Played, name: str, message: str) -> None:
    assert played[name].code == 1
    assert played[name].stderr.strip() == f"Error from server (NotFound): {message}"


def test_httpbin_goes(played: Played) -> None:
    assert played["no httpbin"].stdout == ""
    assert 'gateway.networking.istio.io "httpbin-gateway" deleted' in played["delete httpbin gateway"].stdout
    assert 'virtualservice.networking.istio.io "httpbin" deleted' in played["delete httpbin service"].stdout
    assert re.findall(r'"(\S+)" deleted', played["delete httpbin"].stdout) == ["httpbin", "httpbin"]


def test_definitions_are_gone(played: Played) -> None:
    assert len(re.findall(r" deleted", played["delete crds"].stdout)) == 28
    assert (played["no crd"].stdout, played["no crd"].code) == ("", 1)
    assert played["no crd at all"].stdout == ""
