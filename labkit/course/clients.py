# SPDX-License-Identifier: Apache-2.0
"""Clients to call from: the release's own sample of a pod with curl, in namespaces of its own."""

from __future__ import annotations

from labkit import cluster, istio
from labkit.observe.access import Call, Caller

__all__ = ["CALLS", "DETAILS", "RATINGS", "bring", "client", "remove"]

DETAILS = "http://details.bookinfo:9080/details/0"
RATINGS = "http://ratings.bookinfo:9080/ratings/0"
CALLS = (
    Call("productpage", "http://productpage.bookinfo:9080/productpage"),
    Call("details", DETAILS),
    Call("reviews", "http://reviews.bookinfo:9080/reviews/0"),
    Call("ratings", RATINGS),
)
"""One call of each of BookInfo's services."""

_SAMPLES = ("curl", "sleep")
"""What the sample is called, today and in 2019."""


def client(release: istio.Release, namespace: str) -> Caller:
    """The client of a namespace, whether or not it is there."""
    return Caller(namespace, next(name for name in _SAMPLES if (release.samples / name / f"{name}.yaml").is_file()))


def bring(release: istio.Release, *namespaces: str, sidecar: bool, timeout: float = 120.0) -> list[Caller]:
    """Make namespaces with a client in each, and wait until they are ready; what is there already stays.

    Args:
        release: The Istio release whose sample to apply.
        namespaces: Their names.
        sidecar: Whether the clients get a sidecar.
        timeout: Seconds.

    Returns:
        The clients, in that order.

    Raises:
        ClusterError: The cluster refused something.
        NotReadyError: A client was not ready in time.
    """
    found = [client(release, namespace) for namespace in namespaces]
    for caller in found:
        if not cluster.exists("namespace", caller.namespace):
            cluster.kubectl(f"create namespace {caller.namespace}")
        label = "istio-injection=enabled" if sidecar else "istio-injection-"
        cluster.kubectl(f"label namespace {caller.namespace} {label} --overwrite", show=sidecar)
        sample = release.samples / caller.deployment / f"{caller.deployment}.yaml"
        cluster.apply(sample, namespace=caller.namespace)
    for caller in found:
        cluster.wait_for(cluster.Ready(caller.namespace, (caller.deployment,)), timeout=timeout)
    return found


def remove(*namespaces: str) -> None:
    """Delete namespaces with all they hold, and wait until they are gone."""
    cluster.kubectl(["delete", "namespace", *namespaces, "--ignore-not-found"], timeout=180.0)
