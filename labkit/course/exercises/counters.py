# SPDX-License-Identifier: Apache-2.0
"""What reaches whom, for judges: counted by the mesh, where the answers that a client gets do not tell it."""

from __future__ import annotations

from typing import Any

from labkit import bookinfo, cluster, istio
from labkit.istio.releases import NAMESPACE
from labkit.observe.prometheus import Prometheus

__all__ = ["has_fault", "reached"]

_REACHED = (
    "sum by (destination_workload) (max_over_time("
    'istio_requests_total{reporter="destination", destination_workload_namespace="bookinfo"}[1m]))'
)

_STILL = 60.0
"""Seconds that the counters have to stand still: two scrapes at Istio's own clock, and some more."""

_forwards: dict[cluster.Chosen, cluster.PortForward] = {}


def reached(lesson: Any, n: int, *, path: str = "", rate: float = 100.0) -> bookinfo.Measured:
    """Send requests, and find how many of each workload's sidecar has counted meanwhile, tries and copies included.

    Args:
        lesson: The lesson that is played.
        n: How many requests.
        path: What is asked for; "" for the product page.
        rate: Requests a second.

    Raises:
        ClusterError: The gateway or Prometheus does not answer.
        NotReadyError: The counters do not stand still: somebody else sends requests as well.
    """
    url = f"{istio.ingress(show=False).url}{path}"
    return bookinfo.measure(url, n, _prometheus(lesson.release), _REACHED, rate=rate, timeout=_STILL)


def _prometheus(release: istio.Release) -> Prometheus:
    addon = next(one for one in release.facts.addons if one.name == "prometheus")
    target = cluster.current()
    found = _forwards.get(target)
    if found is None or found.closed:
        found = cluster.port_forward(f"svc/{addon.service}", addon.port, namespace=NAMESPACE, show=False)
        _forwards[target] = found
    found.wait_until_bound()
    return Prometheus(found.url)


def has_fault(host: str, field: str) -> bool:
    """Whether a VirtualService of namespace bookinfo named as `host` still has a fault of this kind.

    Args:
        host: Its name.
        field: "delay" or "abort".
    """
    found = cluster.get("virtualservices.networking.istio.io", host, namespace="bookinfo")
    rules = [rule for one in found for rule in (one.get("spec") or {}).get("http") or []]
    return any(((rule or {}).get("fault") or {}).get(field) for rule in rules)
