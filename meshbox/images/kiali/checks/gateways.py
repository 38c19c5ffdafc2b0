# SPDX-License-Identifier: Apache-2.0
"""What is wrong with Gateways: nobody to listen, or two that want the same host at the same port."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from labkit.ground.hosts import overlap
from meshbox.images.kiali.checks.findings import Finding, Reference
from meshbox.images.kiali.checks.registry import Registry
from meshbox.images.kiali.mesh import selects

if TYPE_CHECKING:
    from labkit.ground.typed.hosts import Gateway

__all__ = ["gateway"]


class _Claim(NamedTuple):
    """One host of one server."""

    owner: Reference
    path: str
    workloads: tuple[tuple[str, str], ...]
    port: int
    namespace: str
    host: str


def gateway(one: Gateway, registry: Registry) -> Iterator[Finding]:
    """What is wrong with a Gateway."""
    selector = (one.get("spec") or {}).get("selector") or {}
    if selector and not any(selects(selector, workload.labels) for workload in registry.mesh.workloads()):
        yield Finding("KIA0302", "spec/selector")
    every = [claim for other in registry.items("gateways") for claim in _claims(other)]
    for mine in _claims(one):
        others = [claim for claim in every if _same_place(mine, claim) and overlap(mine.host, claim.host)]
        if others:
            yield Finding("KIA0301", mine.path, tuple(sorted({claim.owner for claim in others} - {mine.owner})))


def _claims(one: Any) -> Iterator[_Claim]:
    meta, spec = one["metadata"], one.get("spec") or {}
    owner = ("gateway", str(meta.get("namespace")), str(meta["name"]))
    workloads = tuple(sorted((spec.get("selector") or {}).items()))
    for index, server in enumerate(spec.get("servers") or []):
        port = int(((server or {}).get("port") or {}).get("number") or 0)
        for number, text in enumerate((server or {}).get("hosts") or []):
            place, slash, host = str(text).partition("/")
            namespace = (owner[1] if place == "." else place) if slash else "*"
            path = f"spec/servers[{index}]/hosts[{number}]"
            yield _Claim(owner, path, workloads, port, namespace, (host if slash else place).lower())


def _same_place(one: _Claim, other: _Claim) -> bool:
    if (one.owner, one.path) == (other.owner, other.path):
        return False
    seen = one.namespace == other.namespace or "*" in (one.namespace, other.namespace)
    return seen and (one.workloads, one.port) == (other.workloads, other.port)
