# SPDX-License-Identifier: Apache-2.0
"""How objects lie on disk: a header, then one line a record, each with a checksum and its place in the order.

    labkit-journal 2 7f3a9c21 snapshot=0000000042 synced=0000000057 by=0.1.0               8c1d02ab
    7f3a9c21 00000001 1f6e03cc {"put":"configmaps","namespace":"default","name":"a","version":12,"object":{…}}

A record bears the journal's id, its number (hexadecimal, from 1) and a CRC-32 of these and of what follows. A changed,
lost, repeated or moved record, and one of another journal, is thus told from a sound one wherever it stands; and since
each can be checked alone, what comes after a damage can still be used. The header says how many records the file began
with, and how many were safe on disk when it was last written: a file that lacks some of those was cut.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from zlib import crc32

from msgspec import Struct, field

__all__ = ["FORMAT", "HEADER_SIZE", "Damage", "Header", "Reading", "encode", "read"]

FORMAT = 2
HEADER_SIZE = 96
"""Bytes of the header with its newline: it is written over in place."""

_MAGIC = b"labkit-journal"
_HEADER = re.compile(rb"labkit-journal (\d+) ([0-9a-f]{8}) snapshot=(\d{10}) synced=(\d{10}) by=(\S{1,18}) *")
_LEAD = 18
"""Bytes of a record before its checksum: id, space, number, space."""

_PAYLOAD = 27
"""Bytes of a record before what it says."""


class Header(Struct, frozen=True):
    """The first line.

    Args:
        id: Eight hexadecimal digits, new whenever the file is written anew.
        snapshot: Records that the file began with: all objects there were then.
        synced: Records known to be on disk, not only in the kernel's memory.
        by: The version of labkit that wrote the objects; "-" where that is not known.
    """

    id: bytes
    snapshot: int = 0
    synced: int = 0
    by: str = "-"

    def encode(self) -> bytes:
        """The line."""
        text = b"%s %d %s snapshot=%010d synced=%010d" % (_MAGIC, FORMAT, self.id, self.snapshot, self.synced)
        text += b" by=%s" % self.by.encode()[:18]
        text = text.ljust(HEADER_SIZE - 10)
        return b"%s %08x\n" % (text, crc32(text))


class Damage(Struct):
    """A place in the file where something is not as it was written.

    Args:
        first: Number of the first record concerned; 0 is the header.
        last: Number of the last one.
        offset: Where in the file, in bytes.
        why: What was seen there.
        rest: The lines that are no sound records.
    """

    first: int
    last: int
    offset: int
    why: str
    rest: list[bytes] = field(default_factory=list)

    def __str__(self) -> str:
        what = f"record {self.first}" if self.last <= self.first else f"records {self.first} to {self.last}"
        return f"{what if self.first else 'the header'} at byte {self.offset}: {self.why}"


class Reading(Struct):
    """What a file holds.

    Args:
        header: Its header; one made up where that is damaged.
        format: The version of its format; 0 where that cannot be told.
        records: What sound records say, by number.
        damages: Where it is damaged, first to last; empty for a sound file.
        torn: Bytes of a last record that was never finished (and never acknowledged).
        size: Bytes up to there.
        last: The highest number that a record is known to have had.
    """

    header: Header
    format: int = FORMAT
    records: dict[int, bytes] = field(default_factory=dict)
    damages: list[Damage] = field(default_factory=list)
    torn: int = 0
    size: int = 0
    last: int = 0

    def payloads(self) -> Iterable[bytes]:
        """What the sound records say, in the order in which they were written."""
        return self.records.values() if not self.damages else (self.records[n] for n in sorted(self.records))

    @property
    def lost(self) -> int:
        """How many records there were that are sound nowhere."""
        return self.last - len(self.records)


def encode(journal: bytes, number: int, payload: bytes) -> bytes:
    """The line of a record; `payload` must hold no newline."""
    lead = b"%s %08x " % (journal, number)
    return b"%s%08x %s\n" % (lead, crc32(payload, crc32(lead)), payload)


def read(content: bytes) -> Reading:
    """Read a file of this format; never raises, whatever `content` is."""
    if not content:
        return Reading(Header(b"0" * 8), 0, damages=[Damage(0, 0, 0, "the file is empty")])
    *lines, tail = content.split(b"\n")
    if lines:
        first, body = lines[0], lines[1:]
        header = _header(first)
        if isinstance(header, str) and len(first) >= HEADER_SIZE:
            # Its newline is not one any more: a record follows on the same line.
            body.insert(0, first[HEADER_SIZE:])
    else:
        first, body, header, tail = tail, [], "the file ends within it", tail[HEADER_SIZE:]
    if isinstance(header, Header):
        reading = _Reader(header, body, tail).run()
        if reading.records or not reading.damages:
            return reading
    # Its header is lost, or is that of another journal: the records themselves say which they belong to.
    ids = Counter(sound[0] for line in body if (sound := _sound(line)))
    if isinstance(header, Header):
        if not ids:
            return reading
        known, why = header, "it is of another journal"
    else:
        known, why = Header(b"0" * 8), header
    chosen = Header(ids.most_common(1)[0][0], known.snapshot, known.synced) if ids else known
    reading = _Reader(chosen, body, tail, min(len(first) + 1, HEADER_SIZE)).run(Damage(0, 0, 0, why, [first]))
    reading.format = FORMAT if ids else 0
    return reading


def _header(line: bytes) -> Header | str:
    """The header in `line`, or what is wrong with it."""
    text, checksum = line[:-9], line[-9:]
    if len(line) != HEADER_SIZE - 1 or checksum != b" %08x" % crc32(text):
        return "it is not as it was written"
    found = _HEADER.fullmatch(text)
    if found is None or int(found[1]) != FORMAT:
        version = text.split(b" ")[1][:9].decode(errors="replace") if text.startswith(_MAGIC + b" ") else "unknown"
        return f"the file is of format {version}, and this version of labkit reads formats 1 and {FORMAT}"
    return Header(found[2], int(found[3]), int(found[4]), found[5].decode(errors="replace"))


def _sound(line: bytes) -> tuple[bytes, int, bytes] | None:
    """Id, number and payload of a record that is as it was written; else None."""
    lead, payload = line[:_LEAD], line[_PAYLOAD:]
    if len(line) <= _PAYLOAD or line[_LEAD:_PAYLOAD] != b"%08x " % crc32(payload, crc32(lead)):
        return None
    try:
        return lead[:8], int(lead[9:17], 16), payload
    except ValueError:
        return None


class _Reader:
    """Goes through the lines of one file.

    Args:
        header: Of the file.
        lines: What follows it, without newlines.
        tail: What follows the last newline.
        start: Where the first of the lines is, in bytes.
    """

    def __init__(self, header: Header, lines: list[bytes], tail: bytes, start: int = HEADER_SIZE) -> None:
        self._reading = Reading(header)
        self._id = header.id
        self._lines = lines
        self._tail = tail
        self._offset = start
        self._next = 1
        self._open: Damage | None = None
        self._starts = re.compile(b"(?=%s [0-9a-f]{8} [0-9a-f]{8} )" % re.escape(self._id))

    def run(self, damage: Damage | None = None) -> Reading:
        """Read all of it; `damage` is known already."""
        reading, records = self._reading, self._reading.records
        if damage is not None:
            reading.damages.append(damage)
        for line in self._lines:
            lead, payload = b"%s %08x " % (self._id, self._next), line[_PAYLOAD:]
            if line.startswith(lead) and line[_LEAD:_PAYLOAD] == b"%08x " % crc32(payload, crc32(lead)):
                self._open = None
                records[self._next] = payload
                self._next += 1
            else:
                self._odd(line)
            self._offset += len(line) + 1
        reading.size = self._offset
        if self._tail:
            self._end()
        self._count()
        return reading

    def _end(self) -> None:
        """A last line without its end: torn if it is what would have come next, and nobody was told that it is safe."""
        lead = b"%s %08x " % (self._id, self._next)
        sound = not self._reading.damages and self._next > self._reading.header.synced
        if sound and self._tail[:_LEAD] == lead[: len(self._tail)]:
            self._reading.torn = len(self._tail)
        else:
            self._odd(self._tail)

    def _count(self) -> None:
        reading = self._reading
        wanted = max(reading.header.synced, reading.header.snapshot)
        if self._open is not None:
            self._open.last = max(self._open.last, wanted)
        elif self._next <= wanted:
            reading.damages.append(Damage(self._next, wanted, self._offset, "the file ends before them"))
        ends = [damage.last for damage in reading.damages]
        reading.last = max([wanted, *ends, *([max(reading.records)] if reading.records else [])])

    def _odd(self, line: bytes) -> None:
        """A line that is not the record which comes next: see what of it can be used."""
        before, opened = self._next, self._open
        found = [sound for piece in self._starts.split(line) if (sound := _sound(piece) or _sound(piece[:-1]))]
        found = [one for one in found if one[0] == self._id]
        damage = opened or Damage(before, before, self._offset, self._why(line))
        if opened is None:
            self._reading.damages.append(damage)
            self._open = damage
        whole = len(found) == 1 and len(line) == len(found[0][2]) + _PAYLOAD
        if not whole:
            damage.rest.append(line)
        if not found:
            return
        for _, number, payload in found:
            self._reading.records.setdefault(number, payload)
            self._next = max(self._next, number + 1)
        number = found[0][1]
        if opened is None and whole and number < before:
            damage.first = damage.last = number
        else:
            damage.last = max(damage.last, number - 1)
        self._open = None

    def _why(self, line: bytes) -> str:
        sound = _sound(line)
        if sound is None:
            other = _header(line)
            return "another journal begins there" if isinstance(other, Header) else "it is not as it was written"
        if sound[0] != self._id:
            return "it is of another journal"
        return "records are missing before it" if sound[1] > self._next else "it is out of its order"
