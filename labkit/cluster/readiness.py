# SPDX-License-Identifier: Apache-2.0
"""What is ready in a namespace, and the reason for what is not: a model, shown elsewhere."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit import display
from labkit.cluster.client import Obj
from labkit.cluster.objects import connected, get
from labkit.ground.errors import ClusterError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KINDS", "Readiness", "Workload", "judge", "last_log", "readiness"]

KINDS = "deployments,statefulsets,daemonsets,jobs,replicasets,pods,events"
"""What readiness is read from, as kubectl takes it."""

# A pull that failed for one of these may well succeed at the next try.
_PASSING = re.compile(r"timeout|timed out|TLS handshake|connection re|EOF|toomanyrequests|temporar|try again", re.I)
_GOOD = ("Ready", "Completed")
_Verdict = tuple[str, str, bool]  # State, reason, and whether waiting will not help.


@dataclass(frozen=True)
class Workload:
    """One workload's readiness.

    Args:
        kind: "Deployment", "StatefulSet", "DaemonSet", "Job" or "Pod" (one that nothing owns).
        name: Its name.
        ready: Pods ready (of a Job: completed).
        desired: Pods wanted.
        containers: Ready containers of its newest pod, as kubectl's READY column: "2/2"; "" without a pod.
        restarts: Restarts of all its pods' containers.
        state: "Ready", "Completed", "Progressing", "Pending", "ImagePull", "CrashLoop", "NotReady" (a probe
            fails), "Quota" or "Failed".
        reason: Why it is not ready; "" if it is.
        hopeless: Whether waiting alone will not help.
    """

    kind: str
    name: str
    ready: int
    desired: int
    containers: str = ""
    restarts: int = 0
    state: str = "Progressing"
    reason: str = ""
    hopeless: bool = False

    @property
    def good(self) -> bool:
        """Whether nothing is left to wait for."""
        return self.state in _GOOD


@dataclass(frozen=True)
class Readiness(display.Shown):
    """All workloads of a namespace."""

    namespace: str
    workloads: tuple[Workload, ...]

    @property
    def ready(self) -> bool:
        """Whether there are workloads and all of them are ready or completed."""
        return bool(self.workloads) and all(w.good for w in self.workloads)

    @property
    def hopeless(self) -> tuple[Workload, ...]:
        """Those that waiting alone will not make ready."""
        return tuple(w for w in self.workloads if w.hopeless)

    def only(self, names: Collection[str]) -> Readiness:
        """The same of these workloads only; of all for ()."""
        return Readiness(self.namespace, tuple(w for w in self.workloads if not names or w.name in names))

    def table(self) -> pd.DataFrame:
        """One row a workload: kind, name, containers, state, reason (str); ready, desired, restarts (int64)."""
        import pandas as pd

        columns = ["kind", "name", "ready", "desired", "containers", "restarts", "state", "reason"]
        rows = [[getattr(w, column) for column in columns] for w in self.workloads]
        return pd.DataFrame(rows, columns=columns)

    def rich(self) -> display.Rich:
        """As a table to show."""
        counted = f"{sum(w.good for w in self.workloads)} of {len(self.workloads)} workloads ready"
        rows = [
            {
                "": display.SYMBOLS["good" if w.good else "bad" if w.hopeless else "note"]
                if w.good or w.hopeless
                else "…",
                "Workload": f"{w.kind.lower()}/{w.name}",
                "Pods": f"{w.ready}/{w.desired}",
                "Containers": w.containers,
                "Restarts": w.restarts,
                "State": w.state,
                "Why": w.reason,
            }
            for w in self.workloads
        ]
        columns = ["", "Workload", "Pods", "Containers", "Restarts", "State", "Why"]
        return display.table(rows, columns, caption=f"{self.namespace}: {counted}")


def readiness(namespace: str) -> Readiness:
    """What is ready in `namespace` now.

    Raises:
        ClusterError: The cluster does not answer.
    """
    return judge(namespace, get(KINDS, namespace=namespace), last_log=last_log)


def last_log(namespace: str, pod: str, container: str) -> str:
    """The last line that a container logged, before its last end if it had one; "" where none can be had soon."""
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
    with contextlib.suppress(ClusterError):
        client = connected()
        for before in ("true", "false"):
            query = {"container": container, "tailLines": "1", "previous": before}
            typed = f"kubectl logs {pod} -n {namespace}"
            status, said = client.send(typed, path, query=query, plain=True, patience=2.0)
            if status == 200 and (line := said["message"].strip()):
                return str(line.splitlines()[-1][:300])
    return ""


LastLog = Callable[[str, str, str], str]


def judge(namespace: str, objects: Iterable[Obj], *, last_log: LastLog = lambda *_: "") -> Readiness:
    """The readiness that `objects` show.

    Args:
        namespace: The namespace they are in.
        objects: Its workloads, ReplicaSets, pods and events.
        last_log: Gives the last line that (namespace, pod, container) logged; "" where there is none.
    """
    by_kind: dict[str, list[Obj]] = {}
    for item in objects:
        by_kind.setdefault(item["kind"], []).append(item)
    return _Judge(namespace, by_kind, last_log).all()


def _owner(item: Obj) -> str:
    return next((o["uid"] for o in item["metadata"].get("ownerReferences", []) if o.get("controller")), "")


class _Judge:
    def __init__(self, namespace: str, by_kind: dict[str, list[Obj]], last_log: LastLog) -> None:
        self.namespace = namespace
        self.by_kind = by_kind
        self.last_log = last_log
        self.sets = {item["metadata"]["uid"]: item for item in by_kind.get("ReplicaSet", [])}
        self.pods: dict[str, list[Obj]] = {}
        for pod in by_kind.get("Pod", []):
            owner = _owner(pod)
            replica_set = self.sets.get(owner)
            top = (_owner(replica_set) or owner) if replica_set is not None else owner
            self.pods.setdefault(top or pod["metadata"]["uid"], []).append(pod)
        self.events: dict[str, list[Obj]] = {}
        for event in sorted(by_kind.get("Event", []), key=_when):
            self.events.setdefault(event["involvedObject"].get("uid", ""), []).append(event)

    def all(self) -> Readiness:
        found = [self._replicated(item) for item in self.by_kind.get("Deployment", [])]
        found += [self._replicated(item) for item in self.by_kind.get("StatefulSet", [])]
        found += [self._daemon_set(item) for item in self.by_kind.get("DaemonSet", [])]
        found += [self._job(item) for item in self.by_kind.get("Job", [])]
        # A ReplicaSet without an owner is rare in lessons; its pods show it.
        found += [self._bare(pod) for pod in self.by_kind.get("Pod", []) if not _owner(pod)]
        return Readiness(self.namespace, tuple(sorted(found, key=lambda w: (w.kind == "Job", w.name))))

    def _replicated(self, item: Obj) -> Workload:
        status, desired = item.get("status", {}), item["spec"].get("replicas", 1)
        seen = status.get("observedGeneration", 0) >= item["metadata"].get("generation", 0)
        current = min(status.get("updatedReplicas", 0), desired - (status.get("replicas", 0) - desired))
        ready = status.get("readyReplicas", 0)
        done = seen and current >= desired and ready >= desired
        return self._workload(item, ready, desired, done=done)

    def _daemon_set(self, item: Obj) -> Workload:
        status = item.get("status", {})
        desired, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
        seen = status.get("observedGeneration", 0) >= item["metadata"].get("generation", 0)
        return self._workload(item, ready, desired, done=seen and ready >= desired)

    def _job(self, item: Obj) -> Workload:
        status, desired = item.get("status", {}), item["spec"].get("completions", 1) or 1
        conditions = {c["type"]: c for c in status.get("conditions", []) if c["status"] == "True"}
        done = status.get("succeeded", 0)
        if "Failed" in conditions:
            why = conditions["Failed"].get("message") or conditions["Failed"].get("reason", "")
            return self._workload(item, done, desired, done=False, verdict=("Failed", why, True))
        return self._workload(item, done, desired, done="Complete" in conditions, good="Completed")

    def _bare(self, pod: Obj) -> Workload:
        phase = pod.get("status", {}).get("phase", "Pending")
        if phase == "Succeeded":
            return self._workload(pod, 1, 1, done=True, good="Completed")
        return self._workload(pod, int(_is_ready(pod)), 1, done=_is_ready(pod))

    def _workload(
        self, item: Obj, ready: int, desired: int, *, done: bool, good: str = "Ready", verdict: _Verdict | None = None
    ) -> Workload:
        meta = item["metadata"]
        pods = sorted(self.pods.get(meta["uid"], []), key=lambda p: p["metadata"].get("creationTimestamp", ""))
        if done:
            state, reason, hopeless = good, "", False
        else:
            state, reason, hopeless = verdict or self._why(item, pods, desired)
        statuses = [s for pod in pods for s in pod.get("status", {}).get("containerStatuses", [])]
        restarts = sum(s.get("restartCount", 0) for s in statuses)
        containers = _containers(pods[-1]) if pods and item["kind"] != "Job" else ""
        return Workload(item["kind"], meta["name"], ready, desired, containers, restarts, state, reason, hopeless)

    def _why(self, item: Obj, pods: list[Obj], desired: int) -> _Verdict:
        verdicts = [v for v in (self._pod(pod) for pod in reversed(pods)) if v is not None]
        for verdict in sorted(verdicts, key=lambda v: (not v[2], v[0] == "Progressing")):
            return verdict
        owners = [item, *(s for s in self.sets.values() if _owner(s) == item["metadata"]["uid"])]
        for owner in owners:
            for condition in owner.get("status", {}).get("conditions", []):
                if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
                    return _refused(condition.get("message", ""))
        if len(pods) < desired:
            for owner in owners:
                for event in reversed(self.events.get(owner["metadata"]["uid"], [])):
                    if event.get("reason") == "FailedCreate":
                        return _refused(event.get("message", ""))
            return "Progressing", f"{len(pods)} of {desired} pods created", False
        return "Progressing", "", False

    def _pod(self, pod: Obj) -> _Verdict | None:
        """State, reason, hopeless of a pod that is not ready; None for one that is."""
        if _is_ready(pod) or pod.get("status", {}).get("phase") == "Succeeded":
            return None
        status = pod.get("status", {})
        if pod["metadata"].get("deletionTimestamp"):
            return "Progressing", "the old pod is ending", False
        for condition in status.get("conditions", []):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return "Pending", condition.get("message", "no node takes it"), False
        for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
            verdict = self._container(pod, container)
            if verdict is not None:
                return verdict
        for event in reversed(self.events.get(pod["metadata"]["uid"], [])):
            if event.get("reason") == "Unhealthy":
                return "NotReady", event.get("message", "").strip()[:300], False
            if event.get("reason") in ("FailedMount", "FailedCreatePodSandBox"):
                return "Pending", event.get("message", "").strip()[:300], False
        starting = [c["name"] for c in status.get("containerStatuses", []) if not c.get("ready")]
        return "Progressing", f"starting: {', '.join(starting)}" if starting else "starting", False

    def _container(self, pod: Obj, container: Obj) -> _Verdict | None:
        name, waiting = container["name"], container.get("state", {}).get("waiting") or {}
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        if reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"):
            failures = [
                e["message"]
                for e in self.events.get(pod["metadata"]["uid"], [])
                if e.get("reason") in ("Failed", "InspectFailed") and container.get("image", "") in e.get("message", "")
                and "pull" in e.get("message", "").lower()
            ]  # fmt: skip
            detail = failures[-1] if failures and len(failures[-1]) > len(message) else message
            why = f"image {container.get('image', '?')} of container {name}: {detail or reason}"
            hopeless = reason in ("InvalidImageName", "ErrImageNeverPull")
            return "ImagePull", why[:400], hopeless or (reason == "ImagePullBackOff" and not _PASSING.search(detail))
        if reason == "CrashLoopBackOff":
            ended = container.get("lastState", {}).get("terminated") or {}
            line = self.last_log(self.namespace, pod["metadata"]["name"], name)
            how = f"exit code {ended.get('exitCode', '?')}" + (
                f", {ended['reason']}" if ended.get("reason") not in (None, "Error", "Completed") else ""
            )
            why = f"container {name} ended {container.get('restartCount', 0)} times ({how})"
            return "CrashLoop", why + (f"; its last line: {line}" if line else ""), False
        if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
            return "Failed", f"container {name}: {message or reason}", False
        return None


def _refused(message: str) -> _Verdict:
    if "exceeded quota" in message:
        return "Quota", message, True
    # A webhook that does not answer yet (the injector is starting) passes; any other refusal stays.
    return "Failed", message, "failed calling webhook" not in message


def _when(event: Obj) -> str:
    return event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or ""


def _is_ready(pod: Obj) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _containers(pod: Obj) -> str:
    wanted = len(pod["spec"]["containers"])
    sidecars = {c["name"] for c in pod["spec"].get("initContainers", []) if c.get("restartPolicy") == "Always"}
    status = pod.get("status", {})
    ready = sum(bool(c.get("ready")) for c in status.get("containerStatuses", []))
    ready += sum(bool(c.get("ready")) for c in status.get("initContainerStatuses", []) if c["name"] in sidecars)
    return f"{ready}/{wanted + len(sidecars)}"
