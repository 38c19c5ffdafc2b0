# SPDX-License-Identifier: Apache-2.0
"""A pod's status, from what its containers do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

from meshbox.node.services import now

if TYPE_CHECKING:
    from meshbox.typed.containers import Container
    from meshbox.typed.pod_states import ContainerState, ContainerStatus, PodCondition, PodStatus
    from meshbox.typed.pods import Pod

__all__ = ["ContainerView", "is_sidecar", "last_phase", "pod_status"]


class ContainerView(Protocol):
    """What the status needs to know of a container."""

    spec: Container
    state: ContainerState
    last_state: ContainerState
    ready: bool
    started: bool
    restarts: int

    def status(self) -> ContainerStatus:
        """Its entry in the pod's status."""


def is_sidecar(container: Container) -> bool:
    """Whether an init container is a native sidecar."""
    return container.get("restartPolicy") == "Always"


def phase(policy: str, init: Sequence[ContainerView], main: Sequence[ContainerView]) -> str:
    """The pod's phase, by the kubelet's rules."""
    begun = any(map(_was_started, main))
    # Of those that end one that has failed decides, whatever the others do.
    for container in sorted(init, key=lambda one: is_sidecar(one.spec)):
        if is_sidecar(container.spec):
            # One that has ended, or starts again, does not make a pod wait that has been running.
            fresh = "running" in container.state and not container.started and not begun
            if fresh or not _was_started(container):
                return "Pending"
            continue
        ended = container.state.get("terminated")
        if ended is None:
            return "Pending"
        if ended["exitCode"] != 0:
            return "Failed" if policy == "Never" else "Pending"
    running = failed = succeeded = 0
    for container in main:
        ended = container.state.get("terminated") or (
            container.last_state.get("terminated") if not container.state.get("running") else None
        )
        if container.state.get("running"):
            running += 1
        elif ended is None:
            return "Pending"
        elif ended["exitCode"] == 0 and "terminated" in container.state:
            succeeded += 1
        else:
            failed += 1
    # A pod whose sidecars still run has not ended.
    if running or policy == "Always" or any(container.state.get("running") for container in init):
        return "Running"
    if not failed:
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"


def _was_started(container: ContainerView) -> bool:
    return "running" in container.state or "terminated" in container.state or "terminated" in container.last_state


def last_phase(main: Sequence[ContainerView]) -> str:
    """The phase of a pod that is being deleted, when all of its containers have ended.

    Args:
        main: Its containers, without those that begin before them.
    """
    codes = [(container.state.get("terminated") or {}).get("exitCode") for container in main]
    return "Failed" if any(code != 0 for code in codes) else "Succeeded"


def pod_status(
    pod: Pod,
    init: Sequence[ContainerView],
    main: Sequence[ContainerView],
    *,
    host_ip: str,
    pod_ip: str,
    final: PodStatus | None = None,
    ephemeral: Sequence[ContainerView] = (),
) -> PodStatus:
    """The pod's whole status.

    Args:
        pod: As it is stored, with its old status.
        init: Its init containers.
        main: Its other containers.
        host_ip: The node's address.
        pod_ip: Its own.
        final: Phase, reason and message, where they no longer follow from what the containers do.
        ephemeral: Those that were added while it ran; nothing else follows from them.
    """
    old: PodStatus = pod.get("status") or {}
    policy = pod["spec"].get("restartPolicy", "Always")
    status: PodStatus = {}
    for key in ("qosClass", "nominatedNodeName", "resize"):
        if key in old:
            status[key] = old[key]
    # Only pods of today's Kubernetes count the changes of what is asked of them.
    if generation := pod["metadata"].get("generation"):
        status["observedGeneration"] = generation
    status["phase"] = phase(policy, init, main)
    status |= final or {}
    status["startTime"] = old.get("startTime") or now()
    status |= {"hostIP": host_ip, "hostIPs": [{"ip": host_ip}]}
    if pod_ip:
        status |= {"podIP": pod_ip, "podIPs": [{"ip": pod_ip}]}
    if init:
        status["initContainerStatuses"] = [_initial(container) for container in init]
    status["containerStatuses"] = [container.status() for container in main]
    if ephemeral:
        status["ephemeralContainerStatuses"] = [container.status() for container in ephemeral]
    status["conditions"] = _conditions(old.get("conditions") or [], status["phase"], init, main, bool(pod_ip), pod)
    return status


