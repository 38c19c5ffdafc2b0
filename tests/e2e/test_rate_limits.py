# SPDX-License-Identifier: Apache-2.0
"""Istio's task on global rate limits: its service, its redis and its EnvoyFilters at the ingress gateway."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request

import pytest

from tests.conftest import wait_until
from tests.shops import Shop

# Of a year: no clock crosses its border while a test runs, but once in half a century.
SERVICE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: ratelimit-config}
data:
  config.yaml: |
    domain: ratelimit
    descriptors:
      - key: PATH
        value: "/api/v1/products"
        rate_limit: {unit: year, requests_per_unit: 1}
      - key: PATH
        value: "api"
        rate_limit: {unit: year, requests_per_unit: 2}
      - key: PATH
        rate_limit: {unit: year, requests_per_unit: 1000000}
---
apiVersion: v1
kind: Service
metadata: {name: redis, labels: {app: redis}}
spec:
  ports: [{name: redis, port: 6379}]
  selector: {app: redis}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: redis}
spec:
  replicas: 1
  selector: {matchLabels: {app: redis}}
  template:
    metadata: {labels: {app: redis}}
    spec:
      containers:
      - image: docker.io/redis:alpine
        imagePullPolicy: IfNotPresent
        name: redis
        ports: [{name: redis, containerPort: 6379}]
      restartPolicy: Always
      serviceAccountName: ""
---
apiVersion: v1
kind: Service
metadata: {name: ratelimit, labels: {app: ratelimit}}
spec:
  ports:
  - {name: http-port, port: 8080, targetPort: 8080, protocol: TCP}
  - {name: grpc-port, port: 8081, targetPort: 8081, protocol: TCP}
  - {name: http-debug, port: 6070, targetPort: 6070, protocol: TCP}
  selector: {app: ratelimit}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ratelimit}
spec:
  replicas: 1
  selector: {matchLabels: {app: ratelimit}}
  strategy: {type: Recreate}
  template:
    metadata: {labels: {app: ratelimit}}
    spec:
      containers:
      - image: docker.io/envoyproxy/ratelimit:30a4ce1a
        imagePullPolicy: IfNotPresent
        name: ratelimit
        command: ["/bin/ratelimit"]
        env:
        - {name: LOG_LEVEL, value: debug}
        - {name: REDIS_SOCKET_TYPE, value: tcp}
        - {name: REDIS_URL, value: "redis:6379"}
        - {name: USE_STATSD, value: "false"}
        - {name: RUNTIME_ROOT, value: /data}
        - {name: RUNTIME_SUBDIRECTORY, value: ratelimit}
        - {name: RUNTIME_WATCH_ROOT, value: "false"}
        - {name: RUNTIME_IGNOREDOTFILES, value: "true"}
        - {name: HOST, value: "::"}
        - {name: GRPC_HOST, value: "::"}
        ports: [{containerPort: 8080}, {containerPort: 8081}, {containerPort: 6070}]
        volumeMounts: [{name: config-volume, mountPath: /data/ratelimit/config}]
      volumes:
      - {name: config-volume, configMap: {name: ratelimit-config}}
"""
FILTERS = """
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: filter-ratelimit, namespace: istio-system}
spec:
  workloadSelector: {labels: {istio: ingressgateway}}
  configPatches:
  - applyTo: HTTP_FILTER
    match:
      context: GATEWAY
      listener:
        filterChain:
          filter:
            name: envoy.filters.network.http_connection_manager
            subFilter: {name: envoy.filters.http.router}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.ratelimit
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit
          domain: ratelimit
          failure_mode_deny: true
          timeout: 10s
          enable_x_ratelimit_headers: DRAFT_VERSION_03
          rate_limit_service:
            grpc_service:
              envoy_grpc:
                cluster_name: outbound|8081||ratelimit.limits.svc.cluster.local
                authority: ratelimit.limits.svc.cluster.local
            transport_api_version: V3
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: filter-ratelimit-svc, namespace: istio-system}
spec:
  workloadSelector: {labels: {istio: ingressgateway}}
  configPatches:
  - applyTo: VIRTUAL_HOST
    match: {context: GATEWAY, routeConfiguration: {vhost: {name: "", route: {action: ANY}}}}
    patch:
      operation: MERGE
      value:
        rate_limits:
        - actions:
          - request_headers: {header_name: ":path", descriptor_key: PATH}
        - actions:
          - header_value_match:
              descriptor_key: PATH
              descriptor_value: api
              headers:
              - name: ":path"
                safe_regex_match: {google_re2: {}, regex: "/api/v1/products/[1-9]{1,2}"}
"""
Seen = tuple[int, dict[str, str | None]]


def asked(shop: Shop, path: str) -> Seen:
    """The status of one request through the gateway, and what its headers say of limits."""
    try:
        with urllib.request.urlopen(shop.url + path, timeout=60) as answer:
            status, headers = answer.status, answer.headers
    except urllib.error.HTTPError as error:
        with error:
            status, headers = error.code, error.headers
    except OSError:
        return 0, {}
    named = ("x-envoy-ratelimited", "x-ratelimit-limit", "x-ratelimit-remaining")
    return status, {name.removeprefix("x-"): headers[name] for name in named}


def test_the_first_request_goes_through_and_the_second_does_not(shop: Shop) -> None:
    if shop.sandbox.release == "1.2.2":
        pytest.skip("Istio 1.2 limited rates with Mixer")
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not there")
    kubectl = shop.sandbox.kubectl
    kubectl("create", "namespace", "limits")
    try:
        kubectl("label", "namespace", "limits", "istio-injection=enabled")
        kubectl("apply", "-n", "limits", "-f", "-", stdin=SERVICE)
        kubectl("apply", "-f", "-", stdin=FILTERS)

        def limited() -> bool:
            status, said = asked(shop, "/productpage")
            return status == 200 and said["ratelimit-limit"] == "1000000, 1000000;w=31536000"

        # Until redis is there the service ends, and Kubernetes starts it again; until then all is refused.
        wait_until(limited, 240, "the service says what is left of the limit for all other paths")
        only = {"ratelimit-limit": "1, 1;w=31536000", "ratelimit-remaining": "0"}
        assert asked(shop, "/api/v1/products") == (200, {"envoy-ratelimited": None, **only})
        assert asked(shop, "/api/v1/products") == (429, {"envoy-ratelimited": "true", **only})
        products = [asked(shop, f"/api/v1/products/{number}") for number in (1, 2, 3)]
        assert [status for status, _ in products] == [200, 200, 429]
        assert [said["ratelimit-remaining"] for _, said in products] == ["1", "0", "0"]
        assert {said["ratelimit-limit"] for _, said in products} == {
            "2, 1000000;w=31536000, 2;w=31536000",
        }
        inside = ("exec", "-n", "limits", "deployment/ratelimit", "-c", "ratelimit", "--", "curl", "-s")
        told = kubectl(*inside, "localhost:6070/stats").stdout.splitlines()
        for name, number in (
            ("PATH_api.total_hits", 3),
            ("PATH_api.over_limit", 1),
            ("PATH_/api/v1/products.total_hits", 2),
        ):
            assert f"ratelimit.service.rate_limit.ratelimit.{name}: {number}" in told

        kubectl("scale", "-n", "limits", "deployment/redis", "--replicas=0")
        wait_until(lambda: asked(shop, "/productpage")[0] == 500, 120, "without redis all is refused")
    finally:
        kubectl("delete", "-f", "-", stdin=FILTERS, check=False)
        kubectl("delete", "namespace", "limits")
    wait_until(lambda: shop.status() == 200, 120, "nothing limits the shop any more")
