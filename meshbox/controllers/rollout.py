# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of a rollout: how many pods each ReplicaSet of a Deployment should have next.

Nothing here reads or writes objects of the cluster; the functions change none of their arguments.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from labkit.ground.int_or_string import scaled
from labkit.ground.numbers import whole
from meshbox.controllers.meta import parse_time

if TYPE_CHECKING:
    from meshbox.typed.workloads import Deployment, ReplicaSet

__all__ = [
    "DESIRED",
    "HISTORY",
    "MAX",
    "REVISION",
    "active",
    "available",
    "is_rolling",
    "max_surge",
    "max_unavailable",
    "new_size",
    "oldest_first",
    "proportional_sizes",
    "replicas",
    "revision",
    "scaled_down_sizes",
    "total",
]

REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAX = "deployment.kubernetes.io/max-replicas"


def replicas(obj: Deployment | ReplicaSet) -> int:
    """`spec.replicas`, 1 where it is not given."""
    value = obj["spec"].get("replicas")
    return 1 if value is None else int(value)


def available(replica_set: ReplicaSet) -> int:
    """How many of its pods are available.

    A status can be older than the spec beside it; pods above the wanted number are about to go and do not count.
    """
    status = replica_set.get("status") or {}
    return min(int(status.get("availableReplicas", 0)), replicas(replica_set))


def total(replica_sets: Iterable[ReplicaSet]) -> int:
    """Pods wanted by all of them."""
    return sum(replicas(item) for item in replica_sets)


def active(replica_sets: Iterable[ReplicaSet]) -> list[ReplicaSet]:
    """Those that want pods."""
    return [item for item in replica_sets if replicas(item) > 0]


def revision(obj: Deployment | ReplicaSet) -> int:
    """The revision that an object's annotation names, 0 where there is none."""
    text = (obj["metadata"].get("annotations") or {}).get(REVISION, "")
    return max(0, whole(text) or 0)


def oldest_first(replica_sets: Iterable[ReplicaSet]) -> list[ReplicaSet]:
    """Sorted by revision: times of creation have whole seconds, in which several rollouts fit."""
    return sorted(
        replica_sets,
        key=lambda item: (
            revision(item),
            parse_time(item["metadata"].get("creationTimestamp")),
            item["metadata"]["name"],
        ),
    )


def is_rolling(deployment: Deployment) -> bool:
    """Whether its strategy is RollingUpdate."""
    strategy = deployment["spec"].get("strategy") or {}
    return bool(strategy.get("type", "RollingUpdate") == "RollingUpdate")


def _fenceposts(deployment: Deployment) -> tuple[int, int]:
    rolling = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    wanted = replicas(deployment)
    surge = scaled(rolling.get("maxSurge", "25%"), wanted, up=True)
    unavailable = scaled(rolling.get("maxUnavailable", "25%"), wanted, up=False)
    # Percentages may both round to zero, and then nothing could ever move.
    return surge, 1 if surge == 0 and unavailable == 0 else unavailable


def max_surge(deployment: Deployment) -> int:
    """Pods a rollout may have above the wanted number."""
    return _fenceposts(deployment)[0] if is_rolling(deployment) else 0


def max_unavailable(deployment: Deployment) -> int:
    """Pods that may be missing during a rollout."""
    wanted = replicas(deployment)
    if not is_rolling(deployment) or wanted == 0:
        return 0
    return min(_fenceposts(deployment)[1], wanted)


def new_size(deployment: Deployment, others: list[ReplicaSet], current: int) -> int:
    """How many pods the newest ReplicaSet should have next.

    Args:
        deployment: The Deployment.
        others: Its other ReplicaSets.
        current: How many the newest one has now (0 before it exists).
    """
    wanted = replicas(deployment)
    if not is_rolling(deployment) or current > wanted:
        return wanted
    # An old ReplicaSet that was told to shrink may not have done so yet.
    busy = sum(max(replicas(item), int((item.get("status") or {}).get("replicas", 0))) for item in others)
    room = wanted + max_surge(deployment) - busy - current
    return current if room <= 0 else current + min(room, wanted - current)


def scaled_down_sizes(
    deployment: Deployment, newest: ReplicaSet | None, old: list[ReplicaSet]
) -> list[tuple[ReplicaSet, int]]:
    """Which old ReplicaSets may shrink now, and to what size.

    Pods that are not available go first: they serve nobody. Of the others only as many go as leave the wanted
    number minus `maxUnavailable` available.
    """
    everything = [*old, *([newest] if newest else [])]
    least = replicas(deployment) - max_unavailable(deployment)
    new_unavailable = replicas(newest) - available(newest) if newest else 0
    budget = total(everything) - least - new_unavailable
    sizes = {item["metadata"]["name"]: replicas(item) for item in old}
    ordered = oldest_first(old)
    if budget <= 0:
        return []
    for item in ordered:
        unhealthy = min(budget, replicas(item) - available(item))
        sizes[item["metadata"]["name"]] -= unhealthy
        budget -= unhealthy
    spare = sum(available(item) for item in everything) - least
    for item in ordered:
        name = item["metadata"]["name"]
        fewer = max(0, min(spare, sizes[name]))
        sizes[name] -= fewer
        spare -= fewer
    return [
        (item, sizes[item["metadata"]["name"]]) for item in ordered if sizes[item["metadata"]["name"]] != replicas(item)
    ]


def _share(replica_set: ReplicaSet, deployment: Deployment, wanted: int, to_add: int, added: int) -> int:
    size = replicas(replica_set)
    if size == 0 or to_add == 0 or to_add == added:
        return 0
    annotations = replica_set["metadata"].get("annotations") or {}
    before = whole(annotations.get(MAX)) or (deployment.get("status") or {}).get("replicas") or size
    share = round(size * (wanted + max_surge(deployment)) / before) - size if wanted else -size
    allowed = to_add - added
    return min(share, allowed) if to_add > 0 else max(share, allowed)


def proportional_sizes(deployment: Deployment, replica_sets: list[ReplicaSet]) -> list[tuple[ReplicaSet, int]]:
    """Sizes after scaling a Deployment in the middle of a rollout: each ReplicaSet keeps its share."""
    wanted = replicas(deployment)
    sets = active(replica_sets)
    to_add = (wanted + max_surge(deployment) if wanted else 0) - total(sets)
    # Larger ones first; of equals the newer one grows first and the older one shrinks first.
    sets = oldest_first(sets)
    if to_add > 0:
        sets.reverse()
    sets.sort(key=replicas, reverse=True)
    sizes = [replicas(item) for item in sets]
    added = 0
    for index, item in enumerate(sets):
        share = _share(item, deployment, wanted, to_add, added)
        sizes[index] += share
        added += share
    if sizes:
        sizes[0] = max(0, sizes[0] + to_add - added)
    return list(zip(sets, sizes, strict=True))
