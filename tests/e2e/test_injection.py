# SPDX-License-Identifier: Apache-2.0
"""What pods say of their sidecar, seen in what runs: probes, what is left alone, containers of one's own."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.conftest import wait_until
from tests.e2e.conftest import Shop

PATIENCE = 240
REWRITE = "sidecar.istio.io/rewriteAppHTTPProbers"
LEFT_IN = "traffic.sidecar.istio.io/excludeInboundPorts"
LEFT_OUT = "traffic.sidecar.istio.io/excludeOutboundPorts"
CURL = {"name": "curl", "image": "curlimages/curl", "command": ["sleep", "infinity"]}
WEB = {"name": "web", "image": "docker.io/mccutchen/go-httpbin", "ports": [{"containerPort": 8080}]}


@pytest.fixture(scope="module")
def inside(shop: Shop) -> Iterator[str]:
    """A namespace of the tests' own, with sidecars."""
    shop.sandbox.kubectl("create", "namespace", "injected")
    shop.sandbox.kubectl("label", "namespace", "injected", "istio-injection=enabled")
    yield "injected"
    shop.sandbox.kubectl("delete", "namespace", "injected", "--wait", "--timeout=240s")


def apply(shop: Shop, *objects: dict[str, Any]) -> str:
    done = shop.sandbox.kubectl("apply", "-n", "injected", "-f", "-", stdin=yaml.safe_dump_all(objects))
    return str(done.stderr)


