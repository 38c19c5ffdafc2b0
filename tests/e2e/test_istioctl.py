# SPDX-License-Identifier: Apache-2.0
"""Our istioctl on a mesh: what it says of proxies and objects, beside what the cluster itself says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from labkit import cluster, istio
from labkit.istioctl.commands import main
from tests.conftest import wait_until
from tests.shops import Shop

Ask = Callable[..., str]


@pytest.fixture
def ask(shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Ask]:
    """What istioctl prints; with `code` for another exit code than 0."""
    monkeypatch.setenv("LABKIT_HOME", str(shop.sandbox.labkit_home))
    monkeypatch.setenv("KUBECONFIG", str(shop.sandbox.kubeconfig))

    def asked(*words: str, code: int = 0) -> str:
        assert main(list(words)) == code, capsys.readouterr().err
        return capsys.readouterr().out

    yield asked
    cluster.leave()


def pod(shop: Shop, app: str, version: str = "v1") -> str:
    words = ("get", "pods", "-n", "bookinfo", "-l", f"app={app},version={version}", "-o", "json")
    (found,) = json.loads(shop.sandbox.kubectl(*words).stdout)["items"]
    return str(found["metadata"]["name"])


def cells(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_versions_are_those_of_what_runs(ask: Ask, shop: Shop, shop_release: str) -> None:
    listed = json.loads(shop.sandbox.kubectl("get", "pods", "-A", "-o", "json").stdout)["items"]
    every = [[*one["spec"]["containers"], *one["spec"].get("initContainers", [])] for one in listed]
    count = sum("istio-proxy" in {one["name"] for one in containers} for containers in every)
    lines = ask("version").splitlines()
    proxies = f"data plane version: {shop_release} ({count} proxies)"
    assert lines[1:] == [f"control plane version: {shop_release}", proxies]

    told = json.loads(ask("version", "-o", "json"))
    assert {one["Info"]["version"] for one in told["meshVersion"]} == {shop_release}
    assert len(told["dataPlaneVersion"]) == count
    assert yaml.safe_load(ask("version", "-o", "yaml")) == told


def test_every_proxy_is_in_the_list(ask: Ask, shop: Shop, shop_release: str) -> None:
    head, *rows = cells(ask("proxy-status"))
    assert head == ["NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED", "TYPES"]
    listed = json.loads(shop.sandbox.kubectl("get", "pods", "-A", "-o", "json").stdout)["items"]
    names = {f"{one['metadata']['name']}.{one['metadata']['namespace']}" for one in listed}
    shown = {row[0] for row in rows}
    assert shown <= names
    assert {f"{pod(shop, app)}.bookinfo" for app in ("productpage", "details", "ratings", "reviews")} <= shown
    (istiod,) = {row[2] for row in rows}
    assert f"{istiod}.istio-system" in names
    assert {row[3] for row in rows} == {shop_release}
    assert "4 (CDS,LDS,EDS,RDS)" in {" ".join(row[4:]) for row in rows if row[0].startswith("productpage")}
    assert len(cells(ask("ps", "-n", "bookinfo"))) == 7


def test_what_an_envoy_was_told(ask: Ask, shop: Shop) -> None:
    name = pod(shop, "productpage")
    reviews = "reviews.bookinfo.svc.cluster.local"
    rows = cells(ask("proxy-config", "cluster", f"{name}.bookinfo", "--fqdn", reviews))[1:]
    assert [row[:4] for row in rows] == [[reviews, "9080", subset, "outbound"] for subset in ("-", "v1", "v2", "v3")]
    assert {row[-1] for row in rows} == {"reviews.bookinfo"}
    rows = cells(ask("pc", "ep", "deploy/productpage-v1.bookinfo", "--cluster", f"outbound|9080||{reviews}"))[1:]
    listed = json.loads(shop.sandbox.kubectl("get", "pods", "-n", "bookinfo", "-l", "app=reviews", "-o", "json").stdout)
    assert [row[0] for row in rows] == sorted(f"{one['status']['podIP']}:9080" for one in listed["items"])
    assert {tuple(row[1:3]) for row in rows} == {("HEALTHY", "OK")}
    assert any(row[:2] == ["0.0.0.0", "9080"] for row in cells(ask("pc", "l", name, "-n", "bookinfo"))[1:])
    table = cells(ask("pc", "route", name, "-n", "bookinfo", "--name", "9080"))[1:]
    assert {row[1] for row in table} >= {f"{reviews}:9080", "details.bookinfo.svc.cluster.local:9080"}
    routes = json.loads(ask("pc", "route", name, "-n", "bookinfo", "--name", "9080", "-o", "json"))
    assert [one["name"] for one in routes] == ["9080"]
    # What no rule takes is not told in the table.
    assert {one["name"] for one in routes[0]["virtualHosts"]} - {"allow_any"} == {row[1] for row in table}
    assert yaml.safe_load(ask("pc", "route", name, "-n", "bookinfo", "--name", "9080", "-o", "yaml")) == routes
    gateway = cells(ask("pc", "r", "deploy/istio-ingressgateway.istio-system"))
    assert any("/productpage" in row and "bookinfo.bookinfo" in row for row in gateway)


def test_a_whole_dump_is_read_from_a_file_as_well(ask: Ask, shop: Shop, tmp_path: Path) -> None:
    name = pod(shop, "details")
    file = tmp_path / "dump.json"
    file.write_text(ask("pc", "all", name, "-n", "bookinfo", "-o", "json"))
    wanted = ("--fqdn", "details.bookinfo", "--direction", "outbound")
    from_file = [row[:4] for row in cells(ask("pc", "cluster", "-f", str(file), *wanted))]
    assert from_file == [row[:4] for row in cells(ask("pc", "cluster", name, "-n", "bookinfo", *wanted))]
    node = json.loads(ask("pc", "bootstrap", name, "-n", "bookinfo"))["bootstrap"]["node"]
    assert name in node["id"]
    whole = ask("pc", "all", name, "-n", "bookinfo")
    assert whole.startswith("Istio Version: ")
    rows = {name for line in whole.splitlines() for name in re.findall(r"^(cluster|listener|route|endpoint)/", line)}
    assert rows == {"cluster", "listener", "route", "endpoint"}


@pytest.mark.parametrize("shop_release", ["1.30.3"], indirect=True)
def test_certificates_are_those_in_use(ask: Ask, shop: Shop) -> None:
    rows = {row[0]: row for row in cells(ask("pc", "secret", f"{pod(shop, 'ratings')}.bookinfo"))}
    assert rows["default"][1:5] == ["Cert", "Chain", "ACTIVE", "true"]
    assert rows["ROOTCA"][1:4] == ["CA", "ACTIVE", "true"]


def test_log_levels_are_changed_and_put_back(ask: Ask, shop: Shop) -> None:
    name = pod(shop, "ratings")
    assert ask("pc", "log", name, "-n", "bookinfo").startswith(f"{name}.bookinfo:\nactive loggers:\n")
    assert "  http: debug\n" in ask("pc", "log", name, "-n", "bookinfo", "--level", "http:debug")
    assert "debug" not in ask("pc", "log", name, "-n", "bookinfo", "--reset")
    ask("pc", "log", name, "-n", "bookinfo", "--level", "loud", code=1)


def test_log_levels_are_those_of_all_that_are_meant(ask: Ask, shop: Shop) -> None:
    names = sorted(pod(shop, "reviews", version) for version in ("v1", "v2", "v3"))
    told = ask("pc", "log", "-n", "bookinfo", "-l", "app=reviews", "--level", "rbac=warn,http:info")
    assert sorted(line.removesuffix(".bookinfo:") for line in told.splitlines() if line.endswith(".bookinfo:")) == names
    assert told.count("  rbac: warning\n") == told.count("  http: info\n") == 3
    ask("pc", "log", "-n", "bookinfo", "-l", "app=reviews", "-r")


@pytest.mark.parametrize("shop_release", ["1.30.3"], indirect=True)
def test_what_documents_ask_of_a_proxy_is_answered(ask: Ask, shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    name = pod(shop, "details")
    inbound = json.loads(ask("pc", "listeners", f"{name}.bookinfo", "--port", "15006", "-o", "json"))
    assert [one["name"] for one in inbound] == ["virtualInbound_9080"]
    assert main(["pc", "rootca-compare", f"{name}.bookinfo", f"{pod(shop, 'ratings')}.bookinfo"]) == 0
    assert "have the identical ROOTCA" in capsys.readouterr().err
    counts = ask("x", "envoy-stats", f"{name}.bookinfo", "-o", "prom")
    assert "\nenvoy_server_initialization_time_ms_count{} 1\n" in counts
    policy = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy"}
    policy |= {"metadata": {"name": "nothing", "namespace": "bookinfo"}}
    policy |= {"spec": {"selector": {"matchLabels": {"app": "details"}}}}
    shop.sandbox.kubectl("apply", "-f", "-", stdin=json.dumps(policy))
    try:
        wait_until(lambda: "nothing.bookinfo" in ask("x", "authz", "check", f"{name}.bookinfo"), 30)
        assert cells(ask("x", "authz", "check", f"{name}.bookinfo"))[1:] == [["ALLOW", "nothing.bookinfo", "1"]]
        assert "RBAC policies: ns[bookinfo]-policy[nothing]-rule[0]" in ask("x", "describe", "pod", f"{name}.bookinfo")
    finally:
        shop.sandbox.kubectl("delete", "authorizationpolicy", "nothing", "-n", "bookinfo")


def test_what_is_wrong_is_79_and_what_would_be_is_told_before_it_is_applied(
    ask: Ask, shop: Shop, tmp_path: Path
) -> None:
    told = ask("analyze", "-n", "bookinfo", code=79).splitlines()
    subsets = [("details", "v2"), ("ratings", "v2"), ("ratings", "v2-mysql"), ("ratings", "v2-mysql-vm")]
    words = "defined in the DestinationRule does not select any pods. Which may lead to 503 UH (NoHealthyUpstream)."
    assert [one for one in told if one.startswith("Error")] == [
        f"Error [IST0173] (DestinationRule bookinfo/{a}) The Subset {b} {words}" for a, b in subsets
    ]
    assert "Error" not in ask("analyze", "-n", "bookinfo", "-S", "IST0173=DestinationRule *.bookinfo")
    route = {"route": [{"destination": {"host": "reviews", "subset": "v9"}}]}
    about = {"apiVersion": "networking.istio.io/v1alpha3", "kind": "VirtualService", "metadata": {"name": "new"}}
    file = tmp_path / "new.yaml"
    file.write_text(yaml.safe_dump({**about, "spec": {"hosts": ["reviews"], "http": [route]}}))
    found = ask("analyze", "-n", "bookinfo", str(file), code=79)
    assert 'Referenced host+subset in destinationrule not found: "reviews+v9"' in found
    everywhere = ask("analyze", "-A", "-o", "json")
    assert {one["code"] for one in json.loads(everywhere) if one["level"] == "Error"} == {"IST0173"}


def test_what_bears_on_a_pod_is_described(ask: Ask, shop: Shop, shop_release: str) -> None:
    one, two = pod(shop, "reviews"), pod(shop, "reviews", "v2")
    found = ask("x", "describe", "pod", one, "-n", "bookinfo")
    assert found.startswith(f"Pod: {one}\n")
    assert "Service: reviews\n   Port: http 9080/HTTP targets pod port 9080\n" in found
    rule = 'DestinationRule: reviews for "reviews"\n   Matching subsets: v1\n      (Non-matching subsets v2,v3)\n'
    assert rule in found
    assert "VirtualService" not in found.partition("Exposed")[0]
    assert "VirtualService: bookinfo.bookinfo\n" in ask("x", "describe", "svc", "productpage.bookinfo")
    samples = istio.release(shop_release).samples / "bookinfo/networking"
    shop.sandbox.kubectl("apply", "-n", "bookinfo", "-f", str(samples / "virtual-service-reviews-jason-v2-v3.yaml"))
    try:
        found = ask("experimental", "des", "po", f"{one}.bookinfo", "-n", "bookinfo")
        assert (
            "VirtualService: reviews\n   WARNING: No destinations match pod subsets (checked 2 HTTP routes)\n"
            "      Route to non-matching subset v2 for (Match:  when headers are end-user=jason)\n"
            "      Route to non-matching subset v3 for (everything)\n"
        ) in found
        found = ask("x", "describe", "pod", f"{two}.bookinfo", "-n", "bookinfo")
        assert "   Match:  when headers are end-user=jason\n   1 additional destination(s) that will not reach" in found
    finally:
        shop.sandbox.kubectl("delete", "virtualservice", "reviews", "-n", "bookinfo")
    ask("x", "describe", "pod", "nobody", "-n", "bookinfo", code=1)


def test_a_manifest_gets_the_sidecar_that_its_pods_would_get(ask: Ask, shop: Shop, tmp_path: Path) -> None:
    probed = {
        "name": "app",
        "image": "docker.io/curlimages/curl:8.16.0",
        "livenessProbe": {"tcpSocket": {"port": 80}},  # today's injector asks the agent by HTTP in its place
    }
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "extra"},
        "spec": {
            "selector": {"matchLabels": {"app": "extra"}},
            "template": {
                "metadata": {"labels": {"app": "extra"}},
                "spec": {"containers": [probed]},
            },
        },
    }
    file = tmp_path / "extra.yaml"
    file.write_text(
        yaml.safe_dump_all([manifest, {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "extra"}}])
    )
    deployment, service = (
        one for one in yaml.safe_load_all(ask("kube-inject", "-f", str(file), "-n", "bookinfo")) if one
    )
    assert service == {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "extra"}}
    template = deployment["spec"]["template"]
    names = [one["name"] for part in ("initContainers", "containers") for one in template["spec"].get(part, [])]
    assert "istio-proxy" in names
    assert names.count("app") == 1
    assert deployment["spec"]["selector"] == manifest["spec"]["selector"]
    assert "sidecar.istio.io/status" in template["metadata"]["annotations"]
    assert "trial" not in yaml.safe_dump(deployment)
    (app,) = (one for one in template["spec"]["containers"] if one["name"] == "app")
    assert len({"tcpSocket", "httpGet"} & set(app["livenessProbe"])) == 1
    assert not [one for one in template["spec"]["volumes"] if one["name"].startswith("kube-api-access")]
    shop.sandbox.kubectl("apply", "--dry-run=server", "-n", "bookinfo", "-f", "-", stdin=yaml.safe_dump(deployment))


def test_a_console_is_there_until_it_is_interrupted(shop: Shop) -> None:
    surroundings = {
        **os.environ,
        "LABKIT_HOME": str(shop.sandbox.labkit_home),
        "KUBECONFIG": str(shop.sandbox.kubeconfig),
        "LABKIT_ISTIOCTL": "ours",
    }
    command = [sys.executable, "-m", "labkit.istioctl", "dashboard", "prometheus"]
    # Who runs the tests in the background has interrupts ignored, and so had what they start.
    listening = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(command, env=surroundings, stdout=subprocess.PIPE, text=True, **listening) as console:
        try:
            assert console.stdout is not None
            url = console.stdout.readline().strip()
            assert url.startswith("http://localhost:")
            wait_until(lambda: cluster.fetch(f"{url}/-/ready").status == 200, 60, "Prometheus")
        finally:
            console.send_signal(signal.SIGINT)
        assert console.wait(60) == 130
