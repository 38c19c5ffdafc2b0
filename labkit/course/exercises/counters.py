# SPDX-License-Identifier: Apache-2.0
"""What reaches whom, for judges: counted by the mesh, where the answers that a client gets do not tell it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from labkit import bookinfo, cluster, istio
from labkit.istio.releases import NAMESPACE
from labkit.observe.jaeger import Jaeger
from labkit.observe.prometheus import Prometheus

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["gained", "has_fault", "jaeger_of", "prometheus", "reached"]

_REACHED = (
    "sum by (destination_workload) (max_over_time("
    'istio_requests_total{reporter="destination", destination_workload_namespace="bookinfo"}[1m]))'
)

_STILL = 60.0
"""Seconds that the counters have to stand still: two scrapes at Istio's own clock, and some more."""

_forwards: dict[tuple[cluster.Chosen, str], cluster.PortForward] = {}


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
    return bookinfo.measure(url, n, prometheus(lesson.release), _REACHED, rate=rate, timeout=_STILL)


def gained(lesson: Any, expression: str, labels: Sequence[str], send: Callable[[], object]) -> pd.DataFrame:
    """What counters have gained by what is sent.

    Args:
        lesson: The lesson that is played.
        expression: PromQL that returns counters.
        labels: What tells them apart; one that no counter has is "" in all of them.
        send: Sends requests.

    Returns:
        A row a counter that has gained something: a column (str) a label, and `value` (int64).

    Raises:
        ClusterError: Prometheus does not answer.
        NotReadyError: The counters do not stand still: somebody else sends requests as well.
    """
    counted = prometheus(lesson.release)

    def look() -> pd.Series:
        seen = counted.settled(expression, timeout=_STILL).rename("value").reset_index()
        return seen.reindex(columns=[*labels, "value"], fill_value="").set_index([*labels])["value"]

    before = look()
    send()
    grown = look().sub(before, fill_value=0).round().astype("int64").reset_index()
    return grown[grown["value"] > 0]


def prometheus(release: istio.Release) -> Prometheus:
    """The mesh's Prometheus."""
    return Prometheus(_address(release, "prometheus"))


def jaeger_of(release: istio.Release) -> Jaeger:
    """Who has the traces."""
    return Jaeger(f"{_address(release, 'jaeger')}/jaeger")


def _address(release: istio.Release, name: str) -> str:
    """Of an add-on's page, by a port-forward that is kept."""
    addon = next(one for one in release.facts.addons if one.name == name)
    key = cluster.current(), name
    found = _forwards.get(key)
    if found is None or found.closed:
        found = cluster.port_forward(f"svc/{addon.service}", addon.port, namespace=NAMESPACE, show=False)
        _forwards[key] = found
    found.wait_until_bound()
    return found.url


def has_fault(host: str, field: str) -> bool:
    """Whether a VirtualService of namespace bookinfo named as `host` still has a fault of this kind.

    Args:
        host: Its name.
        field: "delay" or "abort".
    """
    found = cluster.get("virtualservices.networking.istio.io", host, namespace="bookinfo")
    rules = [rule for one in found for rule in (one.get("spec") or {}).get("http") or []]
    return any(((rule or {}).get("fault") or {}).get(field) for rule in rules)
