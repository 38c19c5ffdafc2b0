# SPDX-License-Identifier: Apache-2.0
"""Every field of an EnvoyFilter is played, refused, or said not to be played: never silence.

A field is played where a change of it changes what the patches make of some proxy's configuration.
"""

from __future__ import annotations

import pytest
import yaml

from meshbox.mesh.attachment import GATEWAY_NAME
from meshbox.mesh.envoy_filters.patches import chosen, unplayed
from meshbox.mesh.envoy_filters.player import patched
from meshbox.mesh.envoy_filters.site import Site
from meshbox.mesh.istio_validation import check
from meshbox.mesh.kinds import ENVOY_FILTERS, GATEWAYS, VIRTUAL_SERVICES
from meshbox.mesh.translate import translate

from .objects import istio, pod, service, snapshot
from .test_mesh_fields import Obj, changes, fields, places, schemas

LISTENERS = """
configPatches:
- applyTo: HTTP_FILTER
  match:
    context: SIDECAR_INBOUND
    proxy: {proxyVersion: '^1\\.30', metadata: {CLUSTER_ID: Kubernetes}}
    listener:
      name: virtualInbound
      portNumber: 9080
      portName: http
      filterChain:
        name: 9080_mtls
        transportProtocol: tls
        applicationProtocols: istio-http/1.1
        destinationPort: 9080
        filter:
          name: envoy.filters.network.http_connection_manager
          subFilter: {name: envoy.filters.http.router}
  patch: {operation: INSERT_BEFORE, value: {name: own, typed_config: {"@type": own/type}}}
- applyTo: HTTP_FILTER
  match:
    context: SIDECAR_OUTBOUND
    waypoint: {portNumber: 1, filter: {name: a, subFilter: {name: b}}, route: {name: c}}
  patch: {operation: ADD, filterClass: AUTHZ, value: {name: waypoint, typed_config: {"@type": own/type}}}
- applyTo: LISTENER_FILTER
  match: {context: SIDECAR_INBOUND, listener: {listenerFilter: envoy.filters.listener.tls_inspector}}
  patch: {operation: REMOVE}
- applyTo: HTTP_FILTER
  match: {context: SIDECAR_INBOUND}
  patch: {operation: INSERT_FIRST, value: {name: second, typed_config: {"@type": own/type}}}
workloadSelector: {labels: {app: client}}
priority: 5
"""
ROUTES = """
configPatches:
- applyTo: HTTP_ROUTE
  match:
    context: SIDECAR_OUTBOUND
    routeConfiguration:
      name: "9080"
      portNumber: 9080
      vhost:
        name: reviews.bookinfo.svc.cluster.local:9080
        domainName: reviews
        route: {name: default, action: ROUTE}
  patch: {operation: MERGE, value: {route: {timeout: 3s}}}
- applyTo: FILTER_CHAIN
  match: {context: GATEWAY, listener: {filterChain: {sni: shop.example}}}
  patch: {operation: MERGE, value: {transport_socket_connect_timeout: 3s}}
- applyTo: HTTP_ROUTE
  match: {routeConfiguration: {vhost: {route: {action: REDIRECT}}}}
  patch: {operation: MERGE, value: {route: {timeout: 4s}}}
- applyTo: CLUSTER
  match: {cluster: {name: outbound|9080||reviews.bookinfo.svc.cluster.local}}
  patch: {operation: MERGE, value: {connect_timeout: 3s}}
- applyTo: CLUSTER
  match: {cluster: {portNumber: 9080, service: reviews.bookinfo.svc.cluster.local}}
  patch: {operation: MERGE, value: {per_connection_buffer_limit_bytes: 3}}
- applyTo: CLUSTER
  match: {cluster: {subset: v1}}
  patch: {operation: REMOVE}
"""
GATEWAY = """
configPatches:
- applyTo: ROUTE_CONFIGURATION
  match: {context: GATEWAY, routeConfiguration: {portName: https, gateway: bookinfo/web}}
  patch: {operation: MERGE, value: {max_direct_response_body_size_bytes: 8}}
targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge, namespace: bookinfo}]
"""
EXAMPLES: list[Obj] = [yaml.safe_load(text) for text in (LISTENERS, ROUTES, GATEWAY)]
SAID = {"configPatches[].match.waypoint": "match.waypoint has no effect"}
"""What is said to have no effect, with all that is in it."""


def made(spec: Obj) -> object:
    """What proxies of a small mesh are told, an EnvoyFilter of another priority among them."""
    tls = {"mode": "SIMPLE", "credentialName": "credential"}
    servers = [
        {"port": {"number": 8443, "name": "https", "protocol": "HTTPS"}, "hosts": ["shop.example"], "tls": tls},
        {"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]},
    ]
    shop = {"hosts": ["shop.example"], "gateways": ["web"], "http": [{"route": [{"destination": {"host": "reviews"}}]}]}
    subsets = [{"name": "v1", "labels": {"version": "v1"}}]
    first = {
        "configPatches": [
            {"applyTo": "HTTP_FILTER", "patch": {"operation": "INSERT_FIRST", "value": {"name": "first"}}},
        ],
        "priority": 7,
    }
    credential = {"tls.crt": "YQ==", "tls.key": "YQ=="}
    given = snapshot(
        kept={
            ENVOY_FILTERS: [istio("one", spec), istio("other", first)],
            GATEWAYS: [istio("web", {"selector": {"istio": "edge"}, "servers": servers})],
            VIRTUAL_SERVICES: [istio("shop", shop)],
            "destinationrules.networking.istio.io": [istio("reviews", {"host": "reviews", "subsets": subsets})],
        },
        services=[service("client"), service("reviews")],
        pods=[
            pod("client-1", "127.99.64.40", app="client"),
            pod("reviews-1", "127.99.64.41", app="reviews", version="v1"),
            pod("edge-1", "127.99.64.42", role="router", istio="edge", **{GATEWAY_NAME: "edge"}),
        ],
        secrets=[{"metadata": {"name": "credential", "namespace": "bookinfo"}, "data": credential}],
    )
    return {
        key: patched(given, workload, Site.of(given, workload), translate(given, workload), chosen(given, workload))
        for key, workload in given.workloads.items()
        if workload.proxy
    }


def told(spec: Obj) -> tuple[list[str], list[str]]:
    """What is refused of it, and what is said of it."""
    meta = {"name": "one", "namespace": "bookinfo"}
    errors = check({"kind": "EnvoyFilter", "metadata": meta, "spec": spec}, legacy=False).errors
    return errors, list(unplayed(spec, legacy=False))


@pytest.mark.parametrize("path", sorted(fields(schemas()["EnvoyFilter"])))
def test_every_field_is_played_or_refused_or_said_not_to_be(path: str) -> None:
    setting = [spec for spec in EXAMPLES if any(places(spec, path))]
    assert setting, "no example sets it"
    found = [said in " ".join(told(spec)[1]) for at, said in SAID.items() if path.startswith(at) for spec in setting]
    for spec in setting:
        before = made(spec)
        errors, words = told(spec)
        assert errors == []
        for changed in (one for place in places(spec, path) for one in changes(spec, place)):
            if any(found):
                break
            found.append(told(changed) != (errors, words) or made(changed) != before)
    assert any(found), "nothing comes of it, and nothing is said"