def _initial(container: ContainerView) -> ContainerStatus:
    """The entry of an init container: one that has done its work counts as ready, as the kubelet has it."""
    found = container.status()
    ended = container.state.get("terminated")
    if ended is not None and ended["exitCode"] == 0 and not is_sidecar(container.spec):
        found["ready"] = True
    return found


def _conditions(
    old: Sequence[PodCondition],
    phase: str,
    init: Sequence[ContainerView],
    main: Sequence[ContainerView],
    network: bool,
    pod: Pod,
) -> list[PodCondition]:
    done = phase == "Succeeded"
    # Where an application runs or has ended, a sidecar that starts again changes nothing of it.
    before = () if any(one.state.keys() & {"running", "terminated"} for one in main) else init
    uninitialized = [item.spec["name"] for item in before if not _initialized(item)]
    watched = [*(item for item in init if is_sidecar(item.spec)), *main]
    unready = [item.spec["name"] for item in watched if not item.ready]
    ready = _condition("Ready", not unready)
    if done or phase == "Failed":
        reason = {"reason": "PodCompleted" if done else "PodFailed"}
        ready, containers = _condition("Ready", False, **reason), _condition("ContainersReady", False, **reason)
    else:
        message = {"reason": "ContainersNotReady", "message": f"containers with unready status: [{' '.join(unready)}]"}
        containers = _condition("ContainersReady", not unready, **(message if unready else {}))
        known = {item["type"]: item for item in old}
        gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or []]
        open_gates = [gate for gate in gates if (known.get(gate) or {}).get("status") != "True"]
        if unready:
            ready = _condition("Ready", False, **message)
        elif open_gates:
            ready = _condition(
                "Ready",
                False,
                reason="ReadinessGatesNotReady",
                message=f"corresponding condition of pod readiness gate {open_gates[0]!r} does not exist.",
            )
    initialized = _condition("Initialized", not uninitialized or done)
    if uninitialized and not done:
        listed = f"containers with incomplete status: [{' '.join(uninitialized)}]"
        initialized |= {"reason": "ContainersNotInitialized", "message": listed}
    elif done:
        initialized["reason"] = "PodCompleted"
    ours = [
        _condition("PodReadyToStartContainers", network),
        initialized,
        ready,
        containers,
        _condition("PodScheduled", True),
    ]
    return _merged(old, ours, pod["metadata"].get("generation"))


def _initialized(container: ContainerView) -> bool:
    if is_sidecar(container.spec):
        return container.started
    ended = container.state.get("terminated")
    return ended is not None and ended["exitCode"] == 0


def _condition(type: str, true: bool, **more: str) -> PodCondition:
    return cast("PodCondition", {"type": type, "status": "True" if true else "False", **more})


def _merged(old: Sequence[PodCondition], new: Sequence[PodCondition], generation: int | None) -> list[PodCondition]:
    """`new`, with the time of each one's last change, and what others have put there."""
    known = {item["type"]: item for item in old}
    moment = now()
    out: list[PodCondition] = []
    for item in new:
        before = known.pop(item["type"], None)
        unchanged = before is not None and before["status"] == item["status"]
        changed = before["lastTransitionTime"] if unchanged and before else moment
        times = cast("PodCondition", {"lastProbeTime": None, "lastTransitionTime": changed})
        observed = cast("PodCondition", {"observedGeneration": generation} if generation else {})
        out.append({"type": item["type"], **observed, "status": item["status"], **times, **item})
    return out + list(known.values())
