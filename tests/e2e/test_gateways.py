# SPDX-License-Identifier: Apache-2.0
"""Istio's own httpbin sample beside BookInfo's at the ingress gateway, in plain text and over TLS."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from labkit import istio
from meshbox.mesh.certificates import Authority
from tests.conftest import genuine, wait_until
from tests.shops import Shop

NAMESPACE = "httpbin"

SECURE = """
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata: {name: secure}
spec:
  selector: {istio: ingressgateway}
  servers:
    - port: {number: 443, name: https, protocol: HTTPS}
      tls: {mode: SIMPLE, credentialName: httpbin-credential}
      hosts: [httpbin.test]
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: secure}
spec:
  hosts: [httpbin.test]
  gateways: [secure]
  http: [{route: [{destination: {host: httpbin, port: {number: 8000}}}]}]
"""


@pytest.fixture(scope="module")
def httpbin(shop: Shop) -> Iterator[Shop]:
    """The genuine sample, as it stands, in a namespace of its own."""
    samples = genuine(shop.sandbox.release) / "samples" / "httpbin"
    shop.sandbox.kubectl("create", "namespace", NAMESPACE)
    shop.sandbox.kubectl("label", "namespace", NAMESPACE, "istio-injection=enabled")
    for name in ("httpbin.yaml", "httpbin-gateway.yaml"):
        applied = shop.sandbox.kubectl("apply", "-n", NAMESPACE, "-f", str(samples / name))
        assert "Warning" not in applied.stderr
    shop.sandbox.kubectl("wait", "--for=condition=Available", "deployment/httpbin", "-n", NAMESPACE, "--timeout=240s")
    yield shop
    shop.sandbox.kubectl("delete", "namespace", NAMESPACE)


def status(url: str, context: ssl.SSLContext | None = None) -> int:
    """Of one request to host httpbin.test; 0 if nobody answers."""
    try:
        request = urllib.request.Request(url, headers={"Host": "httpbin.test"})
        with urllib.request.urlopen(request, timeout=60, context=context) as got:
            return int(got.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def test_httpbin_answers_at_port_80_beside_bookinfo(httpbin: Shop) -> None:
    wait_until(lambda: status(f"{httpbin.url}/status/200") == 200, what="a 200 of httpbin")
    assert status(f"{httpbin.url}/status/418") == 418
    # A host of its own is nobody's but httpbin's, the path is BookInfo's as well: the older one has it.
    assert httpbin.status("/productpage") == 200


def test_the_ways_in_are_the_services_own(httpbin: Shop) -> None:
    way = istio.ingress(show=False)
    wait_until(lambda: status(f"{way.url}/status/200") == 200, what="a 200 by labkit's way in")
    service = json.loads(
        httpbin.sandbox.kubectl("get", "service", "istio-ingressgateway", "-n", "istio-system", "-o", "json").stdout
    )
    address = service["spec"]["clusterIP"]
    # Ports below 1024 lie higher where this user may not bind them.
    ports = [80, 20080]
    wait_until(
        lambda: 200 in [status(f"http://{address}:{port}/status/200") for port in ports], what="a 200 at port 80"
    )


def test_port_443_serves_tls_with_a_credential(httpbin: Shop, tmp_path_factory: pytest.TempPathFactory) -> None:
    authority = Authority(tmp_path_factory.mktemp("public"))
    authority.load()
    own = authority.issue("https://httpbin.test")
    data = {"tls.crt": own.chain, "tls.key": own.key}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "httpbin-credential", "namespace": "istio-system"},
        "type": "kubernetes.io/tls",
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()},
    }
    httpbin.sandbox.kubectl("apply", "-f", "-", stdin=json.dumps(secret))
    try:
        httpbin.sandbox.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=SECURE)
        way = istio.ingress(show=False)
        # Istio 1.2 knows a host without a port, and with the port that the Gateway names.
        asked = ["curl", "-sk", "-H", "Host:httpbin.test", "-o", "/dev/null", "-w", "%{http_code}", "--resolve"]
        asked += [f"httpbin.test:{way.secure_port}:{way.host}", f"https://httpbin.test:{way.secure_port}/status/200"]
        wait_until(lambda: httpbin.sandbox.bash(" ".join(asked)).stdout == "200", what="a 200 over TLS")
    finally:
        httpbin.sandbox.kubectl("delete", "secret", "-n", "istio-system", "httpbin-credential")
