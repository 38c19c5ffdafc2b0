# SPDX-License-Identifier: Apache-2.0
"""Mutual TLS as Kiali adds it up for a namespace or mesh: what PeerAuthentications ask for, and DestinationRules do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.ground.hosts import DOMAIN
from meshbox.images.kiali.checks.registry import Registry
from meshbox.images.kiali.mesh import SYSTEM, selects

__all__ = ["MESH_HOST", "MUTUAL", "arrives", "namespace_host", "peer_mode", "rule_mode", "wide"]

MESH_HOST = "*.local"
"""The host of a DestinationRule for the whole mesh, by Istio's own advice."""

MUTUAL = ("ISTIO_MUTUAL", "MUTUAL")


def namespace_host(namespace: str) -> str:
    """The host of a DestinationRule for a whole namespace."""
    return f"*.{namespace}.{DOMAIN}"


def _mode(one: Any) -> str:
    return str(((one.get("spec") or {}).get("mtls") or {}).get("mode") or "")


def peer_mode(one: Any) -> str:
    """What a PeerAuthentication asks for its whole namespace; "" for one that selects workloads, or does not say."""
    return "" if (one.get("spec") or {}).get("selector") is not None else _mode(one)


def rule_mode(one: Any, host: str) -> str:
    """How a DestinationRule for `host` sends; "" for one about another host, or that does not say."""
    spec = one.get("spec") or {}
    tls = (spec.get("trafficPolicy") or {}).get("tls") or {}
    return str(tls.get("mode") or "") if spec.get("host") == host else ""


def wide(one: Any) -> bool:
    """Whether a DestinationRule does nothing but switch mutual TLS on for many hosts."""
    spec = one.get("spec") or {}
    return str(spec.get("host")).startswith("*") and rule_mode(one, str(spec.get("host"))) == "ISTIO_MUTUAL"


def arrives(labels: Mapping[str, str] | None, namespace: str, registry: Registry) -> bool:
    """Whether requests come to some workloads of a namespace by mutual TLS, as rules about who sent them need."""
    peers, rules = registry.items("peerAuthentications", namespace), registry.items("destinationRules")
    for peer in peers:
        selector = ((peer.get("spec") or {}).get("selector") or {}).get("matchLabels")
        if selects(selector, labels or {}) and _mode(peer) in ("STRICT", "DISABLE"):
            return _mode(peer) == "STRICT"
    root = registry.items("peerAuthentications", SYSTEM)
    for asked, host in ((peers, namespace_host(namespace)), (root, MESH_HOST)):
        peer = next((found for one in asked if (found := peer_mode(one)) and found != "UNSET"), "")
        rule = next((found for one in rules if (found := rule_mode(one, host))), "")
        decided = _decided(peer, rule, registry.auto_mtls)
        if decided is not None:
            return decided
    return registry.auto_mtls


def _decided(peer: str, rule: str, auto: bool) -> bool | None:
    """Whether what is asked for and what is sent make mutual TLS, or none; None where they leave it open."""
    sent = rule in MUTUAL or (not rule and auto)
    if peer in ("STRICT", "PERMISSIVE") and sent:
        return True
    if peer == "DISABLE" and (rule == "DISABLE" or (not rule and auto)):
        return False
    if not peer and rule:
        return rule != "DISABLE"
    return None
