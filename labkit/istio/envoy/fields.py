# SPDX-License-Identifier: Apache-2.0
"""Envoy's fields, each in one sentence, with the page of Envoy's own documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["explained", "page"]

_DOCS = "https://www.envoyproxy.io/docs/envoy/latest"
_ROUTE = "api-v3/config/route/v3/route_components.proto"
_TABLE = "api-v3/config/route/v3/route.proto"
_CLUSTER = "api-v3/config/cluster/v3/cluster.proto"
_LISTENER = "api-v3/config/listener/v3/listener.proto"
_CHAIN = "api-v3/config/listener/v3/listener_components.proto"
_ENDPOINT = "api-v3/config/endpoint/v3/endpoint_components.proto"
_SECRET = "api-v3/extensions/transport_sockets/tls/v3/common.proto"  # noqa: S105 - a page's address
_TLS = "api-v3/extensions/transport_sockets/tls/v3/tls.proto"
_RBAC = "api-v3/config/rbac/v3/rbac.proto"
_MATCHER = "api-v3/type/matcher/v3/string.proto"
_FAULT = "api-v3/extensions/filters/http/fault/v3/fault.proto"

_FIELDS: dict[str, tuple[str, str]] = {
    # Routes.
    "virtual_hosts": ("The hosts of a route table: a request belongs to the one that fits its Host best.", _TABLE),
    "domains": ("The names, with and without port, by which a request asks for this host.", _ROUTE),
    "routes": ("What is asked from the top: the first route whose match holds takes the request.", _ROUTE),
    "match": ("What a request must be like for the route to take it.", _ROUTE),
    "prefix": ("What the path must begin with.", _ROUTE),
    "path": ("What the path must be, the query aside.", _ROUTE),
    "path_separated_prefix": ("What the path must be, or lie below, whole elements of it.", _ROUTE),
    "safe_regex": ("The pattern, in RE2's syntax, that the whole text must fit.", _MATCHER),
    "headers": ("Conditions on headers; all must hold.", _ROUTE),
    "query_parameters": ("Conditions on what follows the question mark; all must hold.", _ROUTE),
    "string_match": ("How a text must read: exact, prefix, suffix, contains or a pattern.", _MATCHER),
    "invert_match": ("The condition must not hold.", _ROUTE),
    "case_sensitive": ("Whether capitals count.", _ROUTE),
    "route": ("Where the request is sent, and how.", _ROUTE),
    "cluster": ("The group of endpoints that gets the request.", _ROUTE),
    "weighted_clusters": ("Several clusters; each gets requests in proportion to its weight.", _ROUTE),
    "weight": ("The share, in proportion to the sum of all weights.", _ROUTE),
    "timeout": ("How long the whole answer may take, with all its retries; 0s is for ever.", _ROUTE),
    "retry_policy": ("When a request is sent again, to another endpoint if there is one.", _ROUTE),
    "num_retries": ("How often a request is sent again at most.", _ROUTE),
    "per_try_timeout": ("How long each single try may take.", _ROUTE),
    "retry_on": ("Which failures are worth another try.", _ROUTE),
    "request_mirror_policies": ("Clusters that get a copy; nobody waits for their answers.", _ROUTE),
    "prefix_rewrite": ("What takes the place of the part of the path that was matched.", _ROUTE),
    "regex_rewrite": ("What the path is turned into by a pattern.", _ROUTE),
    "host_rewrite_literal": ("The Host that the server is told.", _ROUTE),
    "hash_policy": ("What of a request decides which endpoint it stays with.", _ROUTE),
    "redirect": ("Envoy itself answers, and sends the client to another address.", _ROUTE),
    "direct_response": ("Envoy itself answers with this status.", _ROUTE),
    "decorator": ("What the request is called in traces.", _ROUTE),
    "metadata": ("Notes for filters and logs; Istio names the object that a route or cluster comes from.", _ROUTE),
    "request_headers_to_add": ("Headers added before the server gets the request.", _ROUTE),
    "response_headers_to_add": ("Headers added before the client gets the answer.", _ROUTE),
    "typed_per_filter_config": ("What a filter, such as for faults or access, does differently just here.", _ROUTE),
    "delay": ("Requests that are held back, for how long and how many of them.", _FAULT),
    "abort": ("Requests that Envoy answers itself with an error, and how many of them.", _FAULT),
    "require_tls": ("Whether plain requests are sent away to https.", _ROUTE),
    # Access.
    "rules": ("Who may do what: ALLOW refuses what no policy holds for, DENY what one holds for.", _RBAC),
    "policies": ("Rules by name; one holds if one of its principals and one of its permissions do.", _RBAC),
    "principals": ("Who calls.", _RBAC),
    "permissions": ("What is called.", _RBAC),
    # Clusters.
    "type": ("How endpoints are found: told (EDS), by name (DNS), as the client meant (ORIGINAL_DST).", _CLUSTER),
    "lb_policy": ("How an endpoint is chosen among those that are healthy.", _CLUSTER),
    "connect_timeout": ("How long a connection may take to come about.", _CLUSTER),
    "circuit_breakers": ("Limits; what is above them is refused at once, with flag UO.", _CLUSTER),
    "thresholds": ("The limits, one set for each priority.", _CLUSTER),
    "max_connections": ("How many connections to the cluster may be open.", _CLUSTER),
    "max_pending_requests": ("How many requests may wait for a connection.", _CLUSTER),
    "max_requests": ("How many requests may be under way.", _CLUSTER),
    "max_retries": ("How many retries may be under way.", _CLUSTER),
    "outlier_detection": ("When an endpoint that fails is left out, and for how long.", _CLUSTER),
    "consecutive_5xx": ("After how many errors in a row an endpoint is left out.", _CLUSTER),
    "base_ejection_time": ("How long it is left out the first time.", _CLUSTER),
    "max_ejection_percent": ("How many of the endpoints may be left out at most.", _CLUSTER),
    "transport_socket": ("What connections are wrapped in; without it they are plain.", _TLS),
    "transport_socket_matches": ("What connections are wrapped in, by what is known of each endpoint.", _CLUSTER),
    "sni": ("The server name that the client asks for when TLS begins.", _TLS),
    "match_typed_subject_alt_names": ("Who the other side must prove to be.", _SECRET),
    "require_client_certificate": ("The client must prove who it is: mutual TLS.", _TLS),
    "common_lb_config": ("What holds for every way of choosing endpoints: panic, localities.", _CLUSTER),
    "typed_extension_protocol_options": ("How HTTP is spoken with the servers.", _CLUSTER),
    # Listeners.
    "address": ("Where it is.", _LISTENER),
    "filter_chains": ("What is done with a connection; the chain whose match is most specific takes it.", _LISTENER),
    "filter_chain_match": ("Which connections a chain is for: port, address, TLS or not, server name.", _CHAIN),
    "filters": ("What looks at a connection, one after the other; the last passes it on.", _CHAIN),
    "listener_filters": ("What looks at the first bytes, before a chain is chosen.", _LISTENER),
    "http_filters": ("What looks at each request, one after the other; the router, last, sends it on.", _LISTENER),
    "use_original_dst": ("The connection is handed to the listener of the address that the client meant.", _LISTENER),
    "transport_protocol": ("Whether the connection begins with TLS.", _CHAIN),
    "application_protocols": ("What the client says it speaks inside TLS.", _CHAIN),
    "server_names": ("The server names that a client may ask for when TLS begins.", _CHAIN),
    "destination_port": ("The port that the client meant.", _CHAIN),
    # Endpoints.
    "endpoints": ("The addresses behind a cluster.", _ENDPOINT),
    "trouble": ("Why the endpoint is not chosen now; empty if it may be.", _ENDPOINT),
    "priority": ("0 first; the next only when too many before it fail.", _ENDPOINT),
    # Secrets.
    "serial": ("The certificate's number; a new one each time it is renewed.", _SECRET),
    "names": ("Whom the certificate is for; a SPIFFE id names trust domain, namespace and service account.", _SECRET),
    "valid_from": ("From when the certificate counts.", _SECRET),
    "expires": ("Until when it counts; it is renewed before that.", _SECRET),
    "kind": ("A certificate with its key, or authorities that are believed.", _SECRET),
}  # fmt: skip


def page(field: str) -> str:
    """The address of the page on a field that is explained."""
    return f"{_DOCS}/{_FIELDS[field][1]}"


def explained(values: Iterable[Any]) -> dict[str, str]:
    """Fields that stand in these paths ("a.b.c") and values, with a sentence each, in their order."""
    found: dict[str, str] = {}

    def look(value: Any) -> None:
        if isinstance(value, str):
            return
        if isinstance(value, Mapping):
            for key, inner in value.items():
                if key in _FIELDS:
                    found.setdefault(key, _FIELDS[key][0])
                look(inner)
        elif isinstance(value, Iterable):
            for inner in value:
                look(inner)

    for value in values:
        look(dict.fromkeys(value.split(".")) if isinstance(value, str) else value)
    return found
