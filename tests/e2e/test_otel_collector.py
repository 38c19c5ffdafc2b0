# SPDX-License-Identifier: Apache-2.0
"""A collector in a pod, of the provider that the release's own settings name, takes the spans of Istio's test app."""

from __future__ import annotations

import json

import pytest

from tests.conftest import wait_until
from tests.shops import Shop

COLLECTOR = """
apiVersion: v1
kind: ConfigMap
metadata: {name: opentelemetry-collector}
data:
  config.yaml: |
    receivers: {otlp: {protocols: {grpc: {endpoint: "0.0.0.0:4317"}, http: {endpoint: "0.0.0.0:4318"}}}}
    processors: {batch: {}}
    exporters: {debug: {verbosity: detailed}}
    extensions: {health_check: {endpoint: "0.0.0.0:13133"}}
    service:
      extensions: [health_check]
      pipelines: {traces: {receivers: [otlp], processors: [batch], exporters: [debug]}}
---
apiVersion: v1
kind: Service
metadata: {name: opentelemetry-collector}
spec:
  selector: {app: opentelemetry-collector}
  ports: [{name: grpc-otlp, port: 4317}, {name: http-otlp, port: 4318}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: opentelemetry-collector}
spec:
  selector: {matchLabels: {app: opentelemetry-collector}}
  template:
    metadata: {labels: {app: opentelemetry-collector, sidecar.istio.io/inject: "false"}}
    spec:
      containers:
      - name: collector
        image: otel/opentelemetry-collector:0.123.0
        args: [--config=/conf/config.yaml]
        ports: [{containerPort: 4317}, {containerPort: 4318}]
        readinessProbe: {httpGet: {path: /, port: 13133}, periodSeconds: 1}
        volumeMounts: [{name: conf, mountPath: /conf}]
      volumes: [{name: conf, configMap: {name: opentelemetry-collector}}]
"""
ECHO = """
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports: [{name: http, port: 80, targetPort: 18080}, {name: grpc, port: 7070, targetPort: 17070}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo-v1}
spec:
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo, version: v1}}
    spec:
      containers:
      - name: echo
        image: gcr.io/istio-testing/app:latest
        args: [--metrics=15014, --cluster, cluster-1, --port, "18080", --grpc, "17070", --version, v1]
        ports: [{containerPort: 18080}, {containerPort: 17070}]
        readinessProbe: {httpGet: {path: /, port: 18080}, periodSeconds: 1}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: spans}
spec: {tracing: [{providers: [{name: otel-tracing}], randomSamplingPercentage: 100}]}
"""


def test_a_collector_in_a_pod_takes_the_spans_of_calls_over_http_and_grpc(shop: Shop) -> None:
    if shop.sandbox.release == "1.2.2":
        pytest.skip("Istio 1.2 had no extension providers")
    kubectl = shop.sandbox.kubectl
    kubectl("create", "namespace", "observability")
    kubectl("create", "namespace", "echoes")
    try:
        kubectl("label", "namespace", "echoes", "istio-injection=enabled")
        kubectl("apply", "-n", "echoes", "-f", "-", stdin=ECHO)
        why = "and the mesh has no such Service: no spans are sent"
        wait_until(lambda: why in events(shop), 60, "what is missing is told on the Telemetry object")
        kubectl("apply", "-n", "observability", "-f", "-", stdin=COLLECTOR)
        for namespace, name in (("observability", "opentelemetry-collector"), ("echoes", "echo-v1")):
            kubectl("rollout", "status", f"deployment/{name}", "-n", namespace, "--timeout=240s")

        calls = ("http://echo/by-http", "grpc://echo:7070")
        client = ("exec", "-n", "echoes", "deployment/echo-v1", "-c", "echo", "--", "client")
        for url in calls:
            # That its own pod is ready a sidecar hears later than kubectl.
            wait_until(lambda url=url: kubectl(*client, url, check=False).returncode == 0, 240, f"an answer of {url}")

        def both() -> bool:
            for url in calls:
                # The listeners that send spans are new ones, and what the old ones do not end in time is cut.
                kubectl(*client, url, check=False)
            told = kubectl("logs", "-n", "observability", "deployment/opentelemetry-collector").stdout
            names = ("echo.echoes.svc.cluster.local:80/*", "echo.echoes.svc.cluster.local:7070/*")
            return all(f"Name           : {name}" in told for name in names) and "Kind           : Server" in told

        wait_until(both, 240, "spans of both calls are in the collector's log")
    finally:
        kubectl("delete", "namespace", "echoes", "observability")


def events(shop: Shop) -> str:
    """What is told of the Telemetry object."""
    told = shop.sandbox.kubectl("get", "events", "-n", "echoes", "-o", "json").stdout
    return "\n".join(e["message"] for e in json.loads(told)["items"] if e["involvedObject"]["name"] == "spans")