def pod(name: str, containers: list[dict[str, Any]], annotations: dict[str, str], **spec: Any) -> dict[str, Any]:
    meta = {"name": name, "labels": {"app": name}, "annotations": annotations}
    spec = {"containers": containers, "terminationGracePeriodSeconds": 1, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def service(name: str, port: int, target: int) -> dict[str, Any]:
    spec = {"selector": {"app": name}, "ports": [{"name": "http", "port": port, "targetPort": target}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def shown(shop: Shop, name: str, what: str = "pod") -> dict[str, Any]:
    found = shop.sandbox.kubectl("get", what, name, "-n", "injected", "-o", "json").stdout
    return dict(json.loads(found))


def ready(shop: Shop, *names: str) -> None:
    for name in names:
        shop.sandbox.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "-n", "injected", f"--timeout={PATIENCE}s")


def run(shop: Shop, name: str, container: str, *command: str, check: bool = True) -> str:
    into = ("exec", "-n", "injected", name, "-c", container, "--")
    return str(shop.sandbox.kubectl(*into, *command, check=check).stdout)


def headers(address: str) -> dict[str, str]:
    """What go-httpbin in the pod at an address was asked with, as soon as it listens: without a probe a pod is ready
    before it does."""

    def answered() -> dict[str, str]:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}:8080/headers", timeout=60) as said:
            found: dict[str, str] = json.loads(said.read())["headers"]
            return found
        return {}

    found: dict[str, str] = wait_until(answered, what=f"an answer of {address}")
    return found


def unhealthy(shop: Shop, name: str) -> list[str]:
    events = json.loads(shop.sandbox.kubectl("get", "events", "-n", "injected", "-o", "json").stdout)["items"]
    found = [one for one in events if one["reason"] == "Unhealthy" and one["involvedObject"]["name"] == name]
    return [one["message"] for one in found]


def strict(shop: Shop, app: str) -> dict[str, Any]:
    if shop.sandbox.release == "1.2.2":
        api, kind = "authentication.istio.io/v1alpha1", "Policy"
        spec: dict[str, Any] = {"targets": [{"name": app}], "peers": [{"mtls": {}}]}
    else:
        api, kind = "security.istio.io/v1", "PeerAuthentication"
        spec = {"selector": {"matchLabels": {"app": app}}, "mtls": {"mode": "STRICT"}}
    return {"apiVersion": api, "kind": kind, "metadata": {"name": app}, "spec": spec}


def test_the_kubelet_has_no_certificate(shop: Shop, inside: str) -> None:
    # Nobody is asked before the application itself is there, nor given up for being slow.
    itself = {"exec": {"command": ["curl", "-sf", "-o", "/dev/null", "localhost:8080/get"]}, "timeoutSeconds": 30}
    begun = {**itself, "periodSeconds": 1, "failureThreshold": 240}
    probe = {"httpGet": {"path": "/status/200", "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 30}
    probed = [{**WEB, "startupProbe": begun, "livenessProbe": probe}]
    plain = {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "timeoutSeconds": 30}
    apply(
        shop,
        *(service(name, 80, 8080) for name in ("refused", "rewritten", "permissive")),
        strict(shop, "refused"),
        strict(shop, "rewritten"),
        pod("refused", [{**probed[0], "readinessProbe": plain}], {REWRITE: "false"}),
        pod("rewritten", probed, {REWRITE: "true"}),
        pod("permissive", probed, {REWRITE: "false"}),
    )

    def restarts(name: str) -> int:
        statuses = shown(shop, name)["status"].get("containerStatuses", [])
        return sum(one["restartCount"] for one in statuses if one["name"] == "web")

    wait_until(lambda: restarts("refused") > 0, PATIENCE, "a restart of what the kubelet cannot ask")

    def refused() -> bool:
        words = [text for text in unhealthy(shop, "refused") if text.startswith("Liveness probe failed: Get ")]
        return any("EOF" in text or "reset by peer" in text for text in words)

    wait_until(refused, PATIENCE, "an event that says so")
    words = unhealthy(shop, "refused")
    assert not any(text.startswith("Readiness") and "connection refused" not in text for text in words)
    ready(shop, "rewritten", "permissive")
    assert (restarts("rewritten"), restarts("permissive")) == (0, 0)


def test_what_is_excluded_goes_past_the_sidecar(shop: Shop, inside: str) -> None:
    apply(
        shop,
        service("open", 8000, 8080),
        pod("open", [WEB], {LEFT_IN: "8080", REWRITE: "false"}),
        service("shut", 8000, 8080),
        service("other", 8001, 8080),
        pod("shut", [WEB], {}),
        pod("past", [CURL], {LEFT_OUT: "8000"}),
    )
    ready(shop, "open", "shut", "past")
    where = shown(shop, "open")["status"]["podIP"]
    assert "X-Forwarded-Proto" not in headers(where), "no proxy was in between"
    assert (
        run(shop, "open", "web", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "localhost:8080/get") == "200"
    )
    assert "X-Request-Id" in headers(shown(shop, "shut")["status"]["podIP"]), "a sidecar was in between"

    def answered() -> bool:
        return "headers" in run(shop, "past", "curl", "curl", "-s", "shut:8000/headers", check=False)

    wait_until(answered, PATIENCE, "the Service's address leads to its pod")
    stats = run(shop, "past", "istio-proxy", "pilot-agent", "request", "GET", "stats?filter=istio.*shut")
    assert "shut" not in stats, "the sidecar of the caller saw nothing of it"


def test_a_container_of_ones_own_is_merged(shop: Shop, inside: str) -> None:
    if shop.sandbox.release == "1.2.2":
        pytest.skip("Istio 1.2 merged no containers")
    own = {
        "name": "istio-proxy",
        "image": "auto",
        "env": [{"name": "MINE", "value": "yes"}],
        "resources": {"requests": {"cpu": "11m"}},
    }
    config = "proxyMetadata: {FOO: bar}\nconcurrency: 3\ntracing: {maxPathTagLength: 5}\n"
    annotations = {
        "sidecar.istio.io/proxyCPULimit": "222m",
        "sidecar.istio.io/userVolume": '{"notes": {"configMap": {"name": "notes"}}}',
        "sidecar.istio.io/userVolumeMount": '{"notes": {"mountPath": "/etc/notes"}}',
        "proxy.istio.io/config": config,
    }
    notes = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "notes"}, "data": {"hello": "world"}}
    said = apply(shop, notes, pod("merged", [CURL, own], annotations))
    assert "field tracing.maxPathTagLength of annotation proxy.istio.io/config is not played" in said
    ready(shop, "merged")
    spec = shown(shop, "merged")["spec"]
    assert [one["name"] for one in spec["containers"]] == ["curl"]
    assert [one["name"] for one in spec["initContainers"]] == ["istio-init", "istio-proxy"]
    script = 'echo $MINE $FOO $ISTIO_CPU_LIMIT; cat "$LABKIT_ROOT/etc/notes/hello"'
    assert run(shop, "merged", "istio-proxy", "sh", "-c", script).split() == ["yes", "bar", "1", "world"]
    server = json.loads(run(shop, "merged", "curl", "curl", "-s", "localhost:15000/server_info"))
    assert server["command_line_options"]["concurrency"] == 3

    def told() -> bool:
        events = json.loads(shop.sandbox.kubectl("get", "events", "-n", "injected", "-o", "json").stdout)["items"]
        words = [one["message"] for one in events if one["reason"] == "NotPlayed"]
        return any("tracing.maxPathTagLength" in text for text in words)

    wait_until(told, PATIENCE, "an event that says so")


def test_a_job_ends_its_proxy(shop: Shop, inside: str) -> None:
    if shop.sandbox.release == "1.2.2":
        pytest.skip("Istio 1.2 had no quitquitquit")
    held = {
        "sidecar.istio.io/nativeSidecar": "false",
        "proxy.istio.io/config": "holdApplicationUntilProxyStarts: true",
    }
    script = "curl -fs -o /dev/null localhost:15021/healthz/ready && curl -fsI -X POST localhost:15020/quitquitquit"
    apply(shop, pod("once", [{**CURL, "command": ["sh", "-c", script]}], held, restartPolicy="Never"))

    def phase() -> str:
        return str(shown(shop, "once")["status"].get("phase"))

    wait_until(lambda: phase() in ("Succeeded", "Failed"), PATIENCE, "the pod has ended")
    assert phase() == "Succeeded"
    assert "HTTP/1.1 200 OK" in shop.sandbox.kubectl("logs", "-n", "injected", "once", "-c", "curl").stdout


def test_a_gateway_is_made_by_injection(shop: Shop, inside: str) -> None:
    if shop.sandbox.release == "1.2.2":
        pytest.skip("Istio 1.2 injected no gateways")
    meta = {"name": "gate", "labels": {"istio": "gate"}, "annotations": {"inject.istio.io/templates": "gateway"}}
    own = {"name": "istio-proxy", "image": "auto"}
    server = {"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    away = {"hosts": ["*"], "gateways": ["gate"], "http": [{"redirect": {"uri": "/there"}}]}
    networking = "networking.istio.io/v1"
    apply(
        shop,
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [own]}},
        {
            "apiVersion": networking,
            "kind": "Gateway",
            "metadata": {"name": "gate"},
            "spec": {"selector": {"istio": "gate"}, "servers": [server]},
        },
        {"apiVersion": networking, "kind": "VirtualService", "metadata": {"name": "gate"}, "spec": away},
    )  # fmt: skip
    ready(shop, "gate")
    where = shown(shop, "gate")["status"]["podIP"]

    def redirected() -> bool:
        with urllib.request.urlopen(f"http://{where}:15020/healthz/ready", timeout=60) as answer:
            assert answer.status == 200
        asked = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{where}:8080/")
        return run(shop, "gate", "istio-proxy", *asked, check=False) == "301"

    wait_until(redirected, PATIENCE, "the gateway answers by its rule")
