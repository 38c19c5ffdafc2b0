# SPDX-License-Identifier: Apache-2.0
"""The kubelet's metrics: its own page, and cAdvisor's with what every container uses.

What a container uses is read from its processes when somebody asks. There are no cgroups, so a few of cAdvisor's
metrics have no true value here and are left out: those of networks, of pauses between a quota's periods, of caches.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path

from msgspec import Struct

from labkit.ground import quantity as quantities
from meshbox import failures
from meshbox.contracts import ApiError, Objects, Used, View
from meshbox.exposition import exposition, gauge
from meshbox.node.container import Container
from meshbox.node.pod import PodWorker
from meshbox.node.usage import Usage, UsageReader, folder_size
from meshbox.settings import SandboxSettings

__all__ = ["Monitoring"]

_Labels = dict[str, str]


class _Running(Struct, frozen=True):
    """A container that runs, as it is when its processes are looked at in a thread of its own."""

    identity: str
    pid: int
    began: float
    labels: _Labels
    pod: View
    folders: tuple[Path, ...]
    limits: dict[str, Decimal]


class Monitoring:
    """Answers the kubelet's metrics pages.

    Args:
        objects: The cluster's objects, for events.
        settings: The sandbox.
        workers: The pods on the node.
    """

    def __init__(self, objects: Objects, settings: SandboxSettings, workers: Callable[[], Iterable[PodWorker]]) -> None:
        self._objects = objects
        self._settings = settings
        self._workers = workers
        self._reader = UsageReader()
        self._lock = asyncio.Lock()

    async def page(self, path: str) -> str:
        """The page at `path`: "/metrics" or "/metrics/cadvisor".

        Raises:
            ApiError: 404 for any other path.
        """
        if path == "/metrics":
            return exposition(self._kubelet())
        if path != "/metrics/cadvisor":
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        running = [
            found for worker in self._workers() for one in worker.containers if (found := self._seen(worker, one))
        ]
        async with self._lock:
            # Hundreds of small files: the loop goes on meanwhile.
            page, left_out = await asyncio.to_thread(self._cadvisor, running)
        for pod, error in left_out:
            failures.report(self._objects, pod, error, "FailedMetrics", "kubelet")
        return page

    async def usage(self) -> Used:
        """What all that runs has used until now; see `PodRuntime`."""
        running = [
            found for worker in self._workers() for one in worker.containers if (found := self._seen(worker, one))
        ]
        async with self._lock:
            read = await asyncio.to_thread(self._reader.read, {one.pid: one.identity for one in running})
        used: dict[tuple[str, str, str, str], tuple[float, int]] = {}
        for one in running:
            if one.identity in read:
                seen, labels = read[one.identity], one.labels
                key = labels["namespace"], labels["pod"], labels["container"], one.identity
                used[key] = (seen.user + seen.system, seen.working_set)
        return {**used, ("", "", "", ""): (time.process_time(), _own_memory())}

    def _kubelet(self) -> Iterator[str]:
        legacy = self._settings.legacy
        containers = [container for worker in self._workers() for container in worker.containers]
        states: dict[str, int] = {}
        for container in containers:
            kind = {"running": "running", "terminated": "exited"}.get(next(iter(container.state)), "created")
            states[kind] = states.get(kind, 0) + 1
        pods = sum(any(one.pid for one in worker.containers) for worker in self._workers())
        node = [({"node": self._settings.node_name}, 1.0)]
        yield from gauge("kubelet_node_name", "The node's name. The count is always 1.", node)
        names = ("kubelet_running_pod_count", "kubelet_running_container_count")
        if not legacy:
            names = ("kubelet_running_pods", "kubelet_running_containers")
        yield from gauge(names[0], "Number of pods that have a running pod sandbox", [({}, pods)])
        if legacy:
            count: list[tuple[_Labels, float]] = [({}, float(states.get("running", 0)))]
        else:
            count = [({"container_state": state}, float(number)) for state, number in sorted(states.items())]
        yield from gauge(names[1], "Number of containers currently running", count)
        version = {"gitVersion" if legacy else "git_version": self._settings.kubernetes_version}
        yield from gauge("kubernetes_build_info", "The version that this node plays.", [(version, 1.0)])

    def _seen(self, worker: PodWorker, container: Container) -> _Running | None:
        """One container; one that nothing can be said of is left out, and the others are not."""
        try:
            return self._of(worker, container)
        except Exception as error:
            failures.report(self._objects, worker.pod, error, "FailedMetrics", "kubelet")
            return None

    def _of(self, worker: PodWorker, container: Container) -> _Running | None:
        if not container.pid or container.context is None:
            return None
        context, metadata = container.context, worker.pod["metadata"]
        identity = context.env["LABKIT_CONTAINER"]
        where = {"container": container.name, "pod": metadata["name"]}
        if self._settings.legacy:
            # Kubernetes 1.14 had both the old names and the new.
            where |= {"container_name": container.name, "pod_name": metadata["name"]}
        labels = {
            **where,
            "namespace": context.namespace,
            "image": str(context.image),
            "id": f"/kubepods/pod{metadata['uid']}/{identity}",
            "name": identity,
        }
        folders = (context.root, container.log_path(0).parent)
        given = (container.spec.get("resources") or {}).get("limits") or {}
        limits: dict[str, Decimal] = {
            name: quantities.parse(given[name]) for name in ("cpu", "memory") if name in given
        }
        return _Running(identity, container.pid, container.began, labels, worker.pod, folders, limits)

    def _cadvisor(self, running: list[_Running]) -> tuple[str, list[tuple[View, Exception]]]:
        """The page, and the pods of containers that are not on it; no event may be written from this thread."""
        used = self._reader.read({one.pid: one.identity for one in running})
        seen, left_out = [], []
        for one in running:
            try:
                if one.identity in used:
                    seen.append((one, used[one.identity], folder_size(one.folders)))
            except Exception as error:
                left_out.append((one.pod, error))
        return exposition(_machine(), *_pages(seen)), left_out


def _own_memory() -> int:
    """Bytes of this process' resident memory that belong to no file."""
    with open("/proc/self/statm") as file:
        _, resident, shared, *_ = map(int, file.read().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def _machine() -> Iterator[str]:
    cores = len(os.sched_getaffinity(0))
    yield from gauge("machine_cpu_cores", "Number of CPU cores on the machine.", [({}, cores)])
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield from gauge("machine_memory_bytes", "Amount of memory installed on the machine.", [({}, memory)])


_GAUGES: tuple[tuple[str, str, Callable[[Usage], float]], ...] = (
    ("container_memory_usage_bytes", "Current memory usage in bytes, without pages of files", lambda u: u.working_set),
    ("container_memory_working_set_bytes", "Current working set in bytes.", lambda u: u.working_set),
    ("container_memory_rss", "Size of RSS in bytes: memory of no file.", lambda u: u.anonymous),
    ("container_memory_mapped_file", "Size of memory mapped files in bytes.", lambda u: u.mapped),
    ("container_memory_swap", "Container swap usage in bytes.", lambda u: u.swap),
    ("container_processes", "Number of processes running inside the container.", lambda u: u.processes),
    ("container_threads", "Number of threads running inside the container", lambda u: u.threads),
    ("container_file_descriptors", "Number of open file descriptors for the container.", lambda u: u.descriptors),
)


def _pages(found: list[tuple[_Running, Usage, int]]) -> Iterator[Iterable[str]]:
    seen = [(one, usage) for one, usage, _ in found]
    text = "Cumulative cpu time consumed in seconds."
    total = [({**one.labels, "cpu": "total"}, usage.user + usage.system) for one, usage in seen]
    yield gauge("container_cpu_usage_seconds_total", text, total, "counter")
    for kind in ("user", "system"):
        name, text = f"container_cpu_{kind}_seconds_total", f"Cumulative {kind} cpu time consumed in seconds."
        yield gauge(name, text, [(one.labels, getattr(usage, kind)) for one, usage in seen], "counter")
    for name, text, value in _GAUGES:
        yield gauge(name, text, [(one.labels, value(usage)) for one, usage in seen])
    text = "Number of bytes that are consumed by the container on this filesystem."
    yield gauge("container_fs_usage_bytes", text, [(one.labels, size) for one, _, size in found])
    started = [(one.labels, one.began) for one, _ in seen]
    yield gauge("container_start_time_seconds", "Start time of the container since unix epoch in seconds.", started)
    now = time.time()
    yield gauge(
        "container_last_seen", "Last time a container was seen by the exporter", [(o.labels, now) for o, _ in seen]
    )
    limits = [(one.labels, float(one.limits["memory"])) for one, _ in seen if "memory" in one.limits]
    yield gauge("container_spec_memory_limit_bytes", "Memory limit for the container; not enforced here.", limits)
    quotas = [(one.labels, float(one.limits["cpu"]) * 1e5) for one, _ in seen if "cpu" in one.limits]
    yield gauge("container_spec_cpu_quota", "CPU quota of the container; not enforced here.", quotas)
    yield gauge("container_spec_cpu_period", "CPU period of the container.", [(labels, 1e5) for labels, _ in quotas])
