# SPDX-License-Identifier: Apache-2.0
"""What no table tells of the policies of Jobs: limits of each index, when one has succeeded, who manages it."""

from __future__ import annotations

import re

from meshbox.api.builtin.internal import internal
from meshbox.api.builtin.rules import Context, call, check
from meshbox.api.builtin.storage import domain_path
from meshbox.api.builtin.well_formed import as_dict, as_list
from meshbox.api.problems import Cause, invalid, required, too_long, too_many
from meshbox.contracts import Obj

__all__: list[str] = []

_MOST_INDEXES = 100_000
_MOST_RULES = 20


@call("managed_by")
def _managed_by(text: str | None, path: str, causes: list[Cause], context: Context) -> None:
    if text == "":
        causes.append(required(path))
    elif text is not None:
        domain_path(text, path, causes, context)
        if len(text) > 63:
            causes.append(too_long(path, 63))


@call("indexed_limits")
def _indexed_limits(spec: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    count, failed, side = (spec.get(name) for name in ("completions", "maxFailedIndexes", "parallelism"))
    if (side or 0) > _MOST_INDEXES:
        detail = f"must be less than or equal to {_MOST_INDEXES} when completion mode is Indexed"
        causes.append(invalid(f"{path}.parallelism", side, detail))
    if count is not None and failed is not None and failed > count:
        causes.append(invalid(f"{path}.maxFailedIndexes", failed, "must be less than or equal to completions"))
    if (failed or 0) > _MOST_INDEXES:
        detail = f"must be less than or equal to {_MOST_INDEXES}"
        causes.append(invalid(f"{path}.maxFailedIndexes", failed, detail))


def _job(context: Context) -> Obj:
    """The spec of the Job that is checked, or of a CronJob's Jobs."""
    spec = as_dict(context.whole.get("spec"))
    return as_dict(as_dict(spec["jobTemplate"]).get("spec")) if spec.get("jobTemplate") else spec


@call("success_policy")
def _success_policy(policy: Obj, path: str, causes: list[Cause], context: Context) -> None:
    rules, where = as_list(policy.get("rules")), f"{path}.rules"
    if _job(context).get("completionMode") != "Indexed":
        shown = internal("api.batch.v1.SuccessPolicy", policy)
        causes.append(invalid(path, shown, "requires indexed completion mode"))
        return
    if not rules:
        causes.append(required(where, "at least one rules must be specified when the successPolicy is specified"))
    if len(rules) > _MOST_RULES:
        causes.append(too_many(where, len(rules), _MOST_RULES))
    for index, one in enumerate(rules):
        check("V1SuccessPolicyRule", one or {}, f"{where}[{index}]", causes, context)


@call("nothing_succeeded")
def _nothing_succeeded(_rule: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    causes.append(required(path, "at least one of succeededCount or succeededIndexes must be specified"))


@call("success_indexes")
def _success_indexes(text: str, path: str, causes: list[Cause], context: Context) -> None:
    _, problem = _indexes(text, _job(context).get("completions") or 0)
    if problem:
        causes.append(invalid(path, text, f"error parsing succeededIndexes: {problem}"))


@call("success_count")
def _success_count(rule: Obj, path: str, causes: list[Cause], context: Context) -> None:
    count, text, where = rule.get("succeededCount"), rule.get("succeededIndexes"), f"{path}.succeededCount"
    if count is None:
        return
    whole = _job(context).get("completions") or 0
    if count > whole:
        detail = f"must be less than or equal to {whole} (the number of specified completions)"
        causes.append(invalid(where, count, detail))
    listed = _indexes(text, whole)[0] if text is not None else count
    if count > listed:
        detail = (
            f"must be less than or equal to {listed} (the number of indexes in the specified succeededIndexes field)"
        )
        causes.append(invalid(where, count, detail))


def _indexes(text: str, most: int) -> tuple[int, str]:
    """How many indexes a text such as "0-2,5" lists, and what is wrong with it: then it lists none."""
    count, last = 0, -1
    for interval in text.split(",") if text else ():
        ends = interval.split("-")
        if len(ends) > 2:
            words = "violates the requirement that an index interval can have at most two parts separated by '-'"
            return 0, f'the fragment "{interval}" {words}'
        before = last
        for end in ends:
            if not re.fullmatch(r"[+]?[0-9]+", end):
                return 0, f'cannot convert string to integer for index: "{end}"'
            if int(end) >= most:
                return 0, f'too large index: "{end}"'
            if int(end) <= last:
                return 0, f"non-increasing order, previous: {last}, current: {int(end)}"
            last = int(end)
        count += last - int(ends[0]) + 1 if before < last else 0
    return count, ""


@call("container_name")
def _container_name(text: str, path: str, causes: list[Cause], context: Context) -> None:
    spec = as_dict(as_dict(_job(context).get("template")).get("spec"))
    names = [as_dict(one).get("name") for kind in ("containers", "initContainers") for one in as_list(spec.get(kind))]
    if text not in names:
        detail = "must be one of the container or initContainer names in the pod template"
        causes.append(invalid(path, text, detail))


@call("per_index")
def _per_index(action: str, path: str, causes: list[Cause], context: Context) -> None:
    if _job(context).get("backoffLimitPerIndex") is None:
        causes.append(invalid(path, action, "requires the backoffLimitPerIndex to be set"))
