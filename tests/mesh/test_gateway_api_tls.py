# SPDX-License-Identifier: Apache-2.0
"""TLS at a Gateway's listeners: who has to show a certificate, with which ciphers, and what goes on as it comes."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.mesh.gateway_api.classes import Classes
from meshbox.mesh.gateway_api.listeners import built
from meshbox.mesh.gateway_api.tls import Around

from .test_gateway_api_listeners import around, encoded, gateway, message, only, said, secure

Obj = dict[str, Any]

CLIENTS = {"group": "", "kind": "ConfigMap", "name": "clients"}


@pytest.mark.parametrize(
    ("frontend", "tls"),
    [
        (
            {"default": {"validation": {"caCertificateRefs": [CLIENTS]}}},
            {"mode": "MUTUAL", "caCertCredentialName": "configmap://bookinfo/clients"},
        ),
        (
            {"default": {}, "perPort": [{"port": 443, "tls": {"validation": {"caCertificateRefs": [CLIENTS]}}}]},
            {"mode": "MUTUAL", "caCertCredentialName": "configmap://bookinfo/clients"},
        ),
        ({"default": {}, "perPort": [{"port": 444, "tls": {"validation": {"caCertificateRefs": [CLIENTS]}}}]}, {}),
        (
            {"default": {"validation": {"caCertificateRefs": [CLIENTS]}}, "perPort": [{"port": 443, "tls": {}}]},
            {},
        ),
        (
            {"default": {"validation": {"caCertificateRefs": [CLIENTS], "mode": "AllowInsecureFallback"}}},
            {"mode": "MUTUAL", "caCertCredentialName": "configmap://bookinfo/clients"},
        ),
        (
            {"default": {"validation": {"caCertificateRefs": [{"group": "", "kind": "Secret", "name": "shop"}]}}},
            {"mode": "MUTUAL", "caCertCredentialName": "kubernetes-gateway://bookinfo/shop"},
        ),
    ],
)
def test_clients_are_asked_for_certificates(pair: Obj, frontend: Obj, tls: Obj) -> None:
    found = only(secure(), around(pair), tls={"frontend": frontend})
    assert found.server is not None
    standing = {"mode": "SIMPLE", "credentialName": "kubernetes-gateway://bookinfo/shop"}
    assert found.server["tls"] == standing | tls


def test_an_option_lets_in_clients_without_a_certificate(pair: Obj) -> None:
    options = {"gateway.istio.io/tls-terminate-mode": "OPTIONAL_MUTUAL"}
    frontend = {"default": {"validation": {"caCertificateRefs": [CLIENTS]}}}
    found = only(secure(tls={"options": options}), around(pair), tls={"frontend": frontend})
    assert found.server is not None
    assert found.server["tls"]["mode"] == "OPTIONAL_MUTUAL"
    assert found.server["tls"]["caCertCredentialName"] == "configmap://bookinfo/clients"


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ({"kind": "ConfigMap", "name": "gone"}, "/ConfigMap/gone., configmap bookinfo/gone not found"),
        ({"kind": "Secret", "name": "gone"}, "/Secret/gone., secret bookinfo/gone not found"),
        ({"kind": "Service", "name": "shop"}, "/Service/shop., only secret and configmap are allowed"),
        ({"kind": "Secret", "name": "text"}, "/Secret/text., the bundle is malformed"),
        ({"kind": "Secret", "name": "no"}, '/Secret/no., found key "ca.crt", but it was empty'),
        (
            {"kind": "Secret", "name": "other"},
            "/Secret/other., found secret, but didn't have expected keys cacert or ca.crt; found: ca",
        ),
    ],
)
def test_who_may_call_is_never_left_open(pair: Obj, reference: Obj, words: str) -> None:
    about = around(pair, text={"ca.crt": encoded("x")}, no={"ca.crt": ""}, other={"ca": encoded("x")})
    frontend = {"default": {"validation": {"caCertificateRefs": [{"group": "", **reference}]}}}
    found = only(secure(), about, tls={"frontend": frontend})
    assert found.server is None
    assert said(found)["ResolvedRefs"] == ("InvalidCertificateRef", False)
    assert message(found, "ResolvedRefs") == f"invalid CA certificate reference {words}"
    assert message(found, "Programmed") == "Bad TLS configuration"


@pytest.mark.parametrize(
    ("asked", "own", "suites"),
    [
        (" ECDHE-RSA-AES128-GCM-SHA256, ECDHE-RSA-AES256-GCM-SHA384", "MUTUAL", 2),
        ("", "MUTUAL", 0),
        ("ECDHE-RSA-AES128-GCM-SHA256", "ISTIO_SIMPLE", 0),
        ("ECDHE-RSA-AES128-GCM-SHA256", "ISTIO_MUTUAL", 0),
    ],
)
def test_istios_option_of_ciphers(pair: Obj, asked: str, own: str, suites: int) -> None:
    options = {"gateway.istio.io/tls-cipher-suites": asked, "gateway.istio.io/tls-terminate-mode": own}
    found = only(secure(tls={"options": options}), around(pair))
    assert found.server is not None
    wanted = ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"][:suites]
    assert found.server["tls"].get("cipherSuites", []) == wanted


NETWORK = {"topology.istio.io/network": "one"}


@pytest.mark.parametrize(
    ("labels", "port", "option", "mode"),
    [
        ({}, 15443, "", "PASSTHROUGH"),
        ({}, 9443, "auto-passthrough", "AUTO_PASSTHROUGH"),
        (NETWORK, 15443, "", "AUTO_PASSTHROUGH"),
        (NETWORK, 9443, "", "PASSTHROUGH"),
        ({**NETWORK, "networking.istio.io/gatewayPort": "9443"}, 9443, "", "AUTO_PASSTHROUGH"),
    ],
)
def test_a_gateway_between_networks_leads_to_every_service(labels: Obj, port: int, option: str, mode: str) -> None:
    tls = {"mode": "Passthrough", "options": {"gateway.istio.io/listener-protocol": option}}
    given = gateway({"name": "cross", "port": port, "protocol": "TLS", "tls": tls})
    given["metadata"]["labels"] = labels
    (found,) = built(given, Classes(()), Around())
    assert found.server is not None
    assert found.server["tls"] == {"mode": mode}


def test_a_listener_that_ends_tls_takes_routes_by_name_and_others(pair: Obj) -> None:
    found = only(secure(protocol="TLS"), around(pair))
    assert found.listener.allowed_kinds == ("TLSRoute", "TCPRoute")
