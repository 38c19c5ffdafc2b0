# SPDX-License-Identifier: Apache-2.0
"""The mesh's settings, as its ConfigMap gives them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from meshbox.mesh.kinds import CONFIG_MAPS
from meshbox.mesh.model import TRUST_DOMAIN
from meshbox.mesh.providers import OUTPUTS
from meshbox.mesh.settings import is_mesh, mesh_settings, number, span_tags

if TYPE_CHECKING:
    from labkit.ground.typed.destination_rules import LocalityLoadBalancerSetting, TcpKeepalive
    from labkit.ground.typed.hosts import ServerTLS
    from labkit.ground.typed.virtual_services import HTTPRetry
    from meshbox.contracts import Objects, View
    from meshbox.typed.pods import Pod
    from meshbox.typed.services import ConfigMap

__all__ = ["MeshConfig", "settings_in"]


@dataclass(frozen=True)
class MeshConfig:
    """The mesh's settings, as its ConfigMap gives them.

    Args:
        root_namespace: Where mesh-wide objects live.
        registry_only: Whether unknown destinations are refused.
        auto_mtls: Whether clients use mTLS wherever the server's sidecar can.
        access_log: Whether proxies log each request.
        access_log_path: Where; what is no output of a container is played as its stdout.
        access_log_format: Their format; empty for the release's own.
        access_log_json: Whether they log JSON.
        tracing: Whether tracing is on without a Telemetry object.
        untraced: Whether tracing is switched off, so that no proxy's own settings bring it back.
        zipkin: Where spans go, "host:port".
        sampling: Percentage of requests traced unless a Telemetry object says otherwise.
        span_tags: What spans have besides, unless a proxy's own settings, or a Telemetry object, say it; as JSON.
        providers: Extension providers by name.
        default_providers: Which of them are meant where a Telemetry object names none, by its section.
        connect_timeout: How long to wait for a TCP connection: seconds, or a duration.
        retries: When requests are sent again where a route says nothing; None: as the release does it.
        service_export: Who sees Services and ServiceEntries that do not say it; empty: all.
        virtual_service_export: The same of VirtualServices.
        rule_export: The same of DestinationRules.
        normalization: What is done to paths before they are looked at.
        http10: Whether requests of HTTP/1.0 are taken.
        keepalive: TCP keepalive of clients, as far as a DestinationRule does not say otherwise.
        locality: Where clients prefer to go, unless a DestinationRule says otherwise; None where they do not care.
        h2_upgrade: Whether HTTP/1.1 becomes HTTP/2 between proxies unless a DestinationRule says otherwise.
        trust_domains: The mesh's own trust domain, then those that stand for it.
        mutual_tls: Which versions and ciphers sidecars take of others, in the fields of a Gateway's `tls`.
        tls_defaults: Which versions, ciphers and curves count for all other TLS, where no rule says it.
        gateway_topology: What is in front of gateways, where their pods say nothing else.
        discovery: Which namespaces are looked at: those that one of these selectors chooses; all where there is none.
        ingress_mode: Which Ingresses are played: "STRICT" (of Istio's class), "DEFAULT" (those of none as well), "OFF".
        ingress_class: The class that is Istio's.
        ingress_service: The Service of the gateway that plays them.
        ingress_selector: The value of that gateway's label `istio`.
    """

    root_namespace: str = "istio-system"
    registry_only: bool = False
    auto_mtls: bool = True
    access_log: bool = False
    access_log_path: str = OUTPUTS[0]
    access_log_format: str = ""
    access_log_json: bool = False
    tracing: bool = False
    untraced: bool = False
    zipkin: str = ""
    sampling: float = 1.0
    span_tags: str = ""
    providers: Mapping[str, Any] = field(default_factory=dict, hash=False)
    default_providers: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    connect_timeout: float | str = 10.0
    retries: HTTPRetry | None = field(default=None, hash=False)
    service_export: tuple[str, ...] = ()
    virtual_service_export: tuple[str, ...] = ()
    rule_export: tuple[str, ...] = ()
    normalization: str = ""
    http10: bool = False
    keepalive: TcpKeepalive | None = field(default=None, hash=False)
    locality: LocalityLoadBalancerSetting | None = field(default=None, hash=False)
    h2_upgrade: bool = False
    trust_domains: tuple[str, ...] = (TRUST_DOMAIN,)
    mutual_tls: ServerTLS = field(default_factory=lambda: cast("ServerTLS", {}), hash=False)
    tls_defaults: dict[str, Any] = field(default_factory=dict, hash=False)
    gateway_topology: dict[str, Any] = field(default_factory=dict, hash=False)
    discovery: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    ingress_mode: str = "STRICT"
    ingress_class: str = "istio"
    ingress_service: str = "istio-ingressgateway"
    ingress_selector: str = "ingressgateway"

    @classmethod
    def now(cls, objects: Objects, *, legacy: bool) -> MeshConfig:
        """What the mesh's ConfigMap says at this moment, whether or not pilot has taken it."""
        config_maps = objects.view(CONFIG_MAPS, cls.root_namespace)
        return cls.of(cast("list[ConfigMap]", config_maps), (), legacy=legacy)

    @classmethod
    def of(cls, config_maps: Iterable[ConfigMap], pilots: Iterable[Pod], *, legacy: bool) -> MeshConfig:
        """Read the mesh's ConfigMap in `istio-system`, and what pilot's own pods are told by variables."""
        mesh = mesh_settings(((settings_in(config_maps) or {}).get("data") or {}).get("mesh", ""))
        # What Istio 1.2 did not have.
        today = {} if legacy else mesh
        defaults = mesh.get("defaultConfig") or {}
        told = {
            variable.get("name"): variable.get("value")
            for pod in pilots
            for container in pod.get("spec", {}).get("containers", [])
            for variable in container.get("env") or []
        }
        sampling = number(told.get("PILOT_TRACE_SAMPLING"), 1.0)
        tracing = defaults.get("tracing") or {}
        zipkin = (tracing.get("zipkin") or {}).get("address") or ""
        return cls(
            root_namespace=mesh.get("rootNamespace") or cls.root_namespace,
            registry_only=(mesh.get("outboundTrafficPolicy") or {}).get("mode") == "REGISTRY_ONLY",
            auto_mtls=not legacy and mesh.get("enableAutoMtls", True) is not False,
            access_log=bool(mesh.get("accessLogFile")),
            access_log_path=mesh["accessLogFile"] if mesh.get("accessLogFile") in OUTPUTS else OUTPUTS[0],
            access_log_format=mesh.get("accessLogFormat") or "",
            access_log_json=mesh.get("accessLogEncoding") == "JSON",
            tracing=bool(mesh.get("enableTracing", False)) and bool(zipkin),
            untraced=mesh.get("enableTracing") is False,
            zipkin=zipkin,
            sampling=number(tracing.get("sampling"), sampling),
            span_tags=span_tags(tracing),
            providers={str(p["name"]): p for p in mesh.get("extensionProviders") or [] if "name" in p},
            default_providers={
                section: tuple(map(str, names))
                for section, names in (today.get("defaultProviders") or {}).items()
                if isinstance(names, list)
            },
            connect_timeout=mesh.get("connectTimeout") or cls.connect_timeout,
            retries=today.get("defaultHttpRetryPolicy"),
            service_export=tuple(mesh.get("defaultServiceExportTo") or ()),
            virtual_service_export=tuple(mesh.get("defaultVirtualServiceExportTo") or ()),
            rule_export=tuple(mesh.get("defaultDestinationRuleExportTo") or ()),
            normalization=(today.get("pathNormalization") or {}).get("normalization") or "",
            http10=str(told.get("PILOT_HTTP10")).lower() in ("1", "t", "true"),
            keepalive=mesh.get("tcpKeepalive"),
            locality=mesh.get("localityLbSetting", None if legacy else {"enabled": True}),
            h2_upgrade=mesh.get("h2UpgradePolicy") == "UPGRADE",
            trust_domains=tuple(
                dict.fromkeys(
                    (mesh.get("trustDomain") or TRUST_DOMAIN, *map(str, mesh.get("trustDomainAliases") or ()))
                )
            ),
            mutual_tls=cast("ServerTLS", today.get("meshMTLS") or {}),
            tls_defaults=today.get("tlsDefaults") or {},
            gateway_topology=defaults.get("gatewayTopology") or {},
            discovery=tuple(today.get("discoverySelectors") or ()),
            ingress_mode=mesh.get("ingressControllerMode") or cls.ingress_mode,
            ingress_class=mesh.get("ingressClass") or cls.ingress_class,
            ingress_service=mesh.get("ingressService") or cls.ingress_service,
            ingress_selector=mesh.get("ingressSelector") or cls.ingress_selector,
        )


def settings_in(config_maps: Iterable[View]) -> View | None:
    """The ConfigMap whose settings hold for all: the default revision's, else the first one's by name."""
    return min(filter(is_mesh, config_maps), key=lambda one: one["metadata"]["name"], default=None)
