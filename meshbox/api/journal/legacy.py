# SPDX-License-Identifier: Apache-2.0
"""The former format: one JSON line a write, without checksums. Read once, when a sandbox of that time starts."""

from __future__ import annotations

import json
from typing import Any

from meshbox.api.journal.format import Damage, Header, Reading

__all__ = ["is_legacy", "read"]


def is_legacy(content: bytes) -> bool:
    """Whether `content` is of the former format, be it damaged."""
    return content.startswith(b"{") or (not content.startswith(b"labkit-") and b'\n{"put":"' in content)


def read(content: bytes) -> Reading:
    """Read a file of the former format: its records as those of today's; never raises.

    A change within a value cannot be noticed: there are no checksums.
    """
    reading = Reading(Header(b"0" * 8), 1)
    *lines, tail = content.split(b"\n")
    reading.torn = len(tail)
    for number, line in enumerate(lines):
        payload = _payload(line) if number else _first(line)
        if payload is None:
            why = "it is not as it was written"
            reading.damages.append(Damage(number, number, reading.size, why, [line]))
        elif number:
            reading.records[number] = payload
        reading.size += len(line) + 1
    if not lines:
        reading.damages.append(Damage(0, 0, 0, "the file ends within it", [tail]))
    reading.last = max(0, len(lines) - 1)
    return reading


def _load(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _first(line: bytes) -> bytes | None:
    return b"" if _load(line) == {"journal": "labkit objects", "format": 1} else None


def _payload(line: bytes) -> bytes | None:
    """The record as it is written today; None where it is none."""
    head, separator, raw = line.partition(b',"object":')
    if separator and head.startswith(b'{"put":"') and raw.endswith(b"}"):
        # The object itself is looked at when all are loaded, as any other's.
        record, obj = _load(head + b"}"), _load(raw[:-1])
        meta = obj.get("metadata")
        if record.keys() != {"put"} or not isinstance(meta, dict) or not str(meta.get("resourceVersion")).isdigit():
            return None
        about = {
            "put": record["put"],
            "namespace": meta.get("namespace", ""),
            "name": meta.get("name"),
            "version": int(meta["resourceVersion"]),
        }
        if not all(isinstance(about[key], str) for key in ("put", "namespace", "name")):
            return None
        return json.dumps(about, separators=(",", ":")).encode()[:-1] + separator + raw
    record = _load(line)
    if record.keys() == {"version"} or record.keys() == {"delete", "namespace", "name", "version"}:
        return line
    return None
