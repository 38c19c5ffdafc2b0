"""Installing a release with kubectl, as a reader would, and removing all of it again."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import yaml

from labkit import cluster, display
from labkit.istio.source import Release

__all__ = ["install", "uninstall"]

_API_VERSION = re.compile(r"^apiVersion: *[\"']?([\w./-]+)", re.MULTILINE)


def install(
    release: Release,
    *,
    addons: bool = True,
    timeout: float = 600.0,
    on_look: Callable[[cluster.Readiness], None] | None = None,
) -> None:
    """Install the demo profile: CRDs, then Istio, then the add-ons; wait until every workload is ready.

    What is there already is brought to the release's state, so that it can be run again.

    Args:
        release: The release.
        addons: Whether to install add-ons that the demo profile does not bring (1.2.2 brings them all).
        timeout: Seconds until the CRDs are served, and again until all is ready.
        on_look: Called with the readiness each time it is looked at; a widget draws itself here.

    Raises:
        ClusterError: The cluster refused something; the message names the object and the reason.
        NotReadyError: Not ready in time; the message says which workload and why.
    """
    namespace = release.namespace
    if not release.facts.layout.creates_namespace and not cluster.exists("namespace", namespace):
        cluster.kubectl(f"create namespace {namespace}")
    for file in release.crd_files:
        cluster.apply(file)
    cluster.wait_for(_served(release), timeout=timeout)
    for file in release.demo_files:
        cluster.apply(file, timeout=timeout)
    wanted = [c.name for c in release.components if not c.addon or not release.addon_files]
    if addons:
        for file in release.addon_files:
            cluster.apply(file)
        wanted = [c.name for c in release.components]
    cluster.wait_for(cluster.Ready(namespace, wanted, on_look), timeout=timeout)


def uninstall(release: Release, *, timeout: float = 300.0) -> None:
    """Remove what `install` brought, last things first, and what Istio's components made while they ran.

    Nothing that is missing already is a fault, so that it can be run again, and after a half-done installation.

    Args:
        release: The release.
        timeout: Seconds for each step.

    Raises:
        ClusterError: The cluster refused something.
        NotReadyError: Something was still there in the end.
    """
    for files in (release.addon_files, release.demo_files, release.crd_files):
        for file in reversed(files):
            _delete(file, timeout)
    cluster.delete_namespace(release.namespace, timeout=timeout)
    cluster.wait_for(_gone(release), timeout=timeout)
    for command in release.facts.leftovers:
        cluster.kubectl(command, timeout=timeout)


def _served(release: Release) -> cluster.Condition:
    names = release.facts.crds

    def look() -> str | None:
        established = {
            crd["metadata"]["name"]
            for crd in cluster.get("crd")
            for condition in crd.get("status", {}).get("conditions", [])
            if condition["type"] == "Established" and condition["status"] == "True"
        }
        missing = [name for name in names if name not in established]
        return f"{len(missing)} of {len(names)} not established: {', '.join(missing[:3])}" if missing else None

    return cluster.Condition(f"the {len(names)} CRDs of Istio {release.version} to be served", look)


def _delete(file: Path, timeout: float) -> None:
    # Waiting itself, kubectl asks at most five times a second, object by object: half a minute for the demo profile.
    words = ["delete", "--ignore-not-found=true", "--wait=false", "-f"]
    served = set(cluster.kubectl("api-versions", show=False).split())
    text = file.read_text()
    gone = set(_API_VERSION.findall(text)) - served
    if not gone:
        cluster.kubectl([*words, _short(file)], timeout=timeout)
        return
    # kubectl cannot delete what it does not know; where a kind is gone, so is every object of it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    known = [item for item in yaml.load_all(text, Loader=loader) if item and item["apiVersion"] in served]
    rest = f"{_short(file)} without {', '.join(sorted(gone))}, which this cluster no longer serves"
    display.show(display.message(f"kubectl {' '.join(words)} {rest}", "note"))
    if known:
        cluster.kubectl([*words, "-"], stdin=yaml.safe_dump_all(known), show=False, timeout=timeout)


def _gone(release: Release) -> cluster.Condition:
    names = {*release.facts.crds, *release.facts.other_crds}

    def look() -> str | None:
        left = sorted(names & {crd["metadata"]["name"] for crd in cluster.get("crd")})
        return f"{len(left)} still there: {', '.join(left[:3])}" if left else None

    return cluster.Condition(f"the CRDs of Istio {release.version} to be gone", look)


def _short(file: Path) -> str:
    return min(str(file), os.path.relpath(file), key=len)
