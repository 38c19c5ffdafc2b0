# SPDX-License-Identifier: Apache-2.0
"""What of routes and of Ingresses has no effect is told when they are applied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from meshbox.contracts import AdmissionRequest
from meshbox.mesh.admission import MeshAdmission
from meshbox.mesh.kinds import (
    BACKEND_TLS_POLICIES,
    GRPC_ROUTES,
    HTTP_ROUTES,
    INGRESSES,
    KUBERNETES_GATEWAYS,
    LISTENER_SETS,
    TCP_ROUTES,
    TLS_ROUTES,
)

from .cluster import Cluster
from .test_mesh_ingresses import backend, ingress, path, rule

Obj = dict[str, Any]

FALLBACK = {"validation": {"mode": "AllowInsecureFallback", "caCertificateRefs": [{"name": "roots"}]}}
SESSION = {"rules": [{}, {"sessionPersistence": {"sessionName": "x"}}]}


def asking(option: str, value: str, **others: str) -> Obj:
    listener = {"name": "tls", "tls": {"options": {f"gateway.istio.io/{option}": value, **others}}}
    return {"gatewayClassName": "istio", "listeners": [{"name": "http"}, listener]}


def warnings(cluster: Cluster, resource: str, obj: Obj) -> list[str]:
    meta = {"name": "one", "namespace": "bookinfo", **obj.get("metadata", {})}
    request = AdmissionRequest("CREATE", resource, "bookinfo", "one", {**obj, "metadata": meta})
    MeshAdmission(cluster, cluster.settings).validate(request)
    return request.warnings


@pytest.mark.parametrize(
    ("resource", "spec", "wanted"),
    [
        (HTTP_ROUTES, {"rules": [{}]}, ""),
        (HTTP_ROUTES, SESSION, "spec.rules[1].sessionPersistence has no effect"),
        (GRPC_ROUTES, SESSION, "spec.rules[1].sessionPersistence has no effect"),
        (TLS_ROUTES, {"useDefaultGateways": "All"}, "spec.useDefaultGateways has no effect"),
        (TLS_ROUTES, {"useDefaultGateways": "None"}, ""),
        (GRPC_ROUTES, {"parentRefs": [{"name": "gw"}, {"kind": "ListenerSet", "name": "more"}]}, ""),
        (
            LISTENER_SETS,
            asking("tls-ciphers", "any"),
            "spec.listeners[1].tls.options[gateway.istio.io/tls-ciphers]: Istio knows no such option",
        ),
        (
            KUBERNETES_GATEWAYS,
            {"gatewayClassName": "istio", "tls": {"frontend": {"perPort": [{"port": 443, "tls": FALLBACK}]}}},
            "spec.tls.frontend.perPort[0].tls.validation.mode: AllowInsecureFallback has no effect",
        ),
        (
            KUBERNETES_GATEWAYS,
            {"gatewayClassName": "istio", "tls": {"frontend": {"default": FALLBACK}}},
            "spec.tls.frontend.default.validation.mode: AllowInsecureFallback has no effect",
        ),
        (KUBERNETES_GATEWAYS, asking("tls-cipher-suites", "-ALL, ECDHE-RSA-AES128-GCM-SHA256"), ""),
        (
            KUBERNETES_GATEWAYS,
            asking("tls-cipher-suites", "RC4, AES128-SHA"),
            "spec.listeners[1].tls.options[gateway.istio.io/tls-cipher-suites]: Istio leaves out RC4",
        ),
        (
            KUBERNETES_GATEWAYS,
            asking("tls-cipher-suites", "AES128-SHA", **{"gateway.istio.io/tls-terminate-mode": "ISTIO_SIMPLE"}),
            "spec.listeners[1].tls.options[gateway.istio.io/tls-cipher-suites]: Istio leaves it out where"
            " gateway.istio.io/tls-terminate-mode is ISTIO_SIMPLE",
        ),
        (
            KUBERNETES_GATEWAYS,
            asking("tls-max-version", "1.2"),
            "spec.listeners[1].tls.options[gateway.istio.io/tls-max-version]: Istio knows no such option",
        ),
        (TCP_ROUTES, {}, "Istio plays TCPRoute only where istiod has PILOT_ENABLE_ALPHA_GATEWAY_API=true"),
        (BACKEND_TLS_POLICIES, {"options": {"a.b/c": "d"}}, "spec.options has no effect"),
        (
            BACKEND_TLS_POLICIES,
            {"validation": {"hostname": "web.test", "wellKnownCACertificates": "System"}},
            "spec.validation.hostname: Istio asks for web.test, and takes whoever the CA vouches for",
        ),
        (
            BACKEND_TLS_POLICIES,
            {"validation": {"hostname": "web.test", "subjectAltNames": [{"type": "Hostname", "hostname": "web.test"}]}},
            "",
        ),
    ],
)
def test_what_is_not_played(resource: str, spec: Obj, wanted: str, cluster_of: Callable[[str], Cluster]) -> None:
    told = warnings(cluster_of("1.30.3"), resource, {"spec": spec})
    assert [words[: len(wanted)] for words in told] == ([wanted] if wanted else [])


AMBIENT = "the sandbox has no ambient mesh: pods come into the mesh by a sidecar (`istio-injection=enabled`)"
WAYPOINTS = "the sandbox has no waypoints: sidecars do what they would"


@pytest.mark.parametrize(
    ("resource", "labels", "spec", "wanted"),
    [
        ("namespaces", {"istio.io/dataplane-mode": "ambient"}, {}, ["label istio.io/dataplane-mode: ambient", AMBIENT]),
        ("pods", {"istio.io/dataplane-mode": "none"}, {}, []),
        ("services", {"istio.io/use-waypoint": "way"}, {}, ["label istio.io/use-waypoint: way", WAYPOINTS]),
        (
            KUBERNETES_GATEWAYS,
            {"istio.io/waypoint-for": "service"},
            {"gatewayClassName": "istio-waypoint"},
            ["gatewayClassName: istio-waypoint", WAYPOINTS],
        ),
        (
            KUBERNETES_GATEWAYS,
            {},
            {"gatewayClassName": "istio-east-west"},
            ["gatewayClassName: istio-east-west", AMBIENT],
        ),
        ("namespaces", {"istio-injection": "enabled"}, {}, []),
    ],
)
def test_the_ambient_mesh_is_not_asked_for_in_vain(
    resource: str, labels: dict[str, str], spec: Obj, wanted: list[str], cluster_of: Callable[[str], Cluster]
) -> None:
    obj = {"metadata": {"labels": labels}, "spec": spec}
    told = warnings(cluster_of("1.30.3"), resource, obj)
    assert told == ([" has no effect: ".join(wanted)] if wanted else [])
    # Istio 1.2 knew nothing of it.
    assert warnings(cluster_of("1.2.2"), resource, obj) == []


def test_a_control_plane_that_plays_tcp_routes_needs_no_word(cluster_of: Callable[[str], Cluster]) -> None:
    cluster = cluster_of("1.30.3")
    cluster.install("Deployment", "deployments.apps", {"1.30.3": "manifests/istiod.yaml"})
    istiod = cluster.get("deployments.apps", "istiod", "istio-system")
    assert len(warnings(cluster, TCP_ROUTES, {"spec": {}})) == 1
    variable = {"name": "PILOT_ENABLE_ALPHA_GATEWAY_API", "value": "true"}
    istiod["spec"]["template"]["spec"]["containers"][0]["env"].append(variable)
    cluster.update("deployments.apps", istiod)
    assert warnings(cluster, TCP_ROUTES, {"spec": {}}) == []


@pytest.mark.parametrize(
    ("release", "classed", "wanted"),
    [
        ("1.30.3", True, ["spec.defaultBackend is ignored by Istio"]),
        (
            "1.30.3",
            False,
            [
                "no controller here plays this Ingress: Istio plays those with annotation kubernetes.io/ingress.class: "
                "istio or the name of an IngressClass whose controller is istio.io/ingress-controller"
            ],
        ),
        ("1.2.2", False, ["no controller here plays this Ingress"]),
        ("1.2.2", True, ["no request reaches it: Istio 1.2 binds", "spec.defaultBackend is ignored by Istio"]),
    ],
)
def test_ingresses(release: str, classed: bool, wanted: list[str], cluster_of: Callable[[str], Cluster]) -> None:
    given = ingress(rule(path("/")), defaultBackend=backend())
    if classed:
        given["metadata"]["annotations"] = {"kubernetes.io/ingress.class": "istio"}
    told = warnings(cluster_of(release), INGRESSES, given)
    assert [words[: len(start)] for words, start in zip(told, wanted, strict=True)] == wanted
