# SPDX-License-Identifier: Apache-2.0
"""What is wrong with Sidecars: hosts that are not there, and workloads that have several."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshbox.images.kiali.checks.findings import Finding
from meshbox.images.kiali.checks.registry import Registry
from meshbox.images.kiali.checks.selectors import chosen, rivals
from meshbox.images.kiali.istio import kind_of
from meshbox.images.kiali.mesh import SYSTEM

if TYPE_CHECKING:
    from labkit.ground.typed.hosts import Sidecar

__all__ = ["sidecar"]


def sidecar(one: Sidecar, registry: Registry) -> Iterator[Finding]:
    """What is wrong with a Sidecar."""
    namespace, spec, kind = str(one["metadata"].get("namespace")), one.get("spec") or {}, kind_of("sidecars")
    assert kind is not None
    yield from rivals(one, kind, registry, "spec/workloadSelector")
    yield from registry.unselected(chosen(one), namespace, "spec/workloadSelector/labels")
    if namespace == SYSTEM and chosen(one):
        yield Finding("KIA1006", "spec/workloadSelector")
    for index, listener in enumerate(spec.get("egress") or []):
        for place, host in enumerate((listener or {}).get("hosts") or []):
            code = _host(str(host), namespace, registry)
            if code:
                yield Finding(code, f"spec/egress[{index}]/hosts[{place}]")


def _host(host: str, namespace: str, registry: Registry) -> str:
    """What is wrong with a host that a Sidecar lets its workloads reach; "" for nothing."""
    place, slash, name = host.partition("/")
    if not slash or "/" in name:
        return "KIA1003"
    if name == "*" and place in ("*", "~"):
        return ""
    if place not in (".", namespace, SYSTEM):
        return "KIA0001"
    if place == SYSTEM != namespace or (name.startswith("*") and not registry.elsewhere(name, namespace)):
        return ""
    # "reviews.bookinfo" is no name of a Service here, unlike everywhere else.
    short = name.count(".") == 1
    return "" if registry.has(name, namespace) and not short else registry.unmatched(name, namespace, "KIA1004")
