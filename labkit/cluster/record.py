# SPDX-License-Identifier: Apache-2.0
"""What the course wrote down about a cluster: its run, what it made there, and what it was about to make.

It lies beside a sandbox, so that it ends with it; for any other cluster below `$LABKIT_HOME/course/UID`, where UID is
kube-system's: the name of a cluster that no renamed context and no other kubeconfig changes.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labkit.cluster.kubeconfig import Chosen, sandbox_of
from labkit.ground import config, files
from labkit.ground.errors import ClusterError

__all__ = ["Pending", "Record", "changing", "folder", "is_sandbox", "load"]

_FILE = "made.json"


def is_sandbox(target: Chosen) -> bool:
    """Whether labkit itself started this cluster, for this reader alone.

    It is asked for one purpose: whether what is there could be somebody else's. No lesson shows another thing for it.
    """
    return bool(sandbox_of(target.named))


def folder(target: Chosen) -> Path:
    """Where the course keeps what it knows of a cluster."""
    name = sandbox_of(target.named)
    return config.home() / "sandboxes" / name / "course" if name else config.home() / "course" / target.uid


@dataclass(frozen=True)
class Pending:
    """Objects that a command was about to make: what became of them is not known if we were killed meanwhile.

    Args:
        at: When, in seconds since 1970.
        lesson: In which lesson.
        objects: Kind, namespace and name of each.
    """

    at: float
    lesson: str
    objects: frozenset[tuple[str, str, str]]


@dataclass
class Record:
    """What is known of one cluster.

    Args:
        uid: The uid of its namespace kube-system.
        run: The name of this reader's course there, which its objects carry.
        made: The uid of every object that the course made, with what it was ("Gateway bookinfo/bookinfo-gateway").
        pending: What may have been made.
    """

    uid: str
    run: str = field(default_factory=lambda: secrets.token_hex(6))
    made: dict[str, str] = field(default_factory=dict)
    pending: list[Pending] = field(default_factory=list)


def load(place: Path, uid: str) -> Record | None:
    """The record in folder `place`; None if none was made for the cluster whose kube-system is `uid`.

    Raises:
        ClusterError: It cannot be read: what is whose is not known then.
    """
    path = place / _FILE
    try:
        kept = json.loads(files.read(path))
        pending = [Pending(at, lesson, frozenset(map(_triple, rows))) for at, lesson, rows in kept["pending"]]
        record = Record(str(kept["cluster"]), str(kept["run"]), dict(kept["made"]), pending)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ClusterError(
            f"{path}, which says what the course made on this cluster, cannot be read",
            next_step="Move it away; then `kubectl get all -A -l labkit.dev/course` shows what may be the course's.",
        ) from None
    return record if record.uid == uid else None


def _triple(row: Any) -> tuple[str, str, str]:
    kind, namespace, name = row
    return str(kind), str(namespace), str(name)


@contextlib.contextmanager
def changing(place: Path, uid: str) -> Iterator[Record]:
    """The record in folder `place` to change, kept at the end; made where there is none. One process at a time has it.

    Raises:
        ClusterError: It is there and cannot be read, or cannot be written.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(files.alone(place / f"{_FILE}.lock"))
        except OSError as error:
            raise _not_kept(place, error) from error
        record = load(place, uid) or Record(uid)
        yield record
        try:
            _save(place / _FILE, record)
        except OSError as error:
            raise _not_kept(place, error) from error


def _not_kept(place: Path, error: OSError) -> ClusterError:
    return ClusterError(
        f"what the course makes on this cluster cannot be written down: {place}: {error.strerror}",
        next_step="Make room there, or set LABKIT_HOME to a folder of yours that can be written to.",
    )


def _save(path: Path, record: Record) -> None:
    kept = {
        "cluster": record.uid,
        "run": record.run,
        "made": record.made,
        "pending": [[one.at, one.lesson, sorted(one.objects)] for one in record.pending],
    }
    files.write(path, json.dumps(kept).encode())


def expect(place: Path, uid: str, lesson: str, objects: Iterable[tuple[str, str, str]]) -> None:
    """Write down what a command is about to make."""
    with changing(place, uid) as record:
        record.pending.append(Pending(time.time(), lesson, frozenset(objects)))


def since(stamp: str) -> float:
    """A creationTimestamp as seconds since 1970; 0 where there is none."""
    try:
        return datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0
