# SPDX-License-Identifier: Apache-2.0
"""What the user of a Job says about its end: `podFailurePolicy` and `successPolicy`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from meshbox.contracts import Obj
from meshbox.controllers.job_indexes import every, index_of, indexed, read

__all__ = ["matched_failure", "matched_success"]


def matched_failure(job: Obj, pod: Obj) -> tuple[str, str]:
    """What is to be done about a pod that has failed, and why.

    Returns:
        "FailJob", "FailIndex", "Ignore" or "Count", and Kubernetes' words; "Count" and "" where no rule is met.
    """
    rules = (job["spec"].get("podFailurePolicy") or {}).get("rules") or ()
    for number, rule in enumerate(rules):
        met = _by_exit_code(rule, pod) if rule.get("onExitCodes") else _by_condition(rule, pod)
        if met:
            return rule["action"], f"{met} matching {rule['action']} rule at index {number}"
    return "Count", ""


def _place(pod: Obj) -> str:
    where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    return f"{where} (index {index_of(pod)})" if index_of(pod) >= 0 else where


def _by_exit_code(rule: Obj, pod: Obj) -> str:
    asked = rule["onExitCodes"]
    for name, code in _exit_codes(pod):
        # Whoever has ended well is no failure, whatever NotIn says.
        if code == 0 or asked.get("containerName") not in (None, name):
            continue
        if (code in (asked.get("values") or ())) is (asked.get("operator") == "In"):
            return f"Container {name} for pod {_place(pod)} failed with exit code {code}"
    return ""


def _exit_codes(pod: Obj) -> Iterator[tuple[str, int]]:
    status: dict[str, Any] = pod.get("status") or {}
    for field in ("containerStatuses", "initContainerStatuses"):
        for one in status.get(field) or ():
            ended = (one.get("state") or {}).get("terminated")
            if ended is not None:
                yield one["name"], ended.get("exitCode", 0)


def _by_condition(rule: Obj, pod: Obj) -> str:
    shown = {one["type"]: one["status"] for one in (pod.get("status") or {}).get("conditions") or ()}
    for asked in rule.get("onPodConditions") or ():
        if shown.get(asked["type"]) == (asked.get("status") or "True"):
            return f"Pod {_place(pod)} has condition {asked['type']}"
    return ""


def matched_success(job: Obj, status: Obj) -> str:
    """Why a Job has succeeded before all of its indexes have, in Kubernetes' words; "" where it has not."""
    if not indexed(job):
        return ""
    done = read(status.get("completedIndexes"), job)
    for number, rule in enumerate((job["spec"].get("successPolicy") or {}).get("rules") or ()):
        text, count = rule.get("succeededIndexes"), rule.get("succeededCount")
        asked = set(every(job)) if text is None else read(text, job)
        if len(done & asked) >= (len(asked) if count is None else count):
            return f"Matched rules at index {number}"
    return ""
