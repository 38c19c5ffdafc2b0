# SPDX-License-Identifier: Apache-2.0
"""What is wrong with PeerAuthentications and RequestAuthentications."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshbox.images.kiali.checks import tls
from meshbox.images.kiali.checks.findings import Finding
from meshbox.images.kiali.checks.registry import Registry
from meshbox.images.kiali.checks.selectors import chosen, rivals
from meshbox.images.kiali.istio import kind_of
from meshbox.images.kiali.mesh import SYSTEM

if TYPE_CHECKING:
    from labkit.ground.typed.security import PeerAuthentication, RequestAuthentication

__all__ = ["peer_authentication", "request_authentication"]

_LABELS = "spec/selector/matchLabels"


def peer_authentication(one: PeerAuthentication, registry: Registry) -> Iterator[Finding]:
    """What is wrong with a PeerAuthentication."""
    namespace, kind = str(one["metadata"].get("namespace")), kind_of("peerauthentications")
    assert kind is not None
    yield from rivals(one, kind, registry, "spec/selector")
    yield from registry.unselected(chosen(one), namespace, _LABELS)
    rules = registry.items("destinationRules")
    mesh = {tls.rule_mode(rule, tls.MESH_HOST) for rule in rules}
    own = {tls.rule_mode(rule, tls.namespace_host(namespace)) for rule in rules}
    mutual, root = set(tls.MUTUAL), namespace == SYSTEM
    mode = tls.peer_mode(one)
    if mode == "DISABLE":
        # Those who send by mutual TLS are not understood.
        if root and mesh & mutual:
            yield Finding("KIA0506", "spec/mtls")
        elif not root and (own & mutual or ("DISABLE" not in own and mesh & mutual)):
            yield Finding("KIA0505", "spec/mtls")
    if mode == "STRICT" and not registry.auto_mtls and not mutual & (mesh if root else mesh | own):
        yield Finding("KIA0401" if root else "KIA0501", "spec/mtls")


def request_authentication(one: RequestAuthentication, registry: Registry) -> Iterator[Finding]:
    """What is wrong with a RequestAuthentication; several for one workload are added to each other."""
    kind = kind_of("requestauthentications")
    assert kind is not None
    yield from rivals(one, kind, registry, "spec/selector", workloads=False)
    yield from registry.unselected(chosen(one), str(one["metadata"].get("namespace")), _LABELS)
