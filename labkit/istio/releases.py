# SPDX-License-Identifier: Apache-2.0
"""What differs between the two releases: the one place that knows."""

from __future__ import annotations

from labkit.cluster.ownership import BYPRODUCTS, Byproduct
from labkit.ground import config
from labkit.istio.model import Addon, Component, Facts, Layout, Service, ServicePort

__all__ = ["NAMESPACE", "facts"]

NAMESPACE = "istio-system"
"""Where Istio and its add-ons are."""

Port = ServicePort


def facts(version: str) -> Facts:
    """What is known of a release.

    Args:
        version: "1.2.2" or "1.30.3".

    Raises:
        SettingError: The course does not teach that release.
    """
    known = {each.version: each for each in (_FACTS_1_2_2, _FACTS_1_30_3)}
    return known[config.taught(version)]


def _crds(**groups: str) -> tuple[str, ...]:
    return tuple(
        sorted(f"{plural}.{group}.istio.io" for group, plurals in groups.items() for plural in plurals.split())
    )


def _hub(*names: str) -> tuple[str, ...]:
    return tuple(f"docker.io/istio/{name}:1.2.2" for name in names)


_CRD_FILES_1_2_2 = tuple(
    f"install/kubernetes/helm/istio-init/files/crd-{name}.yaml"
    for name in ("10", "11", "12", "certmanager-10", "certmanager-11")
)
_MIXER = (Port("grpc-mixer", 9091), Port("grpc-mixer-mtls", 15004), Port("http-monitoring", 15014))

