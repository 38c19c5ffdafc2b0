"""What there is on the whole cluster: every object for "nothing is left", every image for "which versions are here"."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from labkit import display
from labkit.cluster.kubectl import kubectl
from labkit.cluster.listing import listing, served
from labkit.cluster.objects import get
from labkit.cluster.target import current
from labkit.cluster.waits import Condition, wait_for
from labkit.ground import files
from labkit.ground.errors import ClusterError, NotReadyError

__all__ = ["Difference", "Entry", "NodeImage", "Snapshot", "images", "mixed_versions", "remove_images", "snapshot"]

_REMOVE = "labkit.dev/remove-images"


@dataclass(frozen=True, order=True)
class Entry:
    """One object's identity. `namespace` is "" for cluster-scoped ones."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


@dataclass(frozen=True)
class Difference:
    """What changed between two snapshots.

    Args:
        added: Objects there now that were not there before.
        removed: Objects that were there before and are not now.
        images: Images ("repository:tag") on the nodes now that were not there before.
    """

    added: tuple[Entry, ...]
    removed: tuple[Entry, ...]
    images: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)

    def rich(self) -> display.Rich:
        """As a table to show."""
        if not self:
            return display.message("Nothing is left, and nothing is missing.", "good")
        rows = [{"": sign, "Kind": e.kind, "Namespace": e.namespace, "Name": e.name}
                for sign, entries in (("left", self.added), ("missing", self.removed)) for e in entries]  # fmt: skip
        return display.table(rows, ["", "Kind", "Namespace", "Name"])

    def __str__(self) -> str:
        return self.rich().text

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return self.rich()._repr_mimebundle_()


@dataclass(frozen=True)
class Snapshot:
    """All objects of a cluster that nothing else owns, and the images on its nodes.

    Args:
        entries: The objects.
        images: The images.
        cluster: The uid of its namespace kube-system, which names it.
    """

    entries: frozenset[Entry]
    images: frozenset[str]
    cluster: str = ""

    def difference(self, before: Snapshot) -> Difference:
        """What changed since `before`."""
        return Difference(
            tuple(sorted(self.entries - before.entries)),
            tuple(sorted(before.entries - self.entries)),
            tuple(sorted(self.images - before.images)),
        )

    def save(self, path: Path) -> None:
        """Keep it for a later notebook.

        Raises:
            ClusterError: It cannot be written.
        """
        rows = [[e.kind, e.namespace, e.name] for e in sorted(self.entries)]
        kept = {"objects": rows, "images": sorted(self.images), "cluster": self.cluster}
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            files.write(path, json.dumps(kept).encode())
        except OSError as error:
            raise ClusterError(
                f"the snapshot of this cluster cannot be kept: {path}: {error.strerror}",
                next_step="make room there, or set LABKIT_HOME to a folder of yours that can be written to",
            ) from error

    @classmethod
    def load(cls, path: Path, cluster: str = "") -> Snapshot:
        """The one that was kept.

        Args:
            path: Its file.
            cluster: The uid of kube-system on the cluster that it has to be of; "" for any.

        Raises:
            ClusterError: There is none, it is another cluster's, or the file is broken.
        """
        try:
            kept = json.loads(files.read(path))
            entries = frozenset(Entry(*row) for row in kept["objects"])
            found = cls(entries, frozenset(kept["images"]), str(kept.get("cluster", "")))
        except FileNotFoundError:
            raise ClusterError(
                "no snapshot of this cluster was kept",
                next_step="00-kubernetes takes one before anything is installed.",
            ) from None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise ClusterError(f"{path} cannot be read", next_step="Delete it and play 00-kubernetes again.") from None
        if cluster and found.cluster != cluster:
            raise ClusterError(
                f"{path} is not a snapshot of this cluster but of another one",
                next_step="Delete it and play 00-kubernetes again, before anything is installed.",
            )
        return found


def snapshot(*, show: bool = True) -> Snapshot:
    """Every object that can be listed and deleted, save those that another object owns.

    Args:
        show: Whether to show the command.

    Raises:
        ClusterError: The cluster does not answer, or something may not be listed.
    """
    chosen = served()
    things = listing(chosen)
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
    """The images on the nodes, as the nodes report them (a node reports its largest 50).

    Args:
        match: Only those whose name contains this.

    Raises:
        ClusterError: The cluster does not answer.
    """
    found = set()
    for node in get("nodes"):
        for image in node.get("status", {}).get("images", []):
            for name in image.get("names", []):
                repository, colon, tag = name.rpartition(":")
                if "@" in name or not colon or "/" in tag or match not in name:
                    continue
                found.add(NodeImage(node["metadata"]["name"], repository, tag, image.get("sizeBytes", 0)))
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

    def left() -> list[NodeImage]:
        return sorted(wanted & set(images()))

    try:
        wait_for(Condition("the images to go", lambda: f"{len(left())} are there" if left() else None), timeout=timeout)
    except BaseException as error:
        for node in nodes:
            kubectl(["annotate", "node", node, f"{_REMOVE}-"], show=False)
        if not isinstance(error, NotReadyError):
            # The reader's interrupt among them: nodes are never left with it.
            raise
    return left()


def mixed_versions(of: Iterable[NodeImage]) -> dict[str, list[str]]:
    """Repositories that are there in more than one tag, with their tags: the walk-through's cause of odd faults."""
    tags: dict[str, set[str]] = {}
    for image in of:
        tags.setdefault(image.repository, set()).add(image.tag)
    return {repository: sorted(there) for repository, there in sorted(tags.items()) if len(there) > 1}
