# SPDX-License-Identifier: Apache-2.0
"""Installing a release with kubectl, as a reader would."""

from __future__ import annotations

from collections.abc import Collection

from labkit import cluster
from labkit.cluster import Obj
from labkit.istio.claims import check_unclaimed
from labkit.istio.source import Release

__all__ = ["established", "install"]


def install(release: Release, *, timeout: float = 600.0) -> None:
    """Install the demo profile: CRDs, then Istio, then the add-ons; wait until every workload is ready.

    What the course installed before is brought to the release's state, so that it can be run again. Over an Istio of
    somebody else's nothing is installed.

    Args:
        release: The release.
        timeout: Seconds until the CRDs are served, and again until all is ready.

    Raises:
        ClusterError: The cluster refused something; the message names the object and the reason. Or there is an Istio
            that the course did not install.
        NotReadyError: Not ready in time; the message says which workload and why.
    """
    check_unclaimed(release)
    namespace = release.namespace
    if not release.facts.layout.creates_namespace and not cluster.exists("namespace", namespace):
        cluster.kubectl(f"create namespace {namespace}")
    for file in release.crd_files:
        cluster.apply(file)
    cluster.wait_for(established(f"Istio {release.version}", release.facts.crds), timeout=timeout)
    for file in release.demo_files:
        cluster.apply(file, timeout=timeout)
    for file in release.addon_files:
        cluster.apply(file)
    cluster.wait_for(cluster.Ready(namespace, [c.name for c in release.components]), timeout=timeout)


def established(whose: str, names: Collection[str]) -> cluster.Objects:
    """A wait until the CRDs of somebody are served."""

    def look(crds: list[Obj]) -> str | None:
        established = {
            crd["metadata"]["name"]
            for crd in crds
            for condition in crd.get("status", {}).get("conditions", [])
            if condition["type"] == "Established" and condition["status"] == "True"
        }
        missing = [name for name in names if name not in established]
        return f"{len(missing)} of {len(names)} not established: {', '.join(missing[:3])}" if missing else None

    return cluster.Objects(f"the {len(names)} CRDs of {whose} to be served", "crd", look)
