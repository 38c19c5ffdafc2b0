# SPDX-License-Identifier: Apache-2.0
"""The sandbox's one node: runs the pods bound to it as processes of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from labkit.ground.errors import LabError
from meshbox import failures, images
from meshbox.contracts import ApiError, ByteStream, Event, ExecSession, Obj, Objects, Used, View
from meshbox.following import follow
from meshbox.node.connections import connect
from meshbox.node.container import Container
from meshbox.node.execs import start_command
from meshbox.node.ipam import PodAddresses
from meshbox.node.kubelet_metrics import Monitoring
from meshbox.node.logs import Selection, read_log
from meshbox.node.names import Names
from meshbox.node.pod import PodWorker
from meshbox.node.processes import Processes
from meshbox.node.proxy import ServiceProxy
from meshbox.node.registration import Registration
from meshbox.node.services import NodeServices, Timing
from meshbox.settings import SandboxSettings

if TYPE_CHECKING:
    from meshbox.typed.pods import Pod

__all__ = ["Node"]

log = logging.getLogger(__name__)


class Node:
    """The node. Implements `contracts.PodRuntime`.

    Args:
        objects: The cluster's objects.
        settings: The sandbox.
        timing: The node's clocks; Kubernetes' own by default, with eager probes unless `settings.real_clocks`.
    """

    def __init__(self, objects: Objects, settings: SandboxSettings, timing: Timing | None = None) -> None:
        self._objects = objects
        self._settings = settings
        self._timing = timing or Timing(eager=not settings.real_clocks)
        self._workers: dict[str, PodWorker] = {}
        self._addresses = PodAddresses(settings.plan.pod_cidr)
        self._processes = Processes(settings.home, images.modules(), self._keeper_lost)
        self._registration = Registration(objects, settings, self._timing, self._images_in_use)
        self._proxy = ServiceProxy(objects, settings)
        self._names = Names(objects, settings.home / "dns.json", legacy=settings.legacy)
        self._tasks: set[asyncio.Task[None]] = set()
        self._monitoring = Monitoring(objects, settings, lambda: self._workers.values())
        self._services = NodeServices(
            objects=objects,
            settings=settings,
            timing=self._timing,
            processes=self._processes,
            pull=self._registration.pull,
            present=self._registration.present,
            allocatable=self._registration.allocatable,
            dns_file=self._names.file,
        )

    async def start(self) -> None:
        """Register the node, and run the pods bound to it: those there are, and those to come.

        Raises:
            SandboxError: processes of an earlier run cannot be ended, or no process can be started.
        """
        self._settings.pods_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._processes.start()
        self._registration.register()
        self._names.start()
        self._proxy.start()
        self._take_over()
        for resource, act in (
            ("pods", self._pod_event),
            ("nodes", self._node_event),
            ("configmaps", self._refresh("configmaps")),
            ("secrets", self._refresh("secrets")),
        ):
            self._spawn(follow(self._objects, resource, act, "kubelet"))
        self._spawn(self._registration.beat())

    async def stop(self) -> None:
        """End all processes; the pods stay in the store, and run again at the next start."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self._workers.values():
            worker.abandon()
        await asyncio.gather(*(worker.kill() for worker in self._workers.values()))
        await self._processes.stop()
        self._workers.clear()
        await self._proxy.stop()
        await self._names.stop()
        self._registration.stopped()

    def _keeper_lost(self) -> None:
        self._registration.keeper_lost()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        what = "the node could not finish what it had begun"
        task = failures.minded(work, lambda error: failures.report_here(self._objects, error, what, "kubelet"))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take_over(self) -> None:
        """Take on the pods of an earlier run, and remove the folders of those that vanished while none ran."""
        pods = cast("list[Pod]", self._objects.list("pods"))
        for folder in self._settings.pods_dir.iterdir():
            if folder.name not in {pod["metadata"]["uid"] for pod in pods}:
                shutil.rmtree(folder, ignore_errors=True)
        ours = [pod for pod in pods if self._is_ours(pod)]
        # All keep their address before any gets a new one.
        for pod in ours:
            address = (pod.get("status") or {}).get("podIP")
            if address and not _finished(pod):
                with self._spared(pod):
                    self._addresses.reserve(address, pod["metadata"]["uid"])
        for pod in ours:
            with self._spared(pod):
                self._admit(pod)
        # Nobody may take for ready what was so in the earlier run.
        for worker in self._workers.values():
            with self._spared(worker.pod):
                worker.write()

    def _spared(self, pod: View) -> contextlib.AbstractContextManager[None]:
        """Go on with the other pods where something unforeseen is wrong with this one."""
        return failures.spared(lambda error: failures.report(self._objects, pod, error, "FailedSync", "kubelet"))

    def _is_ours(self, pod: Pod) -> bool:
        return bool(pod["spec"].get("nodeName") == self._settings.node_name)

    def _images_in_use(self) -> set[str]:
        found = set()
        for worker in self._workers.values():
            for container in worker.containers:
                with contextlib.suppress(ValueError):
                    found.add(str(images.ImageName.parse(str(container.spec.get("image", "")))))
        return found

    def _node_event(self, event: Event) -> None:
        if event.object["metadata"]["name"] == self._settings.node_name and event.type != "DELETED":
            self._registration.changed()

    def _refresh(self, resource: str) -> Callable[[Event], None]:
        def act(event: Event) -> None:
            metadata = event.object["metadata"]
            for worker in self._workers.values() if event.type != "DELETED" else ():
                if worker.pod["metadata"].get("namespace") == metadata.get("namespace"):
                    worker.refresh(resource, metadata["name"])

        return act

    def _pod_event(self, event: Event) -> None:
        pod = cast("Pod", event.object)
        uid = pod["metadata"]["uid"]
        worker = self._workers.get(uid)
        if event.type == "DELETED":
            if worker is not None:
                del self._workers[uid]
                self._spawn(self._remove(worker))
        elif worker is not None:
            worker.update(pod)
        elif self._is_ours(pod):
            self._admit(pod)

    def _admit(self, pod: Pod) -> None:
        metadata = pod["metadata"]
        if _finished(pod) and "deletionTimestamp" not in metadata:
            return
        old = (pod.get("status") or {}).get("podIP")
        try:
            if pod["spec"].get("hostNetwork"):
                address = self._settings.plan.node
            elif old and self._addresses.reserve(old, metadata["uid"]):
                address = old
            else:
                address = self._addresses.take(metadata["uid"])
        except LabError as error:
            self._objects.event(pod, "Warning", "FailedCreatePodSandBox", error.message, "kubelet")
            asyncio.get_running_loop().call_later(self._timing.backoff, self._retry, pod)
            return
        try:
            worker = self._workers[metadata["uid"]] = PodWorker(self._services, pod, address)
        except Exception:
            self._addresses.free(metadata["uid"])
            raise
        if "deletionTimestamp" not in metadata:
            worker.start()
        worker.update(pod)

    def _retry(self, pod: Pod) -> None:
        current = self._objects.find("pods", pod["metadata"]["name"], pod["metadata"]["namespace"])
        uid = pod["metadata"]["uid"]
        if current and current["metadata"]["uid"] == uid and uid not in self._workers:
            with self._spared(current):
                self._admit(cast("Pod", current))
                return
            asyncio.get_running_loop().call_later(self._timing.backoff, self._retry, current)

    async def _remove(self, worker: PodWorker) -> None:
        await worker.kill()
        self._addresses.free(worker.uid)
        # A folder may hold much; the node goes on meanwhile.
        await asyncio.to_thread(worker.forget)

    def _container(self, namespace: str, pod: str, name: str) -> tuple[PodWorker, Container]:
        for worker in self._workers.values():
            metadata = worker.pod["metadata"]
            if (metadata.get("namespace"), metadata["name"]) == (namespace, pod):
                for container in worker.containers:
                    if container.name == name or (not name and container in worker.main):
                        return worker, container
                raise ApiError(400, "BadRequest", f"container {name} is not valid for pod {pod}")
        raise ApiError(404, "NotFound", f'pods "{pod}" not found')

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        previous: bool = False,
        tail_lines: int | None = None,
        since_seconds: int | None = None,
        since_time: str = "",
        timestamps: bool = False,
        limit_bytes: int | None = None,
    ) -> AsyncIterator[bytes]:
        """The container's log; see `PodRuntime`.

        Raises:
            ApiError: there is no such container, or it has no log (yet); also while reading.
        """
        since = time.time() - since_seconds if since_seconds is not None else None
        if since_time:
            try:
                since = datetime.fromisoformat(since_time).timestamp()
            except ValueError as error:
                raise ApiError(400, "BadRequest", f"parsing time {since_time!r} as RFC3339") from error
        selection = Selection(since, tail_lines, limit_bytes, timestamps)
        path, live = self._log_of(namespace, pod, container, previous)
        return read_log(path, live, selection, follow and not previous)

    def _log_of(self, namespace: str, pod: str, name: str, previous: bool) -> tuple[Any, Any]:
        stored = self._objects.get("pods", pod, namespace)
        uid = stored["metadata"]["uid"]
        if uid in self._workers:
            _, container = self._container(namespace, pod, name)
            state, run, live = container.state, container.restarts, container.log
        else:
            # It had ended for good before this daemon started; its folder is there until it is deleted.
            status = stored.get("status") or {}
            kinds = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
            entries = [one for kind in kinds for one in status.get(kind) or ()]
            entry: Obj = next((item for item in entries if item["name"] == name), {})
            state, run, live = entry.get("state") or {}, entry.get("restartCount", 0), None
        folder = self._settings.pods_dir / uid / "logs" / name
        if previous:
            path = folder / f"{run - 1}.log"
            if run == 0 or not path.exists():
                message = f'previous terminated container "{name}" in pod "{pod}" not found'
                raise ApiError(400, "BadRequest", message)
            return path, None
        path = folder / f"{run}.log"
        if not path.exists():
            reason = (state.get("waiting") or {}).get("reason", "ContainerCreating")
            what = "trying and failing to pull image" if "Image" in reason else reason
            message = f'container "{name}" in pod "{pod}" is waiting to start: {what}'
            raise ApiError(400, "BadRequest", message)
        return path, live if live is not None and live.path == path else None

    async def exec(
        self, namespace: str, pod: str, container: str, command: list[str], *, stdin: bool, tty: bool
    ) -> ExecSession:
        """Start `command` in a running container.

        Raises:
            ApiError: there is no such container, it does not run, or the command cannot be started.
        """
        _, found = self._container(namespace, pod, container)
        return await start_command(self._processes, found, command, stdin=stdin, tty=tty)

    async def attach(self, namespace: str, pod: str, container: str, *, skip: int | None) -> ExecSession:
        """A client at a running container's own streams; see `PodRuntime`.

        Raises:
            ApiError: there is no such container, or it does not run.
        """
        _, found = self._container(namespace, pod, container)
        if found.outlet is None or not found.pid:
            raise ApiError(400, "BadRequest", f"container {container} not found in pod {pod}_{namespace}")
        return found.outlet.attach(skip)

    async def connect(self, namespace: str, pod: str, port: int) -> ByteStream:
        """Connect to `port` as the pod's own localhost shows it: at its local address, else at the pod IP.

        Raises:
            ApiError: there is no such pod, or nothing listens there.
        """
        worker, _ = self._container(namespace, pod, "")
        plan = self._settings.plan
        addresses = [worker.pod_ip] if worker.pod_ip == plan.node else [plan.local(worker.pod_ip), worker.pod_ip]
        return await connect(addresses, plan.port(port), pod, port)

    async def metrics(self, path: str) -> str:
        """The kubelet's metrics at `path`; see `PodRuntime`.

        Raises:
            ApiError: there is no such page.
        """
        return await self._monitoring.page(path)

    async def usage(self) -> Used:
        """What all that runs has used until now; see `PodRuntime`."""
        return await self._monitoring.usage()


def _finished(pod: Pod) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
