# SPDX-License-Identifier: Apache-2.0
"""What no table tells of the statuses of built-in objects, which clients write by the status subresource."""

from __future__ import annotations

import math
from typing import Any

from labkit.ground import quantity as quantities
from meshbox.api.builtin.rules import Context, call
from meshbox.api.builtin.well_formed import as_dict
from meshbox.api.problems import Cause, duplicate, invalid
from meshbox.contracts import Obj
from meshbox.ip_texts import read_ip

__all__: list[str] = []

_COUNTED = {
    "Deployment": ("updatedReplicas", "readyReplicas", "availableReplicas"),
    "ReplicaSet": ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"),
    "ReplicationController": ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"),
    "StatefulSet": ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"),
}


@call("counts")
def _counts(status: Obj, path: str, causes: list[Cause], context: Context) -> None:
    kind = context.whole["kind"]
    for name in _COUNTED[kind]:
        if (count := status.get(name) or 0) > (status.get("replicas") or 0):
            causes.append(invalid(f"{path}.{name}", count, "cannot be greater than status.replicas"))
    available = status.get("availableReplicas") or 0
    if available > (status.get("readyReplicas") or 0):
        ready = "status.readyReplicas" if kind == "StatefulSet" else "readyReplicas"
        causes.append(invalid(f"{path}.availableReplicas", available, f"cannot be greater than {ready}"))


@call("no_address")
def _no_address(name: str, path: str, causes: list[Cause], _context: Context) -> None:
    if read_ip(name):
        causes.append(invalid(path, name, "must be a DNS name, not an IP address"))


@call("node_addresses")
def _node_addresses(addresses: list[Obj], path: str, causes: list[Cause], _context: Context) -> None:
    for index, one in enumerate(addresses):
        if one in addresses[:index]:
            shown = {"Type": one.get("type") or "", "Address": one.get("address") or ""}
            causes.append(duplicate(f"{path}[{index}]", shown))


@call("namespace_phase")
def _namespace_phase(status: Obj, path: str, causes: list[Cause], context: Context) -> None:
    phase, ends = status.get("phase") or "", bool(as_dict(context.whole.get("metadata")).get("deletionTimestamp"))
    if phase and phase != ("Terminating" if ends else "Active"):
        only, when = ("Terminating", "not empty") if ends else ("Active", "empty")
        words = f"may only be '{only}' if `deletionTimestamp` is {when}"
        causes.append(invalid(f"{path}.Phase", phase, words))


@call("pod_addresses")
def _pod_addresses(addresses: list[Any], path: str, causes: list[Cause], _context: Context) -> None:
    texts = [as_dict(one).get("ip") or "" for one in addresses]
    if all(map(read_ip, texts)) and len({":" in one for one in texts}) < len(texts):
        shown = [{"IP": one} for one in texts]
        causes.append(invalid(path, shown, "may specify no more than one IP for each IP family"))


@call("claimed")
def _claimed(amounts: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    for name, value in amounts.items():
        if (amount := quantities.parse(value or 0)) < 0:
            # As a whole number, away from zero, as a quantity's value is there.
            causes.append(invalid(f"{path}[{name}]", math.floor(amount), "must be a valid resource quantity"))
