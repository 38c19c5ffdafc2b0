# SPDX-License-Identifier: Apache-2.0
"""What a Deployment's status says about its rollout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

from meshbox.controllers.meta import Context, condition, parse_time
from meshbox.controllers.rollout import max_unavailable, replicas, total
from meshbox.values import clone

if TYPE_CHECKING:
    from meshbox.typed.workloads import Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet

__all__ = ["PAUSED", "complete", "counted", "progressed", "progressing", "put", "seconds_to_deadline"]

AVAILABLE_REASON = "NewReplicaSetAvailable"
TIMED_OUT = "ProgressDeadlineExceeded"
PAUSED = "DeploymentPaused"

_Count = Literal["replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas"]


def put(context: Context, status: DeploymentStatus, type_: str, value: str, reason: str, message: str) -> None:
    """Set a condition of a Deployment, which also has a time of its last update; one that says the same stays."""
    now = context.now()
    known = condition(status, type_)
    if known is not None and known["status"] == value and known.get("reason") == reason:
        return
    transition = known["lastTransitionTime"] if known is not None and known["status"] == value else now
    others = [item for item in status.get("conditions") or () if item["type"] != type_]
    status["conditions"] = [
        *others,
        {
            "type": type_,
            "status": value,
            "lastUpdateTime": now,
            "lastTransitionTime": transition,
            "reason": reason,
            "message": message,
        },
    ]


def counted(
    context: Context, deployment: Deployment, replica_sets: list[ReplicaSet], newest: ReplicaSet | None
) -> DeploymentStatus:
    """The status with counts, `observedGeneration` and the Available condition brought up to date."""
    status: DeploymentStatus = clone(deployment.get("status") or {})

    def count(items: list[ReplicaSet], field: Literal["replicas", "readyReplicas", "availableReplicas"]) -> int:
        return sum((item.get("status") or {}).get(field, 0) for item in items)

    available = count(replica_sets, "availableReplicas")
    counts: dict[_Count, int] = {
        "replicas": count(replica_sets, "replicas"),
        "updatedReplicas": count([newest] if newest else [], "replicas"),
        "readyReplicas": count(replica_sets, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total(replica_sets) - available),
    }
    for field, value in counts.items():
        if value:
            status[field] = value
        else:
            status.pop(field, None)
    if not context.settings.legacy:
        status["terminatingReplicas"] = sum(
            (item.get("status") or {}).get("terminatingReplicas", 0) for item in replica_sets
        )
    status["observedGeneration"] = deployment["metadata"].get("generation", 1)
    if available >= replicas(deployment) - max_unavailable(deployment):
        put(context, status, "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        put(
            context,
            status,
            "Available",
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    return status


def complete(deployment: Deployment, status: DeploymentStatus) -> bool:
    """Whether `status` shows that everything wanted is there, in its newest form, and nothing else."""
    wanted = replicas(deployment)
    observed = int(status.get("observedGeneration", 0))
    fields: tuple[_Count, ...] = ("updatedReplicas", "replicas", "availableReplicas")
    return observed >= deployment["metadata"].get("generation", 1) and all(
        status.get(field, 0) == wanted for field in fields
    )


def progressing(before: DeploymentStatus, status: DeploymentStatus) -> bool:
    """Whether `status` is nearer to the goal than `before`."""

    def old_pods(item: DeploymentStatus) -> int:
        return int(item.get("replicas", 0)) - int(item.get("updatedReplicas", 0))

    fields: tuple[_Count, ...] = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return any(status.get(field, 0) > before.get(field, 0) for field in fields) or old_pods(status) < old_pods(before)


def seconds_to_deadline(context: Context, deployment: Deployment, status: DeploymentStatus) -> float | None:
    """Seconds until the rollout counts as stuck (0: it does now); None where nothing is being waited for."""
    deadline = deployment["spec"].get("progressDeadlineSeconds")
    known = condition(status, "Progressing")
    if deadline is None or known is None or known.get("reason") in (AVAILABLE_REASON, TIMED_OUT, PAUSED):
        return None
    return max(0.0, parse_time(known.get("lastUpdateTime")) + float(deadline) - context.clock())


def progressed(
    context: Context, deployment: Deployment, replica_sets: list[ReplicaSet], newest: ReplicaSet | None
) -> DeploymentStatus:
    """The status of a rollout under way or done: `counted`, and the Progressing and ReplicaFailure conditions."""
    before = deployment.get("status") or {}
    status = counted(context, deployment, replica_sets, newest)
    known = condition(before, "Progressing")
    name = deployment["metadata"]["name"]
    subject = f'ReplicaSet "{newest["metadata"]["name"]}"' if newest else f'Deployment "{name}"'
    done_before = known is not None and known.get("reason") == AVAILABLE_REASON
    settled = status.get("replicas", 0) == status.get("updatedReplicas", 0) and done_before
    if deployment["spec"].get("progressDeadlineSeconds") is not None and not settled:
        if complete(deployment, status):
            put(context, status, "Progressing", "True", AVAILABLE_REASON, f"{subject} has successfully progressed.")
        elif progressing(before, status):
            _still_progressing(context, status, f"{subject} is progressing.")
        elif seconds_to_deadline(context, deployment, status) == 0:
            put(context, status, "Progressing", "False", TIMED_OUT, f"{subject} has timed out progressing.")
    status["conditions"] = [item for item in status["conditions"] if item["type"] != "ReplicaFailure"]
    failing = [newest, *replica_sets] if newest else replica_sets
    for item in failing:
        failure = condition(item.get("status") or {}, "ReplicaFailure")
        if failure is not None:
            known = condition(before, "ReplicaFailure")
            if known is not None and known.get("message") == failure.get("message"):
                status["conditions"].append(cast("DeploymentCondition", known))
            else:
                put(
                    context,
                    status,
                    "ReplicaFailure",
                    failure["status"],
                    failure.get("reason", ""),
                    failure.get("message", ""),
                )
            break
    return status


def _still_progressing(context: Context, status: DeploymentStatus, message: str) -> None:
    known = condition(status, "Progressing")
    if known is not None and known["status"] == "True" and known.get("reason") == "ReplicaSetUpdated":
        # Progress restarts the clock of the deadline, so the time of the last update moves even if nothing else does.
        status["conditions"] = [
            {**item, "lastUpdateTime": context.now(), "message": message} if item is known else item
            for item in status["conditions"]
        ]
        return
    put(context, status, "Progressing", "True", "ReplicaSetUpdated", message)
