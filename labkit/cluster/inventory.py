# SPDX-License-Identifier: Apache-2.0
"""What there is on the whole cluster: every object for "nothing is left", every image for "which versions are here"."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from labkit import display
from labkit.cluster.client import Obj
from labkit.cluster.kubectl import kubectl
from labkit.cluster.listing import listing, served
from labkit.cluster.objects import get
from labkit.cluster.snapshots import Entry, Snapshot
from labkit.cluster.target import current
from labkit.cluster.waits import Objects, wait_for
from labkit.ground.errors import NotReadyError

__all__ = ["NodeImage", "images", "remove_images", "snapshot"]

_MOST_REPORTED = 50
"""How many images a kubelet reports by default."""
_REMOVE = "labkit.dev/remove-images"


def snapshot(*, show: bool = True) -> Snapshot:
    """Every object that can be listed and deleted, save those that another object owns.

    Args:
        show: Whether to show the command.

    Raises:
        ClusterError: The cluster does not answer, or something may not be listed.
    """
    chosen = served()
    things = listing([one.name for one in chosen])
    entries = {Entry(*thing.key) for thing in things if not thing.owners}
    if show:
        line = "kubectl get $(kubectl api-resources --verbs=list,delete -o name | paste -sd,) --all-namespaces -o name"
        display.show(display.command(line, f"{len(entries)} objects of {len(chosen)} kinds"))
    return Snapshot(frozenset(entries), frozenset(image.reference for image in images()), current().uid)


@dataclass(frozen=True, order=True)
class NodeImage:
    """One image on one node, from the node's `status.images`."""

    node: str
    repository: str
    tag: str
    size: int

    @property
    def reference(self) -> str:
        """REPOSITORY:TAG."""
        return f"{self.repository}:{self.tag}"


def images(match: str = "") -> list[NodeImage]:
    """The images on the nodes, as the nodes report them.

    A node reports its largest fifty, and some report none: of such a node those count as well that its pods run, with
    size 0, since nobody says it.

    Args:
        match: Only those whose name contains this.

    Raises:
        ClusterError: The cluster does not answer.
    """
    nodes = list(get("nodes"))
    found = set(_images(nodes, match))
    partial = {one["metadata"]["name"] for one in nodes if not 0 < len(_reported(one)) < _MOST_REPORTED}
    if partial:
        known = {(one.node, one.reference) for one in found}
        found |= {one for one in _running(partial, match) if (one.node, one.reference) not in known}
    return sorted(found)


def _reported(node: Obj) -> list[Obj]:
    return node.get("status", {}).get("images") or []


def _running(nodes: set[str], match: str) -> Iterator[NodeImage]:
    """The images that pods of these nodes run."""
    for pod in get("pods", all_namespaces=True):
        node, status = pod.get("spec", {}).get("nodeName", ""), pod.get("status", {})
        for kind in ("containerStatuses", "initContainerStatuses") if node in nodes else ():
            for container in status.get(kind) or ():
                if container.get("imageID") and (named := _named(container.get("image", ""), match)):
                    yield NodeImage(node, *named, 0)


def _named(name: str, match: str) -> tuple[str, str] | None:
    """Repository and tag of an image's name; None of one without a tag, or that does not match."""
    repository, colon, tag = name.rpartition(":")
    return None if "@" in name or not colon or "/" in tag or match not in name else (repository, tag)


def _images(nodes: Iterable[Obj], match: str = "") -> list[NodeImage]:
    found = set()
    for node in nodes:
        for image in _reported(node):
            for name in image.get("names") or []:
                if named := _named(name, match):
                    found.add(NodeImage(node["metadata"]["name"], *named, image.get("sizeBytes", 0)))
    return sorted(found)


def remove_images(which: Iterable[NodeImage], *, timeout: float = 10.0) -> list[NodeImage]:
    """Ask the nodes to remove images that no pod uses any more.

    Kubernetes has no call for this: a node's own programs do it (`docker rmi`, `crictl rmi`), and those of the sandbox
    read an annotation. It does no harm elsewhere, and is taken back.

    Args:
        which: The images.
        timeout: Seconds to wait for the nodes.

    Returns:
        Those that are still there: the node has to be visited for them.

    Raises:
        ClusterError: The cluster does not answer, or nodes may not be annotated.
    """
    wanted = set(which)
    nodes = sorted({image.node for image in wanted})
    for node in nodes:
        names = ",".join(sorted(image.reference for image in wanted if image.node == node))
        kubectl(["annotate", "node", node, f"{_REMOVE}={names}", "--overwrite"])

    def look(objects: list[Obj]) -> str | None:
        left = wanted & set(_images(objects))
        return f"{len(left)} are there" if left else None

    try:
        wait_for(Objects("the images to go", "nodes", look), timeout=timeout)
    except BaseException as error:
        for node in nodes:
            kubectl(["annotate", "node", node, f"{_REMOVE}-"], show=False)
        if not isinstance(error, NotReadyError):
            # The reader's interrupt among them: nodes are never left with it.
            raise
    return sorted(wanted & set(images()))
