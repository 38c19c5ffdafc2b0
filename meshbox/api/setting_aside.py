# SPDX-License-Identifier: Apache-2.0
"""Objects that cannot be understood at start: each is kept in a file of its own, and the cluster starts without it."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from labkit.ground.errors import SandboxError
from meshbox.contracts import Obj

__all__ = ["FOLDER", "Aside", "keep"]

log = logging.getLogger(__name__)

FOLDER = "set-aside"
"""Name of the folder, beside the journal."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class Aside(Struct, frozen=True):
    """An object that was set aside.

    Args:
        resource: Its resource; "" where even that is not known.
        namespace: Its namespace; "" for none.
        name: Its name.
        why: What is wrong with it.
        raw: What was stored.
        obj: The object, where it is one at all.
        file: Where it is kept now.
    """

    resource: str
    namespace: str
    name: str
    why: str
    raw: bytes
    obj: Obj | None = None
    file: Path | None = None

    def __str__(self) -> str:
        if not self.resource:
            return "a record"
        return f"{self.resource} {self.namespace}/{self.name}" if self.namespace else f"{self.resource} {self.name}"

    @property
    def involved(self) -> Obj:
        """What an event about it refers to."""
        meta = (self.obj or {}).get("metadata")
        known = meta if isinstance(meta, dict) else {}
        found: Obj = {"metadata": {"name": self.name or "objects", "namespace": self.namespace or "default"}}
        for field in ("kind", "apiVersion"):
            if isinstance((self.obj or {}).get(field), str):
                found[field] = (self.obj or {})[field]
        found.setdefault("kind", self.resource.partition(".")[0])
        if isinstance(known.get("uid"), str):
            found["metadata"]["uid"] = known["uid"]
        return found


def keep(folder: Path, one: Aside) -> Aside:
    """Write what was stored into a file of `folder`; `one` with that file.

    Raises:
        SandboxError: it cannot be written. Nothing is lost then: it is still in the journal.
    """
    words = [word for word in (one.resource or "record", one.namespace, one.name) if word]
    stem = _UNSAFE.sub("-", ".".join(words))[:150]
    try:
        folder.mkdir(exist_ok=True, mode=0o700)
        number = 1
        while True:
            file = folder / (f"{stem}.json" if number == 1 else f"{stem}.{number}.json")
            try:
                fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                break
            except FileExistsError:
                number += 1
        with open(fd, "wb") as out:
            out.write(one.raw)
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        raise SandboxError(
            f"{one} cannot be understood ({one.why}), and cannot be set aside in {folder}: {error.strerror}",
            next_step=f"make room in {folder.parent}, and start again",
        ) from error
    log.warning("%s was set aside in %s: %s", one, file, one.why)
    return replace(one, file=file)
