# SPDX-License-Identifier: Apache-2.0
"""Installing, verifying, finding the way in, diagnosing and removing, on a sandbox."""

from __future__ import annotations

import dataclasses
import importlib
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from labkit import bookinfo, cluster, istio
from labkit.cluster import Target
from labkit.ground.errors import ClusterError, NoTargetError
from labkit.istio.source import OWN
from tests.conftest import PATIENCE, SandboxUnderTest, wait_until

# In the package the function of that name stands before its module.
ingress_module = importlib.import_module("labkit.istio.ingress")


@contextmanager
def in_use(sandbox: SandboxUnderTest) -> Iterator[None]:
    """This sandbox is the one that `labkit` talks to."""
    try:
        before: Target | None = cluster.current().named
    except NoTargetError:
        before = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_HOME", str(sandbox.labkit_home))
        patch.setenv("KUBECONFIG", str(sandbox.kubeconfig))
        patch.delenv("LABKIT_ISTIO_DIR", raising=False)
        cluster.use(Target(kubeconfig=str(sandbox.kubeconfig)))
        try:
            yield
        finally:
            cluster.leave()
            if before is not None:
                cluster.use(before)


@pytest.fixture(scope="module", params=["1.2.2", "1.30.3"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def sandbox(version: str, start_shared_sandbox: Callable[..., SandboxUnderTest]) -> Iterator[SandboxUnderTest]:
    """Istio and BookInfo installed; tests put back what they change."""
    started = start_shared_sandbox(version, name=f"istio-{version.replace('.', '-')}")
    with in_use(started):
        release = istio.release(version)
        istio.install(release, timeout=300)
        bookinfo.deploy(release, timeout=300)
        cluster.apply(release.samples / "bookinfo/networking/bookinfo-gateway.yaml", namespace="bookinfo")
        yield started


@pytest.fixture
def release(sandbox: SandboxUnderTest) -> istio.Release:
    return istio.release(sandbox.release)


def test_everything_is_as_expected(release: istio.Release) -> None:
    found = istio.verify(release)
    assert found.ok, str(found)
    assert found.faults == ()
    kinds = [item.kind for item in found.items]
    assert kinds.count("Deployment") + kinds.count("Job") == {"1.2.2": 15, "1.30.3": 7}[release.version]
    assert kinds.count("Service") == {"1.2.2": 16, "1.30.3": 9}[release.version]
    assert set(found.table().columns) == {"kind", "name", "expected", "found", "ok", "reason", "optional"}


def test_installing_again_changes_nothing(release: istio.Release) -> None:
    def pods() -> set[str]:
        return {pod["metadata"]["uid"] for pod in cluster.get("pods", namespace="istio-system")}

    before = pods()
    istio.install(release, timeout=300)
    assert pods() == before


def test_what_is_missing_is_told(release: istio.Release) -> None:
    service = cluster.get("service", "istio-egressgateway", namespace="istio-system")[0]
    cluster.kubectl("delete service istio-egressgateway -n istio-system")
    cluster.kubectl("scale deployment istio-egressgateway -n istio-system --replicas=0")
    try:
        faults = {(item.kind, item.name): item for item in istio.verify(release).faults}
        assert faults[("Service", "istio-egressgateway")].reason == "not there"
        assert not istio.verify(release).ok
    finally:
        cluster.kubectl("scale deployment istio-egressgateway -n istio-system --replicas=1")
        for field in ("resourceVersion", "uid", "creationTimestamp"):
            service["metadata"].pop(field, None)
        cluster.apply({**service, "status": {}})
        cluster.wait_for(cluster.Ready("istio-system"), timeout=PATIENCE)
    assert istio.verify(release).ok


def test_an_image_of_another_version_is_told(release: istio.Release) -> None:
    facts = release.facts
    component = dataclasses.replace(facts.components[0], images=("docker.io/istio/other:0.1",))
    older = dataclasses.replace(release, facts=dataclasses.replace(facts, components=(component,)))
    (fault,) = istio.verify(older).faults
    assert fault.reason == f"runs {facts.components[0].images[0].rpartition('/')[2]}"


def test_the_way_in_is_the_node_port(release: istio.Release, sandbox: SandboxUnderTest) -> None:
    found = istio.ingress()
    assert (found.how, found.host) == ("NodePort", sandbox.node)
    assert "<pending>" in found.why
    if release.version == "1.2.2":
        assert (found.port, found.secure_port) == (31380, 31390)
    assert found.url == f"http://{sandbox.node}:{found.port}"
    cluster.wait_for(cluster.Answers(f"{found.url}/productpage"), timeout=PATIENCE)


def test_its_commands_are_shown(sandbox: SandboxUnderTest, capsys: pytest.CaptureFixture[str]) -> None:
    istio.ingress()
    shown = capsys.readouterr().out
    assert "$ kubectl get pods -l istio=ingressgateway -n istio-system -o jsonpath='{.items[0].status.hostIP}'" in shown
    assert """-o jsonpath='{.spec.ports[?(@.name=="http2")].nodePort}'""" in shown
    istio.ingress(show=False)
    assert capsys.readouterr().out == ""


def test_a_node_out_of_reach_means_a_port_forward(sandbox: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress_module, "_look", lambda way: "silent")
    found = istio.ingress(show=False)
    try:
        assert (found.how, found.host) == ("port-forward", "127.0.0.1")
        assert f"{sandbox.node}:" in found.why
        cluster.wait_for(cluster.Answers(f"{found.url}/productpage"), timeout=PATIENCE)
        again = istio.ingress(show=False)
        assert (again.port, again.secure_port) == (found.port, found.secure_port)
        with socket.create_connection((found.host, found.secure_port), timeout=PATIENCE):
            assert found.secure_port != found.port
    finally:
        ingress_module._close()


def test_a_load_balancer_comes_first(sandbox: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    real = cluster.get
    service = real("service", "istio-ingressgateway", namespace="istio-system")[0]
    service["status"]["loadBalancer"] = {"ingress": [{"ip": "203.0.113.7"}]}
    monkeypatch.setattr(cluster, "get", lambda kind, *a, **k: [service] if kind == "service" else real(kind, *a, **k))
    monkeypatch.setattr(ingress_module, "_look", lambda way: looks[way.how])
    looks = {"LoadBalancer": "open", "NodePort": "open"}
    found = istio.ingress(show=False)
    assert (found.how, found.url, found.secure_port) == ("LoadBalancer", "http://203.0.113.7:80", 443)
    looks = {"LoadBalancer": "silent", "NodePort": "refused"}
    assert istio.ingress(show=False).how == "NodePort"


def test_nothing_is_wrong(sandbox: SandboxUnderTest) -> None:
    found = istio.diagnose()
    assert found.ok, str(found)
    assert [f.where for f in found.findings if f.level != "Info"] == []


SECURE = """
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata: {name: secure}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [books.test]
    tls: {mode: SIMPLE, credentialName: books-cert}
"""


def test_a_credential_is_looked_for_where_the_gateways_pods_are(
    sandbox: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> list[tuple[str, str, str]]:
        found = istio.diagnose(["bookinfo"], images=False).findings
        return [(one.code, one.where, one.message) for one in found if one.level == "Error"]

    missing = ("IST0101", "Gateway bookinfo/secure", 'Referenced credentialName not found: "books-cert"')
    cluster.apply(SECURE, namespace="bookinfo")
    try:
        assert told() == [missing]
        cluster.kubectl("create secret generic books-cert -n bookinfo")
        assert told() == [missing]
        cluster.kubectl("create secret generic books-cert -n istio-system")
        ((code, where, message),) = told()
        assert (code, where) == ("IST0161", "Gateway bookinfo/secure")
        assert message.startswith("The credential referenced by the Gateway secure in namespace istio-system is inv")
        cluster.kubectl("delete secret books-cert -n istio-system")
        real = cluster.get

        def refusing(kind: str, *words: str, **options: Any) -> list[cluster.Obj]:
            if kind == "secrets":
                raise ClusterError("secrets is forbidden")
            return real(kind, *words, **options)

        monkeypatch.setattr(cluster, "get", refusing)
        assert told() == []
    finally:
        cluster.kubectl("delete gateways.networking.istio.io secure -n bookinfo")
        for namespace in ("bookinfo", "istio-system"):
            cluster.kubectl(f"delete secret books-cert -n {namespace} --ignore-not-found")


def image_refused() -> str | None:
    states = {w.name: w.state for w in cluster.readiness("bookinfo").workloads}
    return None if states.get("broken") == "ImagePull" else str(states)


def test_an_image_that_is_not_there_and_a_subset_nobody_defined(
    release: istio.Release, sandbox: SandboxUnderTest
) -> None:
    cluster.apply(release.samples / "bookinfo/networking/virtual-service-reviews-50-v3.yaml", namespace="bookinfo")
    cluster.kubectl("create deployment broken -n bookinfo --image=example.com/no/such:1")
    try:
        cluster.wait_for(cluster.Condition("the image to be refused", image_refused), timeout=PATIENCE)
        found = istio.diagnose()
        assert not found.ok
        told = [(f.level, f.code, f.where) for f in found.findings]
        assert ("Error", "IST0101", "VirtualService bookinfo/reviews") in told
        assert ("Error", "", "Deployment bookinfo/broken") in told
        pull = next(f for f in found.findings if f.where == "Deployment bookinfo/broken")
        assert "example.com/no/such:1" in pull.message
        assert [f.level for f in found.findings] == sorted(
            (f.level for f in found.findings), key=["Error", "Warning", "Info"].index
        )
    finally:
        cluster.kubectl("delete virtualservice reviews -n bookinfo")
        cluster.kubectl("delete deployment broken -n bookinfo")
        # What it has made is deleted after it, and would be seen by whoever looks next.
        wait_until(
            lambda: not cluster.get("replicasets.apps,pods", namespace="bookinfo", labels="app=broken"),
            what="the broken pod to be gone",
        )
        cluster.wait_for(cluster.Ready("bookinfo", bookinfo.WORKLOADS), timeout=PATIENCE)


def test_two_versions_on_a_node(sandbox: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    names = (("pilot", "1.2.2"), ("pilot", "1.2.0"), ("proxyv2", "1.2.2"), ("examples-bookinfo-ratings-v1", "1.12.0"))
    images = [cluster.NodeImage("n1", f"docker.io/istio/{name}", tag, 1) for name, tag in names]
    monkeypatch.setattr(cluster, "images", lambda match="": images)
    (finding,) = [f for f in istio.diagnose().findings if f.where.startswith("Node ")]
    assert finding.message == "Istio's images are there in 2 versions (1.2.0: pilot; 1.2.2: pilot, proxyv2)"


@pytest.mark.parametrize("version", ["1.30.3"], indirect=True)
def test_the_gateway_api_comes_and_goes(release: istio.Release) -> None:
    before = cluster.snapshot(show=False)
    istio.install_gateway_api()
    cluster.apply(release.samples / "bookinfo/gateway-api/bookinfo-gateway.yaml", namespace="bookinfo")
    programmed = "wait --for=condition=programmed gtw bookinfo-gateway -n bookinfo --timeout=240s"
    assert "condition met" in cluster.kubectl(programmed)
    istio.install_gateway_api()
    cluster.delete(OWN / "gateway-api-1.5.1" / "crds.yaml")
    cluster.wait_for(cluster.Gone("deployment", "bookinfo-gateway-istio", "bookinfo"), timeout=240)

    def left() -> tuple[object, object]:
        found = cluster.snapshot(show=False).difference(before)
        return found.added, found.removed

    # What else was deployed for it goes by itself too, each object in its time.
    wait_until(lambda: left() == ((), ()), what="all that was deployed for the Gateway to be gone")


def test_no_istio_no_way_in(start_sandbox: Callable[..., SandboxUnderTest]) -> None:
    with in_use(start_sandbox("1.30.3", name="empty")):
        with pytest.raises(ClusterError, match=r"(?s)no Service istio-ingressgateway.*Install Istio first"):
            istio.ingress()
        found = istio.verify(istio.release("1.30.3"))
        assert not found.ok
        assert {item.found for item in found.faults} <= {"", "0"}
        istio.uninstall(istio.release("1.30.3"))
        assert istio.diagnose().ok


@pytest.mark.parametrize("release_version", ["1.2.2", "1.30.3"])
def test_nothing_is_left_after_removal(release_version: str, start_sandbox: Callable[..., SandboxUnderTest]) -> None:
    with in_use(start_sandbox(release_version, name="fresh")):
        release = istio.release(release_version)
        empty = cluster.snapshot(show=False)
        istio.install(release, timeout=300)
        assert cluster.snapshot(show=False).difference(empty)
        istio.uninstall(release)
        left = cluster.snapshot(show=False).difference(empty)
        assert (left.added, left.removed) == ((), ())
        istio.uninstall(release)
