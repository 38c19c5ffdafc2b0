# SPDX-License-Identifier: Apache-2.0
"""How a write is asked for, beyond the object itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct, field

from meshbox.api.resources import Served
from meshbox.api.webhook_answers import Reviews
from meshbox.contracts import Obj
from meshbox.rbac.users import User

__all__ = ["DeleteOptions", "WriteOptions"]


class WriteOptions(Struct):
    """What a create, update or patch request says besides its object.

    Args:
        manager: Field manager to record in `metadata.managedFields` ("": none is recorded).
        dry_run: Whether to do everything but keep the result.
        validation: What to do about unknown fields; "" for callers in this process, who are trusted.
        served: The group and version the object is given in (default: the hub).
        warnings: Filled with what the client should be told.
        applied: The managedFields that a server-side apply has worked out.
        owned: The fields of a new object as its client gave it, with defaults, before anybody else added to it.
        patch: The patch that led to the object, as messages name it: Go's words for a strategic one, the whole patched
            object as JSON for others; "" where the object came whole.
        vet: Asked about the object as it would be stored, to refuse it.
        created: Set where an apply made the object.
        duplicates: What decoding the body has already found (fields given twice).
        user: Who asks; None for callers in this process.
        reviews: What webhooks have said of the write until now; None: nobody waits for what they say.
    """

    manager: str = ""
    dry_run: bool = False
    validation: Literal["", "Ignore", "Warn", "Strict"] = ""
    served: Served | None = None
    warnings: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    applied: list[Obj] | None = None
    owned: Obj | None = None
    patch: str = ""
    created: bool = False
    vet: Callable[[Obj], None] | None = None
    user: User | None = None
    reviews: Reviews | None = None


class DeleteOptions(Struct):
    """What a delete request says besides the name.

    Args:
        propagation: What becomes of dependents; None leaves it to the object's own finalizers (as Background).
        grace_period: Seconds a pod has to end; None for its own.
        uid: Delete only the object with this uid.
        resource_version: Delete only the object as it was then.
        dry_run: Whether to do everything but delete.
        write: As whom, and with which answers of webhooks.
    """

    propagation: Literal["Background", "Foreground", "Orphan"] | None = None
    grace_period: int | None = None
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False
    write: WriteOptions = field(default_factory=WriteOptions)
