# SPDX-License-Identifier: Apache-2.0
"""Whose Istio is it? What the course installed it may change and remove; what was there before it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from labkit import cluster, display
from labkit.cluster import Ownership, Plan, Thing
from labkit.ground import config
from labkit.istio import releases
from labkit.istio.source import Release

__all__ = ["PARTS", "check_unclaimed", "claimed", "keys_in", "manifest_keys", "plan", "uninstall"]

PARTS = ("rules", "applications", "istio")
"""What the course brings, in the order to take it away: from the outside in."""

_Key = tuple[str, str, str]
_RULES = (".istio.io", "gateway.networking.k8s.io")
"""API groups whose objects are rules, by the ends of their names. Their kinds go last."""

_CONTROL_PLANES = ("istiod", "istio-pilot")


def claimed(release: Release, known: Ownership) -> list[Thing]:
    """What there is of an Istio that the course did not install; in a sandbox, the reader's alone, nothing.

    Args:
        release: The release to be installed.
        known: What there is on the cluster.
    """
    if known.whole:
        return []
    wanted = manifest_keys(release) | {("Namespace", "", release.namespace)}
    found = [thing for thing in known.things if not known.why(thing) and (_is_istio(thing) or thing.key in wanted)]
    return sorted(found, key=lambda thing: (thing.kind != "Namespace", thing.kind, thing.namespace, thing.name))


def _is_istio(thing: Thing) -> bool:
    if thing.kind == "CustomResourceDefinition":
        return thing.name.endswith(".istio.io")
    if thing.kind == "Deployment":
        return thing.name in _CONTROL_PLANES or thing.name.startswith("istiod-")
    return thing.kind.endswith("WebhookConfiguration") and thing.name.startswith(("istio", "istiod"))


def check_unclaimed(release: Release) -> None:
    """Go on only if there is no Istio on this cluster but the course's own.

    Raises:
        ClusterError: There is; the message names what there is, and who made it as far as that can be told.
    """
    theirs = claimed(release, cluster.look())
    if theirs:
        raise cluster.refuse(
            theirs,
            f"this cluster has an Istio of somebody else's ({len(theirs)} objects), over which the course does not"
            f" install {release.version}",
            'Take another cluster, or TARGET = "sandbox". If this Istio is yours and may go, remove it yourself first.',
        )


@lru_cache(maxsize=8)
def _keys(files: tuple[Path, ...]) -> frozenset[_Key]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return frozenset(
        key for file in files for document in yaml.load_all(file.read_text(), Loader=loader) for key in _of(document)
    )


def _of(document: Any) -> Iterator[_Key]:
    if not document:
        return
    if document.get("kind") == "List":
        for item in document["items"]:
            yield from _of(item)
        return
    metadata = document["metadata"]
    yield document["kind"], metadata.get("namespace", ""), metadata["name"]


def manifest_keys(release: Release) -> frozenset[_Key]:
    """Kind, namespace and name of all that the release's manifests hold."""
    return _keys((*release.crd_files, *release.demo_files, *release.addon_files))


def keys_in(*files: Path) -> frozenset[_Key]:
    """Kind, namespace ("" where the file says none) and name of all objects in manifests."""
    return _keys(files)


def plan(release: Release, *parts: str, settle: bool = True) -> Plan:
    """What clean-up would delete, and what stays though it is in the way: a table to show.

    Args:
        release: The release that was installed.
        parts: Only these of `PARTS`; none for all of the course.
        settle: Whether to mark first what an interrupted command had made; it writes to the cluster.

    Raises:
        ClusterError: The cluster does not answer.
    """
    named = manifest_keys(release) | {("Namespace", "", release.namespace)}
    return cluster.plan(
        lambda: cluster.look(named, settle=settle),
        lambda thing: _part(thing, named, release.namespace),
        parts,
        maker=f"Namespace {release.namespace}",
        theirs=lambda known: any(not known.byproduct(thing) for thing in claimed(release, known)),
    )


def _part(thing: Thing, named: frozenset[_Key], namespace: str) -> str:
    if thing.key in named or thing.namespace == namespace or any(one.fits(thing) for one in _byproducts()):
        return "istio"
    if thing.kind == "CustomResourceDefinition" and thing.name.endswith(_RULES):
        return "istio"
    return "rules" if thing.group.endswith(_RULES) else "applications"


def _byproducts() -> Iterator[cluster.Byproduct]:
    for version in config.RELEASES:
        yield from releases.facts(version).byproducts


def uninstall(release: Release, *, confirm: str = "", timeout: float = 300.0) -> None:
    """Remove the Istio that the course installed, and what its components made while they ran: shown first.

    Nothing that is missing already is a fault, so that it can be run again, and after a half-done installation. What
    the course did not make stays, and with it the kinds and the namespace that it needs.

    Args:
        release: The release.
        confirm: The context's name, to say that this cluster is meant; "" to be asked. A sandbox asks for nothing.
        timeout: Seconds for each step.

    Raises:
        ClusterError: It was not confirmed, no snapshot was kept, or the cluster refused something.
        NotReadyError: Something was still there in the end.
    """
    chosen = plan(release, "istio")
    display.show(chosen.rich())
    chosen.confirm(confirm)
    chosen.remove(timeout=timeout)
