# SPDX-License-Identifier: Apache-2.0
"""What every controller reads and writes in objects: owners, conditions, selectors, times and hashes."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from meshbox.contracts import AdmissionRequest, ApiError, Clock, Obj, Objects, View
from meshbox.settings import SandboxSettings

__all__ = [
    "ALPHABET",
    "MANAGER",
    "Context",
    "condition",
    "controller_of",
    "forbidden",
    "hash_text",
    "owner_reference",
    "parse_time",
    "put_condition",
    "time_text",
    "write_status",
]

MANAGER = "kube-controller-manager"
"""Field manager of the controllers' writes."""

ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""What Kubernetes makes name suffixes of: no vowels, so that none spells a word."""


class Context(Struct, frozen=True):
    """What every controller is given.

    Args:
        objects: The cluster's objects.
        settings: The sandbox's settings.
        clock: Seconds since the epoch.
    """

    objects: Objects
    settings: SandboxSettings
    clock: Clock = time.time

    def now(self) -> str:
        """The time now as objects write it."""
        return time_text(self.clock())


def time_text(seconds: float) -> str:
    """Seconds since the epoch as objects write it: "2026-01-31T09:00:00Z"."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def parse_time(text: str | None) -> float:
    """Seconds since the epoch of an object's time, with or without fractions; 0 where there is none."""
    if not text:
        return 0.0
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def owner_reference(owner: View, api_version: str, kind: str) -> Obj:
    """The reference by which `owner` controls an object."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_of(obj: Obj) -> Obj | None:
    """The owner reference of the object that controls `obj`."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            found: Obj = reference
            return found
    return None


def condition(status: View, type_: str) -> Obj | None:
    """The condition of type `type_` in a status."""
    for item in status.get("conditions") or ():
        if item["type"] == type_:
            found: Obj = item
            return found
    return None


def put_condition(status: Obj, new: Obj) -> None:
    """Set a condition in `status`, keeping `lastTransitionTime` where its status stays the same.

    Args:
        status: Changed in place.
        new: The condition, with `lastTransitionTime` set to the time now.
    """
    conditions = status.setdefault("conditions", [])
    for index, item in enumerate(conditions):
        if item["type"] == new["type"]:
            if item["status"] == new["status"]:
                new = {**new, "lastTransitionTime": item.get("lastTransitionTime", new["lastTransitionTime"])}
            conditions[index] = new
            return
    conditions.append(new)


def forbidden(request: AdmissionRequest, why: str) -> ApiError:
    """The 403 by which an admission plugin refuses what was asked."""
    plural, _, group = request.resource.partition(".")
    details = {"name": request.name, "kind": plural, **({"group": group} if group else {})}
    return ApiError(403, "Forbidden", f'{request.resource} "{request.name}" is forbidden: {why}', details)


def write_status(context: Context, resource: str, obj: Obj, status: View) -> bool:
    """Write `status` where it differs from what `obj` has; returns whether it did."""
    if (obj.get("status") or {}) == status:
        return False
    context.objects.update(resource, {**obj, "status": status}, subresource="status", manager=MANAGER)
    return True


def _fnv32a(data: bytes) -> int:
    number = 0x811C9DC5
    for byte in data:
        number = ((number ^ byte) * 0x01000193) & 0xFFFFFFFF
    return number


def hash_text(value: Any, collisions: int = 0) -> str:
    """A hash of a JSON value, written in Kubernetes' alphabet; the same in every process."""
    data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    if collisions:
        data += str(collisions).encode()
    return "".join(ALPHABET[ord(digit) % len(ALPHABET)] for digit in str(_fnv32a(data)))
