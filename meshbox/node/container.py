# SPDX-License-Identifier: Apache-2.0
"""One container of a pod: started, probed, restarted, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.ground.errors import LabError
from meshbox import failures, images
from meshbox.images import ContainerContext, Image, Launch
from meshbox.node.attach import Outlet, open_streams
from meshbox.node.backoff import BackOff
from meshbox.node.context import make_context
from meshbox.node.endings import again_after, backed_off, faultless, last_words, not_started, terminated
from meshbox.node.execs import run_command
from meshbox.node.handlers import ActionError, Target, act, target_in
from meshbox.node.logs import LogFile, pump, remove_log
from meshbox.node.probes import Kind, probe_container
from meshbox.node.processes import Exit, Process, StartError
from meshbox.node.pulling import pull
from meshbox.node.services import NodeServices, image_id, now
from meshbox.node.volumes import Volumes

if TYPE_CHECKING:
    from meshbox.typed import containers as api
    from meshbox.typed.pod_states import ContainerState, ContainerStateTerminated, ContainerStatus
    from meshbox.typed.pods import Pod

__all__ = ["Container"]

_NEVER_RUN = 137
_LAST_OUTPUT = 0.5
"""Seconds to wait for the output of a container that has ended."""


class Container:
    """A container and its runs.

    Args:
        services: The node.
        volumes: The pod's volumes.
        pod: Gives the current Pod object.
        spec: The container's spec.
        init: Whether it is an init container.
        ephemeral: Whether it was added to the running pod.
        before: Its entry in the pod's status from before this daemon started, if any.
        changed: Called when what the pod's status shows of it has changed.
    """

    def __init__(
        self,
        services: NodeServices,
        volumes: Volumes,
        pod: Callable[[], Pod],
        spec: api.Container,
        *,
        init: bool,
        before: ContainerStatus | None,
        changed: Callable[[], None],
        ephemeral: bool = False,
    ) -> None:
        self.spec, self.name = spec, str(spec["name"])
        self.init, self.ephemeral = init, ephemeral
        self.state: ContainerState = {"waiting": {"reason": "PodInitializing" if init else "ContainerCreating"}}
        self.last_state: ContainerState = {}
        self.ready = self.started = self._faultless = False
        self.restarts = 0
        self.has_started, self.hooked = asyncio.Event(), asyncio.Event()
        self.context: ContainerContext | None = None
        self.image: Image | None = None
        self.log: LogFile | None = None
        self.outlet: Outlet | None = None
        self._services, self._volumes = services, volumes
        self._pod, self._changed = pod, changed
        self._image_name, self._image_id, self._id = str(spec.get("image", "")), "", ""
        self._launch: Launch | None = None
        self._process: Process | None = None
        self.began = 0.0
        self._ready_probe = "readinessProbe" not in spec
        self._backoff = BackOff(services.timing.backoff, services.timing.backoff_limit)
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        if before is not None:
            self._resume(before)

    def _resume(self, before: ContainerStatus) -> None:
        """Take over the count and the last state of a container that ended with the node's last daemon."""
        self.restarts = int(before.get("restartCount", 0))
        self._id, self._image_id = before.get("containerID", ""), before.get("imageID", "")
        state = before.get("state") or {}
        if "terminated" in state:
            self.state = state
        elif running := state.get("running"):
            ended: ContainerStateTerminated = {"exitCode": 255, "reason": "Unknown", "finishedAt": now()}
            self.state = {"terminated": {**ended, "startedAt": running["startedAt"], "containerID": self._id}}
            self._faultless = True
        self.last_state = before.get("lastState") or {}

    @property
    def field_path(self) -> str:
        """Where it stands in the Pod, as events say it."""
        return f"spec.{'initC' if self.init else 'ephemeralC' if self.ephemeral else 'c'}ontainers{{{self.name}}}"

    @property
    def pid(self) -> int:
        """Its main process; 0 while it does not run."""
        return self._process.pid if self._process is not None and not self._process.exited.done() else 0

    def status(self) -> ContainerStatus:
        """The container's entry in the pod's status."""
        return {
            "name": self.name,
            "state": self.state,
            "lastState": self.last_state,
            "ready": self.ready,
            "restartCount": self.restarts,
            "image": self._image_name,
            "imageID": self._image_id,
            **({"containerID": self._id} if self._id else {}),
            "started": self.started,
        }

    async def run(self, policy: str) -> int:
        """Run until it has ended and is not to be restarted; its exit code.

        Args:
            policy: "Always", "OnFailure" or "Never".
        """
        self._idle.clear()
        try:
            return await self._run(policy)
        finally:
            self._idle.set()

    async def _run(self, policy: str) -> int:
        ended = self.state.get("terminated")
        while not self._stopping.is_set() and (ended is None or again_after(policy, ended["exitCode"])):
            if ended is not None and not await self._wait_to_restart():
                break
            try:
                pulled = await pull(self._services, self)
                if pulled is None:
                    break
                self.image, name = pulled
                self._image_name, self._image_id = str(name), image_id(name)
                ended = await self._run_once(again=ended is not None)
            except Exception as error:  # What nobody foresaw: told on the pod and tried again; the others go on.
                await self._failed("CreateContainerError", error)
        return int(ended["exitCode"]) if ended else _NEVER_RUN

    async def pause(self, seconds: float) -> bool:
        """Wait; False if the container is not wanted any more."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return not self._stopping.is_set()

    async def _wait_to_restart(self) -> bool:
        wait = 0.0 if self._faultless else self._backoff.wait()
        if wait:
            state, event = backed_off(self.name, self._pod()["metadata"], wait)
            self.waiting("CrashLoopBackOff", state)
            self.warning("BackOff", event)
        return await self.pause(wait)

    async def _run_once(self, again: bool) -> ContainerStateTerminated | None:
        """One run, from the start to the end; its terminated state, or None if it was given up before."""
        assert self.image is not None
        while True:
            try:
                root, mounts = await self._volumes.root(self.spec)
                identity = secrets.token_hex(32)
                self.context = make_context(
                    self._services, self._pod(), self.spec, self.image, root, mounts, identity, self.init
                )
                break
            except Exception as error:
                if not await self._failed("CreateContainerConfigError", error):
                    return None
        if again:
            self.restarts += 1
            if "terminated" in self.state:
                self.last_state = self.state
        self._id = f"{'docker' if self._services.settings.legacy else 'containerd'}://{identity}"
        began = now()
        try:
            self._launch = images.launch(self.image, self.context)
            process, output = await self._start(identity)
        except (LabError, OSError) as error:
            self._faultless = isinstance(error, StartError) and error.lost
            if self._faultless and not await self.pause(self._services.timing.retry):
                return None
            state = not_started(error, self._launch.argv[0] if self._launch is not None else "")
            self.warning("Failed", f"Error: {state['message']}")
            return self._ended(state)
        try:
            ended = await self._follow(process, began)
            ran = time.time() - self.began
            self._faultless = faultless(ended, process.signalled, ran >= self._services.timing.backoff)
            await asyncio.wait(output, timeout=_LAST_OUTPUT)
        finally:
            self._process = None
            # Only where this task was cancelled is there anything left to end.
            process.signal(signal.SIGKILL, tree=True)
            for stream in output:
                stream.cancel()
            if self.outlet is not None:
                self.outlet.close()
            if self.log is not None:
                self.log.close()
        said = last_words(self.spec, self.context, self.log_path(self.restarts), ended.code)
        return self._ended(terminated(ended, began, said))

    async def _failed(self, reason: str, error: Exception) -> bool:
        """Tell what keeps the container from being made, and wait; False if it is not wanted any more."""
        text = self._noted(error, reason)
        self.waiting(reason, text)
        self.warning("Failed", f"Error: {text}")
        return await self.pause(self._services.timing.retry)

    def _noted(self, error: BaseException, what: str) -> str:
        return failures.noted(error, f"container {self.name} of pod {self._pod()['metadata']['name']}: {what}")

    async def _start(self, identity: str) -> tuple[Process, list[asyncio.Future[None]]]:
        assert self.context is not None
        assert self._launch is not None
        self.log = LogFile(self.log_path(self.restarts))
        # The last run's log can be asked for, those before it cannot.
        remove_log(self.log_path(self.restarts - 2))
        tty = bool(self.spec.get("tty"))
        streams = open_streams(stdin=bool(self.spec.get("stdin")), tty=tty)
        outlet = self.outlet = Outlet(self.log, streams, once=bool(self.spec.get("stdinOnce")))
        output = [pump(reader, outlet, name) for name, reader in streams.outputs]
        with contextlib.ExitStack() as unused, contextlib.ExitStack() as stack:
            unused.callback(outlet.close)
            unused.callback(self.log.close)
            for end in streams.theirs:
                stack.callback(os.close, end)
            workdir = self.context.path(self.spec.get("workingDir") or "/")
            workdir.mkdir(parents=True, exist_ok=True, mode=0o700)
            process = await self._services.processes.spawn(
                identity,
                entry=self._launch.entry,
                argv=self._launch.argv,
                env={**self.context.env, **self._launch.env, **({"TERM": "xterm"} if tty else {})},
                cwd=workdir,
                streams=streams.theirs,
                tty=tty,
            )
            unused.pop_all()
        outlet.started(process)
        return process, output

    async def _follow(self, process: Process, began: str) -> Exit:
        """From the process's start to its end: its hook, its probes."""
        self._process, self.began = process, time.time()
        if self._stopping.is_set():
            process.signal(signal.SIGKILL, tree=True)
        self.normal("Created", f"Created container{'' if self._services.settings.legacy else ':'} {self.name}")
        self.normal("Started", f"Started container {self.name}")
        self.state = {"running": {"startedAt": began}}
        self._ready_probe = "readinessProbe" not in self.spec
        self.started = self.ready = False
        self._changed()
        watching = failures.minded(self._watch(), lambda met: self.warning("ProbeError", self._noted(met, "probes")))
        try:
            return await asyncio.shield(process.exited)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            self.started = self.ready = False

    async def _watch(self) -> None:
        hook = (self.spec.get("lifecycle") or {}).get("postStart")
        if hook:
            self._changed()
            try:
                await act(hook, self.spec, self.target())
            except Exception as failure:
                self.warning("FailedPostStartHook", f"PostStartHook failed: {self._noted(failure, 'postStart')}")
                await self.end(self._grace(), "FailedPostStartHook")
                return
            finally:
                self.hooked.set()
        if "startupProbe" not in self.spec:
            self._verdict("Startup", True)
        while error := await probe_container(
            self.spec, self.target, self._services.timing.eager, self._unhealthy, self._verdict
        ):
            # Unwatched it would stay as it is for ever.
            self.warning("ProbeError", f"its probes begin anew: {self._noted(error, 'probes')}")
            await asyncio.sleep(self._services.timing.retry)

    def _unhealthy(self, kind: Kind, problem: str) -> None:
        self.warning("Unhealthy", f"{kind} probe failed: {problem}")

    def _verdict(self, kind: Kind, passes: bool) -> None:
        if kind == "Readiness":
            self._ready_probe = passes
        elif passes:
            self.started = True
            self.has_started.set()
        else:
            self.normal("Killing", f"Container {self.name} failed {kind.lower()} probe, will be restarted")
            spec = self.spec["startupProbe" if kind == "Startup" else "livenessProbe"]
            grace = spec.get("terminationGracePeriodSeconds", self._grace())
            self._ending = failures.minded(self.end(grace, "Unhealthy"), self._not_ended)
        self.ready = self.started and self._ready_probe
        self._changed()

    def _not_ended(self, error: BaseException) -> None:
        self.warning("FailedKillPod", f"killed at once: {self._noted(error, 'end')}")
        if (process := self._process) is not None:
            process.signal(signal.SIGKILL, tree=True)

    def _grace(self) -> float:
        return float(self._pod()["spec"].get("terminationGracePeriodSeconds", 30))

    def target(self) -> Target:
        """Where the container's probes and hooks go."""
        assert self.context is not None
        run = partial(run_command, self._services.processes, self)
        return target_in(self.context, self._services.settings, run)

    async def end(self, grace: float, why: str = "") -> None:
        """End the container's process: preStop hook and drain, SIGTERM, and SIGKILL when `grace` seconds are over."""
        process, loop = self._process, asyncio.get_running_loop()
        if process is None:
            return
        deadline = loop.time() + grace
        if grace > 0:
            await self._before_end(process, grace)
            process.signal(signal.SIGTERM)
            # Kubernetes gives at least two seconds after a hook that used up the grace period.
            left = max(deadline - loop.time(), 2.0 if why != "Deleted" else 0.1)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(process.exited), left)
        if not process.exited.done():
            process.signal(signal.SIGKILL, tree=True)
            await asyncio.shield(process.exited)

    async def _before_end(self, process: Process, grace: float) -> None:
        hook = (self.spec.get("lifecycle") or {}).get("preStop")
        try:
            async with asyncio.timeout(grace):
                if hook:
                    await act(hook, self.spec, self.target())
                if self._launch is not None and self._launch.drain is not None:
                    await self._launch.drain()
        except ActionError as failure:
            self.warning("FailedPreStopHook", f"PreStopHook failed: {failure}")
        except TimeoutError:
            pass
        except Exception as error:  # Whatever it was: the container still has to end.
            self.warning("FailedPreStopHook", f"draining failed: {self._noted(error, 'preStop')}")

    async def stop(self, grace: float) -> None:
        """End it for good."""
        self._stopping.set()
        await self.end(grace)
        # Its last output and its exit code come with the end of its run.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), 2 * _LAST_OUTPUT)

    def log_path(self, run: int) -> Path:
        """The log file of the container's run number `run`."""
        uid = str(self._pod()["metadata"]["uid"])
        return self._services.settings.pods_dir / uid / "logs" / self.name / f"{run}.log"

    def _ended(self, state: ContainerStateTerminated) -> ContainerStateTerminated:
        if self.log is not None:
            self.log.close()
        self.state = {"terminated": state | {"containerID": self._id}}
        self._changed()
        return state

    def waiting(self, reason: str, message: str) -> None:
        """Show why it waits; others do not wait with it."""
        self.hooked.set()
        if "terminated" in self.state:
            self.last_state = self.state
        self.state = {"waiting": {"reason": reason, "message": message}}
        self._changed()

    def normal(self, reason: str, message: str) -> None:
        """Record what went well."""
        self._services.event(self._pod(), "Normal", reason, message, self.field_path)

    def warning(self, reason: str, message: str) -> None:
        """Record what went wrong."""
        self._services.event(self._pod(), "Warning", reason, message, self.field_path)
