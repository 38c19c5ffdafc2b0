"""Installing a release with kubectl, as a reader would, and removing all of it again."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from labkit import cluster, display
from labkit.errors import ClusterError
from labkit.istio.source import Release

__all__ = ["install", "uninstall"]

_ABSENT_KIND = re.compile(r"no matches for kind|doesn't have a resource type|ensure CRDs are installed first")
_COMMAND = re.compile(r"^\(from `")


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
    """
    for files in (release.addon_files, release.demo_files, release.crd_files):
        for file in reversed(files):
            _delete(file, timeout)
    _run(["delete", "namespace", release.namespace, "--ignore-not-found"], timeout)
    for command in release.facts.leftovers:
        _run(command, timeout)


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
    try:
        cluster.delete(file, timeout=timeout)
    except ClusterError as error:
        _forgive(error)


def _run(command: str | Sequence[str], timeout: float) -> None:
    try:
        cluster.kubectl(command, timeout=timeout)
    except ClusterError as error:
        _forgive(error)


def _forgive(error: ClusterError) -> None:
    """Raise `error`, unless all it says is that kinds are not served, so that nothing of them can be left."""
    lines = [line for line in error.message.splitlines() if line.strip() and not _COMMAND.match(line)]
    if not lines or not all(_ABSENT_KIND.search(line) for line in lines):
        raise error
    display.show(display.message("Some of its kinds are gone already, and with them every object of theirs.", "note"))
