# SPDX-License-Identifier: Apache-2.0
"""What webhooks have said of one write.

Writes are synchronous, so that nothing comes between what is read and what is written; a webhook answers when it likes.
So a write that needs an answer is given up (`ReviewNeededError`), whoever asked for it waits while the webhook is
called, and then the write is tried again from the start, with that answer at hand. An answer counts for what was asked:
where somebody has changed the object meanwhile, the webhook is asked anew.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct, field

from meshbox.contracts import Obj, ReviewNeededError
from meshbox.values import dumps

__all__ = ["Answer", "Call", "Reviews"]


class Call(Struct, frozen=True):
    """A webhook, and what it is asked.

    Args:
        configuration: The name of the object that holds it.
        webhook: Its entry there.
        request: Of the AdmissionReview, without uid.
        mutating: Whether it may change the object.
        again: Whether it is asked a second time, after others have changed what it had seen.
    """

    configuration: str
    webhook: Obj
    request: Obj
    mutating: bool
    again: bool = False

    @property
    def key(self) -> bytes:
        """The same for the same question."""
        asked = [self.configuration, self.webhook, self.request, self.mutating, self.again]
        return hashlib.sha256(dumps(asked)).digest()


class Answer(Struct, frozen=True):
    """What a webhook said.

    Args:
        failed: Why there is no answer; "" where there is one.
        allowed: Whether the write may go on.
        status: Of a denial.
        patch: Steps of a JSON patch.
        warnings: For whoever asks.
        audit: Annotations for an audit log.
    """

    failed: str = ""
    allowed: bool = False
    status: Obj = field(default_factory=dict)
    patch: Sequence[Obj] = ()
    warnings: Sequence[str] = ()
    audit: Obj = field(default_factory=dict)


class Reviews:
    """The answers of one write, however often it is tried."""

    def __init__(self) -> None:
        self._answers: dict[bytes, Answer] = {}
        self._identity: Obj = {}

    def settle(self, meta: Obj) -> None:
        """Give a new object the name, uid and time that it had when it was tried first; in place."""
        for name in ("name", "uid", "creationTimestamp"):
            if name in meta:
                meta[name] = self._identity.setdefault(name, meta[name])

    def answers(self, calls: Sequence[Call], ask: Callable[[Call], Awaitable[Answer]]) -> list[Answer]:
        """The answers to `calls`.

        Raises:
            ReviewNeededError: Some are yet to be asked for, by `ask`; all at once.
        """
        keys = [one.key for one in calls]
        missing = {key: one for key, one in zip(keys, calls, strict=True) if key not in self._answers}

        async def fetch() -> None:
            found = await asyncio.gather(*map(ask, missing.values()))
            self._answers.update(zip(missing, found, strict=True))

        if missing:
            raise ReviewNeededError(fetch)
        return [self._answers[key] for key in keys]
