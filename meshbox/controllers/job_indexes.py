# SPDX-License-Identifier: Apache-2.0
"""Jobs whose completions have numbers (`completionMode: Indexed`): each index from 0 is to succeed once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from meshbox.contracts import Obj

__all__ = ["allot", "every", "failed_in", "failures_of", "free", "index_of", "indexed", "read", "written"]

_INDEX = "batch.kubernetes.io/job-completion-index"
_FAILURES = "batch.kubernetes.io/job-index-failure-count"


def indexed(job: Obj) -> bool:
    """Whether the completions of a Job have numbers."""
    return bool(job["spec"].get("completionMode") == "Indexed")


def every(job: Obj) -> range:
    """All indexes of a Job."""
    return range(job["spec"].get("completions") or 0)


def index_of(pod: Obj) -> int:
    """The index that a pod works on; -1 where it has none."""
    said = str((pod["metadata"].get("annotations") or {}).get(_INDEX, ""))
    return int(said) if said.isdecimal() and said.isascii() else -1


def failures_of(pod: Obj) -> int:
    """How often its index had failed before a pod."""
    said = str((pod["metadata"].get("annotations") or {}).get(_FAILURES, ""))
    return int(said) if said.isdecimal() and said.isascii() else 0


def read(text: str | None, job: Obj) -> set[int]:
    """The indexes that a status names, e.g. "1,3-5,7"; without those that the Job has no more."""
    found: set[int] = set()
    for part in (text or "").split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            found.update(range(int(first), min(int(last or first) + 1, len(every(job)))))
    return found & set(every(job))


def written(indexes: Iterable[int]) -> str:
    """Indexes as a status names them: three and more neighbours are an interval."""
    runs: list[list[int]] = []
    for one in sorted(indexes):
        if runs and runs[-1][1] == one - 1:
            runs[-1][1] = one
        else:
            runs.append([one, one])
    return ",".join(
        str(first) if first == last else f"{first}{',' if last == first + 1 else '-'}{last}" for first, last in runs
    )


def free(job: Obj, status: Obj, active: Iterable[Obj]) -> Iterator[int]:
    """The indexes that nobody works on and that have neither succeeded nor failed, the lowest first."""
    taken = read(status.get("completedIndexes"), job) | failed_in(job, status) | {index_of(pod) for pod in active}
    return (index for index in every(job) if index not in taken)


def failed_in(job: Obj, status: Obj) -> set[int]:
    """The indexes that are given up."""
    return read(status.get("failedIndexes"), job)


def allot(job: Obj, pod: Obj, index: int, failures: int) -> None:
    """Give a pod that is to be created its index: its name, label, annotation, host name and environment.

    Args:
        job: Its Job.
        pod: Changed.
        index: What it is to work on.
        failures: How often that has failed.
    """
    meta, spec = pod["metadata"], pod["spec"]
    name = f"{job['metadata']['name']}-{index}"
    meta["generateName"] = f"{name}-"
    annotations: dict[str, Any] = {**(meta.get("annotations") or {}), _INDEX: str(index)}
    if job["spec"].get("backoffLimitPerIndex") is not None:
        annotations[_FAILURES] = str(failures)
    meta["annotations"] = annotations
    meta["labels"] = {**(meta.get("labels") or {}), _INDEX: str(index)}
    spec["hostname"] = name
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{_INDEX}']"}}
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        given = container.get("env") or []
        if all(one.get("name") != "JOB_COMPLETION_INDEX" for one in given):
            container["env"] = [*given, {"name": "JOB_COMPLETION_INDEX", "valueFrom": source}]
