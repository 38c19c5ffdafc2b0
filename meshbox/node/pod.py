# SPDX-License-Identifier: Apache-2.0
"""One pod on the node, from its binding to its end."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, cast

from meshbox import failures
from meshbox.contracts import ApiError
from meshbox.node.container import Container
from meshbox.node.services import NodeServices
from meshbox.node.status import is_sidecar, last_phase, pod_status
from meshbox.node.volumes import ITSELF, MountError, Volumes, references

if TYPE_CHECKING:
    from meshbox.typed import containers as api
    from meshbox.typed.pod_states import ContainerState, ContainerStatus, PodStatus
    from meshbox.typed.pods import Pod

__all__ = ["PodWorker"]

_INITIALIZING: ContainerState = {"waiting": {"reason": "PodInitializing"}}


class PodWorker:
    """Runs a pod's containers and keeps its status.

    Args:
        services: The node.
        pod: The pod, bound to this node.
        pod_ip: The address it got.
    """

    def __init__(self, services: NodeServices, pod: Pod, pod_ip: str) -> None:
        self.uid = str(pod["metadata"]["uid"])
        self.pod_ip = pod_ip
        self._host_ip = services.settings.plan.node
        self.pod = self._addressed(pod)
        self.folder = services.settings.pods_dir / self.uid
        self._services = services
        settings = services.settings
        self._volumes = Volumes(services.objects, self.folder, settings, services.allocatable)
        self._references = references(pod)
        self._final: PodStatus = {}
        self._written = True
        self._running: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._abandoned = False
        self._found = asyncio.Event()
        self._grace = 30.0
        self._tasks: set[asyncio.Task[Any]] = set()
        spec, status = pod["spec"], pod.get("status") or {}
        self.init = self._containers(spec.get("initContainers") or [], status.get("initContainerStatuses"), init=True)
        self.main = self._containers(spec["containers"], status.get("containerStatuses"), init=False)
        self.ephemeral: list[Container] = []
        self._mounted = asyncio.Event()
        self._add_ephemeral(status.get("ephemeralContainerStatuses"))
        for container in self.main if self.init else ():
            if "waiting" in container.state:
                container.state = _INITIALIZING

    def _addressed(self, pod: Pod) -> Pod:
        """`pod` with its addresses, which its first stored state does not have yet."""
        return {**pod, "status": {**(pod.get("status") or {}), "podIP": self.pod_ip, "hostIP": self._host_ip}}

    def _containers(
        self,
        specs: list[api.Container],
        before: list[ContainerStatus] | None,
        *,
        init: bool = False,
        ephemeral: bool = False,
    ) -> list[Container]:
        known = {item["name"]: item for item in before or [] if item.get("containerID")}
        return [
            Container(
                self._services,
                self._volumes,
                lambda: self.pod,
                spec,
                init=init,
                # The pod's network is new after a restart of the node: what has prepared it runs again.
                before=None if init else known.get(spec["name"]),
                changed=self.changed,
                ephemeral=ephemeral,
            )
            for spec in specs
        ]

    def _add_ephemeral(self, before: list[ContainerStatus] | None) -> list[Container]:
        """Take note of containers that were added to the pod meanwhile; those that have never run."""
        known = {one.name for one in self.ephemeral}
        # Each is a container, with what else an ephemeral one has.
        specs = cast("list[api.Container]", self.pod["spec"].get("ephemeralContainers") or [])
        added = self._containers([one for one in specs if one["name"] not in known], before, ephemeral=True)
        self.ephemeral += added
        return [one for one in added if "waiting" in one.state]

    async def _run_ephemeral(self, container: Container) -> None:
        await self._mounted.wait()
        await container.run("Never")

    @property
    def containers(self) -> list[Container]:
        """All containers, those of the initialization first, those added to the running pod last."""
        return [*self.init, *self.main, *self.ephemeral]

    def start(self) -> None:
        """Begin to run the pod."""
        self._running = self._spawn(self._run())
        for container in self.ephemeral:
            if "waiting" in container.state:
                self._spawn(self._run_ephemeral(container))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # One pod's trouble must not be the other pods'.
            self._report(error, "FailedSync")
            self._finish("Failed", "NodeError", f"the node could not run this pod: {failures.words(error)}")

    def update(self, pod: Pod) -> None:
        """Take note of a change of the Pod object; begin to end it once it is marked for deletion."""
        before, self.pod = self.pod["metadata"], self._addressed(pod)
        if any(before.get(field) != pod["metadata"].get(field) for field in ("labels", "annotations")):
            self.refresh(*ITSELF)
        for container in self._add_ephemeral(None):
            self._spawn(self._run_ephemeral(container))
            self.changed()
        if "deletionTimestamp" in pod["metadata"]:
            grace = pod["metadata"].get("deletionGracePeriodSeconds")
            self.end(30.0 if grace is None else float(grace))

    def refresh(self, resource: str, name: str) -> None:
        """Bring volumes up to date that show the object `name`, if there are any."""
        if (resource, name) in self._references and self._ending is None:
            self._found.set()
            try:
                self._volumes.refresh(self.pod, (resource, name))
            except MountError:
                # What is missing now stays as it was, as with the kubelet.
                pass
            except Exception as error:
                self._report(error, "FailedMount")
                asyncio.get_running_loop().call_later(self._services.timing.retry, self.refresh, resource, name)

    def _report(self, error: BaseException, reason: str) -> None:
        failures.report(self._services.objects, self.pod, error, reason, "kubelet")

    def end(self, grace: float) -> None:
        """Begin to end the pod, or shorten the time an ending one has left."""
        if self._ending is None:
            self._grace = grace
            self._ending = self._spawn(self._end())
        elif grace < self._grace:
            self._grace = grace
            self._spawn(self._hurry(grace))

    def abandon(self) -> None:
        """Write no more: the node ends, and what its processes do then is not the pod's doing."""
        self._abandoned = True

    async def kill(self) -> None:
        """End everything at once; nothing is written. For a pod whose object is gone, and for the node's own end."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, *(item.stop(0) for item in self.containers), return_exceptions=True)

    def forget(self) -> None:
        """Remove the pod's folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _run(self) -> None:
        if deadline := self.pod["spec"].get("activeDeadlineSeconds"):
            self._spawn(self._end_at_deadline(float(deadline)))
        await self._set_up()
        if await self._initialize():
            await self._run_main()

    async def _end_at_deadline(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if self._final or self._ending is not None:
            return
        self._finish("Failed", "DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
        await asyncio.gather(*(container.stop(30.0) for container in self.containers))

    async def _set_up(self) -> None:
        self.changed()
        while True:
            try:
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                await self._volumes.set_up(self.pod)
                self._mounted.set()
                return
            except Exception as error:
                self._report(error, "FailedMount")
            self._found.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._found.wait(), self._services.timing.retry)

    async def _initialize(self) -> bool:
        """Run the init containers one after the other; whether all went well."""
        policy = self.pod["spec"].get("restartPolicy", "Always")
        for container in self.init:
            if is_sidecar(container.spec):
                self._spawn(self._run_container(container, "Always"))
                await container.has_started.wait()
                continue
            code = await container.run("Never" if policy == "Never" else "OnFailure")
            if self._ending is not None:
                return False
            if code:
                self._finish("Failed")
                return False
        self.changed()
        return True

    async def _run_container(self, container: Container, policy: str) -> None:
        await container.run(policy)

    async def _run_main(self) -> None:
        policy = self.pod["spec"].get("restartPolicy", "Always")
        async with asyncio.TaskGroup() as group:
            runs = []
            for container in self.main:
                runs.append(group.create_task(container.run(policy)))
                if (container.spec.get("lifecycle") or {}).get("postStart"):
                    # The next one starts when the hook is over; so an application can wait for its proxy.
                    hooked = asyncio.create_task(container.hooked.wait())
                    await asyncio.wait((hooked, runs[-1]), return_when=asyncio.FIRST_COMPLETED)
                    hooked.cancel()
        codes = [run.result() for run in runs]
        if self._ending is None and not self._final:
            await self._stop_sidecars(30.0)
            self._finish("Failed" if any(codes) else "Succeeded")

    async def _stop_sidecars(self, grace: float) -> None:
        """End native sidecars, the last one first, and whatever was added to the pod."""
        for container in (*self.ephemeral, *reversed(self.init)):
            await container.stop(grace)

    def _finish(self, phase: str, reason: str = "", message: str = "") -> None:
        self._final = {"phase": phase}
        if reason:
            self._final |= {"reason": reason, "message": message}
        self.changed()

    async def _end(self) -> None:
        try:
            await self._end_containers()
        except Exception as error:
            # A pod that does not end as it should must not stay for ever; its processes end with its folder.
            self._report(error, "FailedKillPod")
        with contextlib.suppress(ApiError):
            self._services.objects.delete(
                "pods", self.pod["metadata"]["name"], self.pod["metadata"]["namespace"], grace_period=0, uid=self.uid
            )

    async def _end_containers(self) -> None:
        outer = (*self.main, *self.ephemeral)
        for container in outer:
            if "running" in container.state:
                container.normal("Killing", f"Stopping container {container.name}")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._grace
        await asyncio.gather(*(container.stop(self._grace) for container in outer))
        for container in reversed(self.init):
            if "running" in container.state:
                container.normal("Killing", f"Stopping container {container.name}")
            await container.stop(max(0.0, deadline - loop.time()))
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        # Kubernetes 1.14 left a pod's phase as it was; since 1.27 whoever watches sees how it ended.
        if not self._services.settings.legacy and not self._final:
            self._final = {"phase": last_phase(self.main)}
        self.write()

    async def _hurry(self, grace: float) -> None:
        await asyncio.gather(*(container.stop(grace) for container in self.containers))

    def changed(self) -> None:
        """Write the status soon; changes that come together are written once."""
        if self._written:
            self._written = False
            asyncio.get_running_loop().call_soon(self.write)

    def write(self) -> None:
        """Write the status, if it differs from what is stored."""
        self._written = True
        if self._abandoned:
            return
        objects, metadata = self._services.objects, self.pod["metadata"]
        stored = objects.see("pods", metadata["name"], metadata["namespace"])
        if stored is None or stored["metadata"].get("uid") != self.uid:
            return
        try:
            status = pod_status(
                cast("Pod", stored),
                self.init,
                self.main,
                host_ip=self._host_ip,
                pod_ip=self.pod_ip,
                final=self._final,
                ephemeral=self.ephemeral,
            )
            if status != stored.get("status"):
                objects.update("pods", {**stored, "status": status}, subresource="status", manager="kubelet")
        except Exception as error:
            self._report(error, "FailedStatusUpdate")
            asyncio.get_running_loop().call_later(1.0, self.changed)
