# SPDX-License-Identifier: Apache-2.0
"""The same stages with today's release: what changed since the walk-through is in the commands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from labkit.istio import facts
from tests.conftest import SandboxUnderTest

from .play import Played, Step, all_up, nothing, play, ready_column, release_folder, session

TITLE = "<title>Simple Bookstore App</title>"
ISTIO = "for i in istiod istio-ingressgateway istio-egressgateway; do kubectl {} -f manifests/$i.yaml; done"

STEPS = [
    Step("enter", "cd istio-1.30.3"),
    Step("system", "kubectl create namespace istio-system"),
    Step("base", "kubectl apply -f manifests/base.yaml"),
    Step("get crd", "kubectl get crd | grep istio"),
    Step("istio", ISTIO.format("apply")),
    Step("istio pods", "kubectl get pods -n istio-system", all_up),
    Step("addons", "kubectl apply -f samples/addons"),
    Step("get svc", "kubectl get svc -n istio-system"),
    Step("get pods", "kubectl get pods -n istio-system", all_up),
    Step("again", "kubectl apply -f manifests/istiod.yaml -f samples/addons/jaeger.yaml"),
    Step("generations", "kubectl get deploy -n istio-system -o jsonpath='{.items[*].metadata.generation}'"),
    Step("explain", "kubectl explain virtualservice.spec.http.fault.delay"),
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
        lambda result: TITLE in result.stdout,
    ),
    Step("gateway", "kubectl apply -f samples/bookinfo/networking/bookinfo-gateway.yaml  -n bookinfo"),
    Step("get gateway", "kubectl get gateway -n bookinfo"),
    Step("get vs", "kubectl get vs -n bookinfo"),
    Step("ingress svc", "kubectl get svc istio-ingressgateway -n istio-system"),
    Step(
        "port",
        "export INGRESS_PORT=$(kubectl -n istio-system get service istio-ingressgateway "
        "-o jsonpath='{.spec.ports[?(@.name==\"http2\")].nodePort}')",
    ),
    Step(
        "host",
        "export INGRESS_HOST=$(kubectl get po -l istio=ingressgateway -n istio-system "
        "-o 'jsonpath={.items[0].status.hostIP}')",
    ),
    Step("url", "export GATEWAY_URL=$INGRESS_HOST:$INGRESS_PORT"),
    Step("shown", "echo $INGRESS_HOST $INGRESS_PORT"),
    Step(
        "curl title",
        'curl -s http://${GATEWAY_URL}/productpage | grep -o "<title>.*</title>"',
        lambda result: TITLE in result.stdout,
    ),
    Step("name of the rules", "RULES=samples/bookinfo/networking/destination-rule-all.yaml"),
    Step("rules", "kubectl apply -f $RULES -n bookinfo"),
    Step("get rules", "kubectl get dr -n bookinfo"),
    Step("old version", "kubectl get destinationrules.v1alpha3.networking.istio.io reviews -n bookinfo -o yaml"),
    Step(
        "curl code",
        'curl -o /dev/null -s -w "%{http_code}\\n" http://${GATEWAY_URL}/productpage',
        lambda result: "200" in result.stdout,
    ),
    Step("unknown field", "sed s/subsets:/subset:/ $RULES | kubectl apply -n bookinfo -f -"),
    Step("legacy kind", "kubectl apply -f ../legacy.yaml"),
    Step("cleanup", "samples/bookinfo/platform/kube/cleanup.sh", typed="bookinfo\n"),
    Step("nothing of bookinfo", "kubectl get vs,dr,gw,pods,services -n bookinfo", nothing),
    Step("delete addons", "kubectl delete -f samples/addons"),
    Step("delete istio", ISTIO.format("delete")),
    Step("delete base", "kubectl delete --ignore-not-found=true -f manifests/base.yaml"),
    Step("no crd", "kubectl get crd | grep istio"),
    Step("delete system", "kubectl delete namespace istio-system --ignore-not-found"),
    Step("no pods", "kubectl get pods --all-namespaces", nothing),
    Step("no webhooks", "kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations"),
]

LEGACY = """\
apiVersion: extensions/v1beta1
kind: Deployment
metadata: {name: httpbin}
"""


@pytest.fixture(scope="module", params=["workshop", pytest.param("genuine", marks=pytest.mark.genuine)])
def played(
    request: pytest.FixtureRequest,
    start_shared_sandbox: Callable[..., SandboxUnderTest],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Played]:
    folder = release_folder("1.30.3", request.param, tmp_path_factory.mktemp("walk"))
    (folder.parent / "legacy.yaml").write_text(LEGACY)
    sandbox = start_shared_sandbox("1.30.3", name=request.param)
    with session(sandbox, folder) as terminal:
        yield Played(sandbox, play(terminal, STEPS))


MUST_FAIL = {"no crd", "unknown field", "legacy kind"}


@pytest.mark.parametrize("name", [step.name for step in STEPS if step.name not in MUST_FAIL])
def test_succeeds(played: Played, name: str) -> None:
    assert played[name].code == 0, str(played[name])


def test_the_15_of_istio_are_listed(played: Played) -> None:
    assert [line.split()[0] for line in played["get crd"].lines] == list(facts("1.30.3").crds)


def test_three_pods_of_istio(played: Played) -> None:
    expected = [c for c in facts("1.30.3").components if not c.addon]
    assert ready_column(played["istio pods"]) == {c.name: (c.ready, c.status) for c in expected}
    assert len(expected) == 3


def test_services(played: Played) -> None:
    rows = {row[0]: row[1:] for row in played["get svc"].rows}
    assert list(rows) == [service.name for service in facts("1.30.3").services]
    for service in facts("1.30.3").services:
        kind, _address, external, ports, _age = rows[service.name]
        assert kind == service.type
        assert external == ("<pending>" if service.type == "LoadBalancer" else "<none>")
        assert re.sub(r":\d+", "", ports) == service.shown


def test_pods_with_add_ons(played: Played) -> None:
    assert ready_column(played["get pods"]) == {c.name: (c.ready, c.status) for c in facts("1.30.3").components}
    assert {row[3] for row in played["get pods"].rows} == {"0"}


def test_applying_again_changes_nothing(played: Played) -> None:
    # kubectl says "configured" where the server filled in defaults beside what a list or union has.
    assert {line.split()[-1] for line in played["again"].lines} <= {"unchanged", "configured"}
    assert "service/istiod unchanged" in played["again"].lines
    assert set(played["generations"].stdout.split()) == {"1"}


def test_kinds_of_istio_are_explained(played: Played) -> None:
    text = played["explain"].stdout
    assert re.search(r"GROUP: +networking\.istio\.io", text)
    assert re.search(r"fixedDelay\t<string>", text)
    assert re.search(r"percentage\t<Object>", text)


def test_6_pods_with_sidecars(played: Played) -> None:
    names = ("details-v1", "productpage-v1", "ratings-v1", "reviews-v1", "reviews-v2", "reviews-v3")
    assert ready_column(played["bookinfo pods"]) == dict.fromkeys(names, ("2/2", "Running"))


@pytest.mark.parametrize("name", ["exec", "curl title"])
def test_the_title(played: Played, name: str) -> None:
    assert played[name].lines == [TITLE]


def test_routes_are_listed_with_gateways_and_hosts(played: Played) -> None:
    table = played["get vs"]
    assert table.lines[0].split() == ["NAME", "GATEWAYS", "HOSTS", "AGE"]
    assert table.rows[0][:3] == ["bookinfo", '["bookinfo-gateway"]', '["*"]']
    assert [row[0] for row in played["get gateway"].rows] == ["bookinfo-gateway"]
    assert [row[:2] for row in played["get rules"].rows] == [
        [name, name] for name in ("details", "productpage", "ratings", "reviews")
    ]


def test_the_address_stays_pending_and_kubernetes_chose_the_port(played: Played) -> None:
    (row,) = played["ingress svc"].rows
    assert row[3] == "<pending>"
    host, port = played["shown"].lines[0].split()
    assert host == played.sandbox.node
    assert 30000 <= int(port) <= 32767
    assert f"80:{port}/TCP" in row[4]


def test_200(played: Played) -> None:
    assert played["curl code"].lines == ["200"]


def test_older_versions_are_served(played: Played) -> None:
    assert "apiVersion: networking.istio.io/v1alpha3" in played["old version"].stdout


def test_an_unknown_field_is_refused(played: Played) -> None:
    assert played["unknown field"].code == 1
    assert 'strict decoding error: unknown field "spec.subset"' in played["unknown field"].stderr


def test_kinds_of_2019_are_unknown(played: Played) -> None:
    assert played["legacy kind"].code == 1
    assert 'no matches for kind "Deployment" in version "extensions/v1beta1"' in played["legacy kind"].stderr


def test_clean_up_removes_rules_and_application(played: Played) -> None:
    said = played["cleanup"].stdout
    assert len(re.findall(r'^destinationrule\.networking\.istio\.io ".*" deleted', said, re.MULTILINE)) == 4
    assert 'virtualservice.networking.istio.io "bookinfo" deleted' in said
    assert 'gateway.networking.istio.io "bookinfo-gateway" deleted' in said
    assert len(re.findall(r'^deployment\.apps ".*" deleted', said, re.MULTILINE)) == 6
    assert played["nothing of bookinfo"].stdout == ""


def test_nothing_is_left(played: Played) -> None:
    assert (played["no crd"].stdout, played["no crd"].code) == ("", 1)
    assert played["no pods"].stdout == ""
    assert played["no webhooks"].stdout == ""
