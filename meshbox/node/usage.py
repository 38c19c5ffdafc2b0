# SPDX-License-Identifier: Apache-2.0
"""What the processes of containers use, read from /proc when somebody asks."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from meshbox.node.keeper import processes, variable

__all__ = ["Usage", "UsageReader", "folder_size"]

_TICKS = os.sysconf("SC_CLK_TCK")


class Usage(Struct):
    """What a container's processes use.

    Args:
        user: Seconds of CPU in user mode, those of processes that ended included.
        system: Seconds of CPU in the kernel.
        anonymous: Bytes of resident memory that belong to no file; pages that forks still share count in each.
        shared: Bytes of resident shared memory.
        mapped: Bytes of resident memory that are pages of files.
        swap: Bytes swapped out.
        processes: How many there are.
        threads: How many threads they have.
        descriptors: How many files they have open.
    """

    user: float = 0.0
    system: float = 0.0
    anonymous: int = 0
    shared: int = 0
    mapped: int = 0
    swap: int = 0
    processes: int = 0
    threads: int = 0
    descriptors: int = 0

    @property
    def working_set(self) -> int:
        """Memory that ends with the container: all but the pages of files, which every container shares here."""
        return self.anonymous + self.shared


class _Clock(Struct):
    """What a container's processes had used when they were last seen, and what those that ended took with them."""

    user: float = 0.0
    system: float = 0.0
    gone_user: float = 0.0
    gone_system: float = 0.0

    def take(self, user: float, system: float) -> tuple[float, float]:
        """Take in the time of those that run; the time of all there were."""
        # A sum that falls has lost a process whose end nobody of its container waited for.
        self.gone_user += max(0.0, self.user - user)
        self.gone_system += max(0.0, self.system - system)
        self.user, self.system = user, system
        return user + self.gone_user, system + self.gone_system


class UsageReader:
    """Reads usage; keeps what processes had used when they ended, so that CPU time only grows."""

    def __init__(self) -> None:
        self._known: dict[str, _Clock] = {}

    def read(self, containers: Mapping[int, str]) -> dict[str, Usage]:
        """What each running container uses.

        Args:
            containers: Process id of each container's main process → the container's id.

        Returns:
            By the container's id; containers whose processes have just ended are left out.
        """
        wanted = set(containers.values())
        found: dict[str, Usage] = defaultdict(Usage)
        for pid in processes():
            fields = _stat(pid)
            if fields is None:
                continue
            # A container's main process leads a session; what `exec` starts has one of its own, and says whose it is.
            container = containers.get(int(fields[3])) or variable(pid, b"LABKIT_CONTAINER=") or ""
            if container in wanted:
                _add(found[container], pid, fields)
        self._known = {container: self._known.get(container, _Clock()) for container in found}
        for container, usage in found.items():
            usage.user, usage.system = self._known[container].take(usage.user, usage.system)
        return dict(found)


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on; None if the process is gone or only a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return fields if fields and fields[0] not in ("Z", "X") else None


def _add(usage: Usage, pid: int, fields: list[str]) -> None:
    # With the children it has waited for: their time is nowhere else any more.
    usage.user += (int(fields[11]) + int(fields[13])) / _TICKS
    usage.system += (int(fields[12]) + int(fields[14])) / _TICKS
    usage.processes += 1
    usage.threads += int(fields[17])
    try:
        with open(f"/proc/{pid}/status") as file:
            sizes = dict(line.split(":", 1) for line in file if line.startswith(("Rss", "VmSwap")))
        usage.descriptors += len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return
    usage.anonymous += _bytes(sizes.get("RssAnon", "0"))
    usage.shared += _bytes(sizes.get("RssShmem", "0"))
    usage.mapped += _bytes(sizes.get("RssFile", "0"))
    usage.swap += _bytes(sizes.get("VmSwap", "0"))


def _bytes(text: str) -> int:
    return int(text.split()[0]) * 1024


def folder_size(folders: Iterable[Path]) -> int:
    """Bytes on disk below `folders`; links are not followed, so that volumes do not count."""
    total = 0
    for folder in folders:
        for path, _, files in os.walk(folder):
            for name in files:
                try:
                    total += os.lstat(os.path.join(path, name)).st_blocks * 512
                except OSError:
                    continue
    return total
