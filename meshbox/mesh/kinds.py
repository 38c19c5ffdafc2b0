# SPDX-License-Identifier: Apache-2.0
"""The kinds of objects that the mesh reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from meshbox.contracts import View

if TYPE_CHECKING:
    from labkit.ground.typed import destination_rules, hosts, security, telemetry, virtual_services
    from meshbox.typed.pods import Pod
    from meshbox.typed.services import ConfigMap, Endpoints, EndpointSlice, Secret, Service

__all__ = [
    "AUTHORIZATION_POLICIES",
    "BACKEND_TLS_POLICIES",
    "CLUSTER_RBAC_CONFIGS",
    "CONFIG_MAPS",
    "DESTINATION_RULES",
    "ENDPOINTS",
    "ENDPOINT_SLICES",
    "ENVOY_FILTERS",
    "GATEWAYS",
    "GATEWAY_API_RESOURCES",
    "GATEWAY_CLASSES",
    "GRPC_ROUTES",
    "HTTP_ROUTES",
    "INGRESSES",
    "INGRESS_CLASSES",
    "ISTIO_RESOURCES",
    "KUBERNETES_GATEWAYS",
    "LISTENER_SETS",
    "MESH_POLICIES",
    "NAMESPACES",
    "NODES",
    "PEER_AUTHENTICATIONS",
    "PODS",
    "POLICIES",
    "RBAC_CONFIGS",
    "REFERENCE_GRANTS",
    "REQUEST_AUTHENTICATIONS",
    "RESOURCES",
    "SECRETS",
    "SERVICES",
    "SERVICE_ENTRIES",
    "SERVICE_ROLES",
    "SERVICE_ROLE_BINDINGS",
    "SIDECARS",
    "TCP_ROUTES",
    "TELEMETRIES",
    "TLS_ROUTES",
    "TRAFFIC_EXTENSIONS",
    "VIRTUAL_SERVICES",
    "WORKLOAD_ENTRIES",
    "Kind",
]

_T = TypeVar("_T", bound=View)


class Kind(str, Generic[_T]):
    """The name of a resource, in the form in which `Objects` names it, and with it what its objects are."""


NETWORKING = "networking.istio.io"
SECURITY = "security.istio.io"
AUTHENTICATION = "authentication.istio.io"
RBAC = "rbac.istio.io"
GATEWAY_API = "gateway.networking.k8s.io"

VIRTUAL_SERVICES: Kind[virtual_services.VirtualService] = Kind(f"virtualservices.{NETWORKING}")
DESTINATION_RULES: Kind[destination_rules.DestinationRule] = Kind(f"destinationrules.{NETWORKING}")
GATEWAYS: Kind[hosts.Gateway] = Kind(f"gateways.{NETWORKING}")
SERVICE_ENTRIES: Kind[hosts.ServiceEntry] = Kind(f"serviceentries.{NETWORKING}")
SIDECARS: Kind[hosts.Sidecar] = Kind(f"sidecars.{NETWORKING}")
WORKLOAD_ENTRIES: Kind[View] = Kind(f"workloadentries.{NETWORKING}")
ENVOY_FILTERS: Kind[View] = Kind(f"envoyfilters.{NETWORKING}")
PEER_AUTHENTICATIONS: Kind[security.PeerAuthentication] = Kind(f"peerauthentications.{SECURITY}")
REQUEST_AUTHENTICATIONS: Kind[security.RequestAuthentication] = Kind(f"requestauthentications.{SECURITY}")
AUTHORIZATION_POLICIES: Kind[security.AuthorizationPolicy] = Kind(f"authorizationpolicies.{SECURITY}")
POLICIES: Kind[security.Policy] = Kind(f"policies.{AUTHENTICATION}")
MESH_POLICIES: Kind[security.MeshPolicy] = Kind(f"meshpolicies.{AUTHENTICATION}")
CLUSTER_RBAC_CONFIGS: Kind[View] = Kind(f"clusterrbacconfigs.{RBAC}")
RBAC_CONFIGS: Kind[View] = Kind(f"rbacconfigs.{RBAC}")
SERVICE_ROLES: Kind[View] = Kind(f"serviceroles.{RBAC}")
SERVICE_ROLE_BINDINGS: Kind[View] = Kind(f"servicerolebindings.{RBAC}")
TELEMETRIES: Kind[telemetry.Telemetry] = Kind("telemetries.telemetry.istio.io")
TRAFFIC_EXTENSIONS: Kind[View] = Kind("trafficextensions.extensions.istio.io")

SERVICES: Kind[Service] = Kind("services")
ENDPOINTS: Kind[Endpoints] = Kind("endpoints")
ENDPOINT_SLICES: Kind[EndpointSlice] = Kind("endpointslices.discovery.k8s.io")
PODS: Kind[Pod] = Kind("pods")
NODES: Kind[View] = Kind("nodes")
CONFIG_MAPS: Kind[ConfigMap] = Kind("configmaps")
SECRETS: Kind[Secret] = Kind("secrets")
INGRESSES: Kind[View] = Kind("ingresses.networking.k8s.io")
INGRESS_CLASSES: Kind[View] = Kind("ingressclasses.networking.k8s.io")
NAMESPACES: Kind[View] = Kind("namespaces")

GATEWAY_CLASSES: Kind[View] = Kind(f"gatewayclasses.{GATEWAY_API}")
KUBERNETES_GATEWAYS: Kind[View] = Kind(f"gateways.{GATEWAY_API}")
LISTENER_SETS: Kind[View] = Kind(f"listenersets.{GATEWAY_API}")
HTTP_ROUTES: Kind[View] = Kind(f"httproutes.{GATEWAY_API}")
GRPC_ROUTES: Kind[View] = Kind(f"grpcroutes.{GATEWAY_API}")
TLS_ROUTES: Kind[View] = Kind(f"tlsroutes.{GATEWAY_API}")
TCP_ROUTES: Kind[View] = Kind(f"tcproutes.{GATEWAY_API}")
REFERENCE_GRANTS: Kind[View] = Kind(f"referencegrants.{GATEWAY_API}")
BACKEND_TLS_POLICIES: Kind[View] = Kind(f"backendtlspolicies.{GATEWAY_API}")

ISTIO_RESOURCES: tuple[Kind[Any], ...] = (
    VIRTUAL_SERVICES,
    DESTINATION_RULES,
    GATEWAYS,
    SERVICE_ENTRIES,
    WORKLOAD_ENTRIES,
    SIDECARS,
    ENVOY_FILTERS,
    PEER_AUTHENTICATIONS,
    REQUEST_AUTHENTICATIONS,
    AUTHORIZATION_POLICIES,
    POLICIES,
    MESH_POLICIES,
    CLUSTER_RBAC_CONFIGS,
    RBAC_CONFIGS,
    SERVICE_ROLES,
    SERVICE_ROLE_BINDINGS,
    TELEMETRIES,
    TRAFFIC_EXTENSIONS,
)

GATEWAY_API_RESOURCES: tuple[Kind[View], ...] = (
    GATEWAY_CLASSES,
    KUBERNETES_GATEWAYS,
    LISTENER_SETS,
    HTTP_ROUTES,
    GRPC_ROUTES,
    TLS_ROUTES,
    TCP_ROUTES,
    REFERENCE_GRANTS,
    BACKEND_TLS_POLICIES,
)

RESOURCES: tuple[Kind[Any], ...] = (
    SERVICES,
    ENDPOINTS,
    ENDPOINT_SLICES,
    PODS,
    NODES,
    CONFIG_MAPS,
    SECRETS,
    INGRESSES,
    INGRESS_CLASSES,
    NAMESPACES,
    *ISTIO_RESOURCES,
    *GATEWAY_API_RESOURCES,
)
"""What a snapshot is made of, in the form `Objects` names resources."""
