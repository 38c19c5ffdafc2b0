# SPDX-License-Identifier: Apache-2.0
"""Building blocks of Envoy's JSON configuration."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from labkit.ground.typed.virtual_services import StringMatch

__all__ = [
    "ADS",
    "BLACK_HOLE",
    "PASSTHROUGH",
    "XDS_CLUSTER",
    "Json",
    "address",
    "cidr",
    "encode",
    "extension",
    "made_by",
    "string_match",
    "typed",
]

XDS_CLUSTER = "xds-grpc"
ADS = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
"""A source of configuration: the proxy's stream."""
"""The bootstrap's cluster for the control plane: Istio's own name, although REST is spoken here."""

PASSTHROUGH = "PassthroughCluster"
BLACK_HOLE = "BlackHoleCluster"

_PREFIX = "type.googleapis.com/"

Json = dict[str, Any]
"""A part of Envoy's configuration, or what is read without knowing its fields."""


def typed(type_name: str, **fields: Any) -> Json:
    """A message with its type, e.g. ``typed("envoy.config.cluster.v3.Cluster", name=…)``."""
    return {"@type": _PREFIX + type_name, **fields}


def extension(name: str, type_name: str, **fields: Any) -> Json:
    """An extension (a filter, a logger, a socket …) and its configuration."""
    return {"name": name, "typed_config": typed(type_name, **fields)}


def made_by(kind: str, namespace: str, name: str, *, legacy: bool) -> str:
    """Which object something is made by, as Istio writes it in `metadata`, where istioctl and Kiali look for it.

    Args:
        kind: "virtual-service" or "destination-rule".
        namespace: The object's.
        name: The object's.
        legacy: Whether Istio 1.2's rules apply: its API has another version.
    """
    version = "v1alpha3" if legacy else "v1"
    return f"/apis/networking.istio.io/{version}/namespaces/{namespace}/{kind}/{name}"


def encode(resource: Mapping[str, Any]) -> bytes:
    """A resource as it goes over the wire."""
    return msgspec.json.encode(resource)


def address(host: str, port: int) -> Json:
    """A socket address."""
    return {"socket_address": {"address": host, "port_value": port}}


def cidr(text: str) -> Json:
    """An address range such as "10.0.0.0/8" (a bare address is a range of one)."""
    network = ipaddress.ip_network(text, strict=False)
    return {"address_prefix": str(network.network_address), "prefix_len": network.prefixlen}


def string_match(match: StringMatch, *, ignore_case: bool = False) -> Json:
    """Istio's StringMatch (exact, prefix or regex) as Envoy's StringMatcher."""
    if "exact" in match:
        found: Json = {"exact": match["exact"]}
    elif "prefix" in match:
        found = {"prefix": match["prefix"]}
    else:
        return {"safe_regex": {"regex": match.get("regex", "")}}
    return {**found, "ignore_case": True} if ignore_case else found