_FACTS_1_2_2 = Facts(
    version="1.2.2",
    crds=_crds(
        networking="virtualservices destinationrules serviceentries gateways envoyfilters sidecars",
        authentication="policies meshpolicies",
        rbac="clusterrbacconfigs rbacconfigs serviceroles servicerolebindings authorizationpolicies",
        config="httpapispecbindings httpapispecs quotaspecbindings quotaspecs rules attributemanifests adapters"
        " instances templates handlers",
    ),
    components=(
        Component("istio-citadel", _hub("citadel"), task="signs certificates"),
        Component("istio-egressgateway", _hub("proxyv2"), task="a way out of the mesh"),
        Component("istio-galley", _hub("galley"), task="checks configuration"),
        Component("istio-ingressgateway", _hub("proxyv2"), task="the way into the mesh"),
        Component("istio-pilot", _hub("pilot", "proxyv2"), task="configures every Envoy"),
        Component("istio-policy", _hub("mixer", "proxyv2"), task="Mixer: asked before a request"),
        Component("istio-sidecar-injector", _hub("sidecar_injector"), task="adds sidecars to new pods"),
        Component("istio-telemetry", _hub("mixer", "proxyv2"), task="Mixer: told after a request"),
        Component("grafana", ("grafana/grafana:6.1.6",), addon="grafana", task="dashboards"),
        Component("istio-tracing", ("docker.io/jaegertracing/all-in-one:1.9",), addon="jaeger", task="traces"),
        Component("kiali", ("quay.io/kiali/kiali:v0.20",), addon="kiali", task="the graph"),
        Component("prometheus", ("docker.io/prom/prometheus:v2.8.0",), addon="prometheus", task="metrics"),
        Component(
            "istio-cleanup-secrets-1.2.2", _hub("kubectl"), "Job", task="removes an earlier install's certificates"
        ),
        Component("istio-grafana-post-install-1.2.2", _hub("kubectl"), "Job", "grafana", "lets people in without mTLS"),
        Component("istio-security-post-install-1.2.2", _hub("kubectl"), "Job", task="offers mutual TLS everywhere"),
    ),
    services=(
        Service("grafana", (Port("http", 3000),), addon="grafana"),
        Service("istio-citadel", (Port("grpc-citadel", 8060), Port("http-monitoring", 15014))),
        Service("istio-egressgateway", (Port("http2", 80), Port("https", 443), Port("tls", 15443))),
        Service(
            "istio-galley", (Port("https-validation", 443), Port("http-monitoring", 15014), Port("grpc-mcp", 9901))
        ),
        Service(
            "istio-ingressgateway",
            (
                Port("status-port", 15020),
                Port("http2", 80),
                Port("https", 443),
                Port("tcp", 31400),
                Port("https-kiali", 15029),
                Port("https-prometheus", 15030),
                Port("https-grafana", 15031),
                Port("https-tracing", 15032),
                Port("tls", 15443),
            ),
            "LoadBalancer",
        ),
        Service(
            "istio-pilot",
            (
                Port("grpc-xds", 15010),
                Port("https-xds", 15011),
                Port("http-legacy-discovery", 8080),
                Port("http-monitoring", 15014),
            ),
        ),
        Service("istio-policy", _MIXER),
        Service("istio-sidecar-injector", (Port("", 443),)),
        Service("istio-telemetry", (*_MIXER, Port("prometheus", 42422))),
        Service(
            "jaeger-agent",
            (
                Port("agent-zipkin-thrift", 5775, protocol="UDP"),
                Port("agent-compact", 6831, protocol="UDP"),
                Port("agent-binary", 6832, protocol="UDP"),
            ),
            headless=True,
            addon="jaeger",
        ),
        Service(
            "jaeger-collector",
            (Port("jaeger-collector-tchannel", 14267), Port("jaeger-collector-http", 14268)),
            addon="jaeger",
        ),
        Service("jaeger-query", (Port("query-http", 16686),), addon="jaeger"),
        Service("kiali", (Port("http-kiali", 20001),), addon="kiali"),
        Service("prometheus", (Port("http-prometheus", 9090),), addon="prometheus"),
        Service("tracing", (Port("http-query", 80, 16686),), addon="jaeger"),
        Service("zipkin", (Port("http", 9411),), addon="jaeger"),
    ),
    webhooks=("istio-sidecar-injector",),
    addons=(
        Addon("prometheus", "prometheus", 9090, "app=prometheus"),
        Addon("grafana", "grafana", 3000, "app=grafana"),
        Addon("jaeger", "tracing", 80, "app=jaeger", "/jaeger"),
        Addon("kiali", "kiali", 20001, "app=kiali", "/kiali/console"),
    ),
    layout=Layout(
        crds=_CRD_FILES_1_2_2,
        demo=("install/kubernetes/istio-demo.yaml",),
        addons=(),
        marks=("install/kubernetes/istio-demo.yaml", *_CRD_FILES_1_2_2, "samples/bookinfo/platform/kube/bookinfo.yaml"),
        version_in="install/kubernetes/istio-demo.yaml",
        creates_namespace=True,
    ),
    archive="istio-1.2.2-{system}.tar.gz",
    api_version="networking.istio.io/v1alpha3",
    duration="istio_request_duration_seconds",
    byproducts=(
        Byproduct("Secret", "istio.*", type="istio.io/key-and-cert", by="istio-citadel", removed=True),
        Byproduct("Secret", "istio-ca-secret", NAMESPACE, "istio.io/ca-root", "istio-citadel", removed=True),
        Byproduct("ConfigMap", "istio-security", NAMESPACE, by="istio-citadel", removed=True),
        Byproduct("ValidatingWebhookConfiguration", "istio-galley", by="istio-galley", removed=True),
        Byproduct("MeshPolicy", "default", by="Job istio-security-post-install"),
        Byproduct("Policy", "grafana-ports-mtls-disabled", NAMESPACE, by="Job istio-grafana-post-install"),
    ),
)

_PROXY_1_30_3 = "docker.io/istio/proxyv2:1.30.3"

