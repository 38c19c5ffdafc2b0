# SPDX-License-Identifier: Apache-2.0
"""What was on a cluster once, kept to tell later what came and what went. Nothing here asks a cluster."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from labkit import display
from labkit.ground import files
from labkit.ground.errors import ClusterError

__all__ = ["Difference", "Entry", "Snapshot"]


@dataclass(frozen=True, order=True)
class Entry:
    """One object's identity. `namespace` is "" for cluster-scoped ones."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


@dataclass(frozen=True)
class Difference(display.Shown):
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