_FACTS_1_30_3 = Facts(
    version="1.30.3",
    crds=_crds(
        networking="virtualservices destinationrules serviceentries gateways envoyfilters sidecars workloadentries"
        " workloadgroups proxyconfigs",
        security="authorizationpolicies peerauthentications requestauthentications",
        telemetry="telemetries",
        extensions="wasmplugins trafficextensions",
    ),
    components=(
        Component("istiod", ("docker.io/istio/pilot:1.30.3",), task="checks, signs, injects and configures"),
        Component("istio-egressgateway", (_PROXY_1_30_3,), task="a way out of the mesh"),
        Component("istio-ingressgateway", (_PROXY_1_30_3,), task="the way into the mesh"),
        Component("grafana", ("docker.io/grafana/grafana:12.0.1",), addon="grafana", task="dashboards"),
        Component("jaeger", ("docker.io/jaegertracing/jaeger:2.14.0",), addon="jaeger", task="traces"),
        Component("kiali", ("quay.io/kiali/kiali:v2.26",), addon="kiali", task="the graph"),
        Component(
            "prometheus",
            ("ghcr.io/prometheus-operator/prometheus-config-reloader:v0.89.0", "docker.io/prom/prometheus:v3.10.0"),
            addon="prometheus",
            task="metrics",
        ),
    ),
    services=(
        Service("grafana", (Port("service", 3000),), addon="grafana"),
        Service("istio-egressgateway", (Port("http2", 80, 8080), Port("https", 443, 8443))),
        Service(
            "istio-ingressgateway",
            (
                Port("status-port", 15021),
                Port("http2", 80, 8080),
                Port("https", 443, 8443),
                Port("tcp", 31400),
                Port("tls", 15443),
            ),
            "LoadBalancer",
        ),
        Service(
            "istiod",
            (
                Port("grpc-xds", 15010),
                Port("https-dns", 15012),
                Port("https-webhook", 443, 15017),
                Port("http-monitoring", 15014),
            ),
        ),
        Service(
            "jaeger-collector",
            (
                Port("jaeger-collector-http", 14268),
                Port("jaeger-collector-grpc", 14250),
                Port("http-zipkin", 9411),
                Port("grpc-otel", 4317),
                Port("http-otel", 4318),
            ),
            addon="jaeger",
        ),
        Service("kiali", (Port("http", 20001), Port("http-metrics", 9090)), addon="kiali"),
        Service("prometheus", (Port("http", 9090),), addon="prometheus"),
        Service("tracing", (Port("http-query", 80, 16686), Port("grpc-query", 16685)), addon="jaeger"),
        Service("zipkin", (Port("http-query", 9411),), addon="jaeger"),
    ),
    webhooks=("istio-sidecar-injector", "istio-validator-istio-system", "istiod-default-validator"),
    addons=(
        Addon("prometheus", "prometheus", 9090, "app.kubernetes.io/name=prometheus"),
        Addon("grafana", "grafana", 3000, "app.kubernetes.io/name=grafana"),
        Addon("jaeger", "tracing", 80, "app=jaeger", "/jaeger"),
        Addon("kiali", "kiali", 20001, "app.kubernetes.io/name=kiali", "/kiali/console"),
    ),
    layout=Layout(
        crds=("manifests/base.yaml",),
        demo=("manifests/istiod.yaml", "manifests/istio-ingressgateway.yaml", "manifests/istio-egressgateway.yaml"),
        addons=tuple(f"samples/addons/{name}.yaml" for name in ("prometheus", "grafana", "jaeger", "kiali")),
        marks=("samples/addons/prometheus.yaml", "samples/bookinfo/platform/kube/bookinfo.yaml"),
        version_in="manifests/istiod.yaml",
        creates_namespace=False,
    ),
    archive="istio-1.30.3-{system}.tar.gz",
    api_version="networking.istio.io/v1",
    duration="istio_request_duration_milliseconds",
    byproducts=(
        Byproduct("ConfigMap", "istio-ca-root-cert", by="istiod", removed=True),
        Byproduct("Secret", "istio-ca-secret", NAMESPACE, by="istiod", removed=True),
        # Istio elects leaders with ConfigMaps or, newer, with Leases (which go with the namespace).
        Byproduct("ConfigMap", "istio-leader", NAMESPACE, by="istiod", removed=True),
        Byproduct("ConfigMap", "istio-*-election", NAMESPACE, by="istiod", removed=True),
        Byproduct("ConfigMap", "istio-gateway-*-leader", NAMESPACE, by="istiod", removed=True),
        # As soon as a cluster knows the Gateway API.
        Byproduct("GatewayClass", "istio", by="istiod", removed=True),
        Byproduct("GatewayClass", "istio-remote", by="istiod", removed=True),
    ),
)

# Whoever asks what would be lost with a namespace has to know them, whichever release was installed.
BYPRODUCTS.extend(one for each in (_FACTS_1_2_2, _FACTS_1_30_3) for one in each.byproducts)
